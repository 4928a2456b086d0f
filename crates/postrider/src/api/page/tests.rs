#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn walking_pages_gives_each_item_once_newest_first(
        items in prop::collection::btree_set((0_i64..5, 0_u8..50), 0..40),
        limit in 1_usize..10,
    ) {
        let items: Vec<_> = items.into_iter().collect();
        let key = |item: &(i64, u8)| (item.0, vec![item.1]);
        let (mut walked, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = in_memory(items.clone(), key, Some(limit), cursor.as_deref()).unwrap();
            prop_assert!(page.len() <= limit);
            walked.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        prop_assert_eq!(walked, items.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_cursor_gives_its_number_back(n in any::<i64>()) {
        prop_assert_eq!(stored(None, Some(&cursor(n))).unwrap().before, Some(n));
    }

    #[test]
    fn no_text_makes_a_cursor_panic(text in ".*") {
        let _ = stored(None, Some(&text));
        let _ = in_memory(vec![(1_i64, 1_u8)], |item| (item.0, vec![item.1]), None, Some(&text));
    }
}

#[test]
fn a_page_has_one_to_two_hundred_items() {
    assert_eq!(limit(None).unwrap(), 50);
    for (given, is_allowed) in [(0, false), (1, true), (200, true), (201, false)] {
        assert_eq!(limit(Some(given)).is_ok(), is_allowed, "{given}");
    }
}
