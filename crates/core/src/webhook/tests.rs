use serde_json::json;

use super::*;
use crate::limits;
use crate::signing::{ReceiverSecrets, Secret};

fn spec(fields: serde_json::Value) -> WebhookSpec {
    let mut all = json!({"url": "not looked at here"});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// The field found wrong, if any.
fn wrong(fields: serde_json::Value) -> Option<String> {
    spec(fields).check().err().map(|error| error.field)
}

fn headers(entries: &[(&str, &str)]) -> serde_json::Value {
    json!({"headers": entries.iter().copied().collect::<BTreeMap<_, _>>()})
}

#[test]
fn every_field_is_checked_at_its_bounds_and_named() {
    let text = |n: usize| "é".repeat(n);
    let most_headers =
        |n: usize| json!({"headers": (0..n).map(|n| (format!("x-{n}"), "v")).collect::<BTreeMap<_, _>>()});
    let long_header = |n: usize| json!({"headers": {"x-long": "v".repeat(n - 6)}});
    let metadata = |n: usize| json!({"metadata": {"k": "v".repeat(n - 8)}});
    for (good, bad, field) in [
        (json!({"name": text(limits::NAME_CHARS_MAX)}), json!({"name": text(limits::NAME_CHARS_MAX + 1)}), "name"),
        (json!({"name": "Orders"}), json!({"name": "  "}), "name"),
        (json!({"name": "Orders"}), json!({"name": "a\nb"}), "name"),
        (
            json!({"description": text(limits::DESCRIPTION_CHARS_MAX)}),
            json!({"description": text(limits::DESCRIPTION_CHARS_MAX + 1)}),
            "description",
        ),
        (json!({"events": ["a.*"]}), json!({"events": ["a*"]}), "events"),
        (json!({"timeout_ms": 100}), json!({"timeout_ms": 99}), "timeout_ms"),
        (json!({"timeout_ms": 300_000}), json!({"timeout_ms": 300_001}), "timeout_ms"),
        (
            json!({"rate_limit": {"per_second": 0.01}}),
            json!({"rate_limit": {"per_second": 0.0}}),
            "rate_limit.per_second",
        ),
        (
            json!({"rate_limit": {"per_second": 1e5}}),
            json!({"rate_limit": {"per_second": 1e6}}),
            "rate_limit.per_second",
        ),
        (json!({"concurrency": {"max": 1}}), json!({"concurrency": {"max": 0}}), "concurrency.max"),
        (
            json!({"concurrency": {"max": limits::LANE_IN_FLIGHT_MAX}}),
            json!({"concurrency": {"max": limits::LANE_IN_FLIGHT_MAX + 1}}),
            "concurrency.max",
        ),
        (json!({"retry": {"max_attempts": 1}}), json!({"retry": {"max_attempts": 0}}), "retry.max_attempts"),
        (
            json!({"retry": {"schedule_ms": [1, 2]}}),
            json!({"retry": {"schedule_ms": [1, 2, 700_000_000]}}),
            "retry.schedule_ms[2]",
        ),
        (most_headers(limits::CUSTOM_HEADERS_MAX), most_headers(limits::CUSTOM_HEADERS_MAX + 1), "headers"),
        (
            long_header(limits::CUSTOM_HEADER_BYTES_MAX),
            long_header(limits::CUSTOM_HEADER_BYTES_MAX + 1),
            "headers.x-long",
        ),
        (metadata(limits::METADATA_BYTES_MAX), metadata(limits::METADATA_BYTES_MAX + 1), "metadata"),
    ] {
        assert_eq!(wrong(good.clone()), None, "{good}");
        assert_eq!(wrong(bad.clone()).as_deref(), Some(field), "{bad}");
    }
}

#[test]
fn a_header_that_could_break_a_request_or_impersonate_us_is_refused() {
    for name in ["Host", "content-LENGTH", "Transfer-Encoding", "Connection", "traceparent", "Keep-Alive", "TE"] {
        assert_eq!(wrong(headers(&[(name, "v")])), Some(format!("headers.{name}")));
    }
    for name in ["Content-Type", "User-Agent", "Webhook-Signature", "webhook-id", "Webhook-Replay-Id"] {
        assert_eq!(wrong(headers(&[(name, "v")])), Some(format!("headers.{name}")));
    }
    for name in ["", "a b", "a:b", "é", "a\r\nx", "(x)"] {
        assert!(wrong(headers(&[(name, "v")])).is_some(), "{name:?}");
    }
    for value in ["a\r\nx: y", "a\nb", "a\0b", "é", "\u{7f}", " a", "a "] {
        assert_eq!(wrong(headers(&[("X-Own", value)])).as_deref(), Some("headers.X-Own"), "{value:?}");
    }
    for (name, value) in [("X-Own", ""), ("Authorization", "Bearer a b"), ("X_~!#$%&'*+.^`|", "visible ~ text")] {
        assert_eq!(wrong(headers(&[(name, value)])), None, "{name}");
    }
    assert_eq!(wrong(headers(&[("X-Own", "1"), ("x-own", "2")])).as_deref(), Some("headers.x-own"));
}

#[test]
fn each_dialect_guards_its_own_headers() {
    for (dialect, own, free) in [
        ("athenatext", "Athena-Signature-Next", "webhook-id"),
        ("athenty", "X-Athenty-Signature", "Athena-Signature"),
        ("scaikey", "X-ScaiKey-Event-ID", "X-Athenty-Signature"),
        ("alumia", "X-Alumia-Delivery", "X-ScaiKey-Event-ID"),
        ("athena", "X-Athena-Signature", "X-Alumia-Delivery"),
    ] {
        let with = |name: &str| wrong(json!({"dialect": dialect, "headers": {name: "v"}}));
        assert_eq!(with(own), Some(format!("headers.{own}")));
        assert_eq!(with(free), None);
    }
}

#[test]
fn a_filter_put_together_in_code_is_checked_as_well() {
    let test = crate::filter::Test { path: "amount".into(), op: crate::filter::Op::Exists, value: None };
    let mut spec = spec(json!({}));
    spec.filter = Some(Filter::Not { not: Box::new(Filter::Test(test)) });
    let error = spec.check().unwrap_err();
    assert_eq!(error.field, "filter.not.path");
    assert!(error.to_string().starts_with("filter.not.path must be type"), "{error}");
}

#[test]
fn a_retry_policy_says_exactly_one_thing() {
    let read = |value: serde_json::Value| serde_json::from_value::<RetryPolicy>(value);
    assert_eq!(read(json!({"max_attempts": 3})).unwrap(), RetryPolicy::MaxAttempts { max_attempts: 3 });
    let schedule = RetryPolicy::Schedule { schedule_ms: vec![1] };
    assert_eq!(serde_json::to_value(&schedule).unwrap(), json!({"schedule_ms": [1]}));
    assert_eq!(read(json!({"schedule_ms": [1]})).unwrap(), schedule);
    for bad in [
        json!({}),
        json!({"max_attempts": 3, "schedule_ms": []}),
        json!({"max_atempts": 3}),
        json!({"schedule_ms": [-1]}),
    ] {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}

fn receiver(fields: serde_json::Value) -> ReceiverSpec {
    let mut all = json!({"source": "custom", "url": "https://hooks.example.com/in"});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

#[test]
fn a_receiver_is_checked_at_its_bounds_and_its_fields_are_named() {
    let networks = |n: usize| json!({"allowed_addresses": vec!["192.0.2.0/24"; n]});
    let answer = |fields: serde_json::Value| {
        let mut all = json!({"status": 200});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"answer": all})
    };
    let text = |n: usize| "é".repeat(n);
    let url = |n: usize| format!("https://example.com/{}", "x".repeat(n - 20));
    for (good, bad, field) in [
        (
            json!({"source": text(limits::SOURCE_CHARS_MAX)}),
            json!({"source": text(limits::SOURCE_CHARS_MAX + 1)}),
            "source",
        ),
        (json!({"source": "Acme CRM"}), json!({"source": " "}), "source"),
        (json!({"source": "acme"}), json!({"source": "a\nb"}), "source"),
        (json!({"url": url(limits::URL_BYTES_MAX)}), json!({"url": url(limits::URL_BYTES_MAX + 1)}), "url"),
        (json!({"url": "http://localhost:8080/in"}), json!({"url": "ftp://example.com/"}), "url"),
        (json!({"url": "https://example.com"}), json!({"url": "https://exa mple.com"}), "url"),
        (networks(limits::ALLOWED_ADDRESSES_MAX), networks(limits::ALLOWED_ADDRESSES_MAX + 1), "allowed_addresses"),
        (
            json!({"rate_limit": {"per_second": 0.01}}),
            json!({"rate_limit": {"per_second": 0.0}}),
            "rate_limit.per_second",
        ),
        (answer(json!({"status": 299})), answer(json!({"status": 300})), "answer.status"),
        (answer(json!({"status": 200})), answer(json!({"status": 199})), "answer.status"),
        (answer(json!({"status": 204})), answer(json!({"status": 204, "body": "x"})), "answer.body"),
        (
            answer(json!({"body": "x".repeat(limits::ANSWER_BODY_BYTES_MAX)})),
            answer(json!({"body": "x".repeat(limits::ANSWER_BODY_BYTES_MAX + 1)})),
            "answer.body",
        ),
        (
            answer(json!({"content_type": "x".repeat(limits::ANSWER_CONTENT_TYPE_BYTES_MAX)})),
            answer(json!({"content_type": "x".repeat(limits::ANSWER_CONTENT_TYPE_BYTES_MAX + 1)})),
            "answer.content_type",
        ),
        (
            answer(json!({"content_type": "text/xml; charset=utf-8"})),
            answer(json!({"content_type": "text/xml\r\nx: y"})),
            "answer.content_type",
        ),
        (answer(json!({"content_type": "text/xml"})), answer(json!({"content_type": " "})), "answer.content_type"),
    ] {
        assert_eq!(receiver(good.clone()).check(), Ok(()), "{good}");
        let found = receiver(bad.clone()).check().unwrap_err();
        assert_eq!(found.field, format!("receiver.{field}"), "{bad}");
        let whole = WebhookSpec { receiver: Some(receiver(bad)), ..spec(json!({})) };
        assert_eq!(whole.check(), Err(found));
    }
}

#[test]
fn a_receivers_secrets_have_the_form_of_its_providers_keys() {
    let check = |source: &str, secrets: &[&str], verify_token: Option<&str>| {
        let secret = |text: &str| Secret::new(text.to_owned());
        let held = ReceiverSecrets {
            secrets: secrets.iter().map(|text| secret(text)).collect(),
            verify_token: verify_token.map(secret),
        };
        receiver(json!({ "source": source })).check_secrets(&held).err().map(|error| error.field)
    };
    let long = |n: usize| "s".repeat(n);
    let (key, spki) = ("a0".repeat(32), "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE".to_owned());
    for (source, secret, is_fit) in [
        ("github", "anything", true),
        ("github", " ", false),
        ("github", long(limits::SECRET_BYTES_MAX).as_str(), true),
        ("github", long(limits::SECRET_BYTES_MAX + 1).as_str(), false),
        ("discord", key.as_str(), true),
        ("discord", "whsec_c2VjcmV0", false),
        ("sendgrid", spki.as_str(), false),
        ("adyen", "0a0b", true),
        ("svix", "whsec_c2VjcmV0", true),
        ("svix", "not base64!", false),
        ("monday", "whatever", true),
    ] {
        let wrong = (!is_fit).then(|| "receiver.secret".to_owned());
        assert_eq!(check(source, &[secret], None), wrong, "{source} {secret}");
    }
    let many = |n: usize| vec!["s"; n];
    assert_eq!(check("github", &many(limits::INBOUND_SECRETS_MAX), None), None);
    let too_many = check("github", &many(limits::INBOUND_SECRETS_MAX + 1), None);
    assert_eq!(too_many.as_deref(), Some("receiver.secrets"));
    assert_eq!(check("discord", &[&key, "x"], None).as_deref(), Some("receiver.secrets[1]"));
    let token = |n: usize| check("meta", &[], Some(&long(n)));
    assert_eq!(token(limits::VERIFY_TOKEN_BYTES_MAX), None);
    for wrong in
        [check("meta", &[], Some("")), check("meta", &[], Some("a b")), token(limits::VERIFY_TOKEN_BYTES_MAX + 1)]
    {
        assert_eq!(wrong.as_deref(), Some("receiver.verify_token"));
    }
}
