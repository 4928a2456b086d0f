//! Lists, newest first, that never look at rows without bound.

use crate::store::{Listed, Page};

/// Rows looked at for one page, about. A filter that matches less than one row in `SCAN_MAX / limit` gives pages that are
/// not full; `next` goes on where the search stopped.
const SCAN_MAX: usize = 10_000;
/// Rows looked at by one statement, at most.
const CHUNK_MAX: usize = 2_000;

/// A page while it is filled, by one statement or several. Each of these sees one moment, and they look at numbers that
/// follow each other, so nothing is missed or repeated between them.
#[derive(Debug)]
pub(super) struct Pager<T> {
    limit: usize,
    items: Vec<T>,
    /// Of the last item.
    last: i64,
    before: i64,
    looked: usize,
    chunk: usize,
    done: bool,
    next: Option<i64>,
}

/// What one statement looks at: the `rows` greatest numbers below `before`, of which it gives `items` at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) before: i64,
    pub(super) rows: i64,
    pub(super) items: i64,
}

/// What it has looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    pub(super) rows: i64,
    /// The least of the numbers.
    pub(super) least: Option<i64>,
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl<T> Pager<T> {
    /// `filtered`: rows are looked at that are no items.
    pub(super) fn new(page: Page, filtered: bool) -> Pager<T> {
        let before = page.before.unwrap_or(i64::MAX);
        let wanted = page.limit.saturating_add(1);
        let chunk = if filtered { (4 * wanted).min(CHUNK_MAX) } else { wanted };
        Pager { limit: page.limit, items: Vec::new(), last: before, before, looked: 0, chunk, done: false, next: None }
    }

    /// The next look, if one is needed.
    pub(super) fn look(&self) -> Option<Look> {
        // One more than the page holds tells whether anything follows.
        let items = signed(self.limit + 1 - self.items.len());
        (!self.done).then(|| Look { before: self.before, rows: signed(self.chunk), items })
    }

    /// Takes what a look found: items in descending order, each with its number.
    pub(super) fn add(&mut self, found: Vec<(i64, T)>, looked: Looked) {
        for (n, item) in found {
            if self.items.len() == self.limit {
                self.next = Some(self.last);
                self.done = true;
                return;
            }
            self.last = n;
            self.items.push(item);
        }
        self.looked += usize::try_from(looked.rows).unwrap_or_default();
        match looked.least {
            Some(least) if looked.rows >= signed(self.chunk) => self.before = least,
            _ => self.done = true,
        }
        if !self.done && self.looked >= SCAN_MAX {
            self.next = Some(self.before);
            self.done = true;
        }
        self.chunk = (self.chunk * 4).min(CHUNK_MAX);
    }

    /// Takes what a look found that leaves nothing out.
    pub(super) fn add_all(&mut self, found: Vec<(i64, T)>) {
        let looked = Looked { rows: signed(found.len()), least: found.last().map(|(n, _)| *n) };
        self.add(found, looked);
    }

    /// Whether there is nothing on the page yet.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Ends the page with its last item, since what follows would be too heavy for it.
    pub(super) fn end_here(&mut self) {
        self.next = Some(self.last);
        self.done = true;
    }

    pub(super) fn finish(self) -> Listed<T> {
        Listed { items: self.items, next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks numbers 1 to `top`, of which multiples of `step` match; the pages' items and the rows looked at for each.
    fn walk(top: i64, step: i64, limit: usize) -> Vec<(Vec<i64>, i64)> {
        let (mut before, mut pages) = (None, Vec::new());
        loop {
            let mut pager = Pager::new(Page { before, limit }, step > 1);
            let mut looks = 0;
            while let Some(look) = pager.look() {
                let seen: Vec<i64> = (1..look.before.min(top + 1)).rev().take(look.rows as usize).collect();
                let found = seen.iter().filter(|n| *n % step == 0).take(look.items as usize);
                let found = found.map(|n| (*n, *n)).collect();
                pager.add(found, Looked { rows: seen.len() as i64, least: seen.last().copied() });
                looks += seen.len() as i64;
            }
            let listed = pager.finish();
            pages.push((listed.items, looks));
            before = listed.next;
            if before.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_hold_everything_once_and_looks_are_bounded() {
        for (top, step, limit) in
            [(0, 1, 3), (3, 1, 3), (4, 1, 3), (100, 7, 5), (100_000, 9_999, 10), (30_000, 40_000, 1)]
        {
            let pages = walk(top, step, limit);
            let found: Vec<i64> = pages.iter().flat_map(|(items, _)| items.iter().copied()).collect();
            let expected: Vec<i64> = (1..=top).rev().filter(|n| n % step == 0).collect();
            assert_eq!(found, expected, "{top} {step} {limit}");
            assert!(pages.iter().all(|(items, looks)| items.len() <= limit && *looks < 2 * SCAN_MAX as i64));
        }
    }

    #[test]
    fn a_page_that_is_exactly_full_knows_that_nothing_follows() {
        assert_eq!(walk(6, 1, 3).len(), 2);
        assert_eq!(walk(6, 2, 3).len(), 1);
    }
}
