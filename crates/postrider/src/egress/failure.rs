//! What went wrong, in the contract's classes and in words that may be shown to the tenant.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use postrider_core::delivery::{AttemptError, ErrorClass};
use postrider_core::limits::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};

use super::connection::Trouble;
use super::tls;

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Resolving,
    Connecting,
    Securing,
    Waiting,
    Reading,
}

impl Stage {
    /// The failure of a request whose deadline passed at this stage.
    pub(super) fn timed_out(self, limit: Duration) -> AttemptError {
        let what = match self {
            Stage::Resolving => "the host name was not resolved",
            Stage::Connecting => "no connection was established",
            Stage::Securing => "the TLS handshake was not finished",
            Stage::Waiting => "no reply came",
            Stage::Reading => "the reply did not end",
        };
        failed(ErrorClass::Timeout, format!("{what} within {limit:?}"))
    }
}

pub(super) fn failed(class: ErrorClass, detail: impl Into<String>) -> AttemptError {
    AttemptError { class, detail: detail.into() }
}

/// The failure that a status is, if it is one.
pub(super) fn of_status(status: u16) -> Option<AttemptError> {
    let detail = match status {
        200..=299 => return None,
        300..=399 => format!("the endpoint answered {status}; redirects are not followed"),
        _ => format!("the endpoint answered {status}"),
    };
    Some(failed(ErrorClass::HttpStatus, detail))
}

/// No TCP connection to `address`.
pub(super) fn of_connect(error: &io::Error, address: SocketAddr) -> AttemptError {
    let detail = match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused by {address}"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!("{address} is unreachable"),
        io::ErrorKind::TimedOut => return failed(ErrorClass::Timeout, format!("{address} did not answer")),
        _ => format!("could not connect to {address}: {error}"),
    };
    failed(ErrorClass::Connect, detail)
}

/// A reply's head with too much in it.
pub(super) fn head_too_large() -> AttemptError {
    failed(
        ErrorClass::TooLarge,
        format!(
            "the reply's head has more than {RESPONSE_HEADERS_MAX} headers or {} KiB",
            RESPONSE_HEAD_BYTES_MAX / 1024
        ),
    )
}

/// No reply to a request that was handed to a connection.
pub(super) fn of_exchange(error: &hyper::Error) -> Trouble {
    if error.is_parse_too_large() {
        return Trouble::Failed(head_too_large());
    }
    if error.is_parse() {
        return Trouble::Failed(failed(ErrorClass::Reset, format!("the reply is not valid HTTP: {}", root(error))));
    }
    if let Some(secure) = find::<rustls::Error>(error) {
        return Trouble::Failed(failed(ErrorClass::Tls, tls::describe(secure)));
    }
    if let Some(h2) = find::<h2::Error>(error)
        && let Some(reason) = h2.reason()
    {
        return of_http2(h2, reason);
    }
    Trouble::ConnectionLost(failed(ErrorClass::Reset, lost(error)))
}

fn of_http2(error: &h2::Error, reason: h2::Reason) -> Trouble {
    if error.is_library() {
        // h2 resets a stream whose reply has a head over the bound, as it does a malformed one; far over the bound it
        // ends the connection.
        let too_large = error.is_reset() || reason == h2::Reason::ENHANCE_YOUR_CALM;
        return Trouble::Failed(match too_large {
            true => head_too_large(),
            false => failed(ErrorClass::Reset, format!("the reply is not valid HTTP/2: {reason}")),
        });
    }
    let error_shown = failed(ErrorClass::Reset, format!("the endpoint reset the request: {reason}"));
    match reason {
        h2::Reason::REFUSED_STREAM => Trouble::ConnectionLost(error_shown),
        _ if error.is_go_away() => Trouble::ConnectionLost(error_shown),
        _ => Trouble::Failed(error_shown),
    }
}

/// A reply whose body broke off.
pub(super) fn of_body(error: &hyper::Error) -> AttemptError {
    match find::<rustls::Error>(error) {
        Some(secure) => failed(ErrorClass::Tls, tls::describe(secure)),
        None if error.is_parse() => failed(ErrorClass::Reset, format!("the reply is not valid HTTP: {}", root(error))),
        None => failed(ErrorClass::Reset, "the connection was closed before the reply ended"),
    }
}

fn lost(error: &hyper::Error) -> &'static str {
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionReset) => "the connection was reset before a reply came",
        _ => "the connection was closed before a reply came",
    }
}

/// The innermost cause, which says the most.
fn root(error: &hyper::Error) -> String {
    let mut innermost: &dyn StdError = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The first cause of type `E`; looks into I/O errors, which hide theirs.
pub(super) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
