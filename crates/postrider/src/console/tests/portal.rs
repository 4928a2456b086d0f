//! The customers' portal: how it is entered, what it shows, and that nothing else can be reached through it.

use std::time::Duration;

use postrider_core::ids::WebhookId;
use postrider_core::limits::{PORTAL_LIFETIME, SENDS_BY_HAND_MAX, SENDS_BY_HAND_WINDOW, SESSIONS_PER_OWNER_MAX};
use serde_json::json;

use super::*;
use crate::accounts::throttle::Hand;
use crate::auth::{Guest, Permission, Principal, role_name};
use crate::console::pages;
use crate::console::route::Access;
use crate::portal::sessions::{self, Wanted};

impl Site {
    /// The path of a link.
    pub(super) async fn link(&self, tenant: TenantId, role: Role) -> String {
        let wanted = Wanted { tenant_id: tenant, role: Some(role), lifetime: None };
        let made = sessions::make_link(self.app(), &Principal::Platform, wanted, &nobody()).await.unwrap();
        format!("/portal/enter/{}", made.token.reveal())
    }

    /// A browser in the portal.
    pub(super) async fn guest(&self, tenant: TenantId, role: Role) -> Browser<'_> {
        let browser = self.browser();
        let page = browser.get(&self.link(tenant, role).await).await.expect(303);
        assert_eq!(page.location(), "/portal");
        browser
    }

    async fn described(&self, tenant: Option<TenantId>, name: &str) {
        let said = crate::registry::event_types::Description {
            group: Some("Orders".to_owned()),
            description: Some("Somebody <b>orders</b>.".to_owned()),
            schema: Some(json!({ "type": "object", "required": ["amount"] })),
            example: Some(json!({ "amount": 7 })),
            deprecated: false,
        };
        let said = (said, Default::default());
        crate::registry::event_types::put(self.app(), tenant, name, said, &nobody()).await.unwrap();
    }
}

#[tokio::test]
async fn a_link_is_good_for_one_use() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let link = site.link(tenant, Role::Admin).await;
    let browser = site.browser();
    let page = browser.get(&link).await.expect(303);
    let cookie = page.cookie("postrider_portal_session").unwrap();
    assert!(
        cookie.contains("; Path=/portal;") && cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    assert!(cookie.contains(&format!("Max-Age={}", PORTAL_LIFETIME.as_secs())), "{cookie}");
    assert_eq!(browser.get("/portal").await.expect(303).location(), "/portal/webhooks");
    assert!(browser.get("/portal/webhooks").await.expect(200).has("Acme"));
    let second = site.browser();
    let page = second.get(&link).await.expect(401);
    assert!(page.has("Your session has ended") && !page.has("Acme"), "{}", page.text);
    assert!(page.cookie("postrider_portal_session").is_none());
    second.get("/portal/webhooks").await.expect(401);
    let actions = site.actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "portal_session.began").count(), 1);
}

#[tokio::test]
async fn whoever_only_looks_at_a_link_does_not_use_it_up() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let link = site.link(tenant, Role::Admin).await;
    let browser = site.browser();
    let head = Request::head(&link).header(header::HOST, "hooks.test");
    assert!(browser.send(head, String::new()).await.cookie("postrider_portal_session").is_none());
    let ahead = Request::get(&link).header(header::HOST, "hooks.test").header("sec-purpose", "prefetch;prerender");
    browser.send(ahead, String::new()).await.expect(204);
    browser.get(&link).await.expect(303);
}

#[tokio::test]
async fn link_and_session_end_at_the_time_that_was_said() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let (used, unused) = (site.link(tenant, Role::Admin).await, site.link(tenant, Role::Admin).await);
    site.clock.pass(PORTAL_LIFETIME - Duration::from_secs(90));
    let browser = site.browser();
    browser.get(&used).await.expect(303);
    browser.get("/portal/webhooks").await.expect(200);
    // Use does not prolong it.
    site.clock.pass(Duration::from_secs(80));
    browser.get("/portal/webhooks").await.expect(200);
    site.clock.pass(Duration::from_secs(10));
    browser.get("/portal/webhooks").await.expect(401);
    site.browser().get(&unused).await.expect(401);
}

#[tokio::test]
async fn neither_session_opens_what_is_the_others() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user("ada@example.com", &[(tenant, Role::Owner)]).await;
    let guest = site.guest(tenant, Role::Admin).await;
    for path in ["/settings", "/settings/webhooks", "/settings/members", "/settings/api-keys", "/settings/portal"] {
        assert!(guest.get(path).await.expect(303).location().starts_with("/login?next="), "{path}");
    }
    for path in [
        "/portal/members",
        "/portal/api-keys",
        "/portal/audit-log",
        "/portal/tenants",
        "/portal/users",
        "/portal/system",
    ] {
        guest.get(path).await.expect(404);
    }
    let ada = site.logged_in("ada@example.com").await;
    ada.get("/portal/webhooks").await.expect(401);
    // Not even with the token under the other's name, nor as a key.
    let token = guest.cookie("postrider_portal_session").unwrap();
    let own = ada.cookie("postrider_session").unwrap();
    let thief = site.browser();
    thief.cookies.lock().insert("postrider_session".to_owned(), token.clone());
    thief.get("/settings/webhooks").await.expect(303);
    thief.cookies.lock().insert("postrider_portal_session".to_owned(), own);
    thief.get("/portal/webhooks").await.expect(401);
    let mut caller = site.browser();
    caller.headers = vec![("authorization", format!("Bearer {token}"))];
    caller.get("/v1/webhooks").await.expect(401);
    guest.get("/v1/webhooks").await.expect(401);
}

#[tokio::test]
async fn a_guest_lives_in_one_tenant() {
    let site = Site::new().await;
    let (acme, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    let (own, foreign) = (site.webhook(acme).await, site.webhook(other).await);
    site.described(Some(other), "secret.type").await;
    let guest = site.guest(acme, Role::Admin).await;
    let list = guest.get("/portal/webhooks").await.expect(200);
    assert!(list.has(&own.to_string()) && !list.has(&foreign.to_string()));
    for page in ["edit", "rotate", "delete", "secret", "deliveries/1"] {
        guest.get(&format!("/portal/webhooks/{foreign}/{page}")).await.expect(404);
    }
    for action in ["edit", "toggle", "test", "rotate", "finish-rotation", "delete", "deliveries/1/retry"] {
        guest.submit("/portal/webhooks", &format!("/portal/webhooks/{foreign}/{action}"), &[]).await.expect(404);
    }
    assert!(!guest.get("/portal/event-types").await.expect(200).has("secret.type"));
    guest.get("/portal/event-types/type?name=secret.type").await.expect(404);
    assert!(site.app().catalog.webhook(foreign).is_some());
}

#[tokio::test]
async fn each_role_does_what_its_link_says() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let hook = site.webhook(tenant).await;
    for role in [Role::Viewer, Role::Member, Role::Admin] {
        for route in pages::portal_routes() {
            let Access::Needs(permission) = route.access else { continue };
            let may = role >= permission.role();
            let path = route.path.replace("{webhook}", &hook.to_string()).replace("{delivery}", "1");
            // What a role may do is done to a webhook that is not there.
            let path = if may { path.replace(&hook.to_string(), &WebhookId(Uuid::nil()).to_string()) } else { path };
            let guest = site.guest(tenant, role).await;
            let page = match route.method.as_str() {
                "GET" => guest.get(&path).await,
                // The page of one's own webhooks has no form for whoever only looks.
                _ => {
                    let csrf = csrf_of(&guest, tenant);
                    guest.post(&path, &[("csrf", &csrf)]).await
                }
            };
            let name = role_name(role);
            assert_eq!(page.status != StatusCode::FORBIDDEN, may, "{name} {route:?}: {}", page.status);
            assert!(page.status.as_u16() < 500, "{name} {route:?}");
        }
    }
    assert!(site.app().catalog.webhook(hook).is_some());
    let viewer = site.guest(tenant, Role::Viewer).await.get("/portal/webhooks").await.expect(200);
    for hidden in ["/portal/webhooks/new", "/toggle", "/delete", "/test\""] {
        assert!(!viewer.has(hidden), "{hidden}");
    }
}

/// The token of a form, as its pages would have it.
fn csrf_of(guest: &Browser<'_>, tenant: TenantId) -> String {
    crate::console::csrf::token(&guest.cookie("postrider_portal_session").unwrap(), Some(tenant))
}

#[test]
fn a_guest_may_what_the_portal_is_for_and_no_more() {
    for role in [Role::Viewer, Role::Member, Role::Admin, Role::Owner] {
        let guest = Guest { session: Uuid::nil(), tenant: TenantId(Uuid::nil()), role };
        let guest = Principal::Guest(Arc::new(guest));
        assert!(!guest.is_platform() && !guest.sees_platform() && !guest.administers(Permission::WebhooksWrite));
        for permission in Permission::ALL {
            let may = Guest::MAY.contains(permission) && role >= permission.role();
            assert_eq!(guest.may(*permission), may, "{role:?} {}", permission.name());
        }
    }
    for never in [
        Permission::KeysRead,
        Permission::KeysWrite,
        Permission::MembersRead,
        Permission::MembersWrite,
        Permission::AuditRead,
        Permission::PortalWrite,
        Permission::EventTypesWrite,
    ] {
        assert!(!Guest::MAY.contains(&never), "{}", never.name());
    }
}

#[tokio::test]
async fn the_life_of_a_webhook_in_the_portal() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.described(None, "order.created").await;
    let guest = site.guest(tenant, Role::Admin).await;
    assert!(guest.get("/portal/webhooks").await.expect(200).has("No webhooks yet"));
    let form = guest.get("/portal/webhooks/new").await.expect(200);
    assert!(form.has("order.created") && !form.has("name=\"dialect\"") && form.has("action=\"/portal/webhooks/new\""));
    let new = "/portal/webhooks/new";
    assert!(guest.submit(new, new, &[("url", "nonsense")]).await.expect(422).has("id=\"url-error\""));
    let fields = [("url", "https://example.com/x"), ("events", "order.created"), ("dialect", "alumia")];
    let page = guest.submit(new, new, &fields).await.expect(303);
    let hook = site.app().catalog.tenant(tenant).unwrap().webhooks[0].record.clone();
    assert_eq!(hook.spec.dialect, postrider_core::dialect::Dialect::Standard, "it is not the customer's to choose");
    assert_eq!(page.location(), format!("/portal/webhooks/{}/secret", hook.id));
    let flash = page.cookie("postrider_portal_flash").unwrap();
    assert!(flash.contains("Path=/portal;"), "{flash}");
    let secret = guest.get(page.location()).await.expect(200).between("class=\"copyable\"><code>", "</code>");
    assert!(secret.starts_with("whsec_"));
    let again = guest.get(&format!("/portal/webhooks/{}/secret", hook.id)).await.expect(303);
    assert!(!again.has(&secret));
    let base = format!("/portal/webhooks/{}", hook.id);
    guest.submit("/portal/webhooks", &format!("{base}/toggle"), &[("active", "no")]).await.expect(303);
    let rotated = guest.submit(&format!("{base}/rotate"), &format!("{base}/rotate"), &[]).await.expect(303);
    assert_eq!(rotated.location(), format!("{base}/secret"));
    guest.submit("/portal/webhooks", &format!("{base}/finish-rotation"), &[]).await.expect(303);
    let deleted = guest.submit(&format!("{base}/delete"), &format!("{base}/delete"), &[]).await.expect(303);
    assert_eq!(deleted.location(), "/portal/webhooks");
    let log = site.app().store.audit_chain(0, 1000).await.unwrap();
    let created = log.iter().find(|record| record.entry.action == "webhook.created").unwrap();
    assert!(created.entry.actor.id.starts_with("portal:"), "{}", created.entry.actor.id);
}

#[tokio::test]
async fn a_delivery_is_seen_and_retried_within_the_portal() {
    let site = Site::new().await;
    let (tenant, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    site.world.endpoint.answer_with(500);
    let id = site.webhook(tenant).await;
    let guest = site.guest(tenant, Role::Member).await;
    let test = format!("/portal/webhooks/{id}/test");
    let tested = guest.submit("/portal/webhooks", &test, &[]).await.expect(303);
    assert!(tested.location().starts_with(&format!("/portal/webhooks?open={id}")), "{}", tested.location());
    let open = format!("/portal/webhooks?open={id}");
    assert!(guest.get(&open).await.expect(200).has("The test failed"));
    // What came of it is told a moment before it is in the history.
    let recorded = async {
        loop {
            let list = guest.get(&open).await.expect(200);
            if list.has("Failed") {
                break list;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let list = tokio::time::timeout(Duration::from_secs(10), recorded).await.unwrap();
    let start = format!("/portal/webhooks/{id}/deliveries/");
    let address = format!("{start}{}", list.between(&format!("href=\"{start}"), "\""));
    let page = guest.get(&address).await.expect(200);
    let retry = format!("{address}/retry");
    assert!(page.has("Attempt 1") && page.has(&format!("action=\"{retry}\"")), "{}", page.text);
    let retried = guest.submit(&address, &retry, &[]).await.expect(303);
    assert!(retried.location().starts_with("/portal/webhooks?open="), "{}", retried.location());
    let stranger = site.guest(other, Role::Admin).await;
    stranger.get(&address).await.expect(404);
}

#[tokio::test]
async fn nothing_in_the_portal_leads_out_of_it() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let hook = site.webhook(tenant).await;
    site.described(Some(tenant), "order.created").await;
    let guest = site.guest(tenant, Role::Admin).await;
    for path in [
        "/portal/webhooks".to_owned(),
        format!("/portal/webhooks?open={hook}"),
        "/portal/webhooks/new".to_owned(),
        format!("/portal/webhooks/{hook}/edit"),
        format!("/portal/webhooks/{hook}/rotate"),
        format!("/portal/webhooks/{hook}/delete"),
        "/portal/event-types".to_owned(),
        "/portal/event-types/type?name=order.created".to_owned(),
        "/portal/nothing".to_owned(),
    ] {
        let page = guest.get(&path).await;
        let targets = page.text.split(['"', '\'']).filter(|text| text.starts_with('/'));
        for target in targets {
            assert!(target.starts_with("/portal") || target.starts_with("/assets/"), "{path}: {target}");
        }
        assert!(!page.has("Log out") && !page.has("Postrider"), "{path}");
    }
}

#[tokio::test]
async fn the_catalogue_has_schema_and_example() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.described(Some(tenant), "order/created").await;
    let guest = site.guest(tenant, Role::Viewer).await;
    let list = guest.get("/portal/event-types").await.expect(200);
    assert!(list.has("order/created") && list.has("Orders") && !list.has("<b>orders"));
    let page = guest.get("/portal/event-types/type?name=order%2Fcreated").await.expect(200);
    assert!(page.has("&quot;amount&quot;: 7") && page.has("&quot;required&quot;"), "{}", page.text);
    assert!(!page.has("/portal/event-types/edit"));
    guest.get("/portal/event-types/edit?name=order%2Fcreated").await.expect(404);
    // What comes with Postrider is the operator's business, but for the tenant's own dialect.
    guest.get("/portal/event-types?catalogue=athenty").await.expect(404);
}

#[tokio::test]
async fn a_session_ends_when_its_tenant_is_deleted_or_somebody_ends_it() {
    let site = Site::new().await;
    let (acme, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    site.user("ada@example.com", &[(acme, Role::Admin)]).await;
    let (one, two) = (site.guest(acme, Role::Admin).await, site.guest(acme, Role::Viewer).await);
    let elsewhere = site.guest(other, Role::Viewer).await;
    let ada = site.logged_in("ada@example.com").await;
    let open = sessions::open(site.app(), acme).await.unwrap();
    let viewers = open.iter().find(|session| session.role == Some(Role::Viewer)).unwrap().id;
    let foreign = sessions::open(site.app(), other).await.unwrap()[0].id;
    assert!(ada.get("/settings/portal").await.expect(200).has(&viewers.to_string()));
    ada.submit("/settings/portal", &format!("/settings/portal/{foreign}/end"), &[]).await.expect(404);
    ada.submit("/settings/portal", &format!("/settings/portal/{viewers}/end"), &[]).await.expect(303);
    two.get("/portal/webhooks").await.expect(401);
    one.get("/portal/webhooks").await.expect(200);
    let unused = site.link(acme, Role::Admin).await;
    tenants::delete(site.app(), acme, &nobody()).await.unwrap();
    one.get("/portal/webhooks").await.expect(401);
    site.browser().get(&unused).await.expect(401);
    elsewhere.get("/portal/webhooks").await.expect(200);
    assert!(sessions::open(site.app(), acme).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_tenant_has_so_many_sessions_and_the_oldest_ends_for_one_more() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let first = site.guest(tenant, Role::Viewer).await;
    for _ in 0..SESSIONS_PER_OWNER_MAX {
        first.get("/portal/webhooks").await.expect(200);
        site.clock.pass(Duration::from_millis(1));
        site.guest(tenant, Role::Viewer).await;
    }
    first.get("/portal/webhooks").await.expect(401);
    assert_eq!(sessions::open(site.app(), tenant).await.unwrap().len(), SESSIONS_PER_OWNER_MAX);
}

#[tokio::test]
async fn a_link_is_made_by_hand_and_shown_once() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user("ada@example.com", &[(tenant, Role::Admin)]).await;
    let ada = site.logged_in("ada@example.com").await;
    for fields in [
        [("role", "owner"), ("lifetime", "3600")],
        [("role", "admin"), ("lifetime", "soon")],
        [("role", "admin"), ("lifetime", "1")],
    ] {
        let page = ada.submit("/settings/portal", "/settings/portal", &fields).await.expect(422);
        assert!(page.has("class=\"error\""), "{fields:?}");
    }
    let fields = [("role", "viewer"), ("lifetime", "900")];
    ada.submit("/settings/portal", "/settings/portal", &fields).await.expect(303);
    let link = ada.get("/settings/portal").await.expect(200).between("class=\"copyable\"><code>", "</code>");
    assert!(!ada.get("/settings/portal").await.expect(200).has(&link));
    let (_, path) = link.split_once("hooks.test").unwrap();
    let guest = site.browser();
    assert!(guest.get(path).await.expect(303).cookie("postrider_portal_session").unwrap().contains("Max-Age=900"));
    guest.get("/portal/webhooks/new").await.expect(403);
}

#[tokio::test]
async fn guests_of_a_tenant_have_so_much_sent_and_no_more() {
    let site = Site::new().await;
    let (tenant, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    let (hook, others) = (site.webhook(tenant).await, site.webhook(other).await);
    site.user("ada@example.com", &[(tenant, Role::Member)]).await;
    let (first, second) = (site.guest(tenant, Role::Admin).await, site.guest(tenant, Role::Admin).await);
    let test = format!("/portal/webhooks/{hook}/test");
    let csrf = first.csrf("/portal/webhooks").await;
    for _ in 0..SENDS_BY_HAND_MAX {
        first.post(&test, &[("csrf", &csrf)]).await.expect(303);
    }
    let sent = site.world.endpoint.bodies().len();
    site.clock.pass(Duration::from_secs(10));
    // Another session of the same tenant has no more.
    let refused = second.submit("/portal/webhooks", &test, &[]).await.expect(429);
    assert_eq!(refused.headers[header::RETRY_AFTER], "50");
    assert!(refused.has("Too many at once") && refused.has("try again in 50 seconds"), "{}", refused.text);
    // What was typed is there still.
    let new = "/portal/webhooks/new";
    let typed = [("url", "https://example.com/\"typed\""), ("description", "To the <CRM>"), ("patterns", "order.*")];
    let refused = second.submit(new, new, &typed).await.expect(429);
    assert_eq!(refused.headers[header::RETRY_AFTER], "50");
    assert!(refused.has("try again in 50 seconds") && refused.has("role=\"alert\""), "{}", refused.text);
    assert!(refused.has("To the &#60;CRM&#62;") && refused.has("order.*") && refused.has("typed"), "{}", refused.text);
    assert_eq!(site.app().catalog.tenant(tenant).unwrap().webhooks.len(), 1);
    assert_eq!(site.world.endpoint.bodies().len(), sent, "nothing was sent");
    // Nobody else is in the way: another tenant's guests, and the tenant's own members.
    let guest = site.guest(other, Role::Member).await;
    guest.submit("/portal/webhooks", &format!("/portal/webhooks/{others}/test"), &[]).await.expect(303);
    let member = site.logged_in("ada@example.com").await;
    let own = format!("/settings/webhooks/{hook}/test");
    member.submit("/settings/webhooks", &own, &[]).await.expect(303);
    site.clock.pass(SENDS_BY_HAND_WINDOW);
    second.submit("/portal/webhooks", &test, &[]).await.expect(303);
}

#[tokio::test]
async fn retries_and_replays_of_one_event_are_bounded_like_tests() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user("ada@example.com", &[(tenant, Role::Member)]).await;
    let (hook, now) = (site.webhook(tenant).await, site.clock.now());
    let member = site.logged_in("ada@example.com").await;
    let event = crate::pipeline::Publish {
        tenant_id: tenant,
        event_type: "order.paid".into(),
        occurred_at: None,
        external_id: None,
        idempotency_key: None,
        ordering_key: None,
        trace_parent: None,
        data: "{}".into(),
    };
    let event = site.app().engine.publish(vec![event]).await.unwrap().remove(0).id;
    let page = format!("/settings/events/{event}");
    let shown = member.get(&page).await.expect(200);
    let delivery = shown.between("data-id=\"", "\"");
    let actions = [
        format!("{page}/replay"),
        format!("/settings/deliveries/{delivery}/retry"),
        format!("/settings/webhooks/{hook}/deliveries/{delivery}/retry"),
    ];
    for path in &actions {
        member.submit(&page, path, &[]).await.expect(303);
    }
    for _ in 0..SENDS_BY_HAND_MAX - 3 {
        site.app().accounts.sends_by_hand.take(tenant, Hand::Member, now).unwrap();
    }
    for path in &actions {
        member.submit(&page, path, &[]).await.expect(429);
    }
}

#[tokio::test]
async fn links_that_were_not_used_are_listed_and_revoked_by_the_tenants_admins() {
    const LINKS: &str = "/settings/portal";
    let site = Site::new().await;
    let (tenant, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    site.user("ada@example.com", &[(tenant, Role::Admin)]).await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    let (ada, eve) = (site.logged_in("ada@example.com").await, site.logged_in("eve@example.com").await);
    assert!(ada.get(LINKS).await.expect(200).has("Links that were not used yet"));
    let made = ada.submit(LINKS, LINKS, &[("role", "viewer"), ("lifetime", "3600")]).await.expect(303);
    let shown = ada.get(made.location()).await.expect(200);
    let address = shown.between("/portal/enter/", "<");
    let listed = ada.get(LINKS).await.expect(200);
    assert!(listed.has("<span dir=\"auto\">ada@example.com</span>") && !listed.has(&address), "{}", listed.text);
    let revoke = format!("{LINKS}/links/{}/revoke", listed.between("/settings/portal/links/", "/revoke"));
    assert!(!eve.get(LINKS).await.expect(200).has("/revoke"));
    eve.submit(LINKS, &revoke, &[]).await.expect(404);
    ada.submit(LINKS, &revoke, &[]).await.expect(303);
    assert!(!ada.get(LINKS).await.expect(200).has("/revoke"));
    ada.submit(LINKS, &revoke, &[]).await.expect(404);
    site.browser().get(&format!("/portal/enter/{address}")).await.expect(401);
    assert_eq!(site.actions().await.iter().filter(|action| *action == "portal_link.revoked").count(), 1);
    // One that is used is no longer there; nor is one whose tenant is gone.
    site.guest(tenant, Role::Viewer).await;
    assert!(!ada.get(LINKS).await.expect(200).has("/revoke"));
    let left = site.link(tenant, Role::Viewer).await;
    assert_eq!(sessions::unused(site.app(), tenant).await.unwrap().len(), 1);
    tenants::delete(site.app(), tenant, &nobody()).await.unwrap();
    assert_eq!(sessions::unused(site.app(), tenant).await.unwrap().len(), 0);
    site.browser().get(&left).await.expect(401);
}
