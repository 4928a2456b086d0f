use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::webhook::{RetryPolicy, WebhookSpec};

fn fields(more: &Value) -> Value {
    let mut all = json!({
        "name": "orders", "route_key": "gateway_insert", "http_method": "POST",
        "url_template": "https://hooks.example.com/orders/{{payload.id}}",
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn made(more: &Value) -> Result<WebhookSpec, String> {
    let input = GatewayInput::parse(&fields(more)).map_err(|error| error.field)?;
    input.create(7).map_err(|error| error.field)
}

fn gateway(more: &Value) -> GatewaySpec {
    made(more).unwrap().gateway.unwrap()
}

#[test]
fn a_webhook_gets_the_contracts_defaults() {
    let spec = made(&json!({})).unwrap();
    assert_eq!(spec.name.as_deref(), Some("orders"));
    assert_eq!(spec.url, "https://hooks.example.com/");
    assert_eq!(spec.dialect, Dialect::Athena);
    assert_eq!(spec.timeout_ms, Some(30_000));
    assert_eq!(spec.retry, Some(RetryPolicy::MaxAttempts { max_attempts: 1 }));
    assert_eq!(spec.events.0, ["gateway_insert"]);
    let gateway = spec.gateway.clone().unwrap();
    assert_eq!((gateway.number, gateway.timeout_ms, gateway.max_attempts), (7, 30_000, 1));
    assert!(gateway.enabled && gateway.include_request_body_in_context);
    assert_eq!((gateway.table_name, gateway.body_template, gateway.slug), (None, None, None));
    // What is kept is read back as it was.
    let kept = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<WebhookSpec>(&kept).unwrap(), spec);
    // And webhooks that were kept before there was a gateway are none of its.
    let older = serde_json::from_value::<WebhookSpec>(json!({"url": "https://a.example/"})).unwrap();
    assert_eq!(older.gateway, None);
    assert!(!serde_json::to_string(&older).unwrap().contains("gateway"));
}

#[test]
fn every_field_is_checked_at_its_bounds_and_named() {
    let text = |n: usize| "x".repeat(n);
    let url = |n: usize| format!("https://a.example/{}", text(n - 18));
    let key = json!({"key_column": "id", "key_source": "header:x-user-id"});
    let keys = |n: usize| (0..n).map(|n| (format!("public.t{n}"), key.clone())).collect::<serde_json::Map<_, _>>();
    for (good, bad, field) in [
        (json!({"name": "a"}), json!({"name": " "}), "name"),
        (json!({"name": "a"}), json!({"name": null}), "name"),
        (json!({"name": "a"}), json!({"name": 1}), "name"),
        (json!({"route_key": "rest_get"}), json!({"route_key": "rest_put"}), "route_key"),
        (json!({"route_key": " rest_get "}), json!({"route_key": null}), "route_key"),
        (json!({"http_method": "delete"}), json!({"http_method": "HEAD"}), "http_method"),
        (json!({"http_method": "PUT"}), json!({"http_method": null}), "http_method"),
        (json!({"url_template": url(2048)}), json!({"url_template": url(2049)}), "url_template"),
        (json!({"table_name": text(128)}), json!({"table_name": text(129)}), "table_name"),
        (json!({"table_name": "public.a"}), json!({"table_name": "a\nb"}), "table_name"),
        (
            json!({"route_key": "gateway_query"}),
            json!({"route_key": "gateway_query", "table_name": "orders"}),
            "table_name",
        ),
        (json!({"body_template": text(65_536)}), json!({"body_template": text(65_537)}), "body_template"),
        (json!({"headers_templates": {"a": "b"}}), json!({"headers_templates": {"a": 1}}), "headers_templates"),
        (json!({"headers_templates": {}}), json!({"headers_templates": []}), "headers_templates"),
        (json!({"lookup_keys": keys(16)}), json!({"lookup_keys": keys(17)}), "lookup_keys"),
        (json!({"lookup_keys": {"a.b": key}}), json!({"lookup_keys": {"a.b.c": key}}), "lookup_keys"),
        (json!({"lookup_keys": {"a.b": key}}), json!({"lookup_keys": {"b": key}}), "lookup_keys"),
        (
            json!({"lookup_keys": {"a.b": {"key_source": "payload:user.id"}}}),
            json!({"lookup_keys": {"a.b": {"key_source": "cookie:sid"}}}),
            "lookup_keys",
        ),
        (
            json!({"lookup_keys": {"a.b": {"key_source": "response:id", "key_column": text(63)}}}),
            json!({"lookup_keys": {"a.b": {"key_source": "response:id", "key_column": text(64)}}}),
            "lookup_keys.a.b.key_column",
        ),
        (json!({"slug": text(120)}), json!({"slug": text(121)}), "slug"),
        (json!({"slug": "Orders_v1.2-b"}), json!({"slug": "a/b"}), "slug"),
        (json!({"state_key_template": text(2048)}), json!({"state_key_template": text(2049)}), "state_key_template"),
        (
            json!({"idempotency_template": text(2048)}),
            json!({"idempotency_template": text(2049)}),
            "idempotency_template",
        ),
        (
            json!({"state_cap_max_fires": 1_000_000, "state_cap_window_seconds": 2_678_400}),
            json!({"state_cap_max_fires": 1_000_001, "state_cap_window_seconds": 1}),
            "state_cap_max_fires",
        ),
        (
            json!({"state_cap_window_seconds": 1}),
            json!({"state_cap_window_seconds": 2_678_401}),
            "state_cap_window_seconds",
        ),
        (
            json!({"state_cap_max_fires": 1, "state_cap_window_seconds": 1}),
            json!({"state_cap_max_fires": 1}),
            "state_cap_window_seconds",
        ),
        (
            json!({"state_cap_max_fires": 1, "state_cap_window_seconds": 1}),
            json!({"state_cap_max_fires": 0, "state_cap_window_seconds": 1}),
            "state_cap_max_fires",
        ),
        (json!({"state_cap_window_seconds": 1}), json!({"state_cap_window_seconds": -1}), "state_cap_window_seconds"),
        (json!({"max_attempts": 30}), json!({"max_attempts": 31}), "max_attempts"),
        (json!({"max_attempts": 1}), json!({"max_attempts": 0}), "max_attempts"),
        (json!({"timeout_ms": 5000}), json!({"timeout_ms": 1.5}), "timeout_ms"),
        (json!({"enabled": false}), json!({"enabled": "yes"}), "enabled"),
        (
            json!({"include_request_body_in_context": false}),
            json!({"include_request_body_in_context": 1}),
            "include_request_body_in_context",
        ),
        (json!({"resilience_policy": {}}), json!({"resilience_policy": []}), "resilience_policy"),
    ] {
        assert!(made(&good).is_ok(), "{good} {:?}", made(&good));
        assert_eq!(made(&bad).unwrap_err(), field, "{bad}");
    }
}

#[test]
fn placeholders_stand_behind_the_host_only() {
    for good in [
        "https://a.example",
        "https://a.example?q={{payload.q}}",
        "http://10.0.0.1:8080/{{a}}/{{ b }}",
        "HTTPS://A.example/",
    ] {
        assert!(made(&json!({"url_template": good})).is_ok(), "{good}");
    }
    for bad in [
        "",
        "/relative",
        "{{payload.url}}",
        "https://{{payload.host}}/",
        "https://a.example{{payload.x}}/",
        "https://a.example:{{payload.port}}/",
        "{{payload.scheme}}://a.example/",
        "https://user{{x}}@a.example/",
        "https://user:password@a.example/",
        "https://a.example\\@b.example/",
        "https:// a.example/",
        "https://a.exa\nmple/",
        "https://",
        "https:///path",
        "ftp://a.example/",
        "file:///etc/passwd",
        "javascript://a.example/",
    ] {
        assert_eq!(made(&json!({"url_template": bad})).unwrap_err(), "url_template", "{bad}");
    }
}

#[test]
fn headers_of_the_signature_and_of_the_connection_are_not_the_templates() {
    for good in ["Content-Type", "User-Agent", "Authorization", "X-Order"] {
        assert!(made(&json!({"headers_templates": {good: "{{payload.a}}"}})).is_ok(), "{good}");
    }
    for bad in ["Host", "Content-Length", "X-Athena-Signature", "x-athena-event-id", "Transfer-Encoding", "a b", ""] {
        let field = made(&json!({"headers_templates": {bad: "v"}})).unwrap_err();
        assert_eq!(field, format!("headers_templates.{bad}"));
    }
    assert_eq!(made(&json!({"headers_templates": {"x-a": "a\r\nb: c"}})).unwrap_err(), "headers_templates.x-a");
}

#[test]
fn the_timeout_is_moved_into_its_bounds() {
    for (asked, got) in [
        (json!(1), 1000),
        (json!(-5), 1000),
        (json!(1000), 1000),
        (json!(300_000), 300_000),
        (json!(300_001), 300_000),
        (json!(u64::MAX), 300_000),
        (json!(null), 30_000),
    ] {
        assert_eq!(gateway(&json!({"timeout_ms": asked})).timeout_ms, got, "{asked}");
    }
}

#[test]
fn the_resilience_fields_may_be_nested_in_either_spelling() {
    let snake = json!({
        "state_key_template": "{{payload.a}}", "state_cap_max_fires": 3, "state_cap_window_seconds": 60,
        "idempotency_template": "{{payload.b}}", "max_attempts": 2,
    });
    let camel = json!({
        "stateKeyTemplate": "{{payload.a}}", "stateCapMaxFires": 3, "stateCapWindowSeconds": 60,
        "idempotencyTemplate": "{{payload.b}}", "maxAttempts": 2,
    });
    let plain = gateway(&snake);
    assert_eq!(plain.cap(), Some(Cap { max_fires: 3, window_ms: 60_000 }));
    assert_eq!(gateway(&json!({"resilience_policy": snake})), plain);
    assert_eq!(gateway(&json!({"resilience_policy": camel})), plain);
    // Only there, and only these.
    assert_eq!(gateway(&json!({"stateCapMaxFires": 3})).cap(), None);
    assert_eq!(gateway(&json!({"resilience_policy": {"slug": "a"}})).slug, None);
    // What is given twice is as it stands outside.
    let twice = json!({"max_attempts": 5, "resilience_policy": {"max_attempts": 2}});
    assert_eq!(gateway(&twice).max_attempts, 5);
    assert_eq!(made(&json!({"resilience_policy": {"stateCapMaxFires": 3}})).unwrap_err(), "state_cap_window_seconds");
}

#[test]
fn a_change_leaves_what_is_omitted_or_null() {
    let whole = json!({
        "description": "d", "table_name": "orders", "headers_templates": {"x-a": "b"}, "body_template": "{}",
        "timeout_ms": 2000, "include_request_body_in_context": false, "slug": "s", "state_key_template": "k",
        "lookup_keys": {"public.users": {"key_source": "payload:id"}}, "state_cap_max_fires": 1,
        "state_cap_window_seconds": 2, "idempotency_template": "i", "max_attempts": 3, "enabled": false,
    });
    let before = made(&whole).unwrap();
    let change = |fields: Value| GatewayInput::parse(&fields).unwrap().change(&before);
    assert_eq!(change(json!({})).unwrap(), before);
    let nulls = fields(&whole).as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
    assert_eq!(change(Value::Object(nulls)).unwrap(), before);
    let after = change(json!({"url_template": "http://b.example:81/x", "enabled": true, "table_name": ""})).unwrap();
    assert_eq!(after.url, "http://b.example:81/");
    let gateway = after.gateway.unwrap();
    assert!(gateway.enabled && gateway.table_name.is_none());
    assert_eq!((gateway.number, gateway.slug.as_deref()), (7, Some("s")));
    // What was right is judged together with what is not changed.
    let refused = change(json!({"route_key": "gateway_query"})).unwrap_err();
    assert_eq!(refused.field, "table_name");
    let plain: WebhookSpec = serde_json::from_value(json!({"url": "https://a.example/"})).unwrap();
    assert!(GatewayInput::default().change(&plain).is_err());
}

#[test]
fn the_same_operation_method_url_and_table_are_the_same_webhook() {
    let base = gateway(&json!({}));
    assert_eq!(base.identity(), gateway(&json!({"name": "other", "body_template": "x"})).identity());
    for other in [
        json!({"route_key": "gateway_update"}),
        json!({"http_method": "PUT"}),
        json!({"url_template": "https://hooks.example.com/"}),
        json!({"table_name": "orders"}),
    ] {
        assert_ne!(base.identity(), gateway(&other).identity(), "{other}");
    }
}

#[test]
fn an_operation_fires_who_waits_for_it_and_its_table() {
    let all = gateway(&json!({}));
    assert!(all.wants("gateway_insert", Some("orders")) && all.wants("gateway_insert", None));
    assert!(!all.wants("gateway_update", Some("orders")));
    let one = gateway(&json!({"table_name": "orders"}));
    for (table, wanted) in [
        (Some("orders"), true),
        (Some("public.orders"), true),
        (Some("Orders"), false),
        (Some("sales.orders"), false),
        (Some("orders2"), false),
        (None, false),
    ] {
        assert_eq!(one.wants("gateway_insert", table), wanted, "{table:?}");
    }
    assert!(gateway(&json!({"table_name": "public.orders"})).wants("gateway_insert", Some("orders")));
    assert!(!gateway(&json!({"enabled": false})).wants("gateway_insert", None));
}

#[test]
fn a_gateway_webhook_speaks_athena_only() {
    let mut spec = made(&json!({})).unwrap();
    spec.dialect = Dialect::Standard;
    assert_eq!(spec.check().unwrap_err().field, "dialect");
}

#[test]
fn a_key_source_is_spelled_as_it_was_read() {
    for text in ["header:x-user-id", "payload:user.id", "response:data.id"] {
        assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
    }
    assert_eq!("header:X-User-Id".parse(), Ok(KeySource::Header("x-user-id".into())));
    for bad in ["", "header", "header:", "header: ", "query:a", "payload:a\nb"] {
        assert_eq!(bad.parse::<KeySource>(), Err(InvalidKeySource), "{bad}");
    }
    let long = |n: usize| format!("payload:{}", "a".repeat(n));
    assert!(long(limits::GATEWAY_PATH_BYTES_MAX).parse::<KeySource>().is_ok());
    assert!(long(limits::GATEWAY_PATH_BYTES_MAX + 1).parse::<KeySource>().is_err());
}
