//! The `Cookie` header: what a browser is told by other sites must not become our session.

use postrider_core::cookie;

const OURS: [&str; 3] = ["__Host-postrider_session", "postrider_visitor", "__Secure-postrider_portal_theme"];

/// Lines: the values of the `Cookie` headers of a request.
///
/// - What is read is what a reader of another make finds, byte by byte, and is plain.
/// - A cookie of ours before all others is the one that is read, whatever follows; cookies of other names, before or
///   after, change nothing.
///
/// # Panics
/// If one of these does not hold.
pub fn cookies(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let headers: Vec<&str> = text.split('\n').collect();
    let find = |headers: &[&str], name: &str| cookie::find(headers.iter().copied(), name).map(str::to_owned);
    for name in OURS {
        let found = find(&headers, name);
        assert_eq!(found, by_hand(&headers, name), "{name}");
        let is_plain = |value: &str| {
            !value.is_empty() && value.chars().all(|c| matches!(c, '0'..='9' | 'A'..='Z' | 'a'..='z' | '-' | '_'))
        };
        assert!(found.as_deref().is_none_or(is_plain), "{found:?}");
        let own = format!("{name}=0wn-One_");
        assert_eq!(find(&[&[&*own], &headers[..]].concat(), name).as_deref(), Some("0wn-One_"));
        let joined = format!("{own};{}", headers[0]);
        assert_eq!(find(&[&[&*joined], &headers[1..]].concat(), name).as_deref(), Some("0wn-One_"));
        for other in [format!("x{name}=a"), format!("{name}x=a"), name.to_ascii_uppercase() + "=a", name.to_owned()] {
            assert_eq!(find(&[&[&*other], &headers[..]].concat(), name), found, "{other}");
            assert_eq!(find(&[&headers[..], &[&*other]].concat(), name), found, "{other}");
        }
    }
}

/// The same by looking for the name and at what stands around it.
fn by_hand(headers: &[&str], name: &str) -> Option<String> {
    for header in headers {
        let bytes = header.as_bytes();
        let mut at = 0;
        while at <= bytes.len() {
            let end = bytes[at..].iter().position(|byte| *byte == b';').map_or(bytes.len(), |length| at + length);
            let mut pair = &bytes[at..end];
            while let [b' ' | b'\t', rest @ ..] = pair {
                pair = rest;
            }
            while let [rest @ .., b' ' | b'\t'] = pair {
                pair = rest;
            }
            if let Some([b'=', value @ ..]) = pair.strip_prefix(name.as_bytes()) {
                let is_plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_');
                let is_value = !value.is_empty() && value.iter().all(is_plain);
                return is_value.then(|| value.iter().map(|byte| char::from(*byte)).collect());
            }
            at = end + 1;
        }
    }
    None
}

pub(crate) const SEEDS: [&str; 7] = [
    "__Host-postrider_session=ps_0123456789abcdefABCDEF-_; theme=dark",
    "postrider_visitor=a\npostrider_visitor=b",
    " ;;\t__Secure-postrider_portal_theme=light ; __Host-postrider_session=\"quoted\"; postrider_visitor=",
    "__Host-postrider_session=; __Host-postrider_session=planted",
    "__host-postrider_session=a; __Host-postrider_session =a; =__Host-postrider_session=a; __Host-postrider_session",
    "postrider_visitor=a=b; postrider_visitor=a,postrider_visitor=b",
    "postrider_visitor=\u{a0}a\u{2003}; \u{3000}__Host-postrider_session=a",
];
