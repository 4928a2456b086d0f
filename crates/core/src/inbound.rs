//! Receiving: is this request from whom it says it is, what is it about, and does the sender want an answer first?
//!
//! One row of data ([`Provider`], in `registry`) says how a provider signs; one core (`recipe`) reads every row. Adding
//! a provider is one row and one vector. What no row can say is a small adapter of its own: `adyen` signs items of
//! the body, `certified` (PayPal, AWS SNS) signs with a certificate that the caller has to fetch first.
//!
//! Everything is a function of its arguments: the request, what the receiver knows ([`Setup`]) and the time. The
//! order for a received request is
//!
//! 1. [`Provider::find`] by the receiver's source;
//! 2. [`handshake`]: a reply to give at once, without recording anything;
//! 3. [`certificate_url`]: if it names one, fetch it (see there for what the caller must check);
//! 4. [`verify`], [`event_type`], [`event_id`] and [`event_data`]: recorded with the request;
//! 5. [`Provider::answer`]: what the provider wants to hear, where that is not what everybody else gets.
//!
//! Guarantees: comparisons are constant-time, work is linear in the request and bounded by `limits.rs`, nothing panics
//! on any input, and no reply ever contains a signature of text that somebody else could make use of.

mod address;
mod adyen;
pub(crate) mod body;
mod certified;
mod data;
mod event;
mod handshake;
mod provider;
mod recipe;
mod registry;
mod verdict;

#[cfg(test)]
mod tests;

pub use self::certified::{Certificates, Trust, certificate_url, subscription_url};
pub use self::data::event_data;
pub use self::event::{event_id, event_type};
pub use self::handshake::{Reply, handshake};
pub use self::provider::{Answer, Provider};
pub use self::registry::PROVIDERS;
pub use self::verdict::{Reason, Verdict, VerdictKind};
use crate::inbound::body::Body;
use crate::inbound::provider::Scheme;
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

/// A received request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// The URL as the provider was told it: scheme, host, port and path of the configured public URL, byte for byte,
    /// and the query as it was received (`?` included, still encoded). Never made from the `Host` header.
    pub url: &'a str,
    /// Names in any case. Of several with one name the first counts.
    pub headers: &'a [(&'a str, &'a str)],
    /// The bytes as they came in.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    #[cfg(test)]
    fn empty() -> Request<'static> {
        Request { method: "POST", url: "https://receiver.example/in", headers: &[], body: b"" }
    }

    /// The first header of this name.
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn query(&self) -> Option<&'a str> {
        let without_fragment = self.url.split('#').next()?;
        without_fragment.split_once('?').map(|(_, query)| query)
    }

    /// The first parameter of this name in the query, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query()?.as_bytes());
        pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// What a receiver knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// Active secrets, the current one first. What a secret is, is the provider's business: a shared key for most; the
    /// application's public key for Discord, the verification key for SendGrid, the webhook's id for PayPal, the
    /// topic's ARN for AWS SNS.
    pub secrets: &'a [Secret],
    /// The text that Meta and eBay have the user invent beside the secret. Without one their handshakes are refused.
    pub verify_token: Option<&'a str>,
    /// The provider hands the secret over in its handshake (Asana) and has not done so yet.
    pub awaits_secret: bool,
    /// For a request for which [`certificate_url`] names one.
    pub certificates: Option<Certificates<'a>>,
}

/// Verifies a request. `now` is the time at which it was received, also when a stored request is verified again.
pub fn verify(provider: &Provider, setup: &Setup<'_>, request: &Request<'_>, now: UnixMs) -> Verdict {
    let body = Body::new(request.body);
    let Some(scheme) = applicable(provider.schemes, setup, request, &body) else {
        return if provider.schemes.is_empty() { Verdict::Unattempted } else { Verdict::Failed(Reason::MissingHeader) };
    };
    let secrets = &setup.secrets[..setup.secrets.len().min(limits::INBOUND_SECRETS_MAX)];
    if secrets.is_empty() {
        return Verdict::Unattempted;
    }
    if handshake::signs_alone(provider, request.body) {
        return Verdict::Failed(Reason::MalformedBody);
    }
    let found = match scheme {
        Scheme::Signed(recipe) => recipe::check(recipe, secrets, request, &body, now),
        Scheme::Token(place) | Scheme::ClientId(place) => return recipe::check_token(place, secrets, request, &body),
        Scheme::AdyenItems => adyen::check(secrets, &body),
        Scheme::PayPal | Scheme::Sns if setup.certificates.is_none() => return Verdict::Unattempted,
        Scheme::PayPal => certified::check_paypal(setup, secrets, request, now),
        Scheme::Sns => certified::check_sns(setup, secrets, &body, now),
    };
    match found {
        Ok(secret) => Verdict::Verified { secret },
        Err(reason) => Verdict::Failed(reason),
    }
}

/// The first scheme whose signature the request brings and for which there is a key. A stronger scheme stands before a
/// weaker one in its row, so where both signatures are sent, the weaker one is not looked at.
fn applicable<'s>(
    schemes: &'s [Scheme],
    setup: &Setup<'_>,
    request: &Request<'_>,
    body: &Body<'_>,
) -> Option<&'s Scheme> {
    let mut present = schemes.iter().filter(|scheme| scheme.is_present(request, body));
    let first = present.next();
    let is_usable = |scheme: &&Scheme| setup.secrets.iter().any(|secret| scheme.takes(secret));
    first.filter(is_usable).or_else(|| present.find(is_usable)).or(first)
}
