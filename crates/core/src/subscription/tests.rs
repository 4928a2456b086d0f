use proptest::prelude::*;

use super::*;

fn subscriptions(patterns: &[&str]) -> Subscriptions {
    let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    Subscriptions::parse(&patterns).unwrap()
}

#[test]
fn a_pattern_stands_for_exactly_what_it_says() {
    for (patterns, wanted, unwanted) in [
        (&[][..], &["user.created", "x"][..], &[][..]),
        (&["*"], &["user.created", "x"], &[]),
        (&["user.created"], &["user.created"], &["user.created.late", "user", "User.Created"]),
        (&["user.*"], &["user.created", "user.key.added"], &["user", "user.", "users.created", "super.user.created"]),
        (&["a.b", "c.*"], &["a.b", "c.d"], &["a.c", "c"]),
    ] {
        let subscriptions = subscriptions(patterns);
        assert!(wanted.iter().all(|name| subscriptions.matches(name)), "{patterns:?}");
        assert!(!unwanted.iter().any(|name| subscriptions.matches(name)), "{patterns:?}");
    }
}

#[test]
fn repeats_are_dropped_and_the_order_is_kept() {
    assert_eq!(subscriptions(&["b.*", "a", "b.*", "a", "c"]).0, ["b.*", "a", "c"]);
}

#[test]
fn names_of_event_types_are_checked() {
    let longest = "x".repeat(limits::EVENT_TYPE_BYTES_MAX);
    for good in ["a", "A9", "user.created", "gateway/fetch", "a_b-c.d", &longest] {
        assert_eq!(check_event_type(good), Ok(()), "{good}");
    }
    for bad in ["", ".a", "a.", "-a", "a_", "a b", "a*", "é", "a\n", "user.*", "*", &format!("{longest}x")] {
        assert!(check_event_type(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn patterns_are_checked_and_the_message_shows_which_is_wrong() {
    for bad in ["", "*.created", "us*", "user.*.x", "user*", ".*", "**", "user..*"] {
        assert!(Subscriptions::parse(&[bad.to_owned()]).is_err(), "{bad:?}");
    }
    let error = Subscriptions::parse(&["fine".into(), "not fine".into()]).unwrap_err();
    assert!(error.0.contains("\"not fine\""), "{error}");
}

#[test]
fn a_hundred_patterns_are_the_most() {
    let many = |n: usize| (0..n).map(|n| format!("type.{n}")).collect::<Vec<_>>();
    assert!(Subscriptions::parse(&many(limits::SUBSCRIPTIONS_MAX)).is_ok());
    assert!(Subscriptions::parse(&many(limits::SUBSCRIPTIONS_MAX + 1)).is_err());
    assert!(Subscriptions::parse(&vec!["same".to_owned(); 1000]).is_ok());
}

/// Segment by segment, the slow way.
#[test]
fn types_of_postriders_own_are_known_by_their_beginning() {
    for name in ["postrider.webhook.disabled", "postrider.x"] {
        assert!(is_reserved(name), "{name}");
    }
    for name in ["postrider", "postriders.x", "my.postrider.x", "Postrider.x"] {
        assert!(!is_reserved(name), "{name}");
    }
}

#[test]
fn postriders_own_events_go_only_to_who_names_them() {
    let matches = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Subscriptions::parse(&patterns).unwrap().matches("postrider.webhook.disabled")
    };
    for named in [&["postrider.*"][..], &["postrider.webhook.*"], &["*", "postrider.webhook.disabled"]] {
        assert!(matches(named), "{named:?}");
    }
    for other in [&[][..], &["*"], &["webhook.*"], &["postrider.delivery.*"]] {
        assert!(!matches(other), "{other:?}");
    }
}

fn matches_naively(patterns: &[String], name: &str) -> bool {
    let name: Vec<&str> = name.split('.').collect();
    patterns.is_empty()
        || patterns.iter().any(|pattern| {
            let mut pattern: Vec<&str> = pattern.split('.').collect();
            if pattern.last() != Some(&"*") {
                return pattern == name;
            }
            pattern.pop();
            pattern.is_empty() || (name.len() > pattern.len() && name[..pattern.len()] == pattern[..])
        })
}

proptest! {
    #[test]
    fn matching_is_matching_segment_by_segment(
        patterns in proptest::collection::vec("(\\*|[ab]{1,2}(\\.[ab]{1,2}){0,2}(\\.\\*)?)", 0..4),
        name in "[ab]{1,2}(\\.[ab]{1,2}){0,3}",
    ) {
        let subscriptions = Subscriptions::parse(&patterns).unwrap();
        prop_assert_eq!(subscriptions.matches(&name), matches_naively(&patterns, &name));
    }

    #[test]
    fn no_pattern_makes_parsing_panic(patterns in proptest::collection::vec("\\PC{0,12}", 0..4), name in "\\PC{0,12}") {
        let _ = Subscriptions::parse(&patterns);
        Subscriptions(patterns).matches(&name);
        let _ = check_event_type(&name);
    }
}
