//! What PostgreSQL's errors mean to callers.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::Node;
use crate::store::Error;

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        let away = error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>());
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Error::Full,
            Some(code) if is_passing(code) => Error::Unavailable(told(&error)),
            None if away => Error::Unavailable(told(&error)),
            _ => Error::Other(anyhow::Error::new(error).context("the store failed")),
        }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Error {
        match error {
            PoolError::Backend(error) => Error::Unavailable(told(&error)),
            PoolError::Closed => Error::Unavailable("the store is closed".into()),
            PoolError::Timeout(_) => Error::Unavailable("no connection to PostgreSQL was free in time".into()),
            other => Error::Unavailable(other.to_string()),
        }
    }
}

/// Connections that break, a server that stops, starts or stands by, and everything that took too long.
fn is_passing(code: &SqlState) -> bool {
    let text = code.code();
    text.starts_with("08")
        || text.starts_with("57P0")
        || [
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::QUERY_CANCELED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::OUT_OF_MEMORY,
        ]
        .contains(code)
}

/// The error with its causes, on one line.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// The SQLSTATE behind an [`Error::Other`].
pub(super) fn code_of(error: &Error) -> Option<&SqlState> {
    let Error::Other(error) = error else { return None };
    error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code)
}

/// Turns an error of `field`'s unique index into [`Error::Conflict`].
pub(super) fn conflict(error: Error, field: &'static str) -> Error {
    if code_of(&error) == Some(&SqlState::UNIQUE_VIOLATION) { Error::Conflict(field) } else { error }
}

/// How often something has been tried again: see [`retried`].
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    const MAX: u32 = 8;

    /// Whether to try once more, after what was missing has been made. Transactions that ran into each other
    /// (deadlock, serialisation) are tried again, and those that found no table of their day.
    pub(super) async fn again(&mut self, store: &Node, error: &Error) -> bool {
        let Some(code) = code_of(error).cloned() else { return false };
        self.0 += 1;
        if self.0 > Tries::MAX {
            return false;
        }
        if code == SqlState::T_R_DEADLOCK_DETECTED || code == SqlState::T_R_SERIALIZATION_FAILURE {
            tokio::time::sleep(Duration::from_millis(u64::from(self.0))).await;
            return true;
        }
        // "no partition of relation … found for row" has the code of a violated check.
        code == SqlState::CHECK_VIOLATION && self.0 < 3 && store.make_missing_days().await.is_ok()
    }
}

/// Awaits the expression (a whole transaction) until it does not fail for a passing reason:
/// `retried!(store, attempt(store, &events, now))`.
#[allow(unused_macros)]
macro_rules! retried {
    ($store:expr, $attempt:expr) => {{
        let mut tries = $crate::store::postgres::failure::Tries::default();
        loop {
            match $attempt.await {
                Err(error) if tries.again($store, &error).await => {}
                result => break result,
            }
        }
    }};
}

#[allow(unused_imports)]
pub(super) use retried;
