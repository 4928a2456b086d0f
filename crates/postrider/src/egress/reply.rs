//! Reading a reply: what is kept of it, what is read past that, and when to stop.
//!
//! A body is read up to [`RESPONSE_READ_BYTES_MAX`] so that the connection can be used again, and its first
//! [`RESPONSE_SNIPPET_BYTES_MAX`] bytes are kept. One that goes on is cut, and the connection dropped: the reply then
//! counts by its status, so a 2xx with 11 GB behind it is a success. A body that breaks off or outlasts the deadline
//! *before* the snippet is full is a failure, whatever the status.

use http::response::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use postrider_core::delivery::Response;
use postrider_core::limits::{
    RESPONSE_HEADERS_KEPT_BYTES_MAX, RESPONSE_HEADERS_MAX, RESPONSE_READ_BYTES_MAX, RESPONSE_SNIPPET_BYTES_MAX,
};

use super::connection::Trouble;
use super::failure;

/// A reply as far as it has come.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    snippet: Vec<u8>,
    /// More came than the snippet holds.
    clipped: bool,
}

impl Reply {
    pub(super) fn from_head(head: &Parts) -> Result<Self, Trouble> {
        if head.headers.len() > RESPONSE_HEADERS_MAX {
            return Err(Trouble::Failed(failure::head_too_large()));
        }
        let mut headers = Vec::with_capacity(head.headers.len());
        let mut room = RESPONSE_HEADERS_KEPT_BYTES_MAX;
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            // One that does not fit is left out; a shorter one after it may still fit.
            if let Some(left) = room.checked_sub(name.as_str().len() + value.len()) {
                room = left;
                headers.push((name.as_str().to_owned(), value.into_owned()));
            }
        }
        Ok(Self { status: head.status.as_u16(), headers, snippet: Vec::new(), clipped: false })
    }

    /// Reads `body` up to the bound. `true`: it ended, and nothing of it is left on the connection.
    pub(super) async fn read(&mut self, body: &mut Incoming) -> Result<bool, hyper::Error> {
        let mut read = 0;
        // A body that says it is too long is not worth reading past what is kept.
        let hopeless = body.size_hint().lower() > RESPONSE_READ_BYTES_MAX as u64;
        while !body.is_end_stream() {
            let Some(frame) = body.frame().await else { break };
            let Ok(data) = frame?.into_data() else { continue };
            read += data.len();
            let room = RESPONSE_SNIPPET_BYTES_MAX - self.snippet.len();
            self.snippet.extend_from_slice(&data[..data.len().min(room)]);
            self.clipped = read > self.snippet.len();
            if read > RESPONSE_READ_BYTES_MAX || (hopeless && self.is_full()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All that is kept of a body has come.
    pub(super) fn is_full(&self) -> bool {
        self.snippet.len() == RESPONSE_SNIPPET_BYTES_MAX
    }

    /// After a switch of protocols there is no more HTTP on the connection.
    pub(super) fn keeps_connection(&self) -> bool {
        self.status != 101
    }

    pub(super) fn into_response(self) -> Response {
        Response { status: self.status, headers: self.headers, body: text(self.snippet, self.clipped) }
    }
}

/// `bytes` as text of at most [`RESPONSE_SNIPPET_BYTES_MAX`] bytes.
fn text(mut bytes: Vec<u8>, clipped: bool) -> String {
    if clipped
        && let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    text.truncate(text.floor_char_boundary(RESPONSE_SNIPPET_BYTES_MAX));
    text
}
