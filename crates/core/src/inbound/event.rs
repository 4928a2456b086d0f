//! What a received request is about: the type of its event, and an id that a repeated request repeats.

use crate::inbound::Request;
use crate::inbound::body::Body;
use crate::inbound::provider::{Provider, Text};
use crate::limits;

/// The type of the event: from where the provider's row says, else the body's `type` or `event`, else
/// `<source>.received` with the receiver's source as it was given. Always 1 to 128 of `a-z0-9_.-`.
pub fn event_type(provider: &Provider, source: &str, request: &Request<'_>) -> String {
    const FALLBACK: [Text; 2] = [Text::Json(&["type"]), Text::Json(&["event"])];
    let body = Body::new(request.body);
    let mut places = provider.event_type.iter().chain(&FALLBACK);
    let found = places.find_map(|place| normal(&place.read(request, &body)?));
    found.unwrap_or_else(|| format!("{}.received", received(source).unwrap_or_else(|| provider.name.to_owned())))
}

/// An id that requests about the same event share, where the provider gives one. Unique only within its receiver.
///
/// Compare it with the ids of *accepted* requests only: anybody can send a request with somebody else's id, and a refused
/// one must not make the genuine one a repeat.
pub fn event_id(provider: &Provider, request: &Request<'_>) -> Option<String> {
    let body = Body::new(request.body);
    let id = provider.event_id.iter().find_map(|place| place.read(request, &body))?;
    if id.len() <= limits::INBOUND_EVENT_ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(id);
    }
    Some(format!("sha256:{}", hex::encode(ring::digest::digest(&ring::digest::SHA256, id.as_bytes()))))
}

/// A source as the first half of a type, short enough for the second.
fn received(source: &str) -> Option<String> {
    normal(&source.chars().take(limits::EVENT_TYPE_BYTES_MAX - ".received".len()).collect::<String>())
}

/// In lower case; separators that types are commonly written with become dots, anything else an underscore.
fn normal(text: &str) -> Option<String> {
    let character = |character: char| match character {
        'a'..='z' | '0'..='9' | '_' | '.' | '-' => character,
        'A'..='Z' => character.to_ascii_lowercase(),
        '/' | ':' => '.',
        _ => '_',
    };
    let mut text: String = text.trim().chars().take(limits::EVENT_TYPE_BYTES_MAX).map(character).collect();
    // `command.` before `/name`, say.
    while text.contains("..") {
        text = text.replace("..", ".");
    }
    let says_something = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    says_something.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_normalised() {
        assert_eq!(normal("orders/create").unwrap(), "orders.create");
        assert_eq!(normal(" Push Hook ").unwrap(), "push_hook");
        assert_eq!(normal("PAYMENT.SALE.COMPLETED").unwrap(), "payment.sale.completed");
        assert_eq!(normal("a:ü*b").unwrap(), "a.__b");
        assert_eq!(normal(&"x".repeat(500)).unwrap().len(), 128);
        assert_eq!(normal("command./name").unwrap(), "command.name");
        assert_eq!(normal("a.....b").unwrap(), "a.b");
        assert_eq!(normal("///"), None);
        assert_eq!(normal(""), None);
    }

    #[test]
    fn a_type_is_found_wherever_it_stands() {
        let of = |source: &str, headers: &[(&str, &str)], body: &str| {
            let request = Request { headers, body: body.as_bytes(), ..Request::empty() };
            event_type(Provider::find(source), source, &request)
        };
        assert_eq!(of("github", &[("X-GitHub-Event", "issues")], r#"{"action":"opened"}"#), "issues.opened");
        assert_eq!(of("github", &[("X-GitHub-Event", "push")], "{}"), "push");
        assert_eq!(of("custom", &[], r#"{"event":"Lead/Won"}"#), "lead.won");
        assert_eq!(of("custom", &[], "not json"), "custom.received");
        assert_eq!(of("stripe", &[], "[]"), "stripe.received");
        assert_eq!(of("Acme CRM", &[], ""), "acme_crm.received");
        assert_eq!(of("clerk", &[], ""), "clerk.received");
        assert_eq!(of("", &[], ""), "custom.received");
        assert_eq!(of(&"x".repeat(500), &[], "").len(), limits::EVENT_TYPE_BYTES_MAX);
    }

    #[test]
    fn a_long_or_strange_id_is_hashed() {
        let of = |id: &str| {
            let body = serde_json::json!({ "id": id }).to_string();
            event_id(Provider::find("stripe"), &Request { body: body.as_bytes(), ..Request::empty() })
        };
        assert_eq!(of("evt_1").unwrap(), "evt_1");
        assert_eq!(
            of(&"x".repeat(limits::INBOUND_EVENT_ID_BYTES_MAX)).unwrap().len(),
            limits::INBOUND_EVENT_ID_BYTES_MAX
        );
        assert_eq!(of(&"x".repeat(limits::INBOUND_EVENT_ID_BYTES_MAX + 1)).unwrap().len(), 71);
        assert!(of("with space").unwrap().starts_with("sha256:"));
        assert_eq!(of(""), None);
    }
}
