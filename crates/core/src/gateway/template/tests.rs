use serde_json::{Value, json};

use super::*;

mod hostile;
mod properties;

fn context() -> Value {
    json!({
        "request": {"method": "PUT", "path": "/gateway/insert"},
        "client": "acme",
        "route_key": "gateway_insert",
        "table": "orders",
        "headers": {"x_user_id": "u-7"},
        "payload": {"id": 42, "name": "Zoë & \"Co\"", "tags": ["a", "b"], "deep": {"er": {"est": true}}, "none": null,
            "big": 9_007_199_254_740_993_i64, "price": 1.5},
        "response": {"data": {"id": "r-1"}},
    })
}

fn text(template: &str) -> String {
    let found = Found::default();
    Template::parse(template).unwrap().text(Values { context: &context(), found: &found })
}

#[test]
fn a_placeholder_is_a_dotted_path_into_objects() {
    for (template, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("{{client}}", "acme"),
        ("{{ client }}/{{\trequest.path\n}}", "acme//gateway/insert"),
        ("{{payload.id}}", "42"),
        ("{{payload.big}}", "9007199254740993"),
        ("{{payload.price}}", "1.5"),
        ("{{payload . deep . er . est}}", "true"),
        ("{{payload.deep}}", r#"{"er":{"est":true}}"#),
        ("{{payload.tags}}", r#"["a","b"]"#),
        ("{{payload.none}}", "null"),
        ("{{headers.x_user_id}}", "u-7"),
        ("{{response.data.id}}", "r-1"),
        // What is not there is empty; arrays and strings have no members.
        ("a{{payload.nothing}}b", "ab"),
        ("a{{nothing.at.all}}b", "ab"),
        ("a{{payload.tags.0}}b", "ab"),
        ("a{{payload.tags[0]}}b", "ab"),
        ("a{{payload.name.length}}b", "ab"),
        ("a{{payload.none.x}}b", "ab"),
        ("a{{}}b", "ab"),
        ("a{{ }}b", "ab"),
        ("a{{.}}b", "ab"),
        ("a{{payload..id}}b", "ab"),
        ("a{{.payload.id}}b", "ab"),
        ("a{{Payload.id}}b", "ab"),
        ("a{{ATHENA.public.users.email}}b", "ab"),
        ("a{{ATHENA}}b", "ab"),
        ("a{{ATHENA.payload.id}}b", "ab"),
        ("a{{athena.public.users.email}}b", "ab"),
        // Braces that hold no placeholder are text.
        ("{", "{"),
        ("{{", "{{"),
        ("}}", "}}"),
        ("{{client", "{{client"),
        ("client}}", "client}}"),
        ("{client}", "{client}"),
        ("{{{client}}}", "{acme}"),
        ("{{ {{client}} }}", "{{ acme }}"),
        ("{{a{{client}}", "{{aacme"),
        (r#"{"a":{"b":{{payload.id}}}}"#, r#"{"a":{"b":42}}"#),
        (r#"{"a":"{{","b":{"c":1}}"#, r#"{"a":"{{","b":{"c":1}}"#),
        ("{{client}}{{client}}", "acmeacme"),
        ("é{{client}}é", "éacmeé"),
    ] {
        assert_eq!(text(template), expected, "{template}");
    }
}

#[test]
fn templates_are_bounded() {
    let many = |n: usize| "{{a}}".repeat(n);
    assert!(Template::parse(&many(limits::GATEWAY_PLACEHOLDERS_MAX)).is_ok());
    assert!(Template::parse(&many(limits::GATEWAY_PLACEHOLDERS_MAX + 1)).is_err());
    let long = |n: usize| format!("{{{{ {} }}}}", "a".repeat(n));
    assert!(Template::parse(&long(limits::GATEWAY_PATH_BYTES_MAX)).is_ok());
    assert!(Template::parse(&long(limits::GATEWAY_PATH_BYTES_MAX + 1)).is_err());
    // Nothing that a template can be takes long.
    assert!(Template::parse(&"{".repeat(100_000)).is_ok());
    assert!(Template::parse(&"}".repeat(100_000)).is_ok());
    assert!(Template::parse(&"{}".repeat(100_000)).is_ok());
}

#[test]
fn what_is_put_in_is_never_a_template() {
    let context =
        json!({"payload": {"a": "{{payload.secret}}", "secret": "s", "b": "{{ ATHENA.public.users.email }}"}});
    let lookup = Lookup {
        schema: "public".into(),
        table: "users".into(),
        key_column: "id".into(),
        key: json!(1),
        columns: vec!["email".into()],
    };
    let mut found = Found::default();
    found.put(&lookup, "email", &json!("{{payload.secret}}"));
    let values = Values { context: &context, found: &found };
    let rendered = Template::parse("{{payload.a}} {{payload.b}} {{ ATHENA.public.users.email }}").unwrap().text(values);
    assert_eq!(rendered, "{{payload.secret}} {{ ATHENA.public.users.email }} {{payload.secret}}");
}

fn url(template: &str, context: &Value) -> Result<String, RenderError> {
    let template = UrlTemplate::parse(template).unwrap();
    template.render(Values { context, found: &Found::default() }).map(String::from)
}

#[test]
fn a_value_is_one_piece_of_a_url() {
    let context = json!({"v": "a/b?c=d&e#f %2e é:@", "n": 5, "o": {"a": 1}});
    let whole = "https://a.example:8443/x/{{v}}/y?q={{v}}&n={{n}}&o={{o}}&none={{none}}#{{v}}";
    let encoded = "a%2Fb%3Fc%3Dd%26e%23f%20%252e%20%C3%A9%3A%40";
    assert_eq!(
        url(whole, &context).unwrap(),
        format!("https://a.example:8443/x/{encoded}/y?q={encoded}&n=5&o=%7B%22a%22%3A1%7D&none=")
    );
    assert_eq!(url("https://a.example", &context).unwrap(), "https://a.example/");
    assert_eq!(url("https://a.example?q={{n}}", &context).unwrap(), "https://a.example/?q=5");
    assert_eq!(url("HTTP://A.EXAMPLE:80/{{n}}", &context).unwrap(), "http://a.example/5");
}

#[test]
fn a_value_cannot_climb_the_path() {
    for (template, value, fits) in [
        ("https://a.example/t/{{v}}/x", "..", false),
        ("https://a.example/t/{{v}}/x", ".", false),
        ("https://a.example/t/{{v}}", "..", false),
        ("https://a.example/t/.{{v}}/x", ".", false),
        ("https://a.example/t/%2e{{v}}/x", ".", false),
        ("https://a.example/t/%2E{{v}}/x", ".", false),
        ("https://a.example/t/{{v}}{{v}}/x", ".", false),
        ("https://a.example/t/{{v}}/x", "../..", true),
        ("https://a.example/t/{{v}}/x", "%2e%2e", true),
        ("https://a.example/t/{{v}}/x", "...", true),
        ("https://a.example/t/{{v}}/x", "", true),
        ("https://a.example/t?p={{v}}", "..", true),
        ("https://a.example/t?p=/{{v}}/", "..", true),
        ("https://a.example/t#/{{v}}/", "..", true),
    ] {
        let made = url(template, &json!({"v": value}));
        assert_eq!(made.is_ok(), fits, "{template} {value}: {made:?}");
        if let Ok(made) = made {
            assert!(made.starts_with("https://a.example/t"), "{made}");
        }
    }
    assert_eq!(url("https://a.example/{{v}}/", &json!({"v": ".."})), Err(RenderError::DotSegment));
    for bad in [
        "https://a.example/t/../x",
        "https://a.example/.",
        "https://a.example/%2e%2E/x{{v}}",
        "https://a.example/a b/{{v}}",
        "https://a.example/a\\b",
    ] {
        assert!(UrlTemplate::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_made_is_bounded() {
    let of = |n: usize| json!({"v": "a".repeat(n)});
    let room = limits::URL_BYTES_MAX - "https://a.example/".len();
    // Its parts behind the host are counted on their own while it is put together, the whole at the end.
    assert!(url("https://a.example/{{v}}", &of(room)).is_ok());
    assert!(matches!(url("https://a.example/{{v}}", &of(room + 1)), Err(RenderError::TooLong { what: "URL", .. })));

    let header = HeaderTemplate::parse("{{v}}{{v}}").unwrap();
    let render = |n| header.render(Values { context: &of(n), found: &Found::default() });
    assert!(render(limits::GATEWAY_HEADER_BYTES_MAX / 2).is_ok());
    assert!(render(limits::GATEWAY_HEADER_BYTES_MAX / 2 + 1).is_err());

    let body = BodyTemplate::parse(&"{{v}}".repeat(256), None).unwrap();
    let render = |n| body.render(Values { context: &of(n), found: &Found::default() });
    assert!(render(limits::GATEWAY_BODY_BYTES_MAX / 256).is_ok());
    assert!(render(limits::GATEWAY_BODY_BYTES_MAX / 256 + 1).is_err());
}

#[test]
fn a_value_stays_on_the_line_of_its_header() {
    let of = |value: &str| {
        let context = json!({"v": value});
        HeaderTemplate::parse("Bearer {{v}}").unwrap().render(Values { context: &context, found: &Found::default() })
    };
    assert_eq!(of("a\r\nX-Admin: 1").unwrap(), "Bearer a  X-Admin: 1");
    assert_eq!(of("a\0b\u{7f}c\u{85}d\te").unwrap(), "Bearer a b c d e");
    assert_eq!(of(" é ").unwrap(), "Bearer  é");
    assert_eq!(of("\r\n").unwrap(), "Bearer");
}

fn body(template: &str, content_type: Option<&str>, context: &Value) -> Result<String, InvalidTemplate> {
    let template = BodyTemplate::parse(template, content_type)?;
    Ok(template.render(Values { context, found: &Found::default() }).unwrap())
}

#[test]
fn a_json_body_stays_json() {
    let context = json!({"s": "a\"b\\c\n\u{1}é", "n": 7, "o": {"k": "v"}, "t": true, "nil": null});
    for (template, expected) in [
        (r#"{"a":"{{s}}"}"#, json!({"a": "a\"b\\c\n\u{1}é"})),
        (r#"{"a":"x{{s}}y{{n}}z"}"#, json!({"a": "xa\"b\\c\n\u{1}éy7z"})),
        (r#"{"a":{{s}}}"#, json!({"a": "a\"b\\c\n\u{1}é"})),
        (r#"{"a":{{n}},"b":{{t}},"c":{{nil}},"d":{{none}}}"#, json!({"a": 7, "b": true, "c": null, "d": null})),
        (r#"{"a":{{o}},"b":"{{o}}"}"#, json!({"a": {"k": "v"}, "b": "{\"k\":\"v\"}"})),
        (r#"{"a":"{{none}}","b":"{{nil}}"}"#, json!({"a": "", "b": "null"})),
        (r#"{"{{s}}":1}"#, json!({"a\"b\\c\n\u{1}é": 1})),
        (r#"[{{n}}, {{s}}]"#, json!([7, "a\"b\\c\n\u{1}é"])),
        (r#" "{{s}}" "#, json!("a\"b\\c\n\u{1}é")),
        (r#"{"a":"\\{{s}}","b":"\"{{n}}\""}"#, json!({"a": "\\a\"b\\c\n\u{1}é", "b": "\"7\""})),
        ("{{o}}", json!({"k": "v"})),
        ("{{s}}", json!("a\"b\\c\n\u{1}é")),
        ("{{none}}", json!(null)),
    ] {
        let made = body(template, None, &context).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), expected, "{template}: {made}");
        assert_eq!(BodyTemplate::parse(template, None).unwrap().content_type(), "application/json");
    }
}

#[test]
fn what_cannot_be_json_is_refused_where_it_is_made() {
    for bad in [
        r#"{"a":{{s}}"#,
        r#"{"a":1{{s}}}"#,
        r#"{"a":{{s}}{{s}}}"#,
        r#"{{{s}}:1}"#,
        r#"{"a":"\{{s}}"}"#,
        r#"{"a":"\u{{s}}0041"}"#,
        r#"{"a":"\u00{{s}}"}"#,
        r#"{"a":'{{s}}'}"#,
        r#"["{{s}}",]"#,
        r#"{"a":"{{s}}}"#,
    ] {
        assert!(BodyTemplate::parse(bad, None).is_err(), "{bad}");
        assert!(BodyTemplate::parse(bad, Some("application/json")).is_err(), "{bad}");
        // Unless it is said to be something else.
        assert!(BodyTemplate::parse(bad, Some("text/plain")).is_ok(), "{bad}");
    }
    assert!(BodyTemplate::parse("id={{s}}", Some("application/json")).is_err());
    assert!(BodyTemplate::parse("{{s}} and {{s}}", Some("application/vnd.api+json; charset=utf-8")).is_err());
}

#[test]
fn other_bodies_take_values_as_their_kind_needs() {
    let context = json!({"s": "a&b=<c>\"'\u{0}\n", "n": 7});
    for (template, content_type, expected, sent_as) in [
        ("s={{s}}&n={{n}}", Some("application/x-www-form-urlencoded"), "s=a%26b%3D%3Cc%3E%22%27%00%0A&n=7", "form"),
        (
            "<a b=\"{{s}}\">{{n}}</a>",
            Some("text/xml; charset=utf-8"),
            "<a b=\"a&amp;b=&lt;c&gt;&quot;&#39;\u{fffd}\n\">7</a>",
            "xml",
        ),
        ("Order {{n}}: {{s}}", None, "Order 7: a&b=<c>\"'\u{0}\n", "text/plain"),
        ("{{n}}{{n}}", None, "77", "text/plain"),
        ("{\"a\":{{n}}}\n{\"b\":\"{{n}}\"}\n", Some("application/x-ndjson"), "{\"a\":7}\n{\"b\":\"7\"}\n", "ndjson"),
        ("[section]\nkey={{n}}", Some("text/plain"), "[section]\nkey=7", "text/plain"),
    ] {
        assert_eq!(body(template, content_type, &context).unwrap(), expected);
        let own = BodyTemplate::parse(template, content_type).unwrap().content_type();
        assert!(own.contains(sent_as), "{own}");
    }
}

#[test]
fn a_context_is_capped() {
    let (none, headers) = (Value::Null, Vec::new());
    let capped = |payload: &Value| -> Value {
        let occasion = Occasion {
            request_id: None,
            method: "POST",
            path: "/gateway/fetch",
            client: "acme",
            route_key: "gateway_fetch",
            table: None,
            headers: &headers,
            payload,
            response: &none,
        };
        serde_json::from_str::<Value>(&Context::of(&occasion, true).to_json()).unwrap()["payload"].take()
    };
    // Strings, at a character's boundary.
    assert_eq!(capped(&json!("a".repeat(4096))).as_str().unwrap().len(), 4096);
    assert_eq!(capped(&json!("a".repeat(4097))).as_str().unwrap().len(), 4096);
    assert_eq!(capped(&json!(format!("{}é", "a".repeat(4095)))).as_str().unwrap().len(), 4095);
    // Arrays and objects.
    for (given, kept) in [(50, 50), (51, 50)] {
        assert_eq!(capped(&json!(vec![1; given])).as_array().unwrap().len(), kept);
    }
    for (given, kept) in [(64, 64), (65, 64)] {
        let object: serde_json::Map<_, _> = (0..given).map(|n| (format!("k{n:03}"), json!(n))).collect();
        let capped = capped(&Value::Object(object));
        assert_eq!(capped.as_object().unwrap().len(), kept);
        assert_eq!(capped["k063"], 63);
    }
    // Depth.
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(capped(&nested(12)), nested(12));
    let beyond = (0..12).fold(Value::Null, |inner, _| json!([inner]));
    assert_eq!(capped(&nested(13)), beyond);
    assert_eq!(capped(&nested(60)), beyond);
    // All in all.
    let wide = |depth: usize| (0..depth).fold(json!("x".repeat(4096)), |inner, _| json!(vec![inner; 50]));
    let whole = capped(&wide(2)).to_string();
    let most = limits::GATEWAY_CONTEXT_BYTES_MAX;
    assert!((most - 8192..=most + 8192).contains(&whole.len()), "{}", whole.len());
    // Numbers stay what they are.
    assert_eq!(
        capped(&json!([9_007_199_254_740_993_i64, u64::MAX, -1.25])).to_string(),
        "[9007199254740993,18446744073709551615,-1.25]"
    );
}

#[test]
fn a_context_has_what_the_contract_says_and_no_credentials() {
    let secret = |name: &str| (name.to_owned(), "SECRET".to_owned());
    let mut headers: Vec<_> = [
        "X-Athena-Key",
        "x-api-key",
        "APIKEY",
        "x-athena-admin-key",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Proxy-Authorization",
        "X_Api_Key",
        "x.api.key",
        " authorization ",
    ]
    .into_iter()
    .map(secret)
    .collect();
    headers.extend([
        ("X-User-Id".to_owned(), "u-7".to_owned()),
        ("accept".to_owned(), "a".to_owned()),
        ("Accept".to_owned(), "b".to_owned()),
        ("x-long".to_owned(), "l".repeat(5000)),
    ]);
    let payload = json!({"a": 1});
    let response = json!({"data": []});
    let occasion = Occasion {
        request_id: Some("req-1"),
        method: "PUT",
        path: "/gateway/insert",
        client: "acme",
        route_key: "gateway_insert",
        table: Some("orders"),
        headers: &headers,
        payload: &payload,
        response: &response,
    };
    let json = Context::of(&occasion, true).to_json();
    assert!(!json.contains("SECRET"), "{json}");
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap(),
        json!({
            "request": {"method": "PUT", "path": "/gateway/insert", "id": "req-1"}, "client": "acme",
            "route_key": "gateway_insert", "table": "orders", "headers": {"x_user_id": "u-7", "accept": "a, b", "x_long": "l".repeat(4096)},
            "payload": {"a": 1}, "response": {"data": []},
        })
    );
    assert!(
        json.starts_with(r#"{"request":{"method":"PUT","path":"/gateway/insert","id":"req-1"},"client":"acme","#),
        "{json}"
    );
    let without: Value = serde_json::from_str(&Context::of(&occasion, false).to_json()).unwrap();
    assert_eq!((&without["payload"], &without["response"]), (&Value::Null, &response));
    let many: Vec<_> = (0..100).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let bounded: Value =
        serde_json::from_str(&Context::of(&Occasion { headers: &many, ..occasion }, true).to_json()).unwrap();
    assert_eq!(bounded["headers"].as_object().unwrap().len(), limits::GATEWAY_KEYS_MAX);
}
