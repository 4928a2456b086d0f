//! How rows are read, and what text must be cleaned of before it is written.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use postrider_core::delivery::{Attempt, AttemptError, Response};
use postrider_core::ids::{EventId, ReplayId, Sequence, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::codes::{error_from, source_from};
use crate::store::{EventBody, RawBody, Result, Source};

pub(super) fn tenant_at(row: &Row, column: usize) -> Result<TenantId> {
    Ok(TenantId(row.try_get(column)?))
}

pub(super) fn webhook_at(row: &Row, column: usize) -> Result<WebhookId> {
    Ok(WebhookId(row.try_get(column)?))
}

pub(super) fn replay_at(row: &Row, column: usize) -> Result<Option<ReplayId>> {
    Ok(row.try_get::<_, Option<Uuid>>(column)?.map(ReplayId))
}

pub(super) fn time_at(row: &Row, column: usize) -> Result<UnixMs> {
    Ok(UnixMs(row.try_get(column)?))
}

pub(super) fn maybe_time_at(row: &Row, column: usize) -> Result<Option<UnixMs>> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(UnixMs))
}

/// A `bigint` that counts something.
pub(super) fn count_at(row: &Row, column: usize) -> Result<u64> {
    let count: i64 = row.try_get(column)?;
    Ok(u64::try_from(count).context("a count below zero")?)
}

/// An `integer` that counts something.
pub(super) fn small_at(row: &Row, column: usize) -> Result<u32> {
    let count: i32 = row.try_get(column)?;
    Ok(u32::try_from(count).context("a count below zero")?)
}

/// JSON in a `text` column.
pub(super) fn json_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T> {
    Ok(serde_json::from_str(row.try_get(column)?).context("stored JSON is damaged")?)
}

pub(super) fn maybe_json_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.map(serde_json::from_str).transpose().context("stored JSON is damaged")?)
}

pub(super) fn boxed_at(row: &Row, column: usize) -> Result<Option<Box<str>>> {
    Ok(row.try_get::<_, Option<&str>>(column)?.map(Box::from))
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value).context("cannot write JSON")?)
}

/// The wire name of an enum, as it is stored.
pub(super) fn name<T: Serialize>(value: T) -> Result<String> {
    match serde_json::to_value(value).context("cannot write JSON")? {
        serde_json::Value::String(name) => Ok(name),
        other => Err(anyhow::anyhow!("{other} is no name").into()),
    }
}

pub(super) fn name_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T> {
    let name: String = row.try_get(column)?;
    Ok(serde_json::from_value(serde_json::Value::String(name)).context("a stored name is unknown")?)
}

pub(super) fn maybe_name_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>> {
    if row.try_get::<_, Option<&str>>(column)?.is_none() { Ok(None) } else { name_at(row, column).map(Some) }
}

/// `text` without NUL, the one character that PostgreSQL's text cannot hold.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

pub(super) fn maybe_clean(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(clean)
}

/// The id of an event `e` that [`outer_id`](crate::store::outer_id) reads. Received events and firings are known by one too,
/// but that is not for anybody outside.
pub(super) const SHOWN_EXTERNAL_ID: &str = "CASE WHEN e.source IN (2, 5) THEN NULL ELSE e.external_id END";

/// Columns of an event, in the order in which [`event_at`] reads them.
pub(super) const EVENT_COLUMNS: &str = "n, entropy, tenant, type, source, occurred_at, external_id, ordering_key, \
                                        trace_parent, idempotency_key, data, content_type, raw";

/// The event in the [`EVENT_COLUMNS`] from `first` on.
pub(super) fn event_at(row: &Row, first: usize) -> Result<Arc<EventBody>> {
    let n: i64 = row.try_get(first)?;
    let source = source_from(row.try_get(first + 4)?)?;
    let raw = match source {
        Source::Received => Some(RawBody {
            content_type: boxed_at(row, first + 11)?,
            body: row.try_get::<_, Option<&[u8]>>(first + 12)?.map(Bytes::copy_from_slice),
        }),
        Source::Api | Source::Test | Source::Partner | Source::System | Source::Gateway => None,
    };
    Ok(Arc::new(EventBody {
        id: event_id(n, row.try_get(first + 1)?),
        tenant_id: tenant_at(row, first + 2)?,
        event_type: row.try_get::<_, &str>(first + 3)?.into(),
        source,
        occurred_at: maybe_time_at(row, first + 5)?.unwrap_or_else(|| Sequence::time(n)),
        external_id: boxed_at(row, first + 6)?,
        ordering_key: boxed_at(row, first + 7)?,
        trace_parent: boxed_at(row, first + 8)?,
        data: Bytes::copy_from_slice(row.try_get::<_, &str>(first + 10)?.as_bytes()),
        raw,
    }))
}

/// The idempotency key in the [`EVENT_COLUMNS`] from `first` on.
pub(super) fn idempotency_key_at(row: &Row, first: usize) -> Result<Option<String>> {
    Ok(row.try_get(first + 9)?)
}

/// The id of event `n`; the entropy is stored as the signed twin of its 64 bits.
pub(super) fn event_id(n: i64, entropy: i64) -> EventId {
    EventId::from_sequence(n, entropy.cast_unsigned())
}

/// Columns of an attempt, in the order in which [`attempt_at`] reads them.
pub(super) const ATTEMPT_COLUMNS: &str = "attempt, attempt_at, duration_ms, http_status, error_class, error_detail, \
                                          address, response_headers, response_body";

/// The attempt in the [`ATTEMPT_COLUMNS`] from `first` on, if there is one.
pub(super) fn attempt_at(row: &Row, first: usize) -> Result<Option<Attempt>> {
    let number: Option<i32> = row.try_get(first)?;
    let Some(number) = number else { return Ok(None) };
    let response = match row.try_get::<_, Option<i16>>(first + 3)? {
        Some(status) => Some(Response {
            status: status.cast_unsigned(),
            headers: maybe_json_at(row, first + 7)?.unwrap_or_default(),
            body: String::from_utf8_lossy(row.try_get::<_, Option<&[u8]>>(first + 8)?.unwrap_or_default()).into_owned(),
        }),
        None => None,
    };
    let address = row.try_get::<_, Option<&str>>(first + 6)?.map(str::parse::<IpAddr>).transpose();
    Ok(Some(Attempt {
        number: u32::try_from(number).context("a negative attempt")?,
        at: time_at(row, first + 1)?,
        duration_ms: row.try_get::<_, i32>(first + 2)?.cast_unsigned(),
        response,
        error: error_at(row, first + 4)?,
        remote_address: address.context("a stored address is damaged")?,
    }))
}

/// The error in the columns `error_class, error_detail` from `first` on.
pub(super) fn error_at(row: &Row, first: usize) -> Result<Option<AttemptError>> {
    let Some(class) = row.try_get::<_, Option<i16>>(first)? else { return Ok(None) };
    let detail = row.try_get::<_, Option<String>>(first + 1)?.unwrap_or_default();
    Ok(Some(AttemptError { class: error_from(class)?, detail }))
}
