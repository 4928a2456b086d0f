//! Cookies: what they are called and how they are set.
//!
//! Over HTTPS they have the prefix `__Host-`, which browsers accept from the very host alone, for all of it, and only
//! over HTTPS: no sibling domain and no plain connection can plant one. Those of the portal have `__Secure-` instead,
//! because they are sent to `/portal` alone. Where the portal may be shown in a frame of another site, its cookies are
//! sent there too, and kept apart for each such site (`Partitioned`).

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderValue, header};

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
        let pairs = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let found = pairs.flat_map(|pairs| pairs.split(';')).find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        });
        found.filter(|value| {
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
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
