//! Whose tokens are accepted, as operators write it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use postrider_core::limits::{
    JWKS_BYTES_MAX, JWT_ISSUERS_MAX, JWT_NAME_BYTES_MAX, TOKEN_LIFETIME_MAX, TOKEN_LIFETIME_MIN,
};
use serde::Deserialize;
use url::Url;

use super::parse::{self, Parsed};

/// One that vouches for others with signed tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIssuer {
    /// `iss` of its tokens, to the letter.
    pub issuer: String,
    /// One of them must be in `aud`; empty: the deployment's own.
    pub audiences: Vec<String>,
    pub keys: KeySource,
}

/// Where an issuer's key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    Url(Url),
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    issuer: String,
    audience: Option<Audience>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Empty: none but ourselves.
pub(super) fn issuers(value: &str) -> Parsed<Vec<JwtIssuer>> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let written: Vec<Written> = serde_json::from_str(value).map_err(|error| {
        format!("must be a JSON list of {{\"issuer\", \"audience\", \"jwks_url\" or \"jwks_file\"}} ({error})")
    })?;
    if written.len() > JWT_ISSUERS_MAX {
        return Err(format!("may have at most {JWT_ISSUERS_MAX} issuers"));
    }
    let mut issuers: Vec<JwtIssuer> = Vec::with_capacity(written.len());
    for one in written {
        let issuer = issuer(one)?;
        if issuers.iter().any(|other| other.issuer == issuer.issuer) {
            return Err(format!("names the issuer `{}` twice", issuer.issuer));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn issuer(written: Written) -> Parsed<JwtIssuer> {
    let issuer = written.issuer;
    check_name("an issuer", &issuer)?;
    // The audit log tells subject and issuer apart by it.
    if issuer.contains('@') {
        return Err(format!("`{issuer}`: the name of an issuer may not have an @"));
    }
    let audiences = match written.audience {
        None => Vec::new(),
        Some(Audience::One(one)) => vec![one],
        Some(Audience::Many(many)) if !many.is_empty() => many,
        Some(Audience::Many(_)) => return Err(format!("`{issuer}`: the list of audiences is empty")),
    };
    audiences.iter().try_for_each(|audience| check_name("an audience", audience))?;
    let keys = match (written.jwks_url, written.jwks_file) {
        (Some(url), None) => {
            let url = parse::optional_url(&url, &["https", "http"]);
            let url = url.map_err(|error| format!("`{issuer}`: jwks_url {error}"))?;
            KeySource::Url(url.ok_or_else(|| format!("`{issuer}`: jwks_url is empty"))?)
        }
        (None, Some(path)) if path.as_os_str().is_empty() => return Err(format!("`{issuer}`: jwks_file is empty")),
        (None, Some(path)) => KeySource::File(path),
        _ => return Err(format!("`{issuer}`: needs either jwks_url or jwks_file")),
    };
    Ok(JwtIssuer { issuer, audiences, keys })
}

/// A name that tokens carry, such as a URL.
pub(super) fn audience(value: &str) -> Parsed<String> {
    check_name("an audience", value)?;
    Ok(value.to_owned())
}

fn check_name(what: &str, name: &str) -> Parsed<()> {
    let is_good = (1..=JWT_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|character| character.is_control() || character.is_whitespace());
    if is_good { Ok(()) } else { Err(format!("{what} has 1 to {JWT_NAME_BYTES_MAX} bytes and no spaces")) }
}

pub(super) fn lifetime(value: &str) -> Parsed<std::time::Duration> {
    parse::duration_between(value, TOKEN_LIFETIME_MIN, TOKEN_LIFETIME_MAX)
}

/// The key set in a file.
///
/// # Errors
/// The file cannot be read, or is too large.
pub fn read_key_set(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut text = Vec::new();
    File::open(path).map_err(named)?.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(named)?;
    if text.len() > JWKS_BYTES_MAX {
        return Err(format!("{}: has more than {JWKS_BYTES_MAX} bytes", path.display()));
    }
    Ok(text)
}
