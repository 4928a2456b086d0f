//! How domain values are written in rows, and read back.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use postrider_core::delivery::{Attempt, AttemptError, Progress, Response};
use postrider_core::ids::{EventId, ReplayId, Sequence, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use rusqlite::types::{FromSqlError, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NotAName, StrDeserializer};
use uuid::Uuid;

use crate::store::codes::{UnknownCode, error_code, error_from, source_from};
use crate::store::{EventBody, RawBody, Source};

pub(super) type Sql<T> = rusqlite::Result<T>;

impl From<UnknownCode> for rusqlite::Error {
    fn from(error: UnknownCode) -> rusqlite::Error {
        FromSqlError::other(error).into()
    }
}

/// The 16 bytes of an id.
pub(super) fn tenant_at(row: &Row<'_>, column: usize) -> Sql<TenantId> {
    Ok(TenantId(uuid_at(row, column)?))
}

pub(super) fn webhook_at(row: &Row<'_>, column: usize) -> Sql<WebhookId> {
    Ok(WebhookId(uuid_at(row, column)?))
}

pub(super) fn uuid_at(row: &Row<'_>, column: usize) -> Sql<Uuid> {
    Ok(Uuid::from_bytes(row.get(column)?))
}

pub(super) fn replay_at(row: &Row<'_>, column: usize) -> Sql<Option<ReplayId>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(|bytes| ReplayId(Uuid::from_bytes(bytes))))
}

pub(super) fn time_at(row: &Row<'_>, column: usize) -> Sql<UnixMs> {
    row.get(column).map(UnixMs)
}

pub(super) fn maybe_time_at(row: &Row<'_>, column: usize) -> Sql<Option<UnixMs>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixMs))
}

pub(super) fn count_at(row: &Row<'_>, column: usize) -> Sql<u64> {
    let count: i64 = row.get(column)?;
    u64::try_from(count).map_err(|_| FromSqlError::OutOfRange(count).into())
}

pub(super) fn json_at<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Sql<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| FromSqlError::other(error).into())
}

pub(super) fn maybe_json_at<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Sql<Option<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => serde_json::from_str(text).map(Some).map_err(|error| FromSqlError::other(error).into()),
        None => Ok(None),
    }
}

/// An enum that is stored by its wire name.
pub(super) fn name_at<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Sql<T> {
    let name: StrDeserializer<'_, NotAName> = row.get_ref(column)?.as_str()?.into_deserializer();
    T::deserialize(name).map_err(|error| FromSqlError::other(error).into())
}

pub(super) fn maybe_name_at<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Sql<Option<T>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        _ => Some(name_at(row, column)?),
    })
}

pub(super) fn boxed_at(row: &Row<'_>, column: usize) -> Sql<Option<Box<str>>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.map(Box::from))
}

/// Integers of the store are signed; counters never come near the difference.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Bytes that are known to be UTF-8, stored as text without checking them again.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// An event's id that [`outer_id`](crate::store::outer_id) reads. Received events and firings have one too, but not for
/// anybody outside.
pub(super) const SHOWN_EXTERNAL_ID: &str = "CASE WHEN source IN (2, 5) THEN NULL ELSE external_id END";

/// Columns of an event, in the order [`event_at`] reads them.
pub(super) const EVENT_COLUMNS: &str = "n, entropy, tenant, type, source, occurred_at, external_id, ordering_key, \
                                        trace_parent, idempotency_key, data, content_type, raw";

pub(super) fn event_at(row: &Row<'_>) -> Sql<Arc<EventBody>> {
    let n: i64 = row.get(0)?;
    let source = source_from(row.get(4)?)?;
    Ok(Arc::new(EventBody {
        id: event_id(n, row.get(1)?),
        tenant_id: tenant_at(row, 2)?,
        event_type: row.get_ref(3)?.as_str()?.into(),
        source,
        occurred_at: maybe_time_at(row, 5)?.unwrap_or_else(|| Sequence::time(n)),
        external_id: boxed_at(row, 6)?,
        ordering_key: boxed_at(row, 7)?,
        trace_parent: boxed_at(row, 8)?,
        data: Bytes::copy_from_slice(row.get_ref(10)?.as_bytes()?),
        raw: if source == Source::Received { Some(raw_at(row, 11)?) } else { None },
    }))
}

/// The body of a received event in the columns `content_type, raw` from `first` on.
fn raw_at(row: &Row<'_>, first: usize) -> Sql<RawBody> {
    let body = row.get_ref(first + 1)?.as_bytes_or_null()?.map(Bytes::copy_from_slice);
    Ok(RawBody { content_type: boxed_at(row, first)?, body })
}

/// The id of event `n`; the entropy is stored as the signed twin of its 64 bits.
pub(super) fn event_id(n: i64, entropy: i64) -> EventId {
    EventId::from_sequence(n, entropy.cast_unsigned())
}

/// Columns of an attempt, in the order [`attempt_at`] reads and [`AttemptRow`] writes them.
pub(super) const ATTEMPT_COLUMNS: &str = "attempt, attempt_at, duration_ms, http_status, error_class, error_detail, \
                                          address, response_headers, response_body";

/// An attempt as columns. What is empty is NULL.
#[derive(Default)]
pub(super) struct AttemptRow<'a> {
    pub(super) number: Option<u32>,
    pub(super) at: Option<i64>,
    pub(super) duration_ms: Option<u32>,
    pub(super) http_status: Option<u16>,
    pub(super) error_class: Option<i16>,
    pub(super) error_detail: Option<&'a str>,
    pub(super) address: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) body: Option<&'a str>,
}

impl<'a> AttemptRow<'a> {
    pub(super) fn of(attempt: &'a Attempt) -> AttemptRow<'a> {
        let response = attempt.response.as_ref();
        let headers = response.filter(|response| !response.headers.is_empty());
        AttemptRow {
            number: Some(attempt.number),
            at: Some(attempt.at.0),
            duration_ms: Some(attempt.duration_ms),
            http_status: response.map(|response| response.status),
            address: attempt.remote_address.map(|address| address.to_string()),
            headers: headers.map(|response| serde_json::json!(response.headers).to_string()),
            body: response.map(|response| response.body.as_str()).filter(|body| !body.is_empty()),
            ..AttemptRow::of_error(attempt.error.as_ref())
        }
    }

    /// No attempt, only why there is none.
    pub(super) fn of_error(error: Option<&'a AttemptError>) -> AttemptRow<'a> {
        AttemptRow {
            error_class: error.map(|error| error_code(error.class)),
            error_detail: error.map(|error| error.detail.as_str()),
            ..AttemptRow::default()
        }
    }
}

/// The attempt in the columns from `first` on, if there is one.
pub(super) fn attempt_at(row: &Row<'_>, first: usize) -> Sql<Option<Attempt>> {
    let Some(number) = row.get(first)? else { return Ok(None) };
    let response = match row.get::<_, Option<u16>>(first + 3)? {
        Some(status) => Some(Response {
            status,
            headers: maybe_json_at(row, first + 7)?.unwrap_or_default(),
            body: row.get::<_, Option<String>>(first + 8)?.unwrap_or_default(),
        }),
        None => None,
    };
    let address = row.get_ref(first + 6)?.as_str_or_null()?.map(str::parse::<IpAddr>).transpose();
    Ok(Some(Attempt {
        number,
        at: time_at(row, first + 1)?,
        duration_ms: row.get(first + 2)?,
        response,
        error: attempt_error_at(row, first)?,
        remote_address: address.map_err(FromSqlError::other)?,
    }))
}

/// The error in the columns of an attempt that start at `first`.
pub(super) fn attempt_error_at(row: &Row<'_>, first: usize) -> Sql<Option<AttemptError>> {
    let Some(class) = row.get::<_, Option<i16>>(first + 4)? else { return Ok(None) };
    let detail = row.get::<_, Option<String>>(first + 5)?.unwrap_or_default();
    Ok(Some(AttemptError { class: error_from(class)?, detail }))
}

/// The progress in the columns `attempts, step, resume_at` from `first` on.
pub(super) fn progress_at(row: &Row<'_>, first: usize) -> Sql<Progress> {
    Ok(Progress { attempts: row.get(first)?, step: row.get(first + 1)?, resume_at: maybe_time_at(row, first + 2)? })
}
