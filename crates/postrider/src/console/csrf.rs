//! Forms come from our own pages: each has a token, and the browser says where it was sent from.
//!
//! The token is an HMAC, keyed with the secret of the session (or of the visitor who has none yet), of the tenant that is
//! looked at: so every node makes the same, and a form of one tenant is refused after its sender has turned to another.

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::ids::TenantId;
use ring::hmac;
use subtle::ConstantTimeEq as _;

/// The field of a form; scripts send the header.
pub(super) const FIELD: &str = "csrf";
pub(super) const HEADER: &str = "x-csrf-token";

pub(super) fn token(secret: &str, tenant: Option<TenantId>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let about = tenant.map_or_else(String::new, |tenant| tenant.to_string());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, format!("form of {about}").as_bytes()))
}

pub(super) fn fits(given: &str, secret: &str, tenant: Option<TenantId>) -> bool {
    given.as_bytes().ct_eq(token(secret, tenant).as_bytes()).into()
}

/// Whether the browser, if it says anything, says that one of our pages has sent this. `origins`: how we are reached.
pub(super) fn is_from_here(parts: &Parts, origins: &[Option<String>]) -> bool {
    let text =
        |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned());
    if let Some(site) = text(&parts.headers, "sec-fetch-site") {
        return site == "same-origin";
    }
    match text(&parts.headers, header::ORIGIN.as_str()) {
        Some(origin) => origins.iter().flatten().any(|ours| *ours == origin),
        None => true,
    }
}
