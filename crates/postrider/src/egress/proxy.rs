//! The operator's forward proxy: CONNECT for https, absolute URLs for plain http.
//!
//! With a proxy the policy is applied to the target before the proxy hears of it. For https the proxy is given the
//! vetted *address* to connect to, so it looks nothing up. For plain http it must be given the name (the proxy passes it
//! on as the host), so all addresses of the name have to pass, on every request; what the proxy then dials is its own
//! look-up, which only its own rules can hold.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use postrider_core::delivery::{AttemptError, ErrorClass};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::failure::failed;

/// The head of an answer to CONNECT, bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Where the proxy is, and how to log in. `Debug` does not show the password.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// `Basic …`, marked sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// From `http://[user:password@]host[:port]`; the port is 80 unless given.
    ///
    /// # Errors
    /// When the URL has another form. The message does not repeat it: it may hold a password.
    pub fn from_url(url: &Url) -> anyhow::Result<Self> {
        ensure!(url.scheme() == "http", "the proxy's URL must start with http://");
        ensure!(
            url.path() == "/" && url.query().is_none() && url.fragment().is_none(),
            "the proxy's URL must end after the port"
        );
        let host = url.host_str().context("the proxy's URL has no host")?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(basic(user, password.unwrap_or_default())?),
        };
        Ok(Self { host: host.to_owned(), port: url.port_or_known_default().unwrap_or(80), authorization })
    }

    /// Asks the proxy at the other end of `stream` for a connection to `target`.
    pub(super) async fn tunnel(&self, mut stream: TcpStream, target: SocketAddr) -> Result<TcpStream, AttemptError> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let broken = |_| failed(ErrorClass::Connect, "the connection to the egress proxy broke");
        stream.write_all(&request).await.map_err(broken)?;
        let mut answer = Vec::with_capacity(512);
        while !answer.ends_with(b"\r\n\r\n") {
            // Nothing may follow the head before we speak, so reading up to its end cannot swallow the tunnel's bytes.
            let read = stream.read_buf(&mut answer).await.map_err(broken)?;
            if read == 0 || answer.len() > ANSWER_BYTES_MAX {
                return Err(failed(ErrorClass::Connect, "the egress proxy gave no valid answer"));
            }
        }
        match status_of(&answer) {
            Some(200..=299) => Ok(stream),
            Some(status) => Err(failed(ErrorClass::Connect, format!("the egress proxy answered {status}"))),
            None => Err(failed(ErrorClass::Connect, "the egress proxy gave no valid answer")),
        }
    }
}

fn basic(user: &str, password: &str) -> anyhow::Result<HeaderValue> {
    let plain = format!("{}:{}", decoded(user)?, decoded(password)?);
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A user name or password as it was before it was percent-encoded into a URL.
fn decoded(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = (first == b'%').then(|| tail.get(..2)).flatten().and_then(|two| hex::decode(two).ok());
        match escape {
            Some(byte) => {
                bytes.extend(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok().context("the proxy's user name or password is not UTF-8")
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&b| b == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}
