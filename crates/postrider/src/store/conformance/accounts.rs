//! Users, sessions and links for one use.

use std::time::Duration;

use postrider_core::limits::{PORTAL_LINKS_PER_TENANT_MAX, SESSIONS_PER_OWNER_MAX};
use postrider_core::time::UnixMs;
use uuid::Uuid;

use super::world::{DAY, HOUR, MINUTE, World, tenant};
use crate::store::*;

pub(crate) fn id(number: u8) -> Uuid {
    uuid::Builder::from_random_bytes([number; 16]).into_uuid()
}

pub(crate) fn user(number: u8, email: &str, now: UnixMs) -> UserRecord {
    UserRecord {
        id: id(number),
        email: email.to_owned(),
        name: "Ada \u{202e}<b>".to_owned(),
        password_hash: Some("$argon2id$…".to_owned()),
        identity: Some(Identity { issuer: "https://id.example".to_owned(), subject: number.to_string() }),
        is_platform_admin: number == 1,
        memberships: [(tenant(1), Role::Owner), (tenant(2), Role::Viewer)].into(),
        status: UserStatus::Active,
        sessions_since: now,
        last_login_at: None,
        created_at: now,
        updated_at: now,
    }
}

pub(crate) fn session(number: u8, owner: u8, now: UnixMs) -> SessionRecord {
    SessionRecord {
        id: id(number),
        hash: [number; 32],
        kind: SessionKind::User,
        owner: id(owner),
        tenant_id: Some(tenant(1)),
        role: (number % 2 == 1).then_some(Role::Member),
        created_at: now,
        seen_at: now,
        expires_at: now + HOUR,
        ends_at: now + DAY,
        address: Some("2001:db8::1".parse().unwrap()),
        agent: Some("Browser/1 \"quoted\"".to_owned()),
    }
}

pub(crate) fn link(number: u8, kind: LinkKind, owner: Option<u8>, now: UnixMs) -> LinkRecord {
    LinkRecord {
        hash: [number; 32],
        kind,
        owner: owner.map(id),
        body: serde_json::json!({"nonce": "n"}),
        created_at: now,
        expires_at: now + HOUR,
    }
}

async fn audited(world: &World, action: &str) -> usize {
    let log = world.store().audit_chain(0, 1000).await.unwrap();
    log.iter().filter(|record| record.entry.action == action).count()
}

pub(crate) async fn a_user_is_kept_and_has_its_address_alone(mut world: World) {
    let put = async |world: &World, user: UserRecord| {
        world.store().put_object(Object::User(user), world.audit(None, "user.put")).await
    };
    let ada = user(1, "Ada@Example.com", world.now);
    put(&world, ada.clone()).await.unwrap();
    let error = put(&world, user(2, " ada@example.COM", world.now)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict("email")), "{error:?}");
    world.crash().await;
    assert_eq!(world.store().configuration().await.unwrap().objects, [Object::User(ada.clone())]);
    // A tenant's end is not its members'.
    world.put_tenant(tenant(1)).await;
    world.store().delete_tenant(tenant(1), world.audit(None, "tenant.deleted")).await.unwrap();
    assert_eq!(world.store().configuration().await.unwrap().objects, [Object::User(ada)]);
}

pub(crate) async fn a_session_is_found_by_its_hash_until_it_expires(mut world: World) {
    let (one, other) = (session(1, 1, world.now), session(2, 1, world.now + MINUTE));
    world.store().put_session(one.clone(), Some(world.audit(None, "login"))).await.unwrap();
    world.store().put_session(other.clone(), None).await.unwrap();
    world.store().put_session(session(3, 2, world.now), None).await.unwrap();
    world.crash().await;
    assert_eq!(world.store().find_session(one.hash, world.now).await.unwrap().as_ref(), Some(&one));
    assert_eq!(world.store().find_session([9; 32], world.now).await.unwrap(), None);
    assert_eq!(world.store().sessions(id(1), world.now).await.unwrap(), [other.clone(), one.clone()]);
    assert_eq!(audited(&world, "login").await, 1);
    world.pass(HOUR);
    assert_eq!(world.store().find_session(one.hash, world.now).await.unwrap(), None);
    assert_eq!(world.store().sessions(id(1), world.now).await.unwrap(), [other]);
}

pub(crate) async fn a_session_that_was_ended_is_not_renewed(world: World) {
    let one = session(1, 1, world.now);
    world.store().put_session(one.clone(), None).await.unwrap();
    let renewed = SessionRecord { seen_at: world.now + MINUTE, expires_at: one.ends_at, tenant_id: None, ..one };
    assert!(world.store().renew_session(renewed.clone()).await.unwrap());
    assert_eq!(world.store().find_session([1; 32], world.now + HOUR).await.unwrap(), Some(renewed.clone()));
    assert_eq!(world.store().end_sessions(id(1), Ending::One(id(1)), None).await.unwrap(), 1);
    assert!(!world.store().renew_session(renewed).await.unwrap());
    assert_eq!(world.store().find_session([1; 32], world.now).await.unwrap(), None);
}

pub(crate) async fn sessions_end_one_by_one_or_all_but_one(world: World) {
    for number in 1..=4 {
        world.store().put_session(session(number, 1, world.now), None).await.unwrap();
    }
    world.store().put_session(session(5, 2, world.now), None).await.unwrap();
    let end = async |owner, which| {
        world.store().end_sessions(id(owner), which, Some(world.audit(None, "ended"))).await.unwrap()
    };
    assert_eq!(end(2, Ending::One(id(1))).await, 0, "that is another's");
    assert_eq!(audited(&world, "ended").await, 0);
    assert_eq!(end(1, Ending::One(id(1))).await, 1);
    assert_eq!(end(1, Ending::AllBut(Some(id(3)))).await, 2);
    let left = world.store().sessions(id(1), world.now).await.unwrap();
    assert_eq!(left.iter().map(|left| left.id).collect::<Vec<_>>(), [id(3)]);
    assert_eq!(end(1, Ending::AllBut(None)).await, 1);
    assert_eq!(end(1, Ending::AllBut(None)).await, 0);
    assert_eq!(world.store().sessions(id(2), world.now).await.unwrap().len(), 1);
    assert_eq!(audited(&world, "ended").await, 3);
}

pub(crate) async fn the_oldest_session_ends_for_one_too_many(world: World) {
    let many = u8::try_from(SESSIONS_PER_OWNER_MAX).unwrap();
    for number in 1..=many {
        let at = world.now + Duration::from_secs(number.into());
        world.store().put_session(session(number, 200, at), None).await.unwrap();
    }
    world.store().put_session(session(150, 201, world.now), None).await.unwrap();
    assert_eq!(world.store().sessions(id(200), world.now).await.unwrap().len(), SESSIONS_PER_OWNER_MAX);
    world.store().put_session(session(100, 200, world.now + MINUTE), None).await.unwrap();
    let left = world.store().sessions(id(200), world.now).await.unwrap();
    assert_eq!(left.len(), SESSIONS_PER_OWNER_MAX);
    assert!(left.iter().all(|left| left.id != id(1)) && left.iter().any(|left| left.id == id(2)));
    assert_eq!(world.store().sessions(id(201), world.now).await.unwrap().len(), 1);
    // Whoever has just logged in stays so: many may do it at the same moment, and a clock may be set back.
    for (number, at) in (101..=140).zip([world.now + MINUTE, world.now].into_iter().cycle()) {
        world.store().put_session(session(number, 200, at), None).await.unwrap();
        let left = world.store().sessions(id(200), world.now).await.unwrap();
        assert_eq!(left.len(), SESSIONS_PER_OWNER_MAX);
        assert!(left.iter().any(|left| left.id == id(number)), "{number}");
    }
}

pub(crate) async fn a_link_is_used_once(mut world: World) {
    let one = link(1, LinkKind::SetUp, None, world.now);
    world.store().put_link(one.clone(), Some(world.audit(None, "link"))).await.unwrap();
    world.store().put_link(link(2, LinkKind::SetUp, None, world.now), None).await.unwrap();
    world.crash().await;
    assert_eq!(world.store().link([1; 32], world.now).await.unwrap().as_ref(), Some(&one), "looking is no use");
    let store = world.shared();
    let takers = (0..4).map(|_| store.take_link([1; 32], world.now, None));
    let taken = futures_util::future::join_all(takers).await;
    let taken: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken, [one]);
    assert_eq!(world.store().link([1; 32], world.now).await.unwrap(), None);
    assert_eq!(audited(&world, "link").await, 1);
    world.pass(HOUR);
    assert_eq!(world.store().link([2; 32], world.now).await.unwrap(), None, "expired");
    assert_eq!(world.store().take_link([2; 32], world.now, None).await.unwrap(), None);
}

pub(crate) async fn an_owner_has_one_link_of_a_kind(world: World) {
    let put = async |number, kind, owner| {
        world.store().put_link(link(number, kind, Some(owner), world.now), None).await.unwrap();
    };
    put(1, LinkKind::Invitation, 1).await;
    put(2, LinkKind::PasswordReset, 1).await;
    put(3, LinkKind::Invitation, 2).await;
    put(4, LinkKind::Invitation, 1).await;
    let found = async |number| world.store().link([number; 32], world.now).await.unwrap().is_some();
    assert!(!found(1).await && found(2).await && found(3).await && found(4).await);
    world.store().drop_links(id(1)).await.unwrap();
    assert!(!found(2).await && found(3).await && !found(4).await);
}

pub(crate) async fn an_owner_has_many_links_into_the_portal_listed_and_revoked(mut world: World) {
    let hours = |number: u8| Duration::from_secs(u64::from(number) * 60 * 60);
    let put = async |number, kind, owner| {
        let new = LinkRecord { expires_at: world.now + hours(number), ..link(number, kind, Some(owner), world.now) };
        world.store().put_link(new.clone(), None).await.unwrap();
        new
    };
    let first = put(1, LinkKind::Portal, 1).await;
    let second = put(2, LinkKind::Portal, 1).await;
    let other = put(3, LinkKind::Portal, 2).await;
    put(4, LinkKind::Invitation, 1).await;
    let listed = async |owner, now| {
        let mut links = world.store().links(id(owner), LinkKind::Portal, now).await.unwrap();
        links.sort_by_key(|link| link.hash);
        links
    };
    assert_eq!(listed(1, world.now).await, [first.clone(), second.clone()]);
    assert_eq!(listed(2, world.now).await, [other]);
    assert_eq!(listed(1, world.now + HOUR).await, *std::slice::from_ref(&second), "the other one has ended");
    let named = async |kind, id, now| world.store().link_by_id(kind, id, now).await.unwrap();
    assert_eq!(named(LinkKind::Portal, second.id(), world.now).await.as_ref(), Some(&second));
    assert_eq!(named(LinkKind::Portal, first.id(), world.now + HOUR).await, None);
    assert_eq!(named(LinkKind::Invitation, second.id(), world.now).await, None, "that is of another kind");
    assert_eq!(named(LinkKind::Portal, Uuid::from_bytes([9; 16]), world.now).await, None);
    let take = async |hash| {
        world.store().take_link(hash, world.now, Some(world.audit(None, "revoked"))).await.unwrap().is_some()
    };
    assert!(take(first.hash).await && !take(first.hash).await);
    assert_eq!(audited(&world, "revoked").await, 1);
    world.crash().await;
    assert_eq!(world.store().links(id(1), LinkKind::Portal, world.now).await.unwrap(), [second]);
}

pub(crate) async fn the_link_that_ends_first_goes_for_one_too_many(world: World) {
    let put = async |number: usize, expires_at| {
        let mut new = link(1, LinkKind::Portal, Some(1), world.now);
        new.hash[..8].copy_from_slice(&number.to_be_bytes());
        new.expires_at = expires_at;
        world.store().put_link(new, None).await.unwrap();
    };
    let last = world.now + HOUR;
    let numbers: Vec<_> = (1..PORTAL_LINKS_PER_TENANT_MAX).collect();
    // Some at once, since each is a transaction; not more than may wait for a connection.
    for some in numbers.chunks(16) {
        futures_util::future::join_all(some.iter().map(|number| put(*number, last))).await;
    }
    put(0, world.now + MINUTE).await;
    let all = world.store().links(id(1), LinkKind::Portal, world.now).await.unwrap();
    assert_eq!(all.len(), PORTAL_LINKS_PER_TENANT_MAX);
    assert!(all.iter().any(|link| link.expires_at < last));
    put(PORTAL_LINKS_PER_TENANT_MAX, last).await;
    let all = world.store().links(id(1), LinkKind::Portal, world.now).await.unwrap();
    assert_eq!(all.len(), PORTAL_LINKS_PER_TENANT_MAX);
    assert!(all.iter().all(|link| link.expires_at == last));
}

pub(crate) async fn what_has_ended_is_swept(world: World) {
    world.store().put_session(session(1, 1, world.now), None).await.unwrap();
    world.store().put_session(session(2, 1, world.now + HOUR), None).await.unwrap();
    world.store().put_link(link(1, LinkKind::Oidc, None, world.now), None).await.unwrap();
    world.store().put_link(link(2, LinkKind::Oidc, None, world.now + HOUR), None).await.unwrap();
    let report = world.store().sweep(world.now + HOUR, 7).await.unwrap();
    assert_eq!(report.rows_removed, 2);
    // By the clock of then, to see what is there.
    assert_eq!(world.store().sessions(id(1), world.now).await.unwrap().len(), 1);
    assert!(world.store().link([1; 32], world.now).await.unwrap().is_none());
    assert!(world.store().link([2; 32], world.now).await.unwrap().is_some());
}
