//! The identity provider by which people log in, as operators write it.

use postrider_core::limits::JWT_NAME_BYTES_MAX;
use postrider_core::signing::Secret;
use url::Url;

use super::parse::{self, Parsed};

/// An OpenID Connect provider, and how it knows us.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// `iss` of its tokens, to the letter.
    pub issuer: String,
    pub issuer_url: Url,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// Separated by spaces.
    pub scopes: String,
    /// What people call it.
    pub name: String,
}

/// Empty: none.
pub(super) fn issuer(value: &str) -> Parsed<Option<OidcOptions>> {
    let Some(issuer_url) = parse::optional_url(value, &["http", "https"])? else { return Ok(None) };
    if value.len() > JWT_NAME_BYTES_MAX {
        return Err(format!("may have at most {JWT_NAME_BYTES_MAX} bytes"));
    }
    if issuer_url.query().is_some() || issuer_url.fragment().is_some() || !issuer_url.username().is_empty() {
        return Err("must have no query, fragment or credentials".to_owned());
    }
    Ok(Some(OidcOptions {
        issuer: value.to_owned(),
        issuer_url,
        client_id: String::new(),
        client_secret: None,
        scopes: String::new(),
        name: String::new(),
    }))
}

pub(super) fn scopes(value: &str) -> String {
    let others = value.split_ascii_whitespace().filter(|scope| *scope != "openid");
    std::iter::once("openid").chain(others).collect::<Vec<_>>().join(" ")
}
