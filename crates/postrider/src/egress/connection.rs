//! One HTTP connection, of either version, and one exchange over it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider_core::delivery::{AttemptError, ErrorClass};
use postrider_core::limits::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX, RESPONSE_READ_BYTES_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use url::{Position, Url};

use super::connect::{Dialed, Stream};
use super::failure::{self, failed};
use super::proxy::Proxy;

/// Unread reply bytes one HTTP/2 connection may hold for all its streams.
const H2_WINDOW_BYTES: u32 = 1024 * 1024;

// hyper parses up to 100 headers without allocating for them; asking for another number would cost an allocation.
const _: () = assert!(RESPONSE_HEADERS_MAX == 100);

/// Headers that belong to the connection, or that this client sets: never taken from a request.
const OWN_HEADERS: [HeaderName; 11] = [
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONNECTION,
    UPGRADE,
    TE,
    TRAILER,
    EXPECT,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Message = http::Request<Full<Bytes>>;

/// Why an exchange gave no reply.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection went away before any part of a reply; on a kept connection this is no news of the endpoint.
    ConnectionLost(AttemptError),
    Failed(AttemptError),
}

impl Trouble {
    pub(super) fn into_error(self) -> AttemptError {
        match self {
            Trouble::ConnectionLost(error) | Trouble::Failed(error) => error,
        }
    }
}

/// An HTTP/1.1 connection, owned; or a share in an HTTP/2 connection.
///
/// Dropping an HTTP/1.1 connection in the middle of an exchange closes the socket at once; whatever the other side
/// still sends is not read.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    remote: Option<IpAddr>,
}

#[derive(Debug)]
enum Wire {
    Http1 { sender: http1::SendRequest<Full<Bytes>>, _task: Task },
    Http2(http2::SendRequest<Full<Bytes>>, u64),
}

/// The task that drives a connection; ends with it.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Starts HTTP on a connected stream.
    pub(super) async fn open(dialed: Dialed) -> Result<Self, AttemptError> {
        let wire = match dialed.stream {
            Stream::Plain(stream) => Wire::open(stream, dialed.h2).await,
            Stream::Tls(stream) => Wire::open(stream, dialed.h2).await,
        };
        let wire = wire.map_err(|error| failure::of_exchange(&error).into_error())?;
        Ok(Self { wire, remote: dialed.remote })
    }

    pub(super) fn remote(&self) -> Option<IpAddr> {
        self.remote
    }

    /// Names the HTTP/2 connection that this is a share in.
    pub(super) fn shared_id(&self) -> Option<u64> {
        match self.wire {
            Wire::Http1 { .. } => None,
            Wire::Http2(_, id) => Some(id),
        }
    }

    /// Another share in an HTTP/2 connection.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.wire {
            Wire::Http1 { .. } => None,
            Wire::Http2(sender, id) => Some(Self { wire: Wire::Http2(sender.clone(), *id), remote: self.remote }),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.wire {
            Wire::Http1 { sender, .. } => sender.is_closed(),
            Wire::Http2(sender, _) => sender.is_closed(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match &self.wire {
            Wire::Http1 { sender, .. } => sender.is_ready(),
            Wire::Http2(sender, _) => sender.is_ready(),
        }
    }

    /// A request for `url`. `proxy`: the one at the other end, which wants the whole URL.
    pub(super) fn message(
        &self,
        (method, url): (Method, &Url),
        body: Bytes,
        mut headers: HeaderMap,
        proxy: Option<&Proxy>,
    ) -> Result<Message, Trouble> {
        for name in &OWN_HEADERS {
            headers.remove(name);
        }
        let h2 = matches!(self.wire, Wire::Http2(..));
        if !h2 {
            headers.insert(HOST, host_header(url)?);
        }
        if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let mut message = Message::new(Full::new(body));
        *message.method_mut() = method;
        *message.uri_mut() = uri(url, h2 || proxy.is_some())?;
        *message.version_mut() = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
        *message.headers_mut() = headers;
        Ok(message)
    }

    /// Sends `message` and waits for the head of the reply.
    pub(super) async fn send(&mut self, message: Message) -> Result<http::Response<Incoming>, Trouble> {
        let sent = match &mut self.wire {
            Wire::Http1 { sender, .. } => sender.send_request(message).await,
            Wire::Http2(sender, _) => sender.send_request(message).await,
        };
        sent.map_err(|error| failure::of_exchange(&error))
    }
}

impl Wire {
    async fn open<S>(stream: S, h2: bool) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        let io = TokioIo::new(stream);
        if h2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(u32::try_from(RESPONSE_READ_BYTES_MAX).ok())
                .initial_connection_window_size(H2_WINDOW_BYTES)
                // One request until the other side has told how many it takes; it refuses what is too much.
                .initial_max_send_streams(1)
                .max_header_list_size(u32::try_from(RESPONSE_HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .handshake(io)
                .await?;
            // Ends by itself when the last share is dropped. Its errors reach whoever waits for a reply.
            tokio::spawn(connection);
            return Ok(Self::Http2(sender, LAST_ID.fetch_add(1, Ordering::Relaxed)));
        }
        let (sender, connection) = http1::Builder::new()
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .handshake(io)
            .await?;
        let task = Task(tokio::spawn(connection).abort_handle());
        Ok(Self::Http1 { sender, _task: task })
    }
}

fn host_header(url: &Url) -> Result<HeaderValue, Trouble> {
    HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]).map_err(|_| not_a_target())
}

/// The request target: path and query, or the whole URL.
fn uri(url: &Url, absolute: bool) -> Result<Uri, Trouble> {
    let start = if absolute { Position::BeforeScheme } else { Position::BeforePath };
    url[start..Position::AfterQuery].parse().map_err(|_| not_a_target())
}

fn not_a_target() -> Trouble {
    Trouble::Failed(failed(ErrorClass::RefusedByPolicy, "the URL cannot be written as an HTTP request"))
}

#[cfg(test)]
mod tests {
    use postrider_core::egress_policy::EgressPolicy;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_url_that_is_accepted_can_be_written_as_a_request(tail in "[ -~]{0,40}|\\PC{0,40}") {
            for start in ["https://example.com/", "https://example.com/?", "https://example.com:8443"] {
                if let Ok(url) = EgressPolicy::default().check_url(&format!("{start}{tail}")) {
                    prop_assert!(host_header(&url).is_ok(), "{}", url);
                    prop_assert!(uri(&url, false).is_ok(), "{}", url);
                    prop_assert!(uri(&url, true).is_ok(), "{}", url);
                }
            }
        }
    }
}
