use proptest::prelude::*;

use super::sorted::Node;
use super::*;
use crate::limits::JSON_DEPTH_MAX;
use crate::signing::{Secret, WebhookSecrets, secret_from_random, verify};

const NOW: UnixMs = UnixMs(1_700_000_000_999);
const UUID: uuid::Uuid = uuid::Uuid::from_u128(0x0192_4f5e_0000_7000_8000_0000_0000_0001);
const HEX: &str = "01924f5e000070008000000000000001";
const HYPHENATED: &str = "01924f5e-0000-7000-8000-000000000001";

fn envelope(data: &str) -> Envelope<'_> {
    Envelope {
        event_id: EventId(UUID),
        external_id: None,
        event_type: "user.created",
        occurred_at: UnixMs(1_699_999_999_123),
        tenant_id: Some(TenantId(UUID)),
        partner_id: Some(PartnerId(UUID)),
        webhook_id: WebhookId(UUID),
        delivery_id: DeliveryId(4_503_599_627_370_497),
        replay_id: None,
        data,
        raw: None,
        test: false,
        attempt: 1,
    }
}

fn secret() -> Secret {
    secret_from_random([5; 32])
}

fn keys(dialect: Dialect) -> SigningKeys {
    SigningKeys::new(dialect, &WebhookSecrets { current: secret(), previous: None }).unwrap()
}

fn render(dialect: Dialect, envelope: &Envelope<'_>) -> Rendered {
    dialect.render(envelope, &keys(dialect), NOW)
}

fn body(dialect: Dialect, envelope: &Envelope<'_>) -> String {
    String::from_utf8(render(dialect, envelope).body).unwrap()
}

fn header<'r>(rendered: &'r Rendered, name: &str) -> Option<&'r str> {
    rendered.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
}

#[test]
fn each_dialect_has_its_wire_name_in_json_and_in_text() {
    let names = ["standard", "athenatext", "athenty", "scaikey", "alumia", "athena"];
    for (dialect, name) in Dialect::ALL.into_iter().zip(names) {
        assert_eq!(dialect.name(), name);
        assert_eq!(name.parse(), Ok(dialect));
        assert_eq!(serde_json::to_value(dialect).unwrap(), name);
    }
    assert_eq!("Standard".parse::<Dialect>(), Err(UnknownDialect));
}

#[test]
fn timeouts_overlaps_and_switches_are_the_contracts() {
    let of = |dialect: Dialect| {
        let seconds = (dialect.timeout().as_secs(), dialect.rotation_overlap().as_secs() / 3600);
        (seconds, dialect.gone_disables(), dialect.auto_disables(), dialect.unsigned_allowed())
    };
    assert_eq!(of(Dialect::Standard), ((15, 24), true, true, false));
    assert_eq!(of(Dialect::Athenatext), ((10, 24), false, true, false));
    assert_eq!(of(Dialect::Athenty), ((5, 24), false, false, false));
    assert_eq!(of(Dialect::Scaikey), ((10, 24), false, true, false));
    assert_eq!(of(Dialect::Alumia), ((10, 0), false, true, false));
    assert_eq!(of(Dialect::Athena), ((30, 0), false, true, true));
}

#[test]
fn each_dialect_has_its_body() {
    let data = r#"{"b": 1.0, "a":{"z":null,"y":[2, 1]}, "id":"u_1"}"#;
    for (dialect, expected) in [
        (
            Dialect::Standard,
            format!(
                r#"{{"id":"evt_{HEX}","type":"user.created","timestamp":"2023-11-14T22:13:19.123Z","tenant_id":"ten_{HEX}","data":{data}}}"#
            ),
        ),
        (
            Dialect::Athenatext,
            format!(
                r#"{{"id":"evt_{HEX}","type":"user.created","created":"2023-11-14T22:13:19Z","workspace_id":"ten_{HEX}","data":{data}}}"#
            ),
        ),
        (
            Dialect::Athenty,
            format!(
                r#"{{"id":"{HYPHENATED}","type":"user.created","created_at":"2023-11-14T22:13:19Z","tenant_id":"{HYPHENATED}","data":{data},"metadata":{{"test":false,"delivery_attempt":1}}}}"#
            ),
        ),
        (
            Dialect::Scaikey,
            format!(
                r#"{{"actor":{{"id":null,"type":"api"}},"data":{{"a":{{"y":[2,1],"z":null}},"b":1.0,"id":"u_1"}},"event_id":"evt_{HEX}","event_type":"user.created","partner_id":"prt_{HEX}","resource":{{"id":"u_1","type":"user"}},"tenant_id":"tnt_{HEX}","timestamp":"2023-11-14T22:13:19.123Z"}}"#
            ),
        ),
        (Dialect::Alumia, data.to_owned()),
        (
            Dialect::Athena,
            format!(
                r#"{{"request":{{"method":null,"path":null}},"client":"ten_{HEX}","route_key":"user.created","table":null,"headers":{{}},"payload":{data},"response":null}}"#
            ),
        ),
    ] {
        assert_eq!(body(dialect, &envelope(data)), expected, "{dialect:?}");
    }
}

#[test]
fn each_dialect_has_its_headers() {
    let own = |dialect: Dialect| {
        let rendered = render(dialect, &envelope("{}"));
        let mut headers = rendered.headers.clone();
        headers.retain(|(name, _)| !name.ends_with("signature"));
        assert_eq!(rendered.headers.len(), headers.len() + 1, "{dialect:?} has one signature");
        assert_eq!(headers.remove(0), ("content-type", "application/json".to_owned()));
        headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let ours = concat!("user-agent: Postrider/", env!("CARGO_PKG_VERSION")).to_owned();
    let id = format!("evt_{HEX}");
    assert_eq!(
        own(Dialect::Standard),
        [ours.clone(), format!("webhook-id: {id}"), "webhook-timestamp: 1700000000".into()]
    );
    assert_eq!(own(Dialect::Athenatext), std::slice::from_ref(&ours));
    assert_eq!(own(Dialect::Athenty), std::slice::from_ref(&ours));
    assert_eq!(
        own(Dialect::Scaikey),
        [
            "user-agent: ScaiKey-Webhook/1.0".to_owned(),
            "x-scaikey-webhook-id: 4503599627370497".into(),
            format!("x-scaikey-event-id: {id}"),
            "x-scaikey-event-type: user.created".into(),
            "x-scaikey-timestamp: 1700000000".into(),
        ]
    );
    assert_eq!(
        own(Dialect::Alumia),
        [
            ours.clone(),
            "x-alumia-event: user.created".into(),
            "x-alumia-delivery: 4503599627370497".into(),
            format!("x-alumia-webhook-id: {HYPHENATED}"),
        ]
    );
    assert_eq!(
        own(Dialect::Athena),
        [
            ours,
            format!("x-athena-event-id: {id}"),
            "x-athena-event-type: user.created".into(),
            "x-athena-delivery-timestamp: 1700000000".into(),
        ]
    );
}

#[test]
fn what_is_rendered_verifies_in_every_dialect() {
    for dialect in Dialect::ALL {
        let rendered = render(dialect, &envelope(r#"{"n":12345678901234567890123}"#));
        let found = verify(dialect, &secret(), |name| header(&rendered, name), &rendered.body, NOW);
        assert_eq!(found, Ok(()), "{dialect:?}");
    }
}

#[test]
fn header_names_are_in_lower_case_and_known_as_the_dialects_own() {
    for dialect in Dialect::ALL {
        let replayed = Envelope { replay_id: Some(ReplayId(UUID)), ..envelope("{}") };
        let both = WebhookSecrets { current: secret(), previous: Some((secret(), UnixMs(i64::MAX))) };
        let rendered = dialect.render(&replayed, &SigningKeys::new(dialect, &both).unwrap(), NOW);
        for (name, value) in &rendered.headers {
            assert_eq!(*name, name.to_ascii_lowercase());
            assert!(dialect.sets_header(name), "{dialect:?} {name}");
            assert!(value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{name}: {value}");
        }
        assert!(!dialect.sets_header("x-own"));
    }
}

#[test]
fn a_replayed_delivery_names_its_replay_in_every_dialect() {
    for dialect in Dialect::ALL {
        let replayed = Envelope { replay_id: Some(ReplayId(UUID)), ..envelope("{}") };
        assert_eq!(header(&render(dialect, &replayed), REPLAY_HEADER), Some(format!("rpl_{HEX}").as_str()));
        assert_eq!(header(&render(dialect, &envelope("{}")), REPLAY_HEADER), None);
    }
}

#[test]
fn retries_repeat_the_body_except_where_it_counts_attempts() {
    for dialect in Dialect::ALL {
        let first = render(dialect, &envelope("{}"));
        let again = Envelope { attempt: 2, ..envelope("{}") };
        let later = dialect.render(&again, &keys(dialect), UnixMs(NOW.0 + 60_000));
        assert_eq!(first.body == later.body, dialect != Dialect::Athenty, "{dialect:?}");
    }
    let test = Envelope { attempt: 3, test: true, ..envelope("{}") };
    assert!(body(Dialect::Athenty, &test).ends_with(r#""metadata":{"test":true,"delivery_attempt":3}}"#));
}

#[test]
fn an_athena_webhook_without_a_secret_sends_no_athena_headers() {
    let none = WebhookSecrets { current: Secret::new(String::new()), previous: None };
    let rendered = Dialect::Athena.render(&envelope("{}"), &SigningKeys::new(Dialect::Athena, &none).unwrap(), NOW);
    assert!(rendered.headers.iter().all(|(name, _)| !name.starts_with("x-athena")), "{rendered:?}");
}

#[test]
fn a_publishers_id_is_shown_in_body_header_and_signature() {
    for dialect in Dialect::ALL {
        let chosen = Envelope { external_id: Some("order:17\"x"), ..envelope("{}") };
        let rendered = render(dialect, &chosen);
        assert_eq!(verify(dialect, &secret(), |name| header(&rendered, name), &rendered.body, NOW), Ok(()));
        let text = String::from_utf8(rendered.body.clone()).unwrap();
        let names_event = !matches!(dialect, Dialect::Alumia | Dialect::Athena);
        assert_eq!(text.contains(r#""order:17\"x""#), names_event, "{dialect:?} {text}");
        if let Some(id) = dialect.profile().id_header {
            assert_eq!(header(&rendered, id), Some("order:17\"x"));
        }
    }
}

#[test]
fn data_passes_through_byte_for_byte() {
    let data = "{\"n\": 12345678901234567890.10, \"dup\":1,\"dup\":2 ,\"e\":1E+2,\"s\":\"\\u00e9 \u{e9} \\/\"}";
    for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Scaikey) {
        assert!(body(dialect, &envelope(data)).contains(data), "{dialect:?}");
    }
}

#[test]
fn scaikey_takes_resource_and_actor_from_the_data_where_they_are_well_formed() {
    const API: &str = r#"{"id":null,"type":"api"}"#;
    for (event_type, data, resource, actor) in [
        ("user.created", r#"{"id":"u"}"#, r#"{"id":"u","type":"user"}"#, API),
        ("a.b.c", r#"{"id":123456789012345678901234}"#, r#"{"id":123456789012345678901234,"type":"a.b"}"#, API),
        ("ping", r#"{"id":true}"#, r#"{"id":null,"type":"ping"}"#, API),
        ("ping", r#"{"id":{"id":1}}"#, r#"{"id":null,"type":"ping"}"#, API),
        ("ping", r#"{"id":1,"id":-2}"#, r#"{"id":-2,"type":"ping"}"#, API),
        ("ping", r#""text""#, r#"{"id":null,"type":"ping"}"#, API),
        (
            "ping",
            r#"{"actor":{"type":"user","id":"u_9","name":"x"}}"#,
            r#"{"id":null,"type":"ping"}"#,
            r#"{"id":"u_9","type":"user"}"#,
        ),
        (
            "ping",
            r#"{"actor":{"type":"system","id":null}}"#,
            r#"{"id":null,"type":"ping"}"#,
            r#"{"id":null,"type":"system"}"#,
        ),
        ("ping", r#"{"actor":{"type":"robot","id":"u_9"}}"#, r#"{"id":null,"type":"ping"}"#, API),
        ("ping", r#"{"actor":{"type":"user"}}"#, r#"{"id":null,"type":"ping"}"#, API),
        ("ping", r#"{"actor":{"type":"user","id":true}}"#, r#"{"id":null,"type":"ping"}"#, API),
        ("ping", r#"{"actor":{"type":"user","id":[1]}}"#, r#"{"id":null,"type":"ping"}"#, API),
        ("ping", r#"{"actor":"user"}"#, r#"{"id":null,"type":"ping"}"#, API),
    ] {
        let text = body(Dialect::Scaikey, &Envelope { event_type, ..envelope(data) });
        assert!(text.contains(&format!(r#""resource":{resource},"#)), "{text}");
        assert!(text.starts_with(&format!(r#"{{"actor":{actor},"data":"#)), "{text}");
    }
    let orphan = Envelope { partner_id: None, ..envelope("{}") };
    assert!(body(Dialect::Scaikey, &orphan).contains(r#""partner_id":null"#));
}

#[test]
fn a_scaikey_body_has_sorted_keys_all_the_way() {
    let text = body(Dialect::Scaikey, &envelope(r#"{"z":{"b":1,"a":2},"é":1,"Z":1,"\u0061":[{"d":1,"c":2}]}"#));
    assert!(text.contains(r#""data":{"Z":1,"\u0061":[{"c":2,"d":1}],"z":{"a":2,"b":1},"é":1}"#), "{text}");
    assert_eq!(sorted(r#"{"B":1,"\u0041":2}"#), r#"{"\u0041":2,"B":1}"#, "by what a name means, not how it is spelled");
    let top = ["actor", "data", "event_id", "event_type", "partner_id", "resource", "tenant_id", "timestamp"];
    let places: Vec<_> = top.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted());
}

fn sorted(text: &str) -> String {
    let mut out = Vec::new();
    Node::parse(text).write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_lies_too_deep_to_be_sorted_is_copied() {
    let nested = |n: usize| format!("{}{{\"b\": 1, \"a\": \"]\\\"\"}}{}", "[".repeat(n), "]".repeat(n));
    assert!(sorted(&nested(JSON_DEPTH_MAX - 1)).contains(r#"{"a":"]\"","b":1}"#));
    assert_eq!(sorted(&nested(JSON_DEPTH_MAX)), nested(JSON_DEPTH_MAX));
    let abyss = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(sorted(&abyss), abyss);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn sorting_is_what_a_tree_with_sorted_keys_prints(value in json()) {
        // serde_json keeps members in a sorted map and prints compactly.
        let expected = value.to_string();
        prop_assert_eq!(sorted(&serde_json::to_string_pretty(&value).unwrap()), expected.clone());
        prop_assert_eq!(sorted(&expected), expected);
    }

    #[test]
    fn text_that_is_no_json_makes_nothing_panic(text in r#"[\[\]{}:," \\a1é]{0,60}"#) {
        let _ = sorted(&text);
        let _ = body(Dialect::Scaikey, &envelope(&text));
    }

    #[test]
    fn every_body_of_every_dialect_is_json(value in json(), event_type in "[a-z]{1,8}(\\.[a-z_]{1,8}){0,2}", attempt in 1_u32..40) {
        let data = value.to_string();
        for dialect in Dialect::ALL {
            let text = body(dialect, &Envelope { attempt, event_type: &event_type, ..envelope(&data) });
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            let inner = match dialect {
                Dialect::Alumia => &read,
                Dialect::Athena => &read["payload"],
                _ => &read["data"],
            };
            prop_assert_eq!(inner, &serde_json::from_str::<serde_json::Value>(&data).unwrap());
        }
    }
}

#[test]
fn alumia_passes_a_received_request_on_byte_for_byte_and_the_others_its_data() {
    let bytes = b"a=1&b=\xff\x00";
    let raw = Raw { content_type: Some("application/x-www-form-urlencoded; charset=latin1"), body: Some(bytes) };
    let received = Envelope { raw: Some(raw), ..envelope(r#"{"a":"1"}"#) };
    let rendered = render(Dialect::Alumia, &received);
    assert_eq!(rendered.body, bytes);
    assert_eq!(header(&rendered, "content-type"), raw.content_type);
    let signed = verify(Dialect::Alumia, &secret(), |name| header(&rendered, name), bytes, NOW);
    assert_eq!(signed, Ok(()), "what is signed is what is sent");
    for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Alumia) {
        let others = render(dialect, &received);
        assert_eq!(others, render(dialect, &Envelope { raw: None, ..received.clone() }), "{dialect:?}");
    }
}

#[test]
fn a_received_body_that_is_json_is_the_data_and_keeps_its_content_type_or_none() {
    for content_type in [Some("application/vnd.acme+json"), None] {
        let raw = Raw { content_type, body: None };
        let rendered = render(Dialect::Alumia, &Envelope { raw: Some(raw), ..envelope("{ \"a\":1 }\n") });
        assert_eq!(rendered.body, b"{ \"a\":1 }\n");
        assert_eq!(header(&rendered, "content-type"), content_type);
    }
    let empty = Raw { content_type: None, body: Some(b"") };
    assert!(render(Dialect::Alumia, &Envelope { raw: Some(empty), ..envelope("null") }).body.is_empty());
}
