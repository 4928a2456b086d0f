//! No input panics, and none costs more than its length.

use proptest::prelude::*;

use crate::inbound::{
    Certificates, PROVIDERS, Request, Setup, Trust, Verdict, certificate_url, event_id, event_type, handshake, verify,
};
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

/// Headers, fields and parameters that rows look at, so that hostile values reach the code behind them.
const NAMES: &[&str] = &[
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "svix-signature",
    "x-alumia-signature",
    "authorization",
    "stripe-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-slack-signature",
    "x-slack-request-timestamp",
    "linear-signature",
    "x-twilio-signature",
    "x-hubspot-signature-v3",
    "x-hubspot-request-timestamp",
    "x-signature-ed25519",
    "x-signature-timestamp",
    "x-twilio-email-event-webhook-signature",
    "x-twilio-email-event-webhook-timestamp",
    "paddle-signature",
    "paypal-transmission-id",
    "paypal-transmission-time",
    "paypal-transmission-sig",
    "paypal-cert-url",
    "paypal-auth-algo",
    "x-docusign-signature-1",
    "x-docusign-signature-",
    "twitch-eventsub-message-timestamp",
    "twitch-eventsub-message-signature",
    "x-hook-secret",
    "x-okta-verification-challenge",
];

fn ask_everything(request: &Request<'_>, secret: &str, now: i64) {
    let secrets = [Secret::new(secret.to_owned()), Secret::new("whsec_AAAA".into())];
    let certificates = Some(Certificates { pem: request.body, trust: Trust::FromPinnedHost });
    let setup = Setup { secrets: &secrets, verify_token: Some(secret), awaits_secret: now % 2 == 0, certificates };
    for provider in PROVIDERS {
        let verdict = verify(provider, &setup, request, UnixMs(now));
        assert!(!matches!(verdict, Verdict::Verified { .. }), "{}", provider.name);
        handshake(provider, &setup, request, UnixMs(now));
        certificate_url(provider, request);
        event_id(provider, request);
        let kind = event_type(provider, secret, request);
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        assert!((1..=limits::EVENT_TYPE_BYTES_MAX).contains(&kind.len()) && kind.bytes().all(is_allowed), "{kind}");
    }
}

fn header_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        "[tsvh0-9]{1,2}=[0-9]{0,16}[,;][vh][01]=[0-9a-f]{0,70}",
        "v1a?,[A-Za-z0-9+/=]{0,90}( v1a?,[A-Za-z0-9+/=]{0,90}){0,3}",
        "(sha256|sha1|v0)=[0-9a-f]{64}",
        "[0-9]{1,20}",
        "[0-9a-f]{128}",
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[\\[{\"\\\\:,}\\]0-9a-z ]{0,80}".prop_map(String::into_bytes),
        "\\{\"(type|event|Type|signature|notificationItems|challenge)\":(1|\"x\"|null|\\[\\{\\}\\]|\\{\"signature\":\"00\"\\})\\}"
            .prop_map(String::into_bytes),
        "(bt_signature|bt_payload|To|payload)=[%a-zA-Z0-9&=|+]{0,60}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_panics_and_nothing_verifies_by_chance(
        values in prop::collection::vec((prop::sample::select(NAMES), header_value()), 0..6),
        query in "(\\?[a-z_.]{1,12}=[%a-zA-Z0-9:+&=]{0,40})?",
        url in prop_oneof![Just("https://a.example/x".to_owned()), "\\PC{0,30}"],
        body in body(),
        secret in "\\PC{1,20}",
        now in any::<i64>(),
        method in prop::sample::select(&["GET", "POST", "", "é"][..]),
    ) {
        let headers: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let url = url + &query;
        ask_everything(&Request { method, url: &url, headers: &headers, body: &body }, &secret, now);
    }
}

#[test]
fn headers_and_lists_at_and_over_the_bound() {
    let right = "t=1,v1=".to_owned() + &"0".repeat(64);
    let listed = |count: usize| format!("t=1{}", ",v1=".to_owned() + &vec!["0".repeat(64); count].join(",v1="));
    let verdict = |value: &str| {
        let secrets = [Secret::new("s".into())];
        let setup = Setup { secrets: &secrets, ..Setup::default() };
        let headers = [("stripe-signature", value)];
        let request = Request { headers: &headers, ..Request::empty() };
        verify(crate::inbound::Provider::find("stripe"), &setup, &request, UnixMs(0)).reason().map(|it| it.as_str())
    };
    let padded = |length: usize| format!("{right},x={}", "y".repeat(length - right.len() - 3));
    assert_eq!(verdict(&padded(limits::INBOUND_HEADER_BYTES_MAX)), Some("signature_mismatch"));
    assert_eq!(verdict(&padded(limits::INBOUND_HEADER_BYTES_MAX + 1)), Some("malformed_header"));
    assert_eq!(verdict(&listed(limits::INBOUND_SIGNATURES_MAX + 1)), Some("signature_mismatch"));
}

#[test]
fn the_last_signature_that_is_looked_at_counts_and_the_next_does_not() {
    let secrets = [Secret::new("s".into())];
    let setup = Setup { secrets: &secrets, ..Setup::default() };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s");
    let good = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ring::hmac::sign(&key, b""));
    let bad = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [0; 32]);
    let at = |place: usize| {
        let names: Vec<String> = (1..=place).map(|number| format!("X-DocuSign-Signature-{number}")).collect();
        let values = (1..=place).map(|number| if number == place { good.as_str() } else { bad.as_str() });
        let headers: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
        let request = Request { headers: &headers, ..Request::empty() };
        verify(crate::inbound::Provider::find("docusign"), &setup, &request, UnixMs(0)).is_accepted()
    };
    assert!(at(limits::INBOUND_SIGNATURES_MAX));
    assert!(!at(limits::INBOUND_SIGNATURES_MAX + 1));
}

#[test]
fn signatures_are_checked_with_a_public_key_up_to_the_bound() {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let secrets = [Secret::new(format!("whpk_{}", encode(ring::signature::KeyPair::public_key(&pair).as_ref())))];
    let at = |place: usize| {
        let bad = format!("v1a,{} ", encode(&[0; 64])).repeat(place - 1);
        let value = format!("{bad}v1a,{}", encode(pair.sign(b"m.0.").as_ref()));
        let headers = [("webhook-id", "m"), ("webhook-timestamp", "0"), ("webhook-signature", value.as_str())];
        let setup = Setup { secrets: &secrets, ..Setup::default() };
        let request = Request { headers: &headers, ..Request::empty() };
        verify(crate::inbound::Provider::find("custom"), &setup, &request, UnixMs(0)).is_accepted()
    };
    assert!(at(limits::INBOUND_PUBLIC_KEY_CHECKS_MAX));
    assert!(!at(limits::INBOUND_PUBLIC_KEY_CHECKS_MAX + 1));
}

#[test]
fn secrets_and_items_up_to_the_bound_are_tried() {
    let secrets: Vec<Secret> =
        (0..=limits::INBOUND_SECRETS_MAX).map(|number| Secret::new(format!("s{number}"))).collect();
    let verdict = |secret: usize| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secrets[secret].reveal().as_bytes());
        let value = hex::encode(ring::hmac::sign(&key, b"{}"));
        let headers = [("x-dropbox-signature", value.as_str())];
        let setup = Setup { secrets: &secrets, ..Setup::default() };
        let request = Request { headers: &headers, body: b"{}", ..Request::empty() };
        verify(crate::inbound::Provider::find("dropbox"), &setup, &request, UnixMs(0))
    };
    let last = limits::INBOUND_SECRETS_MAX - 1;
    assert_eq!(verdict(last), Verdict::Verified { secret: last });
    assert!(!verdict(last + 1).is_accepted());
    let items = |count: usize| {
        let item = r#"{"NotificationRequestItem":{"additionalData":{"hmacSignature":"x"}}}"#;
        let body = format!(r#"{{"notificationItems":[{}]}}"#, vec![item; count].join(","));
        let secrets = [Secret::new("00".into())];
        let setup = Setup { secrets: &secrets, ..Setup::default() };
        let request = Request { body: body.as_bytes(), ..Request::empty() };
        verify(crate::inbound::Provider::find("adyen"), &setup, &request, UnixMs(0)).reason().map(|it| it.as_str())
    };
    assert_eq!(items(limits::INBOUND_ITEMS_MAX), Some("signature_mismatch"));
    assert_eq!(items(limits::INBOUND_ITEMS_MAX + 1), Some("malformed_body"));
}

/// Where members are signed, a second member of one name could say to others what was not signed.
#[test]
fn a_signed_member_that_is_given_twice_is_refused() {
    let reason = |provider: &str, body: &str| {
        let secrets = [Secret::new("00".into())];
        let setup = Setup {
            secrets: &secrets,
            certificates: Some(Certificates { pem: b"", trust: Trust::FromPinnedHost }),
            ..Setup::default()
        };
        let request = Request { body: body.as_bytes(), ..Request::empty() };
        verify(crate::inbound::Provider::find(provider), &setup, &request, UnixMs(0)).reason().map(|it| it.as_str())
    };
    let mac = |text: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[0]);
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ring::hmac::sign(&key, text.as_bytes()))
    };
    let adyen = |before: &str| {
        let signature = mac("1:::::::true");
        format!(
            r#"{{"notificationItems":[{{"NotificationRequestItem":{{{before}"pspReference":"1","success":"true",
            "additionalData":{{"hmacSignature":"{signature}"}}}}}}]}}"#
        )
    };
    assert_eq!(reason("adyen", &adyen("")), None, "genuine");
    assert_eq!(reason("adyen", &adyen(r#""pspReference":"2","#)), Some("malformed_body"));
    assert_eq!(reason("adyen", &adyen(r#""psp\u0052eference":"2","#)), Some("malformed_body"), "by another spelling");
    let sns = |again: &str| format!(r#"{{"Signature":"","SignatureVersion":"3","Message":"a"{again}}}"#);
    assert_eq!(reason("sns", &sns("")), Some("unsupported_algorithm"));
    assert_eq!(reason("sns", &sns(r#","Message":"b""#)), Some("malformed_body"));
}

/// Deep, wide and repetitive bodies of the largest size that is received.
#[test]
fn a_body_made_to_be_slow_is_read_once_and_refused() {
    const SIZE: usize = 256 * 1024;
    let bodies = ["[", "{\"a\":", "a&", "=&", "\"", "\\\"", "\n", "\r\n", " ", "%", "a=b&a=b&"];
    for piece in bodies {
        let body = piece.repeat(SIZE / piece.len());
        let url = format!("https://a.example/{}", "%3a".repeat(500));
        let zeros = "0".repeat(64);
        let headers = [("x-dropbox-signature", zeros.as_str())];
        ask_everything(&Request { method: "POST", url: &url, headers: &headers, body: body.as_bytes() }, "s", 0);
    }
}
