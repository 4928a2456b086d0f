//! Genuine requests with something changed: who is accepted nevertheless says nothing that was not signed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::vectors::{Vector, vectors};

/// The first byte chooses a vector, the rest says what is changed. A request that is still accepted must say what
/// the vector says, in every part that its provider signs, by a reading of our own.
///
/// # Panics
/// If it does not.
pub fn tamper(data: &[u8]) {
    let Some((chosen, script)) = data.split_first() else { return };
    let vector = &vectors()[usize::from(*chosen) % vectors().len()];
    let mut changed = vector.clone();
    let mut body = vector.body.clone().into_bytes();
    let mut headers: Vec<(String, String)> = vector.headers.clone().into_iter().collect();
    Script(script).play(&mut changed, &mut headers, &mut body);
    let given: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    if vector.verdict != "verified" || !changed.verdict(&given, &body).is_accepted() {
        return;
    }
    let label = format!("{} with {headers:?} and {}", vector.provider, String::from_utf8_lossy(&body));
    let weak = weaker(vector, &headers);
    // Adyen signs each item for itself, so that one is missing nobody can tell.
    let said = signed_body(vector, &body);
    assert!(!said.is_empty() && said.is_subset(&signed_body(vector, vector.body.as_bytes())), "{said:?}: {label}");
    if matches!(vector.provider.as_str(), "twilio" | "square" | "hubspot") {
        assert_eq!(plain(&changed.url), plain(&vector.url), "{label}");
    }
    for (name, value) in vector.headers.iter().filter(|(name, _)| is_signed(vector, name)) {
        // Of several with one name the first counts.
        let first = headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        assert!(first == Some(value) || weak, "{name} of {label}");
    }
}

/// Whether the vector is accepted by another of its provider's schemes, which signs no headers.
fn weaker(_: &Vector, headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-alumia-signature"))
}

/// What is done to the request: a byte for the place, two for the position, one for how much goes, one for how much comes,
/// and that much.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn play(&mut self, vector: &mut Vector, headers: &mut Vec<(String, String)>, body: &mut Vec<u8>) {
        while let [place, high, low, gone, come, rest @ ..] = self.0 {
            let at = usize::from(u16::from_be_bytes([*high, *low]));
            let (new, rest) = rest.split_at(rest.len().min(usize::from(*come)));
            self.0 = rest;
            let count = headers.len();
            match (place % 5, count) {
                (0, _) => splice(body, at, usize::from(*gone), new),
                (1, _) => splice_text(&mut vector.url, at, usize::from(*gone), new),
                (2, 1..) => splice_text(&mut headers[usize::from(*place / 5) % count].1, at, usize::from(*gone), new),
                (3, 1..) => drop(headers.remove(at % count)),
                (4, 1..16) => headers.insert(at % count, headers[usize::from(*gone) % count].clone()),
                _ => {}
            }
        }
    }
}

fn splice(bytes: &mut Vec<u8>, at: usize, gone: usize, new: &[u8]) {
    let start = at.min(bytes.len());
    let end = (start + gone).min(bytes.len());
    drop(bytes.splice(start..end, new.iter().copied()));
}

fn splice_text(text: &mut String, at: usize, gone: usize, new: &[u8]) {
    let mut bytes = std::mem::take(text).into_bytes();
    splice(&mut bytes, at, gone, new);
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

/// What the provider signs of this body, in a form of which two are equal if they say the same.
fn signed_body(vector: &Vector, body: &[u8]) -> BTreeSet<Vec<u8>> {
    let one = |bytes: Vec<u8>| BTreeSet::from([bytes]);
    let json = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    let field = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(body);
        pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned().into_bytes()).unwrap_or_default()
    };
    match vector.provider.as_str() {
        // A time and a token, and nothing of what happened.
        "mailgun" => one(scalar(&json()["signature"]["timestamp"])
            .into_bytes()
            .into_iter()
            .chain(scalar(&json()["signature"]["token"]).into_bytes())
            .collect()),
        "adyen" if vector.headers.is_empty() => adyen_items(&json()),
        "sns" => one(sns_text(&json()).into_bytes()),
        "braintree" => one(field("bt_payload")),
        "twilio" if !vector.url.contains("bodySHA256") => {
            let pairs: BTreeSet<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
            one(pairs.into_iter().flat_map(|(name, value)| (name + &value).into_bytes()).collect())
        }
        // A CRC-32 is signed: our own, bit by bit.
        "paypal" => one(crc32(body).to_be_bytes().to_vec()),
        _ => one(body.to_vec()),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => String::new(),
    }
}

fn adyen_items(json: &Value) -> BTreeSet<Vec<u8>> {
    let items = json["notificationItems"].as_array().cloned().unwrap_or_default();
    let text = |item: &Value| {
        let item = &item["NotificationRequestItem"];
        let names = ["pspReference", "originalReference", "merchantAccountCode", "merchantReference"];
        let mut texts: Vec<String> = names.iter().map(|name| scalar(&item[name])).collect();
        texts.extend(["value", "currency"].iter().map(|name| scalar(&item["amount"][name])));
        texts.extend(["eventCode", "success"].iter().map(|name| scalar(&item[name])));
        texts.join(":").into_bytes()
    };
    items.iter().map(text).collect()
}

fn sns_text(json: &Value) -> String {
    let names = match json["Type"].as_str() {
        Some("Notification") => ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"].as_slice(),
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let present = names.iter().filter(|name| !json[**name].is_null());
    present.map(|name| format!("{name}\n{}\n", scalar(&json[*name]))).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

/// Times and ids in headers of their own; signatures may have others beside them.
fn is_signed(vector: &Vector, name: &str) -> bool {
    let is_part = ["timestamp", "-time", "webhook-id", "svix-id", "message-id", "transmission-id"];
    let is_beside = name.contains("signature") && !name.ends_with("timestamp");
    is_part.iter().any(|part| name.contains(part)) && !is_beside && !vector.unsigned.iter().any(|it| it == name)
}

/// As providers may write it otherwise: the default port, and percent-encoding.
fn plain(url: &str) -> String {
    let decoded: Vec<u8> = url::form_urlencoded::parse(url.replace('+', "%2B").as_bytes())
        .flat_map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"&"].concat())
        .collect();
    String::from_utf8_lossy(&decoded).replacen(":443/", "/", 1)
}
