//! The contract ScaiKey: the life of a webhook, what is refused and how.

use axum::body::Body;
use axum::http::{Request, header};
use postrider_core::ids::{PartnerId, TenantId};
use postrider_core::limits::{MANAGEMENT_BODY_BYTES_MAX, SCAIKEY_PER_PAGE_MAX, SUBSCRIPTIONS_MAX};
use serde_json::{Value, json};

use super::{Answer, World};
use crate::auth::{Principal, Reach, Token};

pub(super) const PATH: &str = "/api/v1/admin/webhooks/";

/// The bearer of a token.
pub(super) fn token(reach: Reach, reads: bool, writes: bool) -> Principal {
    Principal::Token(std::sync::Arc::new(Token { subject: "console".into(), reach, reads, writes }))
}

pub(super) fn partner_admin(partner: PartnerId) -> Principal {
    token(Reach::Partner(partner), true, true)
}

pub(super) fn path(webhook: &Value) -> String {
    format!("{PATH}{}", webhook["id"].as_str().unwrap())
}

/// A tenant's id in the form of this contract.
pub(super) fn shown(tenant: &str) -> String {
    tenant.replace("ten_", "tnt_")
}

impl Answer {
    /// Asserts an error that is told in words.
    #[track_caller]
    pub(super) fn tells(self, status: u16, detail: &str) {
        assert_eq!((self.status.as_u16(), self.body), (status, json!({ "detail": detail })));
    }

    /// Asserts a 422, as a list of `[loc, type]`.
    #[track_caller]
    pub(super) fn misfits(self, expected: Value) {
        assert_eq!(self.status.as_u16(), 422, "{}", self.body);
        let detail = self.body["detail"].as_array().unwrap();
        let told: Vec<_> = detail.iter().map(|it| json!([it["loc"], it["type"]])).collect();
        assert_eq!(json!(told), expected, "{}", self.body);
        assert!(detail.iter().all(|it| it["msg"].as_str().is_some_and(|msg| !msg.is_empty())), "{}", self.body);
    }
}

impl World {
    /// A call of somebody who is known already.
    pub(super) async fn by(&self, who: &Principal, method: &str, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(path).extension(who.clone());
        let request = match body {
            Value::Null => request.body(Body::empty()),
            body => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
        };
        self.send(request.unwrap()).await
    }

    pub(super) async fn partner(&self, name: &str) -> PartnerId {
        let made = self.call(&self.admin(), "POST", "/v1/partners", json!({ "name": name })).await.expect(201);
        made["id"].as_str().unwrap().parse().unwrap()
    }

    /// A tenant of a partner, and a key of the role `owner`.
    pub(super) async fn tenant_of(&self, partner: PartnerId, name: &str) -> (TenantId, String) {
        let wanted = json!({ "name": name, "partner_id": partner });
        let made = self.call(&self.admin(), "POST", "/v1/tenants", wanted).await.expect(201);
        let id = made["id"].as_str().unwrap();
        (id.parse().unwrap(), self.key(id, "owner").await)
    }

    /// Waits until every delivery of a tenant has ended.
    pub(super) async fn is_idle(&self, key: &str) {
        let has_ended = |it: &Value| !it["finished_at"].is_null();
        self.until(key, "/v1/deliveries", |list| list["items"].as_array().unwrap().iter().all(has_ended)).await;
    }

    /// A webhook of this contract that gets everything.
    pub(super) async fn scaikey(&self, key: &str) -> Value {
        let wanted = json!({ "url": "https://example.com/hook", "events": ["*"] });
        self.call(key, "POST", PATH, wanted).await.expect(201)
    }
}

#[tokio::test]
async fn a_webhook_lives_through_all_its_calls() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let wanted = json!({
        "url": "https://example.com/hook", "events": ["user.created", "group.*"], "description": "Users and groups"
    });
    let created = world.call(&key, "POST", PATH, wanted).await.expect(201);
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    let record = json!({
        "id": created["id"], "url": "https://example.com/hook", "description": "Users and groups",
        "events": ["user.created", "group.*"], "is_active": true, "tenant_id": shown(&tenant), "partner_id": null,
        "timeout_seconds": 10, "created_at": created["created_at"], "updated_at": created["created_at"],
        "last_delivery_at": null, "last_delivery_status": null, "failing": false,
    });
    let mut with_secret = record.clone();
    with_secret["secret"] = created["secret"].clone();
    assert_eq!(created, with_secret);
    let one = path(&record);
    assert_eq!(world.get(&key, &one).await, record);
    let page = json!({ "items": [record], "total": 1, "page": 1, "per_page": 20, "pages": 1 });
    assert_eq!(world.get(&key, PATH).await, page);

    let patch =
        json!({ "events": ["*"], "description": null, "is_active": false, "timeout_seconds": 2.5, "url": null });
    let changed = world.call(&key, "PATCH", &one, patch).await.expect(200);
    assert_eq!((&changed["events"], &changed["description"]), (&json!(["*"]), &Value::Null));
    assert_eq!((&changed["is_active"], &changed["timeout_seconds"]), (&json!(false), &json!(2.5)));
    assert_eq!(changed["url"], record["url"], "null leaves it as it is");
    let patch = json!({ "is_active": true, "timeout_seconds": null, "id": "x", "tenant_id": "x", "unknown": 1 });
    let changed = world.call(&key, "PATCH", &one, patch).await.expect(200);
    assert_eq!((&changed["is_active"], &changed["timeout_seconds"]), (&json!(true), &json!(10)));

    let rotated = world.call(&key, "POST", &format!("{one}/rotate-secret"), Value::Null).await.expect(200);
    assert_eq!(rotated.as_object().unwrap().keys().collect::<Vec<_>>(), ["previous_valid_until", "secret"]);
    assert_ne!(rotated["secret"], created["secret"]);
    let test = world.call(&key, "POST", &format!("{one}/test"), Value::Null).await.expect(200);
    assert_eq!((&test["status_code"], &test["error"]), (&json!(200), &Value::Null));
    assert_eq!(world.endpoint.bodies()[0]["event_type"], "webhook.test");
    assert_eq!(world.endpoint.bodies()[0]["data"]["test"], true);

    world.call(&key, "DELETE", &one, Value::Null).await.expect(204);
    world.call(&key, "GET", &one, Value::Null).await.tells(404, "Webhook not found");
    let log = world.get(&key, "/v1/audit-log").await;
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
    let expected =
        ["webhook.deleted", "webhook.secret_rotated", "webhook.updated", "webhook.updated", "webhook.created"];
    assert_eq!(actions[..5], expected, "each change once");
    assert!(!log.to_string().contains("whsec_"), "no secret");
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_difference() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.scaikey(&key).await;
    world.publish(&key, "t").await;
    let delivery = world.delivery(&key, "succeeded").await["id"].to_string();
    let one = path(&webhook);
    let base = PATH.trim_end_matches('/');
    for bare in [
        base.to_owned(),
        format!("{base}/events"),
        one.clone(),
        format!("{one}/deliveries"),
        format!("{one}/deliveries/{delivery}"),
        format!("{one}/stats"),
    ] {
        let with_slash = world.get(&key, &format!("{bare}/")).await;
        assert_eq!(world.get(&key, &bare).await, with_slash, "{bare}");
    }
    let wanted = json!({ "url": "https://example.com/hook", "events": ["*"] });
    for (method, bare, body, status) in [
        ("POST", base.to_owned(), wanted, 201),
        ("POST", format!("{one}/deliveries/{delivery}/retry"), Value::Null, 200),
        ("POST", format!("{one}/test"), Value::Null, 200),
        ("POST", format!("{one}/rotate-secret"), Value::Null, 200),
        ("PATCH", one.clone(), json!({ "events": ["a"] }), 200),
    ] {
        for path in [bare.clone(), format!("{bare}/")] {
            world.call(&key, method, &path, body.clone()).await.expect(status);
            world.is_idle(&key).await;
        }
    }
    for slash in ["", "/"] {
        let gone = world.scaikey(&key).await;
        world.call(&key, "DELETE", &format!("{}{slash}", path(&gone)), Value::Null).await.expect(204);
    }
    world.call(&key, "GET", &format!("{one}//"), Value::Null).await.tells(404, "no such path");
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_its_place() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.scaikey(&key).await;
    let one = path(&webhook);
    let url = "https://example.com/hook";
    let events = |n: usize| (0..n).map(|n| format!("e{n}")).collect::<Vec<_>>();
    let at = |loc: Value, kind: &str| json!([[loc, kind]]);
    let table = [
        ("POST", PATH, json!({}), json!([[["body", "url"], "missing"], [["body", "events"], "missing"]])),
        ("POST", PATH, json!([]), at(json!(["body"]), "model_attributes_type")),
        ("POST", PATH, Value::Null, at(json!(["body"]), "missing")),
        ("PATCH", &one, Value::Null, at(json!(["body"]), "missing")),
        ("POST", PATH, json!({ "url": null, "events": [] }), at(json!(["body", "url"]), "string_type")),
        ("POST", PATH, json!({ "url": url, "events": "a" }), at(json!(["body", "events"]), "list_type")),
        ("POST", PATH, json!({ "url": url, "events": ["a", 1] }), at(json!(["body", "events", 1]), "string_type")),
        ("POST", PATH, json!({ "url": url, "events": ["a", "a b"] }), at(json!(["body", "events", 1]), "value_error")),
        (
            "POST",
            PATH,
            json!({ "url": url, "events": events(SUBSCRIPTIONS_MAX + 1) }),
            at(json!(["body", "events"]), "value_error"),
        ),
        ("POST", PATH, json!({ "url": "http://10.0.0.1/", "events": [] }), at(json!(["body", "url"]), "value_error")),
        ("POST", PATH, json!({ "url": "nonsense", "events": [] }), at(json!(["body", "url"]), "value_error")),
        ("POST", PATH, json!({ "url": "", "events": [] }), at(json!(["body", "url"]), "value_error")),
        ("PATCH", &one, json!({ "url": 1 }), at(json!(["body", "url"]), "string_type")),
        ("PATCH", &one, json!({ "url": "https://localhost/" }), at(json!(["body", "url"]), "value_error")),
        ("PATCH", &one, json!({ "is_active": "yes" }), at(json!(["body", "is_active"]), "bool_type")),
        ("PATCH", &one, json!({ "description": "é".repeat(2001) }), at(json!(["body", "description"]), "value_error")),
        ("PATCH", &one, json!({ "description": [] }), at(json!(["body", "description"]), "string_type")),
        ("PATCH", &one, json!({ "timeout_seconds": "1" }), at(json!(["body", "timeout_seconds"]), "float_type")),
        ("PATCH", &one, json!({ "timeout_seconds": 301 }), at(json!(["body", "timeout_seconds"]), "less_than_equal")),
        ("PATCH", &one, json!({ "timeout_seconds": 0 }), at(json!(["body", "timeout_seconds"]), "greater_than_equal")),
    ];
    for (method, path, body, expected) in table {
        world.call(&key, method, path, body).await.misfits(expected);
    }
    let at_bound = json!({ "url": url, "events": events(SUBSCRIPTIONS_MAX), "description": "é".repeat(2000) });
    world.call(&key, "POST", PATH, at_bound).await.expect(201);
    for (seconds, shown) in [(json!(300), json!(300)), (json!(0.1), json!(0.1))] {
        let changed = world.call(&key, "PATCH", &one, json!({ "timeout_seconds": seconds })).await.expect(200);
        assert_eq!(changed["timeout_seconds"], shown);
    }
}

#[tokio::test]
async fn parameters_are_held_to_their_bounds() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.scaikey(&key).await;
    let one = path(&webhook);
    let (deliveries, stats) = (format!("{one}/deliveries"), format!("{one}/stats"));
    let too_many = SCAIKEY_PER_PAGE_MAX + 1;
    for list in [PATH, &deliveries] {
        for (query, name, kind) in [
            ("page=0".to_owned(), "page", "greater_than_equal"),
            ("page=x".to_owned(), "page", "int_parsing"),
            ("per_page=0".to_owned(), "per_page", "greater_than_equal"),
            (format!("per_page={too_many}"), "per_page", "less_than_equal"),
            ("per_page=1.5".to_owned(), "per_page", "int_parsing"),
        ] {
            let answer = world.call(&key, "GET", &format!("{list}?{query}"), Value::Null).await;
            answer.misfits(json!([[["query", name], kind]]));
        }
        let page = world.get(&key, &format!("{list}?per_page={SCAIKEY_PER_PAGE_MAX}&page=7&unknown=1")).await;
        assert_eq!((&page["items"], &page["page"]), (&json!([]), &json!(7)), "past the end there is nothing");
    }
    let answer = world.call(&key, "GET", &format!("{deliveries}?page=0&status=gone"), Value::Null).await;
    answer.misfits(json!([[["query", "page"], "greater_than_equal"], [["query", "status"], "literal_error"]]));
    let answer = world.call(&key, "GET", &format!("{stats}?window=31d"), Value::Null).await;
    answer.misfits(json!([[["query", "window"], "value_error"]]));
    for (method, end) in [("GET", ""), ("POST", "/retry")] {
        let answer = world.call(&key, method, &format!("{deliveries}/abc{end}"), Value::Null).await;
        answer.misfits(json!([[["path", "delivery_id"], "int_parsing"]]));
        for number in ["7", "-7", &"9".repeat(40)] {
            let answer = world.call(&key, method, &format!("{deliveries}/{number}{end}"), Value::Null).await;
            answer.tells(404, "Delivery not found");
        }
    }
}

#[tokio::test]
async fn webhooks_are_listed_page_by_page_newest_first() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.scaikey(&key).await["id"].clone());
    }
    let mut seen = Vec::new();
    for page in 1..=3 {
        let list = world.get(&key, &format!("{PATH}?page={page}&per_page=3")).await;
        let figures = (&list["total"], &list["page"], &list["per_page"], &list["pages"]);
        assert_eq!(figures, (&json!(7), &json!(page), &json!(3), &json!(3)));
        seen.extend(list["items"].as_array().unwrap().iter().map(|it| it["id"].clone()));
    }
    let whole = world.get(&key, PATH).await;
    assert_eq!(json!(seen), json!(whole["items"].as_array().unwrap().iter().map(|it| &it["id"]).collect::<Vec<_>>()));
    let native = world.get(&key, "/v1/webhooks").await;
    let native: Vec<_> = native["items"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(seen, native, "the same order as everywhere");
    made.sort_by_key(ToString::to_string);
    seen.sort_by_key(ToString::to_string);
    assert_eq!(made, seen);
}

#[tokio::test]
async fn what_goes_wrong_before_a_handler_has_the_envelope_too() {
    let world = World::with(|config| config.api_rate_per_second = 30).await;
    let (_, key) = world.tenant("One").await;
    let unauthorised = world.call("nobody", "GET", PATH, Value::Null).await;
    assert_eq!(unauthorised.headers["www-authenticate"], "Bearer");
    assert!(unauthorised.expect(401)["detail"].is_string());
    let without = Request::get(PATH).body(Body::empty()).unwrap();
    assert!(world.send(without).await.expect(401)["detail"].is_string());
    world.call(&key, "GET", "/api/v1/admin", Value::Null).await.tells(404, "no such path");
    world.call(&key, "GET", "/api/v1/admin/nothing", Value::Null).await.tells(404, "no such path");
    let wrong = world.call(&key, "PUT", PATH, Value::Null).await;
    let allow = wrong.headers["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    wrong.tells(405, "this path does not take that method");

    let raw = |media_type: &str, body: String| {
        let request = Request::post(PATH).header(header::AUTHORIZATION, format!("Bearer {key}"));
        request.header(header::CONTENT_TYPE, media_type).body(Body::from(body)).unwrap()
    };
    let answer = world.send(raw("text/plain", "{}".to_owned())).await;
    answer.misfits(json!([[["header", "content-type"], "value_error"]]));
    let answer = world.send(raw("application/json", "{\"url\": nonsense}".to_owned())).await;
    answer.misfits(json!([[["body", 9], "json_invalid"]]));
    let answer = world.send(raw("application/json", " ".repeat(MANAGEMENT_BODY_BYTES_MAX + 1))).await;
    assert!(answer.expect(413)["detail"].is_string());

    let limited = async {
        loop {
            let answer = world.call(&key, "GET", PATH, Value::Null).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let limited = limited.await;
    assert!(limited.headers.contains_key("retry-after"));
    limited.tells(429, "too many requests with this key");
}

#[tokio::test]
async fn supported_events_are_those_of_the_catalogue_that_the_caller_sees() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let (_, stranger) = world.tenant("Two").await;
    let admin = world.admin();
    let said = json!({
        "group": "user", "description": "A user was created", "schema": { "type": "object" }, "example": { "id": "u1" }
    });
    world.call(&admin, "PUT", "/v1/event-types/user.created", said).await.expect(200);
    world.call(&key, "PUT", "/v1/event-types/own.thing", json!({})).await.expect(200);
    let platforms = json!({
        "type": "user.created", "group": "user", "description": "A user was created",
        "schema": { "type": "object" }, "example": { "id": "u1" },
    });
    let own = json!({ "type": "own.thing", "group": null, "description": null, "schema": null, "example": null });
    let path = format!("{PATH}events");
    assert_eq!(world.get(&key, &path).await, json!({ "items": [own, platforms] }));
    assert_eq!(world.get(&stranger, &path).await, json!({ "items": [platforms] }));
    assert_eq!(world.get(&admin, &path).await, json!({ "items": [platforms] }));
}

#[tokio::test]
async fn a_webhook_of_another_surface_is_shown_too_and_a_listeners_is_not() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let wanted = json!({ "url": "https://example.com/hook", "events": [], "dialect": "athenty", "timeout_ms": 1500 });
    let native = world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    let shown = world.get(&key, &path(&native)).await;
    assert_eq!((&shown["timeout_seconds"], &shown["events"]), (&json!(1.5), &json!([])));
    world.call(&key, "PATCH", &path(&native), json!({ "description": "D" })).await.expect(200);
    let kept = world.get(&key, &format!("/v1/webhooks/{}", native["id"].as_str().unwrap())).await;
    assert_eq!((&kept["dialect"], &kept["description"]), (&json!("athenty"), &json!("D")));
    let wanted = json!({ "events": [], "receiver": { "source": "custom" } });
    let only_receives = path(&world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201));
    assert_eq!(world.get(&key, &only_receives).await["url"], "");
    let answer = world.call(&key, "POST", &format!("{only_receives}/test"), Value::Null).await;
    answer.tells(409, "The webhook has no URL to send a test to; it only receives");

    let id: TenantId = tenant.parse().unwrap();
    let actor = crate::store::Actor { id: "test".to_owned(), address: None, request_id: None };
    let events = (Vec::new(), None);
    let made = crate::registry::webhooks::create_temporary(&world.app, id, "lsn_1", events, &actor).await.unwrap();
    let listeners = format!("{PATH}{}", made.0.id);
    world.call(&key, "GET", &listeners, Value::Null).await.tells(404, "Webhook not found");
    assert_eq!(world.get(&key, PATH).await["total"], 2);
}
