//! Lists of this contract: `page` and `limit`, or the `nextCursor` of the page before.

use postrider_core::limits::PAGE_MAX;
use serde::{Deserialize, Serialize};

use crate::api::call::Call;
use crate::api::error::{ApiError, Code, Result};
use crate::api::page;
use crate::store::{Listed, Page};

/// How far into a list `page` alone reaches, items; further on, `cursor` does.
const OFFSET_MAX: usize = 2000;
/// Bytes of payloads on one page: a page of large ones ends early.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Calls of the store for one page: a bound where few rows match.
const CALLS_MAX: usize = 32;

#[derive(Deserialize)]
struct Query {
    page: Option<usize>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The page that a caller asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its number, from 1 on.
    pub page: usize,
    pub limit: usize,
    /// In our own form.
    pub cursor: Option<String>,
    /// Items before it that no cursor stands for.
    pub skip: usize,
}

impl Asked {
    pub(super) fn of(call: &Call) -> Result<Asked> {
        let Query { page, limit, cursor } = call.query()?;
        let limit = page::limit(limit)?;
        if let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) {
            let wrong = || ApiError::new(Code::InvalidParameter, "not a cursor of this list").at("cursor");
            let (page, inner) = cursor.split_once('~').ok_or_else(wrong)?;
            let page = page.parse().ok().filter(|page| *page > 1).ok_or_else(wrong)?;
            return Ok(Asked { page, limit, cursor: Some(inner.to_owned()), skip: 0 });
        }
        let page = page.unwrap_or(1);
        if page == 0 {
            return Err(ApiError::new(Code::InvalidParameter, "page is 1 or more").at("page"));
        }
        let skip = (page - 1).saturating_mul(limit);
        if skip > OFFSET_MAX {
            let message = format!("page reaches {OFFSET_MAX} items far; go on with cursor");
            return Err(ApiError::new(Code::InvalidParameter, message).at("page"));
        }
        Ok(Asked { page, limit, cursor: None, skip })
    }

    pub(super) fn paged<T>(&self, items: Vec<T>, next: Option<String>) -> Paged<T> {
        let next_cursor = next.map(|inner| format!("{}~{inner}", self.page + 1));
        Paged { items, page: self.page, limit: self.limit, has_more: next_cursor.is_some(), next_cursor }
    }
}

/// A page as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paged<T> {
    items: Vec<T>,
    page: usize,
    limit: usize,
    next_cursor: Option<String>,
    has_more: bool,
}

/// Fills a page from a list of the store, whose own pages may end early.
#[derive(Debug)]
pub(super) struct Filling<T> {
    pub items: Vec<T>,
    limit: usize,
    skip: usize,
    before: Option<i64>,
    bytes: usize,
    calls: usize,
    is_done: bool,
}

impl<T> Filling<T> {
    pub(super) fn of(asked: &Asked) -> Result<Filling<T>> {
        let Page { before, limit } = page::stored(Some(asked.limit), asked.cursor.as_deref())?;
        Ok(Filling { items: Vec::new(), limit, skip: asked.skip, before, bytes: 0, calls: 0, is_done: false })
    }

    /// What to ask the store for next, if anything.
    pub(super) fn wants(&self) -> Option<Page> {
        let is_full = self.items.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX || self.calls >= CALLS_MAX;
        let limit = (self.skip + self.limit - self.items.len()).min(PAGE_MAX);
        (!self.is_done && !is_full).then_some(Page { before: self.before, limit })
    }

    pub(super) fn take(&mut self, listed: Listed<T>, bytes: impl Fn(&T) -> usize) {
        self.calls += 1;
        self.before = listed.next;
        self.is_done = listed.next.is_none();
        let skipped = self.skip.min(listed.items.len());
        self.skip -= skipped;
        for item in listed.items.into_iter().skip(skipped) {
            self.bytes += bytes(&item);
            self.items.push(item);
        }
    }

    pub(super) fn next(&self) -> Option<String> {
        self.before.filter(|_| !self.is_done).map(page::cursor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A store of the numbers below 1000 that looks at no more than 7 of them per call, and shows the even ones.
    fn look(page: Page) -> Listed<i64> {
        let before = page.before.unwrap_or(1000);
        let (items, mut at) = (&mut Vec::new(), before);
        while at > 0 && before - at < 7 && items.len() < page.limit {
            at -= 1;
            if at % 2 == 0 {
                items.push(at);
            }
        }
        Listed { items: std::mem::take(items), next: (at > 0).then_some(at) }
    }

    fn fill(asked: &Asked, bytes: usize) -> (Vec<i64>, Option<String>) {
        let mut filling = Filling::of(asked).unwrap();
        while let Some(page) = filling.wants() {
            filling.take(look(page), |_| bytes);
        }
        let next = filling.next();
        (filling.items, next)
    }

    fn evens(from: i64, count: usize) -> Vec<i64> {
        (0..=from).rev().filter(|number| number % 2 == 0).take(count).collect()
    }

    #[test]
    fn a_page_is_filled_from_short_ones_and_the_next_goes_on_after_it() {
        let first = Asked { page: 1, limit: 20, cursor: None, skip: 0 };
        let (items, next) = fill(&first, 1);
        assert_eq!(items, evens(999, 20));
        let second = Asked { page: 2, limit: 20, cursor: next, skip: 0 };
        let (by_cursor, _) = fill(&second, 1);
        let (by_number, _) = fill(&Asked { page: 2, limit: 20, cursor: None, skip: 20 }, 1);
        assert_eq!((&by_cursor, &by_number), (&evens(959, 20), &evens(959, 20)));
        let last = Asked { page: 9, limit: 200, cursor: Some(page::cursor(3)), skip: 0 };
        assert_eq!(fill(&last, 1), (vec![2, 0], None));
    }

    #[test]
    fn a_page_ends_early_when_its_payloads_are_large_or_little_is_found() {
        let asked = Asked { page: 1, limit: 200, cursor: None, skip: 0 };
        let (items, next) = fill(&asked, PAGE_BYTES_MAX / 4);
        assert!((4..8).contains(&items.len()) && next.is_some(), "{items:?}");
        let (items, next) = fill(&asked, 1);
        assert!(items.len() < 200 && next.is_some(), "after {CALLS_MAX} calls there is a cursor to go on with");
    }
}
