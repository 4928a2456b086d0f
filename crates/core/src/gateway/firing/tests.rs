use serde_json::json;

use super::*;
use crate::dialect::{Dialect, Envelope};
use crate::gateway::webhook::GatewayInput;
use crate::ids::{DeliveryId, EventId, WebhookId};
use crate::signing::{Secret, SigningKeys, WebhookSecrets};
use crate::time::UnixMs;

fn spec(fields: Value) -> Result<GatewaySpec, InvalidField> {
    let mut all = json!({
        "name": "n", "route_key": "gateway_insert", "http_method": "POST", "url_template": "https://a.example/hook",
    });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    GatewayInput::parse(&all)?.create(7).map(|spec| spec.gateway.unwrap())
}

fn templates(fields: Value) -> Templates {
    Templates::of(&spec(fields).unwrap()).unwrap()
}

fn made(fields: Value, context: &Value) -> Made {
    templates(fields).request(&context.to_string(), context, &Found::default()).unwrap()
}

fn header<'a>(made: &'a Made, name: &str) -> Option<&'a str> {
    made.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_request_is_what_its_templates_say() {
    let context = json!({"payload": {"id": 5, "name": "A \"B\""}, "client": "acme"});
    let whole = made(
        json!({
            "http_method": "PATCH", "url_template": "https://a.example/orders/{{payload.id}}?c={{client}}",
            "headers_templates": {"X-Name": "{{payload.name}}", "Content-Type": "application/vnd.x+json"},
            "body_template": r#"{"n":"{{payload.name}}"}"#,
        }),
        &context,
    );
    let known = templates(json!({"url_template": "https://a.example/orders/{{payload.id}}?c={{client}}"}));
    assert_eq!(known.resolved_url(&context), Some(whole.url.clone()));
    assert_eq!(whole.method, HttpMethod::Patch);
    assert_eq!(whole.url.as_str(), "https://a.example/orders/5?c=acme");
    assert_eq!(header(&whole, "x-name"), Some("A \"B\""));
    assert_eq!(header(&whole, "content-type"), Some("application/vnd.x+json"));
    assert_eq!(whole.headers.len(), 2);
    assert_eq!(whole.body, br#"{"n":"A \"B\""}"#);
}

#[test]
fn without_a_body_template_the_context_is_sent_where_there_is_a_body() {
    let context = json!({"payload": {"id": 5}});
    for (method, has_body) in [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)] {
        let made = made(json!({"http_method": method}), &context);
        let expected = if has_body { context.to_string() } else { String::new() };
        assert_eq!(made.body, expected.as_bytes(), "{method}");
        assert_eq!(header(&made, "content-type"), has_body.then_some("application/json"), "{method}");
    }
    let asked = made(json!({"http_method": "GET", "body_template": "id {{payload.id}}"}), &context);
    assert_eq!(
        (asked.body.as_slice(), header(&asked, "content-type")),
        (&b"id 5"[..], Some("text/plain; charset=utf-8"))
    );
}

#[test]
fn the_rows_that_templates_need_are_named_once_each() {
    let context = json!({
        "headers": {"x_user_id": "u-7"}, "payload": {"order": {"id": 5}, "none": null, "list": [1]}, "response": {"id": true},
    });
    let found = |keys: Value| {
        templates(json!({
            "url_template": "https://a.example/{{ATHENA.public.users.email}}",
            "headers_templates": {"x-a": "{{ ATHENA.public.users.name }} {{ATHENA.public.users.email}}"},
            "body_template": "{{ ATHENA.sales.orders.total }} {{ATHENA.no.key.here}}",
            "lookup_keys": keys,
        }))
        .lookups(&context)
    };
    let by = |source: &str| json!({"key_column": "uid", "key_source": source});
    let both = found(json!({"public.users": by("header:X-User-Id"), "sales.orders": by("payload:order.id")}));
    let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let users = Lookup {
        schema: "public".into(),
        table: "users".into(),
        key_column: "uid".into(),
        key: json!("u-7"),
        columns: columns(&["email", "name"]),
    };
    let orders = Lookup {
        schema: "sales".into(),
        table: "orders".into(),
        key_column: "uid".into(),
        key: json!(5),
        columns: columns(&["total"]),
    };
    assert_eq!(both, [users, orders.clone()]);
    let by_response = found(json!({"sales.orders": by("response:id")}));
    assert_eq!(by_response, [Lookup { key: json!(true), ..orders }]);
    for source in ["header:x-none", "payload:none", "payload:order", "payload:list", "payload:list.0", "response:x"] {
        assert_eq!(found(json!({"sales.orders": by(source)})), [], "{source}");
    }
    assert_eq!(found(json!({})), []);
}

#[test]
fn what_was_looked_up_stands_in_its_places() {
    let own = templates(json!({
        "url_template": "https://a.example/{{ATHENA.public.users.email}}",
        "body_template": r#"{"name":"{{ATHENA.public.users.name}}","age":{{ATHENA.public.users.age}},"no":{{ATHENA.public.users.no}}}"#,
        "lookup_keys": {"public.users": {"key_source": "payload:id"}},
    }));
    let context = json!({"payload": {"id": 1}});
    assert_eq!(own.resolved_url(&context), None);
    let lookup = own.lookups(&context).remove(0);
    let mut found = Found::default();
    found.put(&lookup, "email", &json!("a@b.example"));
    found.put(&lookup, "name", &json!("A \"B\""));
    found.put(&lookup, "age", &json!(33));
    let made = own.request("{}", &context, &found).unwrap();
    assert_eq!(made.url.as_str(), "https://a.example/a%40b.example");
    assert_eq!(made.body, br#"{"name":"A \"B\"","age":33,"no":null}"#);
}

fn occasion<'a>(request_id: Option<&'a str>, table: Option<&'a str>, payload: &'a Value) -> Occasion<'a> {
    Occasion {
        request_id,
        method: "PUT",
        path: "/gateway/insert",
        client: "acme",
        route_key: "gateway_insert",
        table,
        headers: &[],
        payload,
        response: &Value::Null,
    }
}

fn hex_of(text: &str) -> String {
    hex::encode(sha256(text.as_bytes()))
}

#[test]
fn a_repeat_is_told_by_the_template_or_by_the_operation() {
    let key =
        |fields: Value, occasion: &Occasion<'_>| Fired::of(&spec(fields).unwrap(), occasion).unwrap().idempotency_key;
    let (one, two) = (json!({"id": 1, "n": 1}), json!({"id": 1, "n": 2}));
    let by_id = json!({"idempotency_template": "order-{{payload.id}}"});
    assert_eq!(key(by_id.clone(), &occasion(Some("r1"), None, &one)), hex_of("order-1"));
    assert_eq!(key(by_id, &occasion(Some("r2"), Some("t"), &two)), hex_of("order-1"));
    // webhook_id|request_id|route_key|table|fingerprint
    let fingerprint = hex_of(&json!([one, null]).to_string());
    let whole = format!("7|r1|gateway_insert|orders|{fingerprint}");
    assert_eq!(key(json!({}), &occasion(Some("r1"), Some("orders"), &one)), hex_of(&whole));
    let all = [
        key(json!({}), &occasion(Some("r1"), Some("orders"), &one)),
        key(json!({}), &occasion(Some("r2"), Some("orders"), &one)),
        key(json!({}), &occasion(Some("r1"), Some("users"), &one)),
        key(json!({}), &occasion(Some("r1"), None, &one)),
        key(json!({}), &occasion(None, Some("orders"), &one)),
        key(json!({}), &occasion(Some("r1"), Some("orders"), &two)),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    // A template that finds nothing does not make all firings repeats of the first.
    let nothing = json!({"idempotency_template": "{{payload.absent}}"});
    assert_eq!(key(nothing, &occasion(Some("r1"), Some("orders"), &one)), hex_of(&whole));
}

#[test]
fn the_cap_counts_by_state() {
    let state = |fields: Value, payload: &Value| templates(fields).state_key(&json!({"payload": payload}));
    let by_user = json!({"state_key_template": "{{payload.user}}"});
    let (a, b) = (json!({"user": "a", "n": 1}), json!({"user": "b"}));
    assert_eq!(state(by_user.clone(), &a), state(by_user.clone(), &json!({"user": "a", "n": 2})));
    assert_ne!(state(by_user.clone(), &a), state(by_user, &b));
    assert_eq!(state(json!({}), &a), state(json!({}), &b), "all of the webhook");
    assert_eq!(templates(json!({})).cap(), None);
    let cap = templates(json!({"state_cap_max_fires": 3, "state_cap_window_seconds": 60})).cap();
    assert_eq!(cap, Some(Cap { max_fires: 3, window_ms: 60_000 }));
}

#[test]
fn keys_are_made_without_a_database() {
    for field in ["state_key_template", "idempotency_template"] {
        let refused = spec(json!({field: "{{ ATHENA.public.users.id }}"})).unwrap_err();
        assert_eq!(refused.field, field);
    }
}

#[test]
fn templates_that_are_none_are_named() {
    let many = "{{a}}".repeat(257);
    for (fields, field) in [
        (json!({"url_template": "https://{{a}}/"}), "url_template"),
        (json!({"url_template": format!("https://a.example/{many}")}), "url_template"),
        (json!({"headers_templates": {"x-a": many}}), "headers_templates.x-a"),
        (json!({"body_template": many}), "body_template"),
        (json!({"body_template": "{\"a\": {{a}}"}), "body_template"),
        (json!({"body_template": "a", "headers_templates": {"content-type": "application/json"}}), "body_template"),
        (json!({"state_key_template": many}), "state_key_template"),
        (json!({"idempotency_template": many}), "idempotency_template"),
    ] {
        assert_eq!(spec(fields.clone()).unwrap_err().field, field, "{fields}");
    }
}

/// The contract's vector, for the body of a gateway webhook's template.
#[test]
fn a_request_is_signed_as_the_contract_says() {
    let context = json!({"payload": {"id": "evt_1", "text": "hello"}});
    let made =
        made(json!({"body_template": r#"{"event_id":"{{payload.id}}","payload":"{{payload.text}}"}"#}), &context);
    assert_eq!(made.body, br#"{"event_id":"evt_1","payload":"hello"}"#);
    let keys = |secret: &str| {
        let secrets = WebhookSecrets { current: Secret::new(secret.into()), previous: None };
        SigningKeys::new(Dialect::Athena, &secrets).unwrap()
    };
    let envelope = Envelope {
        event_id: EventId::from_sequence(1, 0),
        external_id: Some("evt_1"),
        event_type: "gateway_insert",
        occurred_at: UnixMs(0),
        tenant_id: None,
        partner_id: None,
        webhook_id: WebhookId::from_random([1; 16]),
        delivery_id: DeliveryId(1),
        replay_id: None,
        data: "null",
        raw: None,
        test: false,
        attempt: 1,
    };
    let at = UnixMs(1_700_000_000_000);
    let rendered = Dialect::Athena.render_body(&envelope, made.body.clone(), &keys("test-secret"), at);
    assert_eq!(rendered.body, made.body);
    let header = |name: &str| rendered.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
    assert_eq!(header("x-athena-event-id"), Some("evt_1"));
    assert_eq!(header("x-athena-event-type"), Some("gateway_insert"));
    assert_eq!(header("x-athena-delivery-timestamp"), Some("1700000000"));
    let signature = "v1=3efa3be6cf2a27faa78e6170ce247195799201711a662baab749fb569772c287";
    assert_eq!(header("x-athena-signature"), Some(signature));
    assert_eq!(header("content-type"), None, "that is the template's to say");
    let unsigned = Dialect::Athena.render_body(&envelope, made.body, &keys(""), at);
    assert!(unsigned.headers.iter().all(|(name, _)| !name.starts_with("x-athena")), "{unsigned:?}");
}
