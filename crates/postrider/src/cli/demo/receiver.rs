//! Somebody's endpoint: down at first, then careful.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use postrider_core::dialect::Dialect;
use postrider_core::signing::{Secret, verify};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ambient::{Ambient, System};
use crate::cli::failure::Failure;

/// One request as it arrived, and what was answered.
#[derive(Debug)]
pub(super) struct Visit {
    pub at: Instant,
    headers: HeaderMap,
    pub status: u16,
    pub answer: String,
}

impl Visit {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("(missing)")
    }
}

#[derive(Debug)]
pub(super) struct Receiver {
    pub url: String,
    state: Arc<State>,
    visits: mpsc::UnboundedReceiver<Visit>,
}

#[derive(Debug)]
struct State {
    secret: Mutex<Option<Secret>>,
    count: AtomicUsize,
    visits: mpsc::UnboundedSender<Visit>,
}

impl Receiver {
    /// Listens on a free port of this machine.
    pub(super) async fn start() -> Result<Receiver, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let (sender, visits) = mpsc::unbounded_channel();
        let state = Arc::new(State { secret: Mutex::default(), count: AtomicUsize::default(), visits: sender });
        let receive = {
            let state = state.clone();
            move |headers: HeaderMap, body: Bytes| async move { state.receive(headers, &body) }
        };
        let router = Router::new().route("/hook", post(receive));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Receiver { url, state, visits })
    }

    /// The secret to check signatures with, as the API gave it once.
    pub(super) fn trust(&self, secret: Secret) {
        *self.state.secret.lock() = Some(secret);
    }

    pub(super) async fn next(&mut self) -> Option<Visit> {
        self.visits.recv().await
    }
}

impl State {
    fn receive(&self, headers: HeaderMap, body: &[u8]) -> (StatusCode, String) {
        let at = Instant::now();
        let (status, answer) = match self.count.fetch_add(1, Relaxed) {
            0 => (StatusCode::INTERNAL_SERVER_ERROR, "\"we are deploying\"".to_owned()),
            1 => (StatusCode::SERVICE_UNAVAILABLE, "\"almost there\"".to_owned()),
            _ => self.check(&headers, body),
        };
        let _ = self.visits.send(Visit { at, headers, status: status.as_u16(), answer: answer.clone() });
        (status, answer)
    }

    fn check(&self, headers: &HeaderMap, body: &[u8]) -> (StatusCode, String) {
        let Some(secret) = self.secret.lock().clone() else {
            return (StatusCode::UNAUTHORIZED, "no secret to check with".to_owned());
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match verify(Dialect::Standard, &secret, header, body, System.now()) {
            Ok(()) => (StatusCode::OK, "signature verified".to_owned()),
            Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()),
        }
    }
}
