//! Invitations, roles, and the rules that nobody gets around.

use super::*;

const OWNER: &str = "owner@example.com";
const ADMIN: &str = "admin@example.com";

struct Team {
    site: Site,
    tenant: TenantId,
    owner: Uuid,
    admin: Uuid,
}

async fn team() -> Team {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let owner = site.user(OWNER, &[(tenant, Role::Owner)]).await;
    let admin = site.user(ADMIN, &[(tenant, Role::Admin)]).await;
    Team { site, tenant, owner, admin }
}

impl Team {
    fn role(&self, id: Uuid) -> Option<Role> {
        self.site.app().catalog.user(id).unwrap().memberships.get(&self.tenant).copied()
    }

    /// Invites somebody; the path of the link.
    async fn invite(&self, browser: &Browser<'_>, email: &str, role: &str) -> String {
        let fields = [("email", email), ("name", ""), ("role", role)];
        let page = browser.submit("/settings/members/invite", "/settings/members/invite", &fields).await.expect(303);
        assert_eq!(page.location(), "/settings/members");
        let shown = browser.get("/settings/members").await.expect(200);
        shown.between("<code>http://hooks.test", "</code>")
    }
}

async fn act(browser: &Browser<'_>, id: Uuid, action: &str, fields: &[(&str, &str)]) -> Page {
    browser.submit("/settings/profile", &format!("/settings/members/{id}/{action}"), fields).await
}

#[tokio::test]
async fn somebody_is_invited_accepts_and_is_a_member() {
    let team = team().await;
    let owner = team.site.logged_in(OWNER).await;
    let link = team.invite(&owner, "New@example.com", "member").await;
    assert!(!owner.get("/settings/members").await.has(&link), "it is shown once");
    let browser = team.site.browser();
    let page = browser.get(&link).await.expect(200);
    assert!(page.has("New@example.com") && page.has("Acme"));
    let fields = [("name", "Newcomer"), ("password", "short")];
    assert!(browser.submit(&link, &link, &fields).await.expect(422).has("id=\"password-error\""));
    let fields = [("name", "Newcomer"), ("password", PASSWORD)];
    browser.submit(&link, &link, &fields).await.expect(303);
    assert!(browser.get("/settings/members").await.expect(200).has("Newcomer"));
    browser.get("/settings/api-keys").await.expect(403);
    team.site.browser().get(&link).await.expect(404);
    team.site.logged_in("new@example.com").await;
    let actions = team.site.actions().await;
    for action in ["user.invited", "user.joined", "login.succeeded"] {
        assert!(actions.iter().any(|found| found == action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn an_invitation_that_is_wrong_says_so() {
    let team = team().await;
    let owner = team.site.logged_in(OWNER).await;
    let tries = [
        ("", "member", "email"),
        ("nobody", "member", "email"),
        ("a b@example.com", "member", "email"),
        (ADMIN, "member", "email"),
        ("x@example.com", "emperor", "role"),
    ];
    for (email, role, field) in tries {
        let fields = [("email", email), ("role", role)];
        let page = owner.submit("/settings/members/invite", "/settings/members/invite", &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{email} {role}: {}", page.text);
    }
}

#[tokio::test]
async fn nobody_gives_or_touches_what_is_above_them() {
    let team = team().await;
    let admin = team.site.logged_in(ADMIN).await;
    let fields = [("email", "x@example.com"), ("role", "owner")];
    let page = admin.submit("/settings/members/invite", "/settings/members/invite", &fields).await.expect(422);
    assert!(page.has("above their own"));
    act(&admin, team.owner, "role", &[("role", "viewer")]).await.expect(422);
    act(&admin, team.owner, "remove", &[]).await.expect(422);
    act(&admin, team.owner, "deactivate", &[]).await.expect(422);
    act(&admin, team.owner, "link", &[]).await.expect(422);
    assert_eq!(team.role(team.owner), Some(Role::Owner));
    assert!(act(&admin, team.admin, "role", &[("role", "owner")]).await.expect(422).has("raises their own role"));
    act(&admin, team.admin, "deactivate", &[]).await.expect(422);
    // Down is nobody's business but one's own.
    act(&admin, team.admin, "role", &[("role", "viewer")]).await.expect(303);
    assert_eq!(team.role(team.admin), Some(Role::Viewer));
    admin.get("/settings/audit-log").await.expect(403);
}

#[tokio::test]
async fn the_last_owner_stays() {
    let team = team().await;
    let owner = team.site.logged_in(OWNER).await;
    for (action, fields) in [("role", &[("role", "admin")][..]), ("remove", &[][..])] {
        let page = act(&owner, team.owner, action, fields).await.expect(422);
        assert!(page.has("last Owner"), "{}", page.text);
    }
    team.site.platform_admin("root@example.com").await;
    let root = team.site.logged_in("root@example.com").await;
    act(&root, team.owner, "deactivate", &[]).await.expect(422);
    act(&root, team.owner, "role", &[("role", "viewer")]).await.expect(422);
    act(&owner, team.admin, "role", &[("role", "owner")]).await.expect(303);
    act(&owner, team.owner, "role", &[("role", "member")]).await.expect(303);
    assert_eq!((team.role(team.owner), team.role(team.admin)), (Some(Role::Member), Some(Role::Owner)));
}

#[tokio::test]
async fn who_is_deactivated_is_out_at_once_and_has_no_link_left() {
    let team = team().await;
    let owner = team.site.logged_in(OWNER).await;
    let admin = team.site.logged_in(ADMIN).await;
    act(&owner, team.admin, "link", &[]).await.expect(303);
    let link = owner.get("/settings/members").await.between("<code>http://hooks.test", "</code>");
    team.site.browser().get(&link).await.expect(200);
    act(&owner, team.admin, "deactivate", &[]).await.expect(303);
    admin.get("/settings/profile").await.expect(303);
    team.site.browser().get(&link).await.expect(404);
    let fields = [("email", ADMIN), ("password", PASSWORD)];
    team.site.browser().submit("/login", "/login", &fields).await.expect(422);
    assert_eq!(team.site.actions().await.iter().filter(|action| *action == "user.deactivated").count(), 1);
    act(&owner, team.admin, "reactivate", &[]).await.expect(303);
    team.site.logged_in(ADMIN).await;
    admin.get("/settings/profile").await.expect(303);
}

#[tokio::test]
async fn a_link_for_a_new_password_ends_all_sessions() {
    let team = team().await;
    let owner = team.site.logged_in(OWNER).await;
    let admin = team.site.logged_in(ADMIN).await;
    act(&owner, team.admin, "link", &[]).await.expect(303);
    let link = owner.get("/settings/members").await.between("<code>http://hooks.test", "</code>");
    assert!(link.starts_with("/reset/"));
    let browser = team.site.browser();
    team.site.clock.pass(std::time::Duration::from_secs(1));
    browser.submit(&link, &link, &[("password", "quite another one")]).await.expect(303);
    browser.get("/settings/profile").await.expect(200);
    admin.get("/settings/profile").await.expect(303);
    team.site.browser().get(&link).await.expect(404);
    let fields = [("email", ADMIN), ("password", "quite another one")];
    team.site.browser().submit("/login", "/login", &fields).await.expect(303);
}

#[tokio::test]
async fn an_owner_of_one_tenant_gets_no_way_into_an_account_that_reaches_further() {
    let team = team().await;
    let other = team.site.tenant("Other").await;
    let both = team.site.user("both@example.com", &[(team.tenant, Role::Viewer), (other, Role::Owner)]).await;
    let root = team.site.platform_admin("root@example.com").await;
    let mut record = UserRecord::clone(&team.site.app().catalog.user(root).unwrap());
    record.memberships.insert(team.tenant, Role::Viewer);
    team.site.app().catalog.put_object(Object::User(record));
    let owner = team.site.logged_in(OWNER).await;
    for id in [both, root] {
        for action in ["link", "deactivate"] {
            act(&owner, id, action, &[]).await.expect(422);
        }
    }
    // Somebody who is invited elsewhere becomes a member here, and the link stays where it was made.
    let elsewhere = team.site.user("elsewhere@example.com", &[(other, Role::Owner)]).await;
    let record = UserRecord::clone(&team.site.app().catalog.user(elsewhere).unwrap());
    let invited = UserRecord { status: UserStatus::Invited, password_hash: None, ..record };
    team.site.app().catalog.put_object(Object::User(invited));
    let fields = [("email", "elsewhere@example.com"), ("role", "viewer")];
    owner.submit("/settings/members/invite", "/settings/members/invite", &fields).await.expect(303);
    assert!(!owner.get("/settings/members").await.has("/invite/"));
    assert_eq!(team.role(elsewhere), Some(Role::Viewer));
    // A member is taken out all the same.
    act(&owner, both, "remove", &[]).await.expect(303);
    assert_eq!(team.role(both), None);
}

#[tokio::test]
async fn members_of_another_tenant_do_not_exist() {
    let team = team().await;
    let other = team.site.tenant("Other").await;
    let stranger = team.site.user("stranger@example.com", &[(other, Role::Viewer)]).await;
    let owner = team.site.logged_in(OWNER).await;
    assert!(!owner.get("/settings/members").await.has("stranger"));
    owner.get(&format!("/settings/members/{stranger}")).await.expect(404);
    for action in ["role", "remove", "deactivate", "link"] {
        act(&owner, stranger, action, &[("role", "viewer")]).await.expect(404);
    }
}

#[tokio::test]
async fn a_platform_admin_sees_everybody_and_the_last_one_stays() {
    let team = team().await;
    let root = team.site.platform_admin("root@example.com").await;
    let orphan = team.site.user("orphan@example.com", &[]).await;
    let browser = team.site.logged_in("root@example.com").await;
    let act = async |id: Uuid, action: &str, fields: &[(&str, &str)]| {
        let page = browser.submit("/settings/users", &format!("/settings/users/{id}/{action}"), fields).await;
        assert_eq!(page.expect(303).location(), "/settings/users");
        browser.get("/settings/users").await.expect(200)
    };
    let page = browser.get("/settings/users").await.expect(200);
    assert!(page.has("orphan@example.com") && page.has(OWNER) && page.has("Acme (owner)"));
    let page = browser.get("/settings/users?q=ORPHAN").await.expect(200);
    assert!(page.has("orphan@example.com") && !page.has(OWNER));
    assert!(act(root, "admin", &[("admin", "no")]).await.has("last platform admin stays"));
    assert!(act(team.owner, "deactivate", &[]).await.has("last Owner stays"));
    assert!(act(orphan, "deactivate", &[]).await.has("is deactivated"));
    assert!(act(orphan, "reactivate", &[]).await.has("is active again"));
    assert!(act(orphan, "link", &[]).await.has("/reset/"));
    assert!(act(orphan, "admin", &[("admin", "yes")]).await.has("is a platform admin now"));
    team.site.logged_in("orphan@example.com").await.get("/settings/users").await.expect(200);
    let path = format!("/settings/users/{root}/admin");
    browser.submit("/settings/users", &path, &[("admin", "no")]).await.expect(303);
    browser.get("/settings/users").await.expect(404);
}

#[tokio::test]
async fn an_address_has_a_bound() {
    let team = team().await;
    let owner = team.site.logged_in(OWNER).await;
    let most = postrider_core::limits::EMAIL_BYTES_MAX;
    for (bytes, status) in [(most + 1, 422), (most, 303)] {
        let email = format!("{}@example.com", "a".repeat(bytes - "@example.com".len()));
        let fields = [("email", email.as_str()), ("role", "viewer")];
        owner.submit("/settings/members/invite", "/settings/members/invite", &fields).await.expect(status);
    }
}
