//! Lists: newest first, `limit` 1 to 200, an opaque `cursor`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::limits::{PAGE_DEFAULT, PAGE_MAX};
use serde::Serialize;

use super::error::{ApiError, Code, Result};
use crate::store::{Listed, Page};

/// A page of a list.
#[derive(Debug, Serialize)]
pub(super) struct List<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A page as the store gave it.
    pub(super) fn stored<R>(listed: Listed<R>, view: impl FnMut(R) -> T) -> List<T> {
        List { items: listed.items.into_iter().map(view).collect(), next_cursor: listed.next.map(cursor) }
    }
}

/// Checks `limit`.
pub(super) fn limit(limit: Option<usize>) -> Result<usize> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        _ => Err(ApiError::new(Code::InvalidParameter, format!("limit is 1 to {PAGE_MAX}")).at("limit")),
    }
}

/// The page of a list that the store keeps.
pub(super) fn stored(limit_given: Option<usize>, cursor: Option<&str>) -> Result<Page> {
    Ok(Page { before: cursor.map(number).transpose()?, limit: limit(limit_given)? })
}

/// The cursor that stands for `number`.
pub(super) fn cursor(number: i64) -> String {
    URL_SAFE_NO_PAD.encode(number.to_be_bytes())
}

/// The number that a cursor stands for.
pub(super) fn number(cursor: &str) -> Result<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| invalid())?))
}

fn invalid() -> ApiError {
    ApiError::new(Code::InvalidParameter, "not a cursor of this list").at("cursor")
}

/// A page of what is in memory: `key` gives each item its place (time of creation, then a tie-breaker).
pub(super) fn in_memory<T>(
    mut items: Vec<T>,
    key: impl Fn(&T) -> (i64, Vec<u8>),
    limit_given: Option<usize>,
    cursor: Option<&str>,
) -> Result<(Vec<T>, Option<String>)> {
    let limit = limit(limit_given)?;
    if let Some(cursor) = cursor {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (time, tie) = bytes.split_at_checked(8).ok_or_else(invalid)?;
        let before = (i64::from_be_bytes(time.try_into().map_err(|_| invalid())?), tie.to_vec());
        items.retain(|item| key(item) < before);
    }
    items.sort_by_cached_key(|item| std::cmp::Reverse(key(item)));
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| {
        let (time, tie) = key(last);
        URL_SAFE_NO_PAD.encode([&time.to_be_bytes()[..], &tie].concat())
    });
    Ok((items, next))
}

#[cfg(test)]
mod tests;
