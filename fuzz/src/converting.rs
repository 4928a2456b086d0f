//! A received body as the data of an event: what is stored, rendered and filtered afterwards.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postrider_core::inbound::event_data;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The first line is the content type, the rest the body.
///
/// - What comes out is JSON, at most a few times as long as what came in.
/// - Text and bytes can be had back from it, to the byte.
///
/// # Panics
/// If one of these does not hold.
pub fn bodies(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let content_type = std::str::from_utf8(&data[..end]).ok().filter(|text| !text.is_empty());
    let body = data.get(end + 1..).unwrap_or_default();
    let Some(made) = event_data(content_type, body) else {
        assert!(serde_json::from_slice::<IgnoredAny>(body).is_ok(), "no JSON, but taken as it is");
        return;
    };
    assert!(made.len() <= 4 * body.len() + 64, "{} bytes of {}", made.len(), body.len());
    let json: Value = serde_json::from_str(&made).expect("JSON");
    match &json {
        Value::Null => assert!(body.is_empty(), "{made}"),
        Value::String(text) => assert_eq!(text.as_bytes(), body),
        Value::Object(members) => assert_fields_or_bytes(members, body),
        _ => panic!("{made}"),
    }
}

fn assert_fields_or_bytes(members: &serde_json::Map<String, Value>, body: &[u8]) {
    if let (1, Some(Value::String(encoded))) = (members.len(), members.get("base64"))
        && BASE64.decode(encoded).is_ok_and(|bytes| bytes == body)
    {
        return;
    }
    for (name, value) in members {
        let wanted: Vec<String> = url::form_urlencoded::parse(body)
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.into_owned())
            .collect();
        let found: Vec<&str> = match value {
            Value::String(text) => vec![text],
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        assert_eq!(found, wanted, "{name}");
    }
}
