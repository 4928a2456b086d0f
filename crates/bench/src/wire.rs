//! As much of HTTP/1.1 as the driver and the sink need: one keep-alive connection, messages with a `content-length`.
//!
//! Both share the machine with the server under test, so every microsecond they spend is one the server does not get.
//! Framing by hand over `httparse` costs about half of what a full client or server does; the ceilings use hyper, as
//! the server does.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Heads with more fields than this are refused.
const HEADERS_MAX: usize = 64;
/// Messages longer than this are refused.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// One side of a keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that belong to the message handed out last.
    taken: usize,
}

/// An answer: where its body lies is known until the next message is read.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Range<usize>,
}

/// A request as received.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
    headers: &'a [httparse::Header<'a>],
}

impl Request<'_> {
    /// The first header called `name` (lower case), or nothing at all.
    pub(crate) fn header(&self, name: &str) -> &[u8] {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map_or(b"", |header| header.value)
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Connection> {
        Connection::over(TcpStream::connect(address).await?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: BytesMut::with_capacity(2 * READ_BYTES), taken: 0 })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next answer; an error if the peer closes before it is whole.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        self.discard();
        loop {
            if let Some((answer, length)) = parse_answer(&self.buffer)? {
                self.taken = length;
                return Ok(answer);
            }
            if !self.fill().await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The body of the answer read last.
    pub(crate) fn body(&self, answer: &Answer) -> &[u8] {
        &self.buffer[answer.body.clone()]
    }

    /// What `handle` makes of the next request; nothing once the peer has closed.
    pub(crate) async fn request<R>(&mut self, mut handle: impl FnMut(&Request<'_>) -> R) -> io::Result<Option<R>> {
        self.discard();
        loop {
            if let Some((handled, length)) = parse_request(&self.buffer, &mut handle)? {
                self.taken = length;
                return Ok(Some(handled));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads and drops whatever comes until the peer closes.
    pub(crate) async fn closed_by_peer(&mut self) -> io::Result<()> {
        self.taken = self.buffer.len();
        self.discard();
        while self.fill().await? {
            self.buffer.clear();
        }
        Ok(())
    }

    /// One JSON call, for everything outside the measured path.
    pub(crate) async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        key: &str,
        body: &serde_json::Value,
    ) -> Result<T> {
        let bytes = self.call_raw(method, path, key, body.to_string().as_bytes()).await?;
        serde_json::from_slice(bytes).with_context(|| format!("{method} {path} answered something else"))
    }

    /// One call; the answer's body, unless its status is not 2xx.
    pub(crate) async fn call_raw(&mut self, method: &str, path: &str, key: &str, body: &[u8]) -> Result<&[u8]> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            self.stream.peer_addr()?,
            body.len()
        );
        self.write(&[head.as_bytes(), body].concat()).await?;
        let answer = self.answer().await.with_context(|| format!("{method} {path}"))?;
        let body = &self.buffer[answer.body.clone()];
        let text = String::from_utf8_lossy(body);
        ensure!((200..300).contains(&answer.status), "{method} {path} answered {}: {text}", answer.status);
        Ok(body)
    }

    /// Ends the connection at once and without a word (RST): whoever wrote last learns that it was in vain.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    fn discard(&mut self) {
        self.buffer.advance(self.taken);
        self.taken = 0;
    }

    async fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "message too long"));
        }
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn parse_answer(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(bytes).map_err(malformed)? else { return Ok(None) };
    let end = start + content_length(head.headers)?;
    let status = head.code.unwrap_or_default();
    Ok((bytes.len() >= end).then_some((Answer { status, body: start..end }, end)))
}

fn parse_request<R>(bytes: &[u8], handle: &mut impl FnMut(&Request<'_>) -> R) -> io::Result<Option<(R, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(bytes).map_err(malformed)? else { return Ok(None) };
    let end = start + content_length(head.headers)?;
    let Some(body) = bytes.get(start..end) else { return Ok(None) };
    let request = Request { path: head.path.unwrap_or_default(), body, headers: head.headers };
    Ok(Some((handle(&request), end)))
}

fn content_length(headers: &[httparse::Header<'_>]) -> io::Result<usize> {
    if headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding")) {
        return Err(io::Error::new(ErrorKind::Unsupported, "chunked bodies are not read here"));
    }
    let Some(header) = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length")) else {
        return Ok(0);
    };
    let length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
    length
        .filter(|length| *length <= MESSAGE_BYTES_MAX)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "bad content-length"))
}

fn malformed(error: httparse::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
