//! An endpoint below HTTP: answers every connection with bytes of the story's own.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Reads one request and hands the connection to the story.
#[derive(Debug)]
pub(crate) struct RawReceiver {
    origin: String,
    server: AbortHandle,
}

impl RawReceiver {
    pub(crate) async fn start<F>(behave: F) -> RawReceiver
    where
        F: Fn(TcpStream) -> BoxFuture<'static, std::io::Result<()>> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let behave = Arc::new(behave);
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let behave = behave.clone();
                tokio::spawn(async move {
                    read_request(&mut stream).await?;
                    behave(stream).await
                });
            }
        });
        RawReceiver { origin, server: server.abort_handle() }
    }

    /// `http://` and its address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.origin)
    }

    pub(crate) fn https_url(&self) -> String {
        format!("https://{}/", self.origin)
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Head and body by its declared length, or whatever comes if it is no HTTP at all.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        read.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&read);
        if count == 0 || !text.starts_with("POST ") {
            return Ok(());
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lengths = head.to_ascii_lowercase();
        let length = lengths.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Ok(());
        }
    }
}
