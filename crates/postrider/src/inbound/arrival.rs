//! A request as it came over HTTP, and what of it is kept.

use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderMap;
use postrider_core::inbound::{Provider, Request};
use postrider_core::limits::{
    INBOUND_CONTENT_TYPE_BYTES_MAX, INBOUND_HEADERS_KEPT_BYTES_MAX, INBOUND_TARGET_BYTES_MAX,
};

/// A request to a receiver.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// In upper case.
    pub method: &'a str,
    /// Path and query as they came in.
    pub target: &'a str,
    /// Names in lower case; those whose value is not UTF-8 are left out.
    pub headers: Vec<(&'a str, &'a str)>,
    /// In memory of its own: it may be kept for long.
    pub body: Bytes,
    pub address: Option<IpAddr>,
    /// Set where we have made it ourselves.
    pub test: Option<Synthetic<'a>>,
}

/// What is known of a request that is a test.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic<'a> {
    pub event_type: &'a str,
    /// Of this one test.
    pub id: &'a str,
}

impl<'a> Arrival<'a> {
    /// The headers that can be read.
    pub fn headers(map: &'a HeaderMap) -> Vec<(&'a str, &'a str)> {
        let text = |value: &'a http::HeaderValue| std::str::from_utf8(value.as_bytes()).ok();
        map.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect()
    }

    /// What follows the question mark.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query).filter(|query| !query.is_empty())
    }

    pub(super) fn request<'r>(&'r self, url: &'r str) -> Request<'r> {
        Request { method: self.method, url, headers: &self.headers, body: &self.body }
    }

    /// As it is forwarded.
    pub(super) fn content_type(&self) -> Option<Box<str>> {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == "content-type")?;
        (value.len() <= INBOUND_CONTENT_TYPE_BYTES_MAX).then(|| (*value).into())
    }

    pub(super) fn kept_target(&self) -> Box<str> {
        self.target[..self.target.floor_char_boundary(INBOUND_TARGET_BYTES_MAX)].into()
    }

    /// Without credentials, as far as there is room: one that does not fit is left out, a shorter one after it may
    /// still fit.
    pub(super) fn kept_headers(&self, provider: &Provider) -> Vec<(&'a str, &'a str)> {
        let mut room = INBOUND_HEADERS_KEPT_BYTES_MAX;
        let kept = self.headers.iter().filter(|(name, _)| provider.keeps_header(name));
        let kept = kept.filter(|(name, value)| match room.checked_sub(name.len() + value.len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        });
        kept.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival<'a>(target: &'a str, headers: &[(&'a str, &'a str)]) -> Arrival<'a> {
        let headers = headers.to_vec();
        Arrival { method: "POST", target, headers, body: Bytes::new(), address: None, test: None }
    }

    #[test]
    fn headers_are_kept_up_to_the_bound_and_credentials_never() {
        let custom = Provider::find("custom");
        let fits = "x".repeat(INBOUND_HEADERS_KEPT_BYTES_MAX - "a".len());
        let one = [("a", fits.as_str())];
        assert_eq!(arrival("/", &one).kept_headers(custom).len(), 1);
        let long = fits.clone() + "x";
        let two = [("a", long.as_str()), ("authorization", "Bearer x"), ("cookie", "a=b"), ("b", "short")];
        let kept = arrival("/", &two).kept_headers(custom);
        assert_eq!(kept, [("b", "short")]);
    }

    #[test]
    fn a_target_and_a_content_type_are_kept_up_to_their_bounds() {
        let long = format!("/in?{}", "ü".repeat(INBOUND_TARGET_BYTES_MAX));
        assert!(arrival(&long, &[]).kept_target().len() <= INBOUND_TARGET_BYTES_MAX);
        assert_eq!(arrival("/in?a=b?c", &[]).query(), Some("a=b?c"));
        assert_eq!(arrival("/in?", &[]).query(), None);
        let content_type = "a".repeat(INBOUND_CONTENT_TYPE_BYTES_MAX);
        assert_eq!(arrival("/", &[("content-type", &content_type)]).content_type().as_deref(), Some(&*content_type));
        let longer = content_type + "a";
        assert_eq!(arrival("/", &[("content-type", &longer)]).content_type(), None);
    }
}
