//! Each provider's question gets its answer, and nothing that could be a webhook is ever signed.

use ring::hmac;
use serde_json::{Value, json};

use crate::inbound::{Provider, Reason, Reply, Request, Setup, Verdict, handshake, verify};
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

const NOW: UnixMs = UnixMs(1_767_225_600_000);

struct Question<'a> {
    provider: &'a str,
    method: &'a str,
    query: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: String,
    secret: &'a str,
    verify_token: Option<&'a str>,
    awaits_secret: bool,
}

impl Question<'_> {
    fn ask(&self) -> Option<Reply> {
        let secrets = [Secret::new(self.secret.to_owned())];
        let setup = Setup {
            secrets: &secrets,
            verify_token: self.verify_token,
            awaits_secret: self.awaits_secret,
            certificates: None,
        };
        let url = format!("https://hooks.example.com/in{}", self.query);
        let request = Request { method: self.method, url: &url, headers: self.headers, body: self.body.as_bytes() };
        handshake(Provider::find(self.provider), &setup, &request, NOW)
    }

    fn reply(&self) -> Reply {
        let reply = self.ask().expect("a handshake");
        let has = |name: &str, value: &str| reply.headers.iter().any(|(given, text)| *given == name && text == value);
        assert!(has("x-content-type-options", "nosniff"));
        assert!(has("referrer-policy", "no-referrer") && has("x-robots-tag", "noindex"));
        reply
    }
}

fn get<'a>(provider: &'a str, query: &'a str) -> Question<'a> {
    let body = String::new();
    let headers = &[];
    Question {
        provider,
        method: "GET",
        query,
        headers,
        body,
        secret: "s3cret",
        verify_token: None,
        awaits_secret: false,
    }
}

fn post(provider: &str, body: Value) -> Question<'_> {
    Question { method: "POST", body: body.to_string(), ..get(provider, "") }
}

fn mac(key: &str, text: &str) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes()))
}

fn json_of(reply: &Reply) -> Value {
    assert_eq!((reply.status, reply.content_type), (200, Some("application/json")));
    serde_json::from_str(&reply.body).unwrap()
}

fn text_of(reply: &Reply) -> &str {
    assert_eq!((reply.status, reply.content_type), (200, Some("text/plain; charset=utf-8")));
    &reply.body
}

#[test]
fn challenges_are_echoed_as_text() {
    let slack = post(
        "slack",
        json!({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}),
    );
    assert_eq!(text_of(&slack.reply()), "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    assert_eq!(text_of(&get("dropbox", "?challenge=abc-DEF_1").reply()), "abc-DEF_1");
    let graph = "?validationToken=Validation%3A+Testing+client+application+reachability+for+Request-Id%3A+1";
    let told = "Validation: Testing client application reachability for Request-Id: 1";
    assert_eq!(text_of(&get("msgraph", graph).reply()), told);
    assert_eq!(text_of(&Question { method: "POST", ..get("msgraph", graph) }.reply()), told);
    for (length, status) in [(limits::CHALLENGE_BYTES_MAX, 200), (limits::CHALLENGE_BYTES_MAX + 1, 400)] {
        assert_eq!(get("msgraph", &format!("?validationToken={}", "x".repeat(length))).reply().status, status);
    }
}

#[test]
fn meta_gets_its_challenge_for_the_right_token_only() {
    let query = "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=mine";
    assert_eq!(text_of(&Question { verify_token: Some("mine"), ..get("meta", query) }.reply()), "1158201444");
    assert_eq!(Question { verify_token: Some("other"), ..get("whatsapp", query) }.reply().status, 403);
    assert_eq!(get("meta", query).reply().status, 403);
    assert_eq!(
        Question { verify_token: Some(""), ..get("meta", "?hub.mode=subscribe&hub.challenge=1") }.reply().status,
        403
    );
    assert!(get("meta", "?hub.mode=other").ask().is_none());
}

#[test]
fn tokens_are_signed_as_zoom_and_x_ask() {
    let zoom =
        post("zoom", json!({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}));
    let expected =
        json!({"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": mac("s3cret", "qgg8vlvZRS6UYooatFL8Aw")});
    assert_eq!(json_of(&zoom.reply()), expected);
    let x = json_of(&get("x", "?crc_token=9b4507b3-9040&nonce=1").reply());
    let expected = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        hex::decode(mac("s3cret", "9b4507b3-9040")).unwrap(),
    );
    assert_eq!(x, json!({"response_token": format!("sha256={expected}")}));
}

#[test]
fn what_is_no_plain_token_is_neither_signed_nor_echoed() {
    let longest = "x".repeat(limits::CHALLENGE_TOKEN_BYTES_MAX);
    let too_long = format!("{longest}x");
    let hostile =
        ["", "v0:1767225600:{\"event\":\"x\"}", "{}", "a b", "a:b", "a\nb", "<script>", "ü", "1.{}", &too_long];
    for token in hostile {
        let zoom = post("zoom", json!({"event": "endpoint.url_validation", "payload": {"plainToken": token}}));
        assert_eq!(zoom.reply().status, 400, "{token}");
        let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        for (provider, name) in
            [("x", "crc_token"), ("dropbox", "challenge"), ("ebay", "challenge_code"), ("braintree", "bt_challenge")]
        {
            let query = format!("?{name}={encoded}");
            let reply = Question { verify_token: Some("token"), ..get(provider, &query) }.reply();
            assert_eq!((reply.status, reply.body.as_str()), (400, ""), "{provider} {token}");
        }
        assert_eq!(post("slack", json!({"type": "url_verification", "challenge": token})).reply().status, 400);
        assert_eq!(post("monday", json!({ "challenge": token })).reply().status, 400);
    }
    let zoom = post("zoom", json!({"event": "endpoint.url_validation", "payload": {"plainToken": longest}}));
    assert_eq!(zoom.reply().status, 200);
}

/// X signs bodies as it has tokens signed: whoever asks for the signature of a token could send that token as a body.
#[test]
fn a_body_that_x_could_have_had_signed_is_no_webhook() {
    let reply = json_of(&get("x", "?crc_token=123").reply());
    let signature = reply["response_token"].as_str().unwrap();
    let headers = [("x-twitter-webhooks-signature", signature)];
    let secrets = [Secret::new("s3cret".to_owned())];
    let setup = Setup { secrets: &secrets, ..Setup::default() };
    let request = Request { headers: &headers, body: b"123", ..Request::empty() };
    assert_eq!(verify(Provider::find("x"), &setup, &request, NOW), Verdict::Failed(Reason::MalformedBody));
}

/// The oracle that the rule is against: a reply must never verify as a request.
#[test]
fn a_signed_token_is_no_signature_of_any_request() {
    for provider in ["zoom", "x"] {
        let token = "v0.1767225600.token";
        let reply = match provider {
            "zoom" => {
                post("zoom", json!({"event": "endpoint.url_validation", "payload": {"plainToken": token}})).reply()
            }
            _ => get("x", &format!("?crc_token={token}")).reply(),
        };
        let signature = json_of(&reply);
        let hex = signature["encryptedToken"].as_str().unwrap_or_default().to_owned();
        let base64 = signature["response_token"].as_str().unwrap_or_default();
        let signature = format!("v0={hex}");
        let headers = [
            ("x-zm-signature", &*signature),
            ("x-zm-request-timestamp", "1767225600"),
            ("x-twitter-webhooks-signature", base64),
        ];
        let secrets = [Secret::new("s3cret".into())];
        let setup = Setup { secrets: &secrets, ..Setup::default() };
        let request =
            Request { method: "POST", url: "https://hooks.example.com/in", headers: &headers, body: br#"{"a":1}"# };
        assert!(matches!(verify(Provider::find(provider), &setup, &request, NOW), Verdict::Failed(_)));
    }
}

#[test]
fn a_question_of_zooms_with_a_wrong_signature_is_no_handshake() {
    let headers = [("x-zm-signature", "v0=00"), ("x-zm-request-timestamp", "1767225600")];
    let zoom = post("zoom", json!({"event": "endpoint.url_validation", "payload": {"plainToken": "abc"}}));
    assert!(Question { headers: &headers, ..zoom }.ask().is_none());
}

#[test]
fn discord_is_answered_if_it_signs_and_recorded_as_a_failure_if_not() {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public = hex::encode(ring::signature::KeyPair::public_key(&pair));
    for (body, status, answer) in
        [(json!({"type": 1}), 200, r#"{"type":1}"#), (json!({"type": 0, "version": 1}), 204, "")]
    {
        let signature = hex::encode(pair.sign(format!("1767225600{body}").as_bytes()));
        let headers = [("X-Signature-Ed25519", &*signature), ("X-Signature-Timestamp", "1767225600")];
        let reply = Question { headers: &headers, secret: &public, ..post("discord", body.clone()) }.reply();
        assert_eq!((reply.status, reply.body.as_str()), (status, answer));
        let wrong = "0".repeat(128);
        let headers = [("X-Signature-Ed25519", &*wrong), ("X-Signature-Timestamp", "1767225600")];
        assert!(Question { headers: &headers, secret: &public, ..post("discord", body) }.ask().is_none());
    }
}

/// `type` 1 is PING to interactions and "event" to webhook events.
#[test]
fn a_signed_event_of_discords_is_no_ping() {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public = hex::encode(ring::signature::KeyPair::public_key(&pair));
    let body = json!({"type": 1, "event": {"type": "ENTITLEMENT_CREATE"}});
    let signature = hex::encode(pair.sign(format!("1767225600{body}").as_bytes()));
    let headers = [("X-Signature-Ed25519", &*signature), ("X-Signature-Timestamp", "1767225600")];
    assert!(Question { headers: &headers, secret: &public, ..post("discord", body) }.ask().is_none());
}

#[test]
fn okta_monday_and_twitch_hear_their_challenge() {
    let headers = [("X-Okta-Verification-Challenge", "My-unique-challenge_1")];
    let okta = Question { headers: &headers, ..get("okta", "") };
    assert_eq!(json_of(&okta.reply()), json!({"verification": "My-unique-challenge_1"}));
    assert_eq!(json_of(&post("monday", json!({"challenge": "abc"})).reply()), json!({"challenge": "abc"}));
    assert!(post("monday", json!({"challenge": "abc", "event": {}})).ask().is_none());
    let body = json!({"challenge": "pogchamp-kappa-360noscope-vohiyo"});
    let signature = format!("sha256={}", mac("s3cret", &format!("id12026-01-01T00:00:00Z{body}")));
    let headers = |signature| {
        [
            ("twitch-eventsub-message-type", "webhook_callback_verification"),
            ("twitch-eventsub-message-id", "id1"),
            ("twitch-eventsub-message-timestamp", "2026-01-01T00:00:00Z"),
            ("twitch-eventsub-message-signature", signature),
        ]
    };
    let reply = Question { headers: &headers(&signature), ..post("twitch", body.clone()) }.reply();
    assert_eq!(text_of(&reply), "pogchamp-kappa-360noscope-vohiyo");
    assert!(Question { headers: &headers("sha256=00"), ..post("twitch", body) }.ask().is_none());
}

#[test]
fn asana_hands_its_secret_over_once() {
    let headers = [("X-Hook-Secret", "b537207f20cbfa02357cf448134da559")];
    let first = Question { headers: &headers, awaits_secret: true, ..post("asana", json!({})) }.reply();
    assert_eq!(first.status, 204);
    assert!(first.headers.contains(&("x-hook-secret", "b537207f20cbfa02357cf448134da559".into())));
    assert_eq!(first.learned_secret.unwrap().reveal(), "b537207f20cbfa02357cf448134da559");
    let again = Question { headers: &headers, secret: "b537207f20cbfa02357cf448134da559", ..post("asana", json!({})) };
    assert_eq!((again.reply().status, again.reply().learned_secret), (204, None));
    assert_eq!(Question { headers: &headers, ..post("asana", json!({})) }.reply().status, 400);
    for unfit in ["", "short", "0123456789abcdef with spaces"] {
        let headers = [("X-Hook-Secret", unfit)];
        let reply = Question { headers: &headers, awaits_secret: true, ..post("asana", json!({})) }.reply();
        assert_eq!((reply.status, reply.learned_secret), (400, None), "{unfit}");
    }
}

#[test]
fn ebay_braintree_and_adobe_sign_are_answered_as_they_document() {
    let ebay = Question { verify_token: Some("my-token"), ..get("ebay", "?challenge_code=a8628072") };
    let hash = ring::digest::digest(&ring::digest::SHA256, b"a8628072my-tokenhttps://hooks.example.com/in");
    assert_eq!(json_of(&ebay.reply()), json!({"challengeResponse": hex::encode(hash)}));
    assert!(get("ebay", "?challenge_code=a8628072").ask().is_none());
    // What Braintree's own library (3.40.0) answers with these keys.
    let braintree = Question {
        secret: "integration_public_key|integration_private_key",
        ..get("braintree", "?bt_challenge=20f9f8ed05f77439fe955c977e4c8a53")
    };
    assert_eq!(text_of(&braintree.reply()), "integration_public_key|d9b899556c966b3f06945ec21311865d35df3ce4");
    let headers = [("X-AdobeSign-ClientId", "CBJCHBCAABAA")];
    let adobe = |secret| Question { headers: &headers, secret, ..get("adobesign", "") }.reply();
    assert_eq!(json_of(&adobe("CBJCHBCAABAA")), json!({"xAdobeSignClientId": "CBJCHBCAABAA"}));
    assert_eq!(adobe("another").status, 403);
}

#[test]
fn an_ordinary_request_is_no_handshake() {
    for provider in crate::inbound::PROVIDERS {
        assert!(
            post(provider.name, json!({"type": "event", "event": "x", "data": {}})).ask().is_none(),
            "{}",
            provider.name
        );
        assert!(get(provider.name, "").ask().is_none(), "{}", provider.name);
    }
}
