//! Handshakes: answers that anybody can ask for.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postrider_core::inbound::{Reply, Request, handshake};
use postrider_core::limits;
use postrider_core::signing::Secret;
use ring::hmac;

use crate::input::Input;

/// - A reply is short, of a known status and content type, and browsers are told not to guess.
/// - What is signed is a plain token, and is what the reply says it is: no part of a webhook's signed text.
/// - No secret is in a reply, unless the request brought it. A secret is taken over only by who waits for one.
///
/// # Panics
/// If one of these does not hold.
pub fn handshakes(data: &[u8]) {
    let input = Input::parse(data);
    input.ask(&input.secrets, |setup, request| {
        let Some(reply) = handshake(input.row(), setup, request, input.now) else { return };
        assert_harmless(&reply);
        assert_tells_no_secret(&reply, &input);
        assert!(reply.learned_secret.is_none() || setup.awaits_secret, "a secret that nobody waited for");
        if let Some(secret) = input.secrets.first() {
            assert_no_oracle(input.row().name, secret, &reply, request);
        }
    });
}

fn assert_harmless(reply: &Reply) {
    assert!([200, 204, 400, 403].contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.content_type.is_some(), reply.status == 200, "{reply:?}");
    assert!(reply.status == 200 || reply.body.is_empty(), "{reply:?}");
    let kinds = ["text/plain; charset=utf-8", "application/json"];
    assert!(reply.content_type.is_none_or(|kind| kinds.contains(&kind)), "{reply:?}");
    assert!(reply.body.len() <= limits::CHALLENGE_BYTES_MAX + 512, "{} bytes", reply.body.len());
    assert!(reply.body.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{reply:?}");
    let headers: HashMap<&str, &str> = reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(headers.len(), reply.headers.len(), "a header stands twice: {reply:?}");
    assert_eq!(headers.get("x-content-type-options"), Some(&"nosniff"));
    for (name, value) in headers {
        let is_fit = value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.len() <= 512;
        assert!(is_fit, "{name}: {value}");
    }
}

/// Shorter ones are found anywhere by chance.
const SECRET_BYTES_MIN: usize = 12;

fn assert_tells_no_secret(reply: &Reply, input: &Input) {
    let values: Vec<&str> = reply.headers.iter().map(|(_, value)| value.as_str()).collect();
    // The quotes around a text are the reply's, and may be a secret's, too.
    let told = serde_json::from_str(&reply.body).map_or_else(|_| reply.body.clone(), |json| strings(&json));
    let said = [&*told, &values.join("\n")].join("\n");
    let body = String::from_utf8_lossy(&input.body);
    let query: Vec<String> =
        url::form_urlencoded::parse(input.url.as_bytes()).map(|(name, value)| format!("{name}\n{value}")).collect();
    let headers: Vec<&str> = input.headers.iter().map(|(_, value)| value.as_str()).collect();
    let texts = serde_json::from_str::<serde_json::Value>(&body).map(|json| strings(&json)).unwrap_or_default();
    let heard = [&body, &*query.join("\n"), &headers.join("\n"), &texts, &input.url].join("\n");
    let verify_token = input.verify_token.clone().map(Secret::new);
    for secret in input.secrets.iter().chain(&verify_token) {
        // Braintree's public key stands before its private one, and is no secret.
        let secret = secret.reveal().split('|').next_back().unwrap_or_default();
        let is_told = secret.len() >= SECRET_BYTES_MIN && said.contains(secret) && !heard.contains(secret);
        assert!(!is_told, "a secret in the reply {reply:?}");
    }
}

/// All texts in it, one a line.
fn strings(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(strings).collect::<Vec<_>>().join("\n"),
        serde_json::Value::Object(members) => members.values().map(strings).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// Where the reply contains a signature: of what? It must be nothing that this provider would sign in a webhook.
fn assert_no_oracle(provider: &str, secret: &Secret, reply: &Reply, request: &Request<'_>) {
    if reply.status != 200 {
        return;
    }
    let json: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
    match provider {
        // Webhooks: `v0:{time}:{body}`.
        "zoom" => {
            let token = json["plainToken"].as_str().expect("a token");
            assert_plain(token);
            assert_eq!(json["encryptedToken"], hex::encode(mac(hmac::HMAC_SHA256, secret.reveal().as_bytes(), token)));
        }
        // Webhooks: the body, a JSON object.
        "x" => {
            let token = parameter(request, "crc_token");
            assert_plain(&token);
            let signed = BASE64.encode(mac(hmac::HMAC_SHA256, secret.reveal().as_bytes(), &token));
            assert_eq!(json["response_token"], format!("sha256={signed}"));
        }
        // Webhooks: the base64 of XML.
        "braintree" => {
            let token = parameter(request, "bt_challenge");
            assert!((20..=32).contains(&token.len()) && token.bytes().all(|it| b"0123456789abcdef".contains(&it)));
        }
        _ => {}
    }
}

fn assert_plain(token: &str) {
    assert!((1..=limits::CHALLENGE_TOKEN_BYTES_MAX).contains(&token.len()), "{token}");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~+/=".contains(&byte);
    assert!(token.bytes().all(is_plain), "signs {token:?}");
}

fn parameter(request: &Request<'_>, name: &str) -> String {
    let query = request.url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn mac(algorithm: hmac::Algorithm, key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(algorithm, key), text.as_bytes())
}
