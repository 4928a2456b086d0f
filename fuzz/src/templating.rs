//! Templates of gateway webhooks: whatever a caller sends, and whatever a template says, a request goes where its
//! template says.

use postrider_core::gateway::template::{
    BodyTemplate, Context, Found, HeaderTemplate, Occasion, Template, UrlTemplate, Values,
};
use postrider_core::limits;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// Stands in headers that nobody may be told of.
const SECRET: &str = "c0ffee-kept-for-ourselves";

/// The first paragraph is a template, the rest the JSON of a payload (or a text, if it is none).
///
/// - The URL keeps scheme, host and port, and has neither credentials nor characters that a request line cannot have.
/// - A header stays on its line.
/// - What is to be JSON is JSON.
/// - What is made is bounded, and so is what is known of an operation; credentials are no part of it.
///
/// # Panics
/// If one of these does not hold.
pub fn templates(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let template = String::from_utf8_lossy(&data[..end]);
    let rest = data.get(end + 2..).unwrap_or_default();
    let payload = serde_json::from_slice(rest).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(rest)));
    let context = context(&payload);
    let values = Values { context: &context, found: &Found::default() };
    assert_url(&template, values);
    assert_url(&format!("https://a.example/{template}"), values);
    if let Ok(template) = HeaderTemplate::parse(&template)
        && let Ok(header) = template.render(values)
    {
        assert!(!header.chars().any(char::is_control) && header.trim() == header, "{header:?}");
        assert!(header.len() <= limits::GATEWAY_HEADER_BYTES_MAX, "{} bytes", header.len());
    }
    for content_type in [None, Some("application/json"), Some("application/x-www-form-urlencoded"), Some("text/xml")] {
        assert_body(&template, content_type, values);
    }
    if let Ok(template) = Template::parse(&template) {
        let _ = template.text(values);
    }
}

fn assert_url(template: &str, values: Values<'_>) {
    let Ok(template) = UrlTemplate::parse(template) else { return };
    let Ok(url) = template.render(values) else { return };
    assert_eq!(url.origin(), template.origin().origin(), "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
    assert!(url.as_str().len() <= limits::URL_BYTES_MAX, "{} bytes", url.as_str().len());
}

fn assert_body(template: &str, content_type: Option<&str>, values: Values<'_>) {
    let Ok(parsed) = BodyTemplate::parse(template, content_type) else { return };
    let Ok(body) = parsed.render(values) else { return };
    assert!(body.len() <= limits::GATEWAY_BODY_BYTES_MAX, "{} bytes", body.len());
    if parsed.content_type() == "application/json" {
        let read = serde_json::from_str::<IgnoredAny>(&body);
        assert!(read.is_ok(), "{template:?} makes {body:?}: {read:?}");
    }
}

/// Of an operation with this payload, whose caller has sent credentials in headers of all spellings.
fn context(payload: &Value) -> Value {
    let names = ["X-Athena-Key", "x_api_key", "APIKEY", "X-ATHENA-ADMIN-KEY", "authorization", "Cookie", "Set-Cookie"];
    let mut headers: Vec<(String, String)> = names.iter().map(|name| ((*name).into(), SECRET.into())).collect();
    headers.extend([("X-User-Id".to_owned(), payload.to_string()), ("x-user-id".to_owned(), "7".to_owned())]);
    let occasion = Occasion {
        request_id: Some("request"),
        method: "POST",
        path: "/gateway/insert",
        client: "shop",
        route_key: "gateway_insert",
        table: Some("orders"),
        headers: &headers,
        payload,
        response: &json!({ "data": payload }),
    };
    let context = Context::of(&occasion, true).to_json();
    assert!(!context.contains(SECRET) || payload.to_string().contains(SECRET), "{context}");
    // Payload and response; escapes may take six bytes for one.
    assert!(context.len() <= 6 * (2 * limits::GATEWAY_CONTEXT_BYTES_MAX + 4 * limits::GATEWAY_STRING_BYTES_MAX));
    serde_json::from_str(&context).expect("a context is JSON of little depth")
}
