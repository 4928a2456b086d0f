//! What no value whatever can do.

use proptest::prelude::*;

use super::*;

fn with(value: &str) -> Value {
    json!({"v": value, "o": {value: [value, 1, null]}})
}

/// What hostile values are made of, and anything else.
fn value() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,8}",
        "\\PC{0,8}",
        "[\\x00-\\x1f\\x7f]{1,3}",
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just("\\".to_owned()),
        Just("\"".to_owned()),
        Just("{{".to_owned()),
        Just("}}".to_owned()),
        Just("\r\n".to_owned()),
        Just("@evil.example".to_owned()),
        Just("//evil.example/".to_owned()),
        Just("\",\"admin\":true,\"".to_owned()),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_host_and_the_literal_path_never_change(value in value()) {
        for (template, path) in [
            ("https://a.example/x/{{v}}/y", "/x/"),
            ("https://a.example/{{v}}{{o}}", "/"),
            ("https://a.example?{{v}}={{v}}", "/"),
            ("https://a.example#{{v}}", "/"),
            ("https://a.example:8443/.{{v}}.", "/"),
        ] {
            let template = UrlTemplate::parse(template).unwrap();
            let context = with(&value);
            if let Ok(url) = template.render(Values { context: &context, found: &Found::default() }) {
                prop_assert_eq!(url.origin(), template.origin().origin());
                prop_assert_eq!(url.host_str(), Some("a.example"));
                prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
                prop_assert!(url.path().starts_with(path), "{}", url);
                prop_assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "{}", url);
            }
        }
    }

    #[test]
    fn a_path_has_as_many_segments_as_its_template(value in value()) {
        let context = with(&value);
        let template = UrlTemplate::parse("https://a.example/x/{{v}}/y/{{v}}").unwrap();
        if let Ok(url) = template.render(Values { context: &context, found: &Found::default() }) {
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 4);
            prop_assert_eq!((segments[0], segments[2]), ("x", "y"));
        }
    }

    #[test]
    fn no_control_character_enters_a_header(value in value()) {
        let context = with(&value);
        let template = HeaderTemplate::parse("a {{v}}\n b {{o}}").unwrap();
        let header = template.render(Values { context: &context, found: &Found::default() }).unwrap();
        prop_assert!(!header.chars().any(char::is_control), "{:?}", header);
        prop_assert_eq!(header.trim(), header.as_str());
    }

    #[test]
    fn a_json_body_stays_the_json_it_was(value in value()) {
        let context = with(&value);
        let template = r#"{"a":"{{v}}","b":{{v}},"c":{"d":"x{{v}}y","e":[{{o}},{{none}}]}}"#;
        let body = body(template, None, &context).unwrap();
        let read: Value = serde_json::from_str(&body).unwrap();
        let around = format!("x{value}y");
        prop_assert_eq!(read, json!({"a": value, "b": value, "c": {"d": around, "e": [context["o"], null]}}));
    }

    #[test]
    fn a_form_keeps_its_fields(value in value()) {
        let context = with(&value);
        let body = body("a={{v}}&b={{v}}", Some("application/x-www-form-urlencoded"), &context).unwrap();
        let fields: Vec<(String, String)> =
            ::url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        prop_assert_eq!(fields, [("a".to_owned(), value.clone()), ("b".to_owned(), value.clone())]);
    }

    #[test]
    fn any_text_is_a_template_or_refused_and_what_it_makes_is_bounded(text in value(), given in value()) {
        let context = with(&given);
        let values = Values { context: &context, found: &Found::default() };
        if let Ok(template) = Template::parse(&text) {
            // Without a placeholder, a template is its text.
            if template.placeholders().next().is_none() {
                prop_assert_eq!(template.text(values), text.clone());
            }
        }
        if let Ok(template) = UrlTemplate::parse(&format!("https://a.example/{text}")) {
            prop_assert!(template.render(values).is_ok_and(|url| url.host_str() == Some("a.example"))
                || template.render(values).is_err());
        }
        if let Ok(template) = BodyTemplate::parse(&format!("{{{text}}}"), None) {
            let body = template.render(values).unwrap();
            prop_assert!(template.content_type() != "application/json" || serde_json::from_str::<Value>(&body).is_ok(), "{} {}", text, body);
        }
    }

    #[test]
    fn a_capped_string_is_a_beginning_of_the_string(value in value(), times in 1_usize..2000) {
        let long = value.repeat(times);
        let kept = context::capped(&json!(long), &mut { context::CONTEXT_BUDGET });
        let kept = kept.as_str().unwrap();
        prop_assert!(long.starts_with(kept));
        prop_assert!(kept.len() <= limits::GATEWAY_STRING_BYTES_MAX);
        prop_assert!(kept.len() == long.len() || kept.len() > limits::GATEWAY_STRING_BYTES_MAX - 4);
    }
}
