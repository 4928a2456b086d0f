//! Server-sent events (WHATWG HTML, section 9.2), as far as the server sends them.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub name: String,
    pub data: String,
}

/// The longest event that is taken: a body of 1 MiB with its headers, escaped.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Splits a stream of bytes into events; nothing is lost where chunks end in the middle of one.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// What has come since the last line end.
    rest: Vec<u8>,
    name: String,
    data: String,
}

impl Parser {
    /// Takes bytes in, gives the events that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                events.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])));
            }
        }
        events
    }

    fn is_too_long(&self) -> bool {
        self.rest.len() + self.data.len() > EVENT_BYTES_MAX
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return (!data.is_empty()).then_some(Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments keep the connection alive; ids and retry times are not used.
            _ => {}
        }
        None
    }
}

/// The events of a reply.
pub(super) struct Events {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("parser", &self.parser).finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn of(reply: reqwest::Response) -> Events {
        Events { bytes: reply.bytes_stream().boxed(), parser: Parser::default(), ready: Default::default() }
    }

    /// The next event; `None` when the stream has ended or broken off. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let chunk = self.bytes.next().await?.ok()?;
            self.ready.extend(self.parser.take(&chunk));
            if self.parser.is_too_long() {
                return None;
            }
        }
    }
}
