//! Cookies: what they are called and how they are set.
//!
//! Over HTTPS they have the prefix `__Host-`, which browsers accept from the very host alone, for all of it, and only
//! over HTTPS: no sibling domain and no plain connection can plant one. Those of the portal have `__Secure-` instead,
//! because they are sent to `/portal` alone. Where the portal may be shown in a frame of another site, its cookies are
//! sent there too, and kept apart for each such site (`Partitioned`).

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use postrider_core::cookie;

use super::realm::Realm;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    /// The token of a session.
    Session,
    /// Ties the forms of whoever is not logged in to his browser.
    Visitor,
    /// What the next page says.
    Flash,
    /// `light` or `dark`.
    Theme,
}

impl Cookie {
    fn name(self) -> &'static str {
        match self {
            Cookie::Session => "session",
            Cookie::Visitor => "visitor",
            Cookie::Flash => "flash",
            Cookie::Theme => "theme",
        }
    }
}

/// Where cookies are set, and so what they are called and may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jar {
    pub realm: Realm,
    /// Over HTTPS.
    pub is_secure: bool,
    /// Whether other sites may show these pages in a frame.
    pub is_framed: bool,
}

impl Jar {
    fn name(self, cookie: Cookie) -> String {
        let name = cookie.name();
        match (self.realm, self.is_secure) {
            (Realm::Console, true) => format!("__Host-postrider_{name}"),
            (Realm::Console, false) => format!("postrider_{name}"),
            (Realm::Portal, true) => format!("__Secure-postrider_portal_{name}"),
            (Realm::Portal, false) => format!("postrider_portal_{name}"),
        }
    }

    /// The value of a cookie in a request; none that is not sane.
    pub(super) fn get(self, cookie: Cookie, parts: &Parts) -> Option<&str> {
        let name = self.name(cookie);
        let headers = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookie::find(headers, &name)
    }

    /// The header that sets it. `life`: `None`: until the browser is closed.
    pub(super) fn set(self, cookie: Cookie, value: &str, life: Option<Duration>) -> HeaderValue {
        let path = if self.realm == Realm::Portal { "/portal" } else { "/" };
        // Browsers take `None` over HTTPS only; without it a frame must be of our own site, as on one machine.
        let foreign = if self.is_framed && self.is_secure { "None; Partitioned" } else { "Lax" };
        let mut text = format!("{}={value}; Path={path}; HttpOnly; SameSite={foreign}", self.name(cookie));
        if let Some(life) = life {
            text.push_str(&format!("; Max-Age={}", life.as_secs()));
        }
        if self.is_secure {
            text.push_str("; Secure");
        }
        let mut value = HeaderValue::try_from(text).expect("values are of letters and digits");
        value.set_sensitive(true);
        value
    }

    /// The header that removes it.
    pub(super) fn forget(self, cookie: Cookie) -> HeaderValue {
        self.set(cookie, "", Some(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::Request;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const JAR: Jar = Jar { realm: Realm::Console, is_secure: true, is_framed: false };

    fn sent<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Parts {
        let values = headers.into_iter().filter_map(|bytes| HeaderValue::from_bytes(bytes).ok());
        let request = values.fold(Request::builder(), |request, value| request.header(header::COOKIE, value));
        request.body(()).unwrap().into_parts().0
    }

    /// Bytes as they come, and pieces of what is looked for.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..24),
            "(__Host-|__Secure-)?postrider_(portal_)?(session|visitor|theme)".prop_map(String::into_bytes),
            "[=; ]{1,3}".prop_map(String::into_bytes),
            "[a-z0-9_-]{1,8}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_sent_only_a_sane_value_under_the_very_name_is_read(
            headers in vec(vec(piece(), 0..12), 0..4),
        ) {
            let headers: Vec<Vec<u8>> = headers.into_iter().map(|pieces| pieces.concat()).collect();
            let parts = sent(headers.iter().map(Vec::as_slice));
            let Some(value) = JAR.get(Cookie::Session, &parts) else { return Ok(()) };
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            let pair = format!("__Host-postrider_session={value}");
            let given = headers.iter().any(|header| header.windows(pair.len()).any(|at| at == pair.as_bytes()));
            prop_assert!(given, "{value} was not sent");
        }

        #[test]
        fn a_cookie_is_found_among_those_of_others(
            before in vec("[a-zA-Z_]{1,12}=[!-:<-~]{0,20}", 0..6),
            after in vec("[a-zA-Z_]{1,12}=[!-:<-~]{0,20}", 0..6),
            value in "[A-Za-z0-9_-]{1,64}",
        ) {
            let own = format!("__Host-postrider_session={value}");
            let all: Vec<String> = before.into_iter().chain([own]).chain(after).collect();
            let parts = sent([all.join("; ").as_bytes()]);
            prop_assert_eq!(JAR.get(Cookie::Session, &parts), Some(&*value));
        }
    }
}
