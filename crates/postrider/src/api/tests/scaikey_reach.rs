//! The contract ScaiKey: who sees and changes what.

use std::collections::BTreeMap;

use postrider_core::ids::{PartnerId, TenantId};
use serde_json::{Value, json};

use super::scaikey::{PATH, partner_admin, path, shown, token};
use super::{Answer, World};
use crate::auth::{Principal, Reach};

const REFUSED: &str = "Platform token requires admin:read or admin:write scope";

fn wanted() -> Value {
    json!({ "url": "https://example.com/hook", "events": ["*"] })
}

/// Two partners with two tenants each, a tenant without a partner; each with a webhook of its own.
struct Land {
    world: World,
    partners: [PartnerId; 2],
    /// Two of the first partner, two of the second, one of nobody.
    tenants: Vec<(TenantId, String)>,
    /// By a name for the reader.
    webhooks: BTreeMap<&'static str, Value>,
}

const NAMES: [&str; 5] = ["a1", "a2", "b1", "b2", "alone"];

impl Land {
    async fn new() -> Land {
        let world = World::new().await;
        let partners = [world.partner("A").await, world.partner("B").await];
        let mut tenants = Vec::new();
        for name in &NAMES[..4] {
            let partner = partners[usize::from(name.starts_with('b'))];
            tenants.push(world.tenant_of(partner, name).await);
        }
        let (alone, key) = world.tenant("alone").await;
        tenants.push((alone.parse().unwrap(), key));
        let mut webhooks = BTreeMap::new();
        for (name, (_, key)) in NAMES.into_iter().zip(&tenants) {
            webhooks.insert(name, world.scaikey(key).await);
        }
        for (name, partner) in ["A", "B"].into_iter().zip(partners) {
            let made = world.by(&partner_admin(partner), "POST", PATH, wanted()).await.expect(201);
            webhooks.insert(name, made);
        }
        Land { world, partners, tenants, webhooks }
    }

    fn tenant(&self, name: &str) -> TenantId {
        self.tenants[NAMES.iter().position(|known| *known == name).unwrap()].0
    }

    /// The names of the webhooks in a list, in order of name.
    async fn listed(&self, who: &Principal, query: &str) -> Vec<&'static str> {
        let list = self.world.by(who, "GET", &format!("{PATH}{query}"), Value::Null).await.expect(200);
        let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!(list["total"], json!(ids.len()));
        self.webhooks.iter().filter(|(_, it)| ids.contains(&it["id"])).map(|(name, _)| *name).collect()
    }
}

/// Who, and the names of the webhooks that exist for him.
fn callers(land: &Land) -> Vec<(Principal, Vec<&'static str>)> {
    let everything: Vec<_> = land.webhooks.keys().copied().collect();
    let of_tenant = |name: &'static str| (token(Reach::Tenant(land.tenant(name)), true, true), vec![name]);
    vec![
        (Principal::Platform, everything.clone()),
        (token(Reach::Platform, true, true), everything),
        (partner_admin(land.partners[0]), vec!["A", "a1", "a2"]),
        (partner_admin(land.partners[1]), vec!["B", "b1", "b2"]),
        of_tenant("a1"),
        of_tenant("b2"),
        of_tenant("alone"),
    ]
}

#[tokio::test]
async fn everybody_sees_what_is_in_his_reach_and_nothing_else() {
    let land = Land::new().await;
    for (who, visible) in callers(&land) {
        assert_eq!(land.listed(&who, "").await, visible, "{who:?}");
        for (name, webhook) in &land.webhooks {
            let answer = land.world.by(&who, "GET", &path(webhook), Value::Null).await;
            match visible.contains(name) {
                true => assert_eq!(answer.expect(200)["id"], webhook["id"]),
                false => answer.tells(404, "Webhook not found"),
            }
        }
    }
}

#[tokio::test]
async fn a_list_is_narrowed_by_tenant_and_by_partner() {
    let land = Land::new().await;
    let [a, b] = land.partners;
    let tenant = |name: &str| shown(&land.tenant(name).to_string());
    let of_a = partner_admin(a);
    for (who, query, expected) in [
        (&Principal::Platform, format!("?partner_id={a}"), vec!["A", "a1", "a2"]),
        (&Principal::Platform, format!("?tenant_id={}", tenant("b1")), vec!["b1"]),
        (&Principal::Platform, format!("?tenant_id={}", land.tenant("b1").0), vec!["b1"]),
        (&Principal::Platform, format!("?tenant_id={}", land.tenant("b1")), vec!["b1"]),
        (&Principal::Platform, format!("?tenant_id={}&partner_id={a}", tenant("b1")), vec![]),
        (&Principal::Platform, format!("?tenant_id={}&partner_id={b}", tenant("b1")), vec!["b1"]),
        (&of_a, format!("?partner_id={a}"), vec!["A", "a1", "a2"]),
        (&of_a, format!("?tenant_id={}", tenant("a2")), vec!["a2"]),
    ] {
        assert_eq!(land.listed(who, &query).await, expected, "{query}");
    }
    let of_a1 = token(Reach::Tenant(land.tenant("a1")), true, true);
    assert_eq!(land.listed(&of_a1, &format!("?tenant_id={}", tenant("a1"))).await, ["a1"]);
    assert_eq!(land.listed(&of_a1, &format!("?partner_id={a}")).await, ["a1"], "its own partner, itself only");
    let unknown = "7d0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7";
    for (who, query, detail) in [
        (&Principal::Platform, format!("?tenant_id=tnt_{unknown}"), "Tenant not found"),
        (&Principal::Platform, format!("?tenant_id={}", a.0.simple()), "Tenant not found"),
        (&Principal::Platform, "?tenant_id=nonsense".to_owned(), "Tenant not found"),
        (&Principal::Platform, format!("?partner_id=prt_{unknown}"), "Partner not found"),
        (&of_a, format!("?partner_id={b}"), "Partner not found"),
        (&of_a, format!("?partner_id=prt_{unknown}"), "Partner not found"),
        (&of_a, format!("?tenant_id={}", tenant("b1")), "Tenant not found"),
        (&of_a, format!("?tenant_id={}", tenant("alone")), "Tenant not found"),
        (&of_a1, format!("?tenant_id={}", tenant("a2")), "Tenant not found"),
        (&of_a1, format!("?partner_id={b}"), "Partner not found"),
    ] {
        land.world.by(who, "GET", &format!("{PATH}{query}"), Value::Null).await.tells(404, detail);
    }
}

#[tokio::test]
async fn a_new_webhook_is_the_callers_own_or_of_whom_he_may_name() {
    let land = Land::new().await;
    let [a, b] = land.partners;
    let tenant = |name: &str| shown(&land.tenant(name).to_string());
    let (of_a, of_a1) = (partner_admin(a), token(Reach::Tenant(land.tenant("a1")), true, true));
    let create = async |who: &Principal, more: Value| {
        let mut body = wanted();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        land.world.by(who, "POST", PATH, body).await
    };
    let platform = &Principal::Platform;
    for (who, more, expected) in [
        (platform, json!({ "tenant_id": tenant("b1") }), (json!(tenant("b1")), json!(b))),
        (platform, json!({ "tenant_id": tenant("alone") }), (json!(tenant("alone")), Value::Null)),
        (platform, json!({ "tenant_id": null, "partner_id": b }), (Value::Null, json!(b))),
        (platform, json!({ "tenant_id": tenant("b1"), "partner_id": b }), (json!(tenant("b1")), json!(b))),
        (&of_a, json!({}), (Value::Null, json!(a))),
        (&of_a, json!({ "partner_id": a }), (Value::Null, json!(a))),
        (&of_a, json!({ "tenant_id": tenant("a2") }), (json!(tenant("a2")), json!(a))),
        (&of_a1, json!({}), (json!(tenant("a1")), json!(a))),
        (&of_a1, json!({ "tenant_id": tenant("a1"), "partner_id": a }), (json!(tenant("a1")), json!(a))),
    ] {
        let made = create(who, more.clone()).await.expect(201);
        assert_eq!((made["tenant_id"].clone(), made["partner_id"].clone()), expected, "{more}");
    }
    let before = land.world.by(platform, "GET", PATH, Value::Null).await.expect(200)["total"].clone();
    for (who, more, detail) in [
        (platform, json!({ "tenant_id": tenant("b1"), "partner_id": a }), "Partner not found"),
        (platform, json!({ "tenant_id": b }), "Tenant not found"),
        (&of_a, json!({ "partner_id": b }), "Partner not found"),
        (&of_a, json!({ "tenant_id": tenant("b1") }), "Tenant not found"),
        // It would get the events of the partner's other tenants.
        (&of_a1, json!({ "partner_id": a }), "Partner not found"),
        (&of_a1, json!({ "tenant_id": tenant("a2") }), "Tenant not found"),
        (&of_a1, json!({ "tenant_id": a }), "Tenant not found"),
    ] {
        create(who, more).await.tells(404, detail);
    }
    create(platform, json!({})).await.misfits(json!([[["body", "tenant_id"], "missing"]]));
    assert_eq!(land.world.by(platform, "GET", PATH, Value::Null).await.expect(200)["total"], before);
}

/// Every call about one webhook, with a body that fits.
fn calls_of_one() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("GET", "", Value::Null),
        ("PATCH", "", json!({ "description": "D" })),
        ("DELETE", "", Value::Null),
        ("GET", "/deliveries", Value::Null),
        ("GET", "/deliveries/{delivery}", Value::Null),
        ("POST", "/deliveries/{delivery}/retry", Value::Null),
        ("POST", "/rotate-secret", Value::Null),
        ("GET", "/stats", Value::Null),
        ("POST", "/test", Value::Null),
    ]
}

#[tokio::test]
async fn what_is_outside_and_what_does_not_exist_are_answered_alike() {
    let land = Land::new().await;
    let (_, key) = &land.tenants[2];
    land.world.publish(key, "t").await;
    let delivery = land.world.delivery(key, "succeeded").await["id"].to_string();
    let strangers = [partner_admin(land.partners[0]), token(Reach::Tenant(land.tenant("a1")), true, true)];
    let foreign = [path(&land.webhooks["b1"]), path(&land.webhooks["B"])];
    let unknown = format!("{PATH}wh_7d0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7");
    let shape = |answer: Answer| {
        let headers = answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        (answer.status, answer.body, headers)
    };
    for who in &strangers {
        for (method, end, body) in calls_of_one() {
            let end = end.replace("{delivery}", &delivery);
            let ask = async |one: &str| shape(land.world.by(who, method, &format!("{one}{end}"), body.clone()).await);
            let nothing = ask(&unknown).await;
            assert_eq!((nothing.0.as_u16(), &nothing.1["detail"]), (404, &json!("Webhook not found")));
            for one in &foreign {
                assert_eq!(ask(one).await, nothing, "{method} {end}");
            }
        }
        // What is wrong with a request is told alike, too.
        for (method, end, body) in [
            ("PATCH", "", json!({ "is_active": 1 })),
            ("GET", "/deliveries?page=0", Value::Null),
            ("GET", "/deliveries/x", Value::Null),
            ("GET", "/stats?window=x", Value::Null),
        ] {
            let ask = async |one: &str| shape(land.world.by(who, method, &format!("{one}{end}"), body.clone()).await);
            let nothing = ask(&unknown).await;
            assert_eq!(nothing.0.as_u16(), 422);
            assert_eq!(ask(&foreign[0]).await, nothing, "{method} {end}");
        }
    }
    for webhook in land.webhooks.values() {
        land.world.by(&Principal::Platform, "GET", &path(webhook), Value::Null).await.expect(200);
    }
    // A delivery exists at its own webhook only.
    let own = partner_admin(land.partners[1]);
    let at = |name: &str, end: &str| format!("{}/deliveries/{delivery}{end}", path(&land.webhooks[name]));
    land.world.by(&own, "GET", &at("b1", ""), Value::Null).await.expect(200);
    for name in ["b2", "B"] {
        land.world.by(&own, "GET", &at(name, ""), Value::Null).await.tells(404, "Delivery not found");
        land.world.by(&own, "POST", &at(name, "/retry"), Value::Null).await.tells(404, "Delivery not found");
    }
}

#[tokio::test]
async fn reading_and_writing_are_apart_and_who_has_neither_hears_the_contracts_words() {
    let land = Land::new().await;
    let key = &land.tenants[0].1;
    land.world.publish(key, "t").await;
    let delivery = land.world.delivery(key, "succeeded").await["id"].to_string();
    let one = path(&land.webhooks["a1"]);
    let mut calls: Vec<_> = calls_of_one()
        .into_iter()
        .filter(|(method, ..)| *method != "DELETE")
        .map(|(method, end, body)| (method, format!("{one}{}", end.replace("{delivery}", &delivery)), body))
        .collect();
    calls.push(("GET", PATH.to_owned(), Value::Null));
    calls.push(("GET", format!("{PATH}events"), Value::Null));
    let mut new = wanted();
    new["tenant_id"] = json!(land.tenant("a1"));
    calls.push(("POST", PATH.to_owned(), new));
    calls.push(("DELETE", one.clone(), Value::Null));
    for reach in [Reach::Platform, Reach::Partner(land.partners[0]), Reach::Tenant(land.tenant("a1"))] {
        for (method, path, body) in &calls {
            let ask =
                async |reads, writes| land.world.by(&token(reach, reads, writes), method, path, body.clone()).await;
            ask(false, false).await.tells(403, REFUSED);
            match *method {
                "GET" => drop(ask(true, false).await.expect(200)),
                _ => ask(true, false).await.tells(403, REFUSED),
            }
        }
    }
    let writer = token(Reach::Platform, true, true);
    for (method, path, body) in calls {
        let status = land.world.by(&writer, method, &path, body).await.status.as_u16();
        assert!(matches!(status, 200 | 201 | 204), "{method} {path}: {status}");
        land.world.is_idle(key).await;
    }
    for role in ["viewer", "member"] {
        let key = land.world.key(&land.tenant("a2").to_string(), role).await;
        land.world.call(&key, "GET", PATH, Value::Null).await.tells(403, REFUSED);
    }
    let key = land.world.key(&land.tenant("a2").to_string(), "admin").await;
    land.world.call(&key, "GET", PATH, Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_is_outside_takes_as_long_as_what_does_not_exist() {
    const ROUNDS: usize = 300;
    let land = Land::new().await;
    let who = partner_admin(land.partners[0]);
    let paths = [path(&land.webhooks["b1"]), format!("{PATH}wh_7d0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")];
    for end in ["", "/deliveries", "/stats"] {
        let mut took = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
        for _ in 0..ROUNDS {
            for (took, path) in took.iter_mut().zip(&paths) {
                let start = std::time::Instant::now();
                land.world.by(&who, "GET", &format!("{path}{end}"), Value::Null).await.tells(404, "Webhook not found");
                took.push(start.elapsed());
            }
        }
        // The quick ones: what else the machine does only adds to the others.
        let [foreign, unknown] = took.map(|mut all| {
            all.sort_unstable();
            all[ROUNDS / 10]
        });
        // A look into the store would take longer than all the rest.
        assert!(foreign < unknown * 3 / 2 && unknown < foreign * 3 / 2, "{end}: {foreign:?}, {unknown:?}");
    }
}
