//! Adyen's payment webhooks: every item of `notificationItems` carries a signature of eight of its fields.
//!
//! Rests on Adyen's own Node library (`hmacValidator`): the fields are joined with colons without any escaping, a missing
//! one is empty. The join is not injective, and the other fields of an item are not signed at all: act on the signed
//! eight only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::Value;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::inbound::Reason;
use crate::inbound::body::{Body, Path, at, scalar};
use crate::limits;
use crate::signing::Secret;

const SIGNED: [Path; 8] = [
    &["pspReference"],
    &["originalReference"],
    &["merchantAccountCode"],
    &["merchantReference"],
    &["amount", "value"],
    &["amount", "currency"],
    &["eventCode"],
    &["success"],
];

/// Every item must be signed with one and the same secret; its index.
///
/// # Errors
/// The first reason found.
pub(super) fn check(secrets: &[Secret], body: &Body<'_>) -> Result<usize, Reason> {
    let json = body.json_named_once().ok_or(Reason::MalformedBody)?;
    let items = json.get("notificationItems").and_then(Value::as_array).ok_or(Reason::MissingField)?;
    if items.is_empty() || items.len() > limits::INBOUND_ITEMS_MAX {
        return Err(Reason::MalformedBody);
    }
    let mut claims = Vec::with_capacity(items.len());
    for item in items {
        let item = item.get("NotificationRequestItem").ok_or(Reason::MissingField)?;
        let signature = item.pointer("/additionalData/hmacSignature").and_then(Value::as_str);
        claims.push((signed_text(item), signature.ok_or(Reason::MissingField)?));
    }
    let keys: Vec<(usize, hmac::Key)> = secrets.iter().enumerate().filter_map(key).collect();
    if keys.is_empty() {
        return Err(Reason::UnknownKey);
    }
    let signs_all = |key: &hmac::Key| {
        claims.iter().all(|(text, signature)| {
            let expected = BASE64.encode(hmac::sign(key, text.as_bytes()));
            expected.as_bytes().ct_eq(signature.as_bytes()).into()
        })
    };
    let found = keys.iter().find(|(_, key)| signs_all(key));
    found.map(|(index, _)| *index).ok_or(Reason::SignatureMismatch)
}

fn key((index, secret): (usize, &Secret)) -> Option<(usize, hmac::Key)> {
    let bytes = Zeroizing::new(hex::decode(secret.reveal().trim()).ok()?);
    (!bytes.is_empty()).then(|| (index, hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
}

fn signed_text(item: &Value) -> String {
    let fields = SIGNED.iter().map(|path| at(item, path).and_then(scalar).unwrap_or_default());
    fields.collect::<Vec<_>>().join(":")
}
