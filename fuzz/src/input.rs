//! A request and its receiver as text, so that seeds can be read and mutations make sense.
//!
//! ```text
//! source slack
//! now 1767225600000
//! secret 8f742231b10e8888abcd99yyyzzz85a5
//! verify-token chosen
//! awaits-secret
//! POST https://hooks.example.com/in?region=eu
//! x-slack-signature: v0=…
//!
//! the body, byte for byte
//! ```

use postrider_core::inbound::{Provider, Request, Setup};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;

use crate::vectors::{Vector, certificate};

pub(crate) struct Input {
    pub(crate) source: String,
    pub(crate) now: UnixMs,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) verify_token: Option<String>,
    awaits_secret: bool,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Input {
    pub(crate) fn parse(data: &[u8]) -> Input {
        let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
        let mut input = Input {
            source: String::new(),
            now: UnixMs(0),
            secrets: Vec::new(),
            verify_token: None,
            awaits_secret: false,
            method: "POST".into(),
            url: String::new(),
            headers: Vec::new(),
            body: data.get(end + 2..).unwrap_or_default().to_vec(),
        };
        String::from_utf8_lossy(&data[..end]).split('\n').for_each(|line| input.read(line));
        input
    }

    fn read(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "source" => rest.clone_into(&mut self.source),
            "now" => self.now = UnixMs(rest.parse().unwrap_or_default()),
            "secret" => self.secrets.push(Secret::new(rest.to_owned())),
            "verify-token" => self.verify_token = Some(rest.to_owned()),
            "awaits-secret" => self.awaits_secret = true,
            "GET" | "POST" | "HEAD" | "PUT" => {
                word.clone_into(&mut self.method);
                rest.clone_into(&mut self.url);
            }
            _ => self.headers.extend(line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()))),
        }
    }

    pub(crate) fn row(&self) -> &'static Provider {
        Provider::find(&self.source)
    }

    /// Asks about this request to a receiver that knows these secrets.
    pub(crate) fn ask<T>(&self, secrets: &[Secret], question: impl FnOnce(&Setup<'_>, &Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Request { method: &self.method, url: &self.url, headers: &headers, body: &self.body };
        let setup = Setup {
            secrets,
            verify_token: self.verify_token.as_deref(),
            awaits_secret: self.awaits_secret,
            certificates: Some(certificate(self.row())),
        };
        question(&setup, &request)
    }

    /// The same with a stretch of this header's value repeated, or of the body if it is no header's.
    pub(crate) fn with_body(self, body: Vec<u8>) -> Input {
        Input { body, ..self }
    }
}

pub(crate) fn written(vector: &Vector) -> Vec<u8> {
    let Vector { provider, now, secret, method, url, .. } = vector;
    let mut text = format!("source {provider}\nnow {now}\nsecret {secret}\n{method} {url}\n");
    vector.headers.iter().for_each(|(name, value)| text.extend([name, ": ", value, "\n"]));
    [text.as_bytes(), b"\n", vector.body.as_bytes()].concat()
}
