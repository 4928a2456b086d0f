//! Set-up, logging in and out, sessions, passwords.

use std::time::Duration;

use postrider_core::limits::{
    LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS, LOGIN_WINDOW, SESSION_IDLE, SESSION_LIFETIME, SESSION_SEEN_EVERY,
    SETUP_LINK_LIFETIME,
};

use super::*;

const ADA: &str = "ada@example.com";

fn first<'a>() -> Vec<(&'a str, &'a str)> {
    vec![("name", "Ada"), ("email", ADA), ("organisation", "Acme"), ("password", PASSWORD)]
}

#[tokio::test]
async fn the_first_user_is_made_by_the_link_once() {
    let site = Site::new().await;
    let path = site.set_up_path().await;
    let browser = site.browser();
    assert!(browser.get(&path).await.expect(200).has("Set up Postrider"));
    let page = browser.submit(&path, &path, &first()).await.expect(303);
    assert_eq!(page.location(), "/settings");
    let members = browser.get("/settings/members").await.expect(200);
    assert!(members.has(ADA) && members.has("Acme") && members.has("Welcome!"));
    assert!(!browser.get("/settings/members").await.has("Welcome!"), "it is said once");
    site.browser().get(&path).await.expect(404);
    assert!(links::set_up(site.app()).await.unwrap().is_none(), "there is a user now");
    let user = site.app().catalog.user_by_email(ADA).unwrap();
    assert!(user.is_platform_admin && user.memberships.values().eq([&Role::Owner]));
    assert!(user.password_hash.as_ref().unwrap().starts_with("$argon2id$"));
}

#[tokio::test]
async fn a_set_up_that_is_wrong_says_so_beside_the_field_and_keeps_the_link() {
    let site = Site::new().await;
    let path = site.set_up_path().await;
    let browser = site.browser();
    for (field, value) in [("password", "short"), ("email", "nobody"), ("name", " "), ("organisation", "")] {
        let mut fields = first();
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        let page = browser.submit(&path, &path, &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{field}: {}", page.text);
        assert!(!page.has(PASSWORD), "a password is not sent back");
    }
    browser.submit(&path, &path, &first()).await.expect(303);
}

#[tokio::test]
async fn a_set_up_link_expires_and_is_no_other_link() {
    let site = Site::new().await;
    let path = site.set_up_path().await;
    let token = path.rsplit('/').next().unwrap();
    site.browser().get(&format!("/invite/{token}")).await.expect(404);
    site.browser().get(&format!("/reset/{token}")).await.expect(404);
    site.browser().get(&path).await.expect(200);
    site.clock.pass(SETUP_LINK_LIFETIME);
    site.browser().get(&path).await.expect(404);
}

#[tokio::test]
async fn whatever_is_wrong_gets_the_same_answer_for_the_same_work() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    let invited = site.user("invited@example.com", &[]).await;
    let mut record = UserRecord::clone(&site.app().catalog.user(invited).unwrap());
    (record.status, record.password_hash) = (UserStatus::Invited, None);
    site.app().catalog.put_object(Object::User(record));
    let gone = site.user("gone@example.com", &[]).await;
    let record = UserRecord::clone(&site.app().catalog.user(gone).unwrap());
    site.app().catalog.put_object(Object::User(UserRecord { status: UserStatus::Deactivated, ..record }));
    let long = "x".repeat(2000);
    let tries = [
        (ADA, "not the password"),
        ("nobody@example.com", PASSWORD),
        ("invited@example.com", PASSWORD),
        ("gone@example.com", PASSWORD),
        (ADA, &long),
        ("", ""),
    ];
    for (email, password) in tries {
        let before = site.app().accounts.passwords.verified();
        let fields = [("email", email), ("password", password)];
        let page = site.browser().submit("/login", "/login", &fields).await.expect(422);
        assert!(page.has("The e-mail or the password is wrong."), "{email}");
        assert_eq!(site.app().accounts.passwords.verified() - before, 1, "{email}");
        assert!(page.cookie("postrider_session").is_none());
    }
    let failed = site.actions().await.iter().filter(|action| *action == "login.failed").count();
    assert_eq!(failed, tries.len());
    site.logged_in("ADA@example.com ").await;
    assert_eq!(site.actions().await[0], "login.succeeded");
}

#[tokio::test]
async fn guessing_is_stopped_and_goes_on_after_a_while() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    let browser = site.browser();
    for _ in 0..LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS {
        browser.submit("/login", "/login", &[("email", ADA), ("password", "wrong")]).await.expect(422);
    }
    let work = site.app().accounts.passwords.verified();
    let page = browser.submit("/login", "/login", &[("email", ADA), ("password", PASSWORD)]).await.expect(429);
    assert!(page.has("Too many tries") && page.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(site.app().accounts.passwords.verified(), work, "no work is done for it");
    site.clock.pass(LOGIN_WINDOW);
    site.logged_in(ADA).await;
}

#[tokio::test]
async fn cookies_are_for_this_host_and_no_script() {
    let site = Site::with(|config| config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]).await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    let fields = [("email", ADA), ("password", PASSWORD)];
    let page = site.browser().submit("/login", "/login", &fields).await.expect(303);
    let plain = page.cookie("postrider_session").unwrap();
    assert!(plain.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age=") && !plain.contains("Secure"), "{plain}");
    let mut secure = site.browser();
    secure.headers = vec![("x-forwarded-proto", "https".to_owned())];
    let page = secure.get("/login").await;
    let visitor = page.cookie("__Host-postrider_visitor").unwrap();
    assert!(visitor.contains("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{visitor}");
    let page = secure.submit("/login", "/login", &fields).await.expect(303);
    let cookie = page.cookie("__Host-postrider_session").unwrap();
    assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Lax") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(!cookie.contains("Domain"));
    let theme = secure.submit("/settings/profile", "/settings/theme", &[("theme", "dark")]).await.expect(303);
    assert!(theme.cookie("__Host-postrider_theme").unwrap().contains("=dark; Path=/; HttpOnly"));
    assert!(secure.get("/settings/profile").await.has("data-theme=\"dark\""));
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_in_any_case() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    let idle = site.logged_in(ADA).await;
    site.clock.pass(SESSION_IDLE - Duration::from_secs(1));
    idle.get("/settings/profile").await.expect(200);
    site.clock.pass(SESSION_IDLE);
    let page = idle.get("/settings/profile?x=1").await.expect(303);
    assert_eq!(page.location(), "/login?next=%2Fsettings%2Fprofile%3Fx%3D1");
    let busy = site.logged_in(ADA).await;
    let mut lived = Duration::ZERO;
    while lived + SESSION_IDLE / 2 < SESSION_LIFETIME {
        busy.get("/settings/profile").await.expect(200);
        site.clock.pass(SESSION_IDLE / 2);
        lived += SESSION_IDLE / 2;
    }
    busy.get("/settings/profile").await.expect(200);
    site.clock.pass(SESSION_IDLE / 2);
    busy.get("/settings/profile").await.expect(303);
}

#[tokio::test]
async fn that_a_session_is_in_use_is_written_once_a_minute() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let ada = site.user(ADA, &[(tenant, Role::Owner)]).await;
    let browser = site.logged_in(ADA).await;
    let seen = async || site.app().store.sessions(ada, site.clock.now()).await.unwrap()[0].seen_at;
    let began = seen().await;
    site.clock.pass(SESSION_SEEN_EVERY - Duration::from_millis(1));
    browser.get("/settings/profile").await.expect(200);
    assert_eq!(seen().await, began);
    site.clock.pass(Duration::from_millis(1));
    browser.get("/settings/profile").await.expect(200);
    assert_eq!(seen().await, site.clock.now());
}

#[tokio::test]
async fn logging_out_ends_the_session_on_the_server() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    let browser = site.logged_in(ADA).await;
    let token = browser.cookie("postrider_session").unwrap();
    let page = browser.submit("/settings/profile", "/logout", &[]).await.expect(303);
    assert_eq!(page.location(), "/login");
    assert_eq!(browser.cookie("postrider_session"), None);
    assert!(browser.get("/login").await.expect(200).has("You are logged out."));
    browser.cookies.lock().insert("postrider_session".to_owned(), token);
    browser.get("/settings/profile").await.expect(303);
    assert_eq!(site.actions().await[0], "session.ended");
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_user_alone() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let ada = site.user(ADA, &[(tenant, Role::Owner)]).await;
    site.user("eve@example.com", &[(tenant, Role::Owner)]).await;
    let (one, other, third) = (site.logged_in(ADA).await, site.logged_in(ADA).await, site.logged_in(ADA).await);
    let eve = site.logged_in("eve@example.com").await;
    let sessions = site.app().store.sessions(ada, site.clock.now()).await.unwrap();
    assert_eq!(sessions.len(), 3);
    let hash = crate::auth::hash(other.cookie("postrider_session").unwrap().as_bytes());
    let target = sessions.iter().find(|session| session.hash == hash).unwrap().id;
    let end = format!("/settings/profile/sessions/{target}/end");
    eve.submit("/settings/profile", &end, &[]).await.expect(404);
    other.get("/settings/profile").await.expect(200);
    assert!(one.get("/settings/profile").await.has(&end));
    one.submit("/settings/profile", &end, &[]).await.expect(303);
    other.get("/settings/profile").await.expect(303);
    one.submit("/settings/profile", "/settings/profile/sessions/end-others", &[]).await.expect(303);
    third.get("/settings/profile").await.expect(303);
    one.get("/settings/profile").await.expect(200);
    eve.get("/settings/profile").await.expect(200);
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_other_sessions_end() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    let (browser, other) = (site.logged_in(ADA).await, site.logged_in(ADA).await);
    let change = async |current: &str, new: &str| {
        let fields = [("current", current), ("password", new)];
        browser.submit("/settings/profile", "/settings/profile/password", &fields).await
    };
    assert!(change("wrong", "another good one").await.expect(422).has("id=\"current-error\""));
    assert!(change(PASSWORD, "short").await.expect(422).has("id=\"password-error\""));
    other.get("/settings/profile").await.expect(200);
    change(PASSWORD, "another good one").await.expect(303);
    other.get("/settings/profile").await.expect(303);
    browser.get("/settings/profile").await.expect(200);
    let fields = [("email", ADA), ("password", PASSWORD)];
    site.browser().submit("/login", "/login", &fields).await.expect(422);
    let fields = [("email", ADA), ("password", "another good one")];
    site.browser().submit("/login", "/login", &fields).await.expect(303);
}

#[tokio::test]
async fn nobody_is_sent_elsewhere_after_logging_in() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    for next in ["//evil.example", "https://evil.example", "/settings//evil", "/settings/\\evil", "/login", ""] {
        let fields = [("email", ADA), ("password", PASSWORD), ("next", next)];
        assert_eq!(
            site.browser().submit("/login", "/login", &fields).await.expect(303).location(),
            "/settings",
            "{next}"
        );
    }
    let fields = [("email", ADA), ("password", PASSWORD), ("next", "/settings/audit-log?actor=x")];
    let page = site.browser().submit("/login", "/login", &fields).await.expect(303);
    assert_eq!(page.location(), "/settings/audit-log?actor=x");
}
