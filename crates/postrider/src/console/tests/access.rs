//! Every role against every page and everything that a form does.

use axum::http::Method;

use super::*;
use crate::auth::Permission;
use crate::console::pages;
use crate::console::route::Access;

/// Who may: the least role, `-` anyone, `*` whoever is logged in, `platform`. A page that is added is added here.
const TABLE: &[(&str, &str, &str)] = &[
    ("GET", "/", "-"),
    ("GET", "/invite/{token}", "-"),
    ("POST", "/invite/{token}", "-"),
    ("GET", "/login", "-"),
    ("POST", "/login", "-"),
    ("GET", "/login/oidc", "-"),
    ("GET", "/login/oidc/callback", "-"),
    ("POST", "/logout", "*"),
    ("GET", "/reset/{token}", "-"),
    ("POST", "/reset/{token}", "-"),
    ("GET", "/settings", "*"),
    ("GET", "/settings/api-keys", "admin"),
    ("GET", "/settings/api-keys/new", "admin"),
    ("POST", "/settings/api-keys/new", "admin"),
    ("GET", "/settings/api-keys/{key}/revoke", "admin"),
    ("POST", "/settings/api-keys/{key}/revoke", "admin"),
    ("GET", "/settings/audit-log", "admin"),
    ("GET", "/settings/audit-log/export", "admin"),
    ("GET", "/settings/clients", "platform"),
    ("GET", "/settings/clients/new", "platform"),
    ("POST", "/settings/clients/new", "platform"),
    ("GET", "/settings/clients/{client}", "platform"),
    ("GET", "/settings/clients/{client}/delete", "platform"),
    ("POST", "/settings/clients/{client}/delete", "platform"),
    ("GET", "/settings/clients/{client}/edit", "platform"),
    ("POST", "/settings/clients/{client}/edit", "platform"),
    ("POST", "/settings/clients/{client}/freeze", "platform"),
    ("POST", "/settings/clients/{client}/test", "platform"),
    ("GET", "/settings/design", "*"),
    ("GET", "/settings/event-types", "viewer"),
    ("GET", "/settings/event-types/delete", "admin"),
    ("POST", "/settings/event-types/delete", "admin"),
    ("GET", "/settings/event-types/edit", "admin"),
    ("POST", "/settings/event-types/edit", "admin"),
    ("GET", "/settings/event-types/new", "admin"),
    ("POST", "/settings/event-types/new", "admin"),
    ("GET", "/settings/event-types/type", "viewer"),
    ("GET", "/settings/hostnames", "platform"),
    ("GET", "/settings/hostnames/new", "platform"),
    ("POST", "/settings/hostnames/new", "platform"),
    ("POST", "/settings/hostnames/{route}/check", "platform"),
    ("GET", "/settings/hostnames/{route}/remove", "platform"),
    ("POST", "/settings/hostnames/{route}/remove", "platform"),
    ("GET", "/settings/deliveries", "viewer"),
    ("GET", "/settings/deliveries/live", "viewer"),
    ("GET", "/settings/deliveries/replays", "viewer"),
    ("GET", "/settings/deliveries/replays/new", "admin"),
    ("POST", "/settings/deliveries/replays/new", "admin"),
    ("GET", "/settings/deliveries/replays/{replay}", "viewer"),
    ("POST", "/settings/deliveries/replays/{replay}/cancel", "admin"),
    ("POST", "/settings/deliveries/{delivery}/retry", "member"),
    ("GET", "/settings/events", "viewer"),
    ("GET", "/settings/events/{event}", "viewer"),
    ("GET", "/settings/events/{event}/payload", "viewer"),
    ("POST", "/settings/events/{event}/replay", "member"),
    ("GET", "/settings/members", "viewer"),
    ("GET", "/settings/members/invite", "admin"),
    ("POST", "/settings/members/invite", "admin"),
    ("GET", "/settings/members/{user}", "admin"),
    ("POST", "/settings/members/{user}/deactivate", "admin"),
    ("POST", "/settings/members/{user}/link", "admin"),
    ("POST", "/settings/members/{user}/reactivate", "admin"),
    ("POST", "/settings/members/{user}/remove", "admin"),
    ("POST", "/settings/members/{user}/role", "admin"),
    ("GET", "/settings/portal", "admin"),
    ("POST", "/settings/portal", "admin"),
    ("POST", "/settings/portal/links/{link}/revoke", "admin"),
    ("POST", "/settings/portal/{session}/end", "admin"),
    ("GET", "/settings/overview", "viewer"),
    ("GET", "/settings/profile", "*"),
    ("POST", "/settings/profile/name", "*"),
    ("POST", "/settings/profile/password", "*"),
    ("POST", "/settings/profile/sessions/end-others", "*"),
    ("POST", "/settings/profile/sessions/{session}/end", "*"),
    ("GET", "/settings/system", "platform"),
    ("GET", "/settings/receivers", "viewer"),
    ("GET", "/settings/receivers/new", "admin"),
    ("POST", "/settings/receivers/new", "admin"),
    ("GET", "/settings/receivers/{receiver}", "viewer"),
    ("GET", "/settings/receivers/{receiver}/delete", "admin"),
    ("POST", "/settings/receivers/{receiver}/delete", "admin"),
    ("GET", "/settings/receivers/{receiver}/edit", "admin"),
    ("POST", "/settings/receivers/{receiver}/edit", "admin"),
    ("GET", "/settings/receivers/{receiver}/requests/{request}", "viewer"),
    ("GET", "/settings/receivers/{receiver}/requests/{request}/body", "viewer"),
    ("POST", "/settings/receivers/{receiver}/requests/{request}/forward", "member"),
    ("POST", "/settings/receivers/{receiver}/requests/{request}/release", "member"),
    ("POST", "/settings/receivers/{receiver}/reverify", "member"),
    ("POST", "/settings/receivers/{receiver}/state", "admin"),
    ("POST", "/settings/receivers/{receiver}/test", "member"),
    ("GET", "/settings/routes", "platform"),
    ("GET", "/settings/routes/new", "platform"),
    ("POST", "/settings/routes/new", "platform"),
    ("GET", "/settings/routes/{route}", "platform"),
    ("POST", "/settings/routes/{route}/active", "platform"),
    ("GET", "/settings/routes/{route}/delete", "platform"),
    ("POST", "/settings/routes/{route}/delete", "platform"),
    ("GET", "/settings/routes/{route}/edit", "platform"),
    ("POST", "/settings/routes/{route}/edit", "platform"),
    ("GET", "/settings/tenants", "*"),
    ("GET", "/settings/tenants/new", "platform"),
    ("POST", "/settings/tenants/new", "platform"),
    ("GET", "/settings/tenants/{tenant}/delete", "platform"),
    ("POST", "/settings/tenants/{tenant}/delete", "platform"),
    ("GET", "/settings/tenants/{tenant}/edit", "platform"),
    ("POST", "/settings/tenants/{tenant}/edit", "platform"),
    ("POST", "/settings/tenants/switch", "*"),
    ("POST", "/settings/theme", "*"),
    ("GET", "/settings/users", "platform"),
    ("POST", "/settings/users/{user}/admin", "platform"),
    ("POST", "/settings/users/{user}/deactivate", "platform"),
    ("POST", "/settings/users/{user}/link", "platform"),
    ("POST", "/settings/users/{user}/reactivate", "platform"),
    ("GET", "/settings/webhooks", "viewer"),
    ("GET", "/settings/webhooks/new", "admin"),
    ("POST", "/settings/webhooks/new", "admin"),
    ("GET", "/settings/webhooks/{webhook}/delete", "admin"),
    ("POST", "/settings/webhooks/{webhook}/delete", "admin"),
    ("GET", "/settings/webhooks/{webhook}/deliveries/{delivery}", "viewer"),
    ("POST", "/settings/webhooks/{webhook}/deliveries/{delivery}/retry", "member"),
    ("GET", "/settings/webhooks/{webhook}/edit", "admin"),
    ("POST", "/settings/webhooks/{webhook}/edit", "admin"),
    ("POST", "/settings/webhooks/{webhook}/finish-rotation", "admin"),
    ("GET", "/settings/webhooks/{webhook}/rotate", "admin"),
    ("POST", "/settings/webhooks/{webhook}/rotate", "admin"),
    ("GET", "/settings/webhooks/{webhook}/secret", "admin"),
    ("POST", "/settings/webhooks/{webhook}/test", "member"),
    ("POST", "/settings/webhooks/{webhook}/toggle", "admin"),
    ("GET", "/setup/{token}", "-"),
    ("POST", "/setup/{token}", "-"),
];

fn least(access: Access) -> &'static str {
    match access {
        Access::Open | Access::Public => "-",
        Access::SignedIn => "*",
        Access::Needs(permission) => crate::auth::role_name(permission.role()),
        Access::Platform => "platform",
    }
}

#[test]
fn the_table_names_every_page() {
    let mut found: Vec<_> = pages::routes()
        .iter()
        .map(|route| (route.path.to_string(), route.method.to_string(), least(route.access).to_owned()))
        .collect();
    found.sort();
    let expected: Vec<_> =
        TABLE.iter().map(|(method, path, who)| ((*path).to_owned(), (*method).to_owned(), (*who).to_owned())).collect();
    let mut expected_sorted = expected;
    expected_sorted.sort();
    assert_eq!(found, expected_sorted);
}

#[tokio::test]
async fn each_role_sees_and_does_what_the_table_says() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let roles = [("viewer", Role::Viewer), ("member", Role::Member), ("admin", Role::Admin), ("owner", Role::Owner)];
    for (name, role) in roles {
        site.user(&format!("{name}@example.com"), &[(tenant, role)]).await;
    }
    let other = site.tenant("Other").await;
    let hook = site.webhook(other).await.to_string();
    let receiver = site.receiver(other).await.to_string();
    let stranger = site.user("stranger@example.com", &[(other, Role::Owner)]).await.to_string();
    for (name, role) in roles {
        // One session for all: there are more calls than sessions of one user.
        let browser = site.logged_in(&format!("{name}@example.com")).await;
        for (method, path, who) in TABLE {
            // What ends the session that asks is tried elsewhere.
            if *path == "/logout" {
                continue;
            }
            let path = path.replace("{user}", &stranger).replace("{session}", &stranger).replace("{key}", "key_x");
            let path = path.replace("{webhook}", &hook).replace("{delivery}", "1");
            let path = path.replace("{tenant}", &other.to_string());
            let path = path.replace("{receiver}", &receiver).replace("{request}", "evt_x");
            let may = match *who {
                "-" | "*" => true,
                "viewer" => true,
                "member" => role >= Role::Member,
                "admin" => role >= Role::Admin,
                // What is of the platform does not exist for others.
                "platform" => true,
                other => panic!("{other}"),
            };
            let page = if *method == "GET" {
                browser.get(&path).await
            } else {
                browser.submit("/settings/profile", &path, &[]).await
            };
            assert_eq!(page.status != StatusCode::FORBIDDEN, may, "{name} {method} {path}: {}", page.status);
            assert!(page.status.as_u16() < 500, "{name} {method} {path}: {}", page.status);
            // What another tenant has does not exist.
            if *who == "platform" || (may && [&stranger, &hook, &receiver].iter().any(|id| path.contains(*id))) {
                assert_eq!(page.status, StatusCode::NOT_FOUND, "{name} {method} {path}");
            }
        }
    }
    for (method, path, who) in TABLE.iter().filter(|(.., who)| *who != "-") {
        let browser = site.browser();
        let page = if *method == "GET" { browser.get(path).await } else { browser.submit("/login", path, &[]).await };
        assert_eq!(page.status, StatusCode::SEE_OTHER, "nobody {method} {path} ({who})");
        assert!(page.location().starts_with("/login?next="), "{method} {path}");
    }
}

#[tokio::test]
async fn the_page_shows_what_the_role_may_do() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    for (name, role) in [("viewer", Role::Viewer), ("admin", Role::Admin)] {
        site.user(&format!("{name}@example.com"), &[(tenant, role)]).await;
    }
    let page = site.logged_in("viewer@example.com").await.get("/settings/members").await.expect(200);
    for hidden in ["/settings/members/invite", "/settings/api-keys", "/settings/audit-log", "Edit<"] {
        assert!(!page.has(hidden), "{hidden}");
    }
    let page = site.logged_in("admin@example.com").await.get("/settings/members").await.expect(200);
    for shown in ["/settings/members/invite", "/settings/api-keys", "/settings/audit-log", "Edit<"] {
        assert!(page.has(shown), "{shown}");
    }
}

#[tokio::test]
async fn a_platform_admin_turns_to_any_tenant_and_others_to_their_own() {
    let site = Site::new().await;
    let (acme, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    site.platform_admin("root@example.com").await;
    site.user("ada@example.com", &[(acme, Role::Owner)]).await;
    let root = site.logged_in("root@example.com").await;
    for (id, name) in [(other, "Other"), (acme, "Acme")] {
        let id = id.to_string();
        root.submit("/settings/tenants", "/settings/tenants/switch", &[("tenant", &id)]).await.expect(303);
        assert!(root.get("/settings/members").await.expect(200).has(&format!("<strong dir=\"auto\">{name}</strong>")));
    }
    let ada = site.logged_in("ada@example.com").await;
    let id = other.to_string();
    ada.submit("/settings/tenants", "/settings/tenants/switch", &[("tenant", &id)]).await.expect(404);
    assert!(!ada.get("/settings/tenants").await.has("Other"));
}

#[tokio::test]
async fn who_is_a_member_of_nothing_sees_nothing() {
    let site = Site::new().await;
    site.tenant("Acme").await;
    site.user("ada@example.com", &[]).await;
    let browser = site.logged_in("ada@example.com").await;
    let page = browser.get("/settings/members").await.expect(200);
    assert!(page.has("No tenant yet") && !page.has("Acme"));
    assert!(!browser.get("/settings/tenants").await.expect(200).has("Acme"));
}

#[test]
fn what_changes_is_no_get() {
    let reads = [Permission::MembersRead, Permission::KeysRead, Permission::AuditRead, Permission::WebhooksRead];
    for route in pages::routes() {
        if let Access::Needs(permission) = route.access
            && route.method == Method::POST
        {
            assert!(!reads.contains(&permission), "{route:?}");
        }
    }
}
