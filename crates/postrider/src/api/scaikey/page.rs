//! Lists of this contract: `page` and `per_page`, with the total.

use postrider_core::limits::{SCAIKEY_PER_PAGE_MAX, SCAIKEY_REACH_MAX};
use serde::Serialize;
use utoipa::ToSchema;

use super::history::Delivery;
use super::reading::{Problems, Query};
use super::record::Webhook;

const PER_PAGE: usize = 20;

/// The page that a caller asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Its number, from 1 on.
    pub page: usize,
    pub per_page: usize,
}

impl Asked {
    pub(super) fn of(query: &Query, problems: &mut Problems) -> Asked {
        let page = query.integer("page", 1..=usize::MAX, 1, problems);
        let per_page = query.integer("per_page", 1..=SCAIKEY_PER_PAGE_MAX, PER_PAGE, problems);
        Asked { page, per_page }
    }

    /// Items before the page.
    pub(super) fn skip(self) -> usize {
        (self.page - 1).saturating_mul(self.per_page)
    }

    /// Items before its end.
    pub(super) fn end(self) -> usize {
        self.skip().saturating_add(self.per_page)
    }

    /// Items of the page.
    pub(super) fn of_all<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.skip()).take(self.per_page).collect()
    }

    /// How many pages `total` items have.
    pub(super) fn pages(self, total: u64) -> u64 {
        total.div_ceil(self.per_page as u64)
    }

    /// As [`Asked::pages`], no more than can be asked for where pages reach so far only.
    pub(super) fn pages_within_reach(self, total: u64) -> u64 {
        self.pages(total).min((SCAIKEY_REACH_MAX / self.per_page) as u64)
    }
}

macro_rules! pages {
    ($($(#[doc = $doc:literal])+ $page:ident of $item:ident;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Serialize, ToSchema)]
            pub(super) struct $page {
                pub items: Vec<$item>,
                /// Items on all pages together.
                pub total: u64,
                pub page: usize,
                pub per_page: usize,
                /// Number of the last page; 0 if there is nothing.
                pub pages: u64,
            }
        )+
    };
}

pages! {
    /// A page of webhooks, newest first.
    WebhookPage of Webhook;
    /// A page of deliveries, newest first.
    DeliveryPage of Delivery;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_and_cut_from_the_whole() {
        let asked = |page, per_page| Asked { page, per_page };
        assert_eq!(asked(2, 3).of_all((0..8).collect()), [3, 4, 5]);
        assert_eq!(asked(3, 3).of_all((0..8).collect()), [6, 7]);
        assert_eq!(asked(4, 3).of_all((0..8).collect::<Vec<i32>>()), [0; 0]);
        assert_eq!(asked(usize::MAX, 100).of_all(vec![1]), [0; 0]);
        for (total, pages) in [(0, 0), (1, 1), (20, 1), (21, 2)] {
            assert_eq!(asked(1, 20).pages(total), pages, "{total}");
        }
    }

    #[test]
    fn every_page_that_is_counted_within_reach_can_be_asked_for_and_the_next_cannot() {
        for per_page in 1..=SCAIKEY_PER_PAGE_MAX {
            let asked = Asked { page: 1, per_page };
            let pages = usize::try_from(asked.pages_within_reach(u64::MAX)).unwrap_or(usize::MAX);
            let end = |page: usize| Asked { page, per_page }.end();
            assert!(end(pages) <= SCAIKEY_REACH_MAX && end(pages + 1) > SCAIKEY_REACH_MAX, "{per_page}");
        }
    }
}
