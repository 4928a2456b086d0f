//! Lists, newest first, that never scan without bound.

use crate::store::{Listed, Page, Result};

/// Rows looked at for one page. A filter that matches less than one row in `SCAN_MAX / limit` gives pages that are
/// not full; `next` goes on where the scan stopped.
pub(super) const SCAN_MAX: usize = 10_000;
/// Rows asked for at a time, at most.
const CHUNK_MAX: usize = 2_000;

/// Builds one page. `candidates(before, count)` gives the `count` greatest numbers below `before`, or all if fewer;
/// `load` the item, or `None` when a filter drops it.
pub(super) fn paged<C, T>(
    page: Page,
    candidates: impl FnMut(i64, usize) -> Result<Vec<(i64, C)>>,
    load: impl FnMut(i64, C) -> Result<Option<T>>,
) -> Result<Listed<T>> {
    weighed(page, usize::MAX, |_| 0, candidates, load)
}

/// As [`paged`], but the items of a page, unless it is one, weigh at most `weight_max` together.
pub(super) fn weighed<C, T>(
    page: Page,
    weight_max: usize,
    weigh: impl Fn(&T) -> usize,
    mut candidates: impl FnMut(i64, usize) -> Result<Vec<(i64, C)>>,
    mut load: impl FnMut(i64, C) -> Result<Option<T>>,
) -> Result<Listed<T>> {
    let mut items = Vec::new();
    let mut weight = 0_usize;
    let mut before = page.before.unwrap_or(i64::MAX);
    let mut last = before;
    let mut scanned = 0;
    let mut chunk = page.limit.saturating_add(1).min(CHUNK_MAX);
    loop {
        let found = candidates(before, chunk)?;
        let exhausted = found.len() < chunk;
        for (n, candidate) in found {
            scanned += 1;
            before = n;
            let Some(item) = load(n, candidate)? else { continue };
            weight = weight.saturating_add(weigh(&item));
            if items.len() == page.limit || (weight > weight_max && !items.is_empty()) {
                return Ok(Listed { items, next: Some(last) });
            }
            items.push(item);
            last = n;
        }
        if exhausted {
            return Ok(Listed { items, next: None });
        }
        if scanned >= SCAN_MAX {
            return Ok(Listed { items, next: Some(before) });
        }
        chunk = (chunk * 4).min(CHUNK_MAX);
    }
}
