//! Tenant hostnames: which token a request's host stands for. Which client that is, says the active public route of that
//! key, and nothing else.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// The hostnames that stand for tokens: `*.` and a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// With the dot before it, in lower case.
    suffix: String,
}

/// The pattern unless the operator has another one.
pub const DEFAULT_PATTERN: &str = "*.v3.athena-cluster.com";

/// The text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `*.` and a domain of at least two labels, such as {DEFAULT_PATTERN}")]
pub struct InvalidPattern;

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {max} characters of a-z 0-9 - _", max = limits::GATEWAY_TOKEN_BYTES_MAX)]
pub struct InvalidToken;

impl Default for Pattern {
    fn default() -> Pattern {
        Pattern { suffix: DEFAULT_PATTERN[1..].to_owned() }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Pattern, InvalidPattern> {
        let text = text.trim().to_ascii_lowercase();
        let domain = text.strip_prefix("*.").ok_or(InvalidPattern)?;
        let labels = domain.split('.').count();
        // A token and its dot come before it, and a name has at most 253 bytes.
        let fits = domain.len() + limits::GATEWAY_TOKEN_BYTES_MAX < 253;
        if labels < 2 || !fits || !domain.split('.').all(is_label) {
            return Err(InvalidPattern);
        }
        Ok(Pattern { suffix: text[1..].to_owned() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "*{}", self.suffix)
    }
}

impl Pattern {
    /// The token that a host stands for. `host`: as it stands in a header, perhaps with a port and a trailing dot.
    pub fn token(&self, host: &str) -> Option<String> {
        let name = bare(host.trim())?.to_ascii_lowercase();
        parse_token(name.strip_suffix(&self.suffix)?).ok()
    }

    /// The hostname of a token.
    pub fn host(&self, token: &str) -> String {
        format!("{token}{}", self.suffix)
    }

    /// The tokens that a request's headers stand for, the first one first.
    ///
    /// `forwarded`: whether the peer is a proxy that is trusted to say what it was asked for. From anybody else only
    /// `Host` counts.
    pub fn tokens(&self, headers: Headers<'_>, forwarded: bool) -> Vec<String> {
        let mut hosts: Vec<String> = headers.host.map(str::to_owned).into_iter().collect();
        if forwarded {
            hosts.extend(headers.x_forwarded_host.and_then(|all| all.split(',').next()).map(str::to_owned));
            hosts.extend(headers.forwarded.and_then(forwarded_host));
        }
        let mut tokens = Vec::new();
        for token in hosts.iter().filter_map(|host| self.token(host)) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        tokens
    }
}

/// What says which host a request was sent to: the first value of each header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `Host`, or the authority of an HTTP/2 request.
    pub host: Option<&'a str>,
    pub x_forwarded_host: Option<&'a str>,
    pub forwarded: Option<&'a str>,
}

/// A token as it is kept: one label in lower case.
///
/// # Errors
/// It is none.
pub fn parse_token(text: &str) -> Result<String, InvalidToken> {
    let token = text.trim().to_ascii_lowercase();
    let is_of_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let fits = (1..=limits::GATEWAY_TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(is_of_token);
    if fits { Ok(token) } else { Err(InvalidToken) }
}

/// A name of the domain name system, without its port and the dot of the root. `None`: it is an IPv6 address, or nothing
/// that stands in a header.
fn bare(host: &str) -> Option<&str> {
    let name = match host.split_once(':') {
        None => host,
        Some((name, port)) => {
            let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
            is_port.then_some(name)?
        }
    };
    Some(name.strip_suffix('.').unwrap_or(name))
}

fn is_label(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_inside) && !text.starts_with('-') && !text.ends_with('-')
}

/// `host=` of the first element of a `Forwarded` header that has one (RFC 7239).
fn forwarded_host(header: &str) -> Option<String> {
    let mut rest = header;
    while !rest.is_empty() {
        let (name, after) = rest.split_once(['=', ';', ',']).unwrap_or((rest, ""));
        let is_pair = rest[name.len()..].starts_with('=');
        if !is_pair {
            rest = after;
            continue;
        }
        let (value, after) = parameter(after)?;
        if name.trim().eq_ignore_ascii_case("host") {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// The value of a parameter, quoted or not, and what comes behind it. `None`: a quoted one does not end.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), text.get(end + 1..).unwrap_or_default()));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                let behind = quoted[at + 1..].trim_start();
                return Some((value, behind.strip_prefix([';', ',']).unwrap_or(behind)));
            }
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests;
