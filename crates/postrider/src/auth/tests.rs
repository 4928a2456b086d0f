#![allow(clippy::unwrap_used)]

pub(crate) mod signer;

use axum::http::Request;
use postrider_core::ids::TenantId;

use super::*;
use crate::auth::claims;

fn parts(peer: &str, forwarded: &[&str]) -> Parts {
    let mut request = Request::get("/").extension(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4000)));
    for value in forwarded {
        request = request.header("x-forwarded-for", *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn forwarded_addresses_are_believed_only_from_trusted_proxies() {
    let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let table: [(&str, &[&str], &str); 10] = [
        ("192.0.2.1", &[], "192.0.2.1"),
        ("192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", &["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", &["203.0.113.9", "10.0.0.2, 10.0.0.3"], "203.0.113.9"),
        ("10.0.0.1", &["nonsense, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
        ("::ffff:10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
    ];
    for (peer, forwarded, client) in table {
        let told = client_address(&parts(peer, forwarded), &trusted).unwrap();
        assert_eq!(told, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
    }
}

fn with_authorization(value: &[u8]) -> Parts {
    Request::get("/").header("authorization", value).body(()).unwrap().into_parts().0
}

#[test]
fn a_credential_has_the_form_bearer_and_key() {
    let authenticator = Authenticator::new(&Secret::new("the admin key".to_owned()), 0);
    let ask = |value: &[u8]| {
        let principal = authenticator.bearer(&Catalog::default(), &with_authorization(value), UnixMs(0));
        principal.map(|principal| principal.actor_id())
    };
    for right in ["Bearer the admin key", "bearer the admin key", "BEARER   the admin key "] {
        assert_eq!(ask(right.as_bytes()).unwrap(), "admin", "{right}");
    }
    let missing: [&[u8]; 6] = [b"", b"Bearer", b"Bearer ", b"Basic the admin key", b"the admin key", b"Bearer \xff"];
    for value in missing {
        assert_eq!(ask(value), Err(Denied::Missing), "{value:?}");
    }
    for unknown in ["Bearer the admin ke", "Bearer the admin key2", "Bearer THE ADMIN KEY"] {
        assert_eq!(ask(unknown.as_bytes()), Err(Denied::Unknown), "{unknown}");
    }
}

#[test]
fn a_role_has_what_those_below_it_have_and_scopes_only_take_away() {
    let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
    for permission in Permission::ALL {
        let allowed: Vec<_> = roles.iter().map(|role| allows(*role, &[], *permission)).collect();
        assert!(allowed.is_sorted(), "{permission:?}");
        assert!(allowed[3], "{permission:?}");
        for role in roles {
            let narrowed = allows(role, &[permission.name().to_owned()], *permission);
            assert_eq!(narrowed, allows(role, &[], *permission));
            assert!(!allows(role, &["other".to_owned()], *permission));
        }
        assert_eq!(Permission::from_name(permission.name()), Some(*permission));
    }
}

fn key(name: &str) -> KeyRecord {
    KeyRecord {
        id: postrider_core::ids::KeyId::from_random(hash(name.as_bytes())[..16].try_into().unwrap()),
        tenant_id: TenantId::from_random([1; 16]),
        name: name.to_owned(),
        role: Role::Owner,
        scopes: Vec::new(),
        hash: hash(name.as_bytes()),
        shown_prefix: String::new(),
        expires_at: None,
        created_at: UnixMs(0),
    }
}

#[test]
fn each_key_has_a_rate_of_its_own() {
    let authenticator = Authenticator::new(&Secret::new("admin".to_owned()), 2);
    let catalog = Catalog::default();
    catalog.put_key(key("one"));
    catalog.put_key(key("two"));
    let ask = |name: &str| {
        let parts = with_authorization(format!("Bearer {name}").as_bytes());
        authenticator.bearer(&catalog, &parts, UnixMs(0)).map(drop)
    };
    let refused = std::iter::repeat_with(|| ask("one")).take(1000).find_map(Result::err).unwrap();
    match refused {
        Denied::RateLimited { retry_after } => assert!(retry_after <= Duration::from_millis(500), "{retry_after:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask("two"), Ok(()));
    assert_eq!(ask("admin"), Ok(()));
}

#[test]
fn guessing_keys_costs_no_state() {
    let authenticator = Authenticator::new(&Secret::new("admin".to_owned()), 2);
    for n in 0..1000 {
        let parts = with_authorization(format!("Bearer guess {n}").as_bytes());
        assert_eq!(authenticator.bearer(&Catalog::default(), &parts, UnixMs(0)).unwrap_err(), Denied::Unknown);
    }
    assert_eq!(authenticator.limiter.unwrap().len(), 0);
}

#[test]
fn an_expired_key_is_unknown_from_its_moment_on() {
    let authenticator = Authenticator::new(&Secret::new("admin".to_owned()), 0);
    let catalog = Catalog::default();
    catalog.put_key(KeyRecord { expires_at: Some(UnixMs(1000)), ..key("brief") });
    let ask = |now: i64| authenticator.bearer(&catalog, &with_authorization(b"Bearer brief"), UnixMs(now)).map(drop);
    assert_eq!(ask(999), Ok(()));
    assert_eq!(ask(1000), Err(Denied::Unknown));
}

#[test]
fn the_origin_is_the_hosts_or_a_trusted_proxys() {
    let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
    let parts = |peer: &str, headers: &[(&str, &str)]| {
        let mut request = Request::get("/").extension(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4000)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    };
    let forwarded = [("host", "node-1:8080"), ("x-forwarded-host", "hooks.example"), ("x-forwarded-proto", "https")];
    let several = [
        ("host", "node-1"),
        ("x-forwarded-host", "evil.example, hooks.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-proto", "http, https"),
    ];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let table: [Case<'_>; 11] = [
        ("192.0.2.1", &[("host", "hooks.example")], Some("http://hooks.example")),
        ("192.0.2.1", &[("host", "Hooks.Example:80")], Some("http://hooks.example")),
        ("192.0.2.1", &[("host", "[2001:db8::1]:8080")], Some("http://[2001:db8::1]:8080")),
        ("192.0.2.1", &forwarded, Some("http://node-1:8080")),
        ("10.0.0.1", &forwarded, Some("https://hooks.example")),
        ("10.0.0.1", &several, Some("https://hooks.example")),
        ("10.0.0.1", &[("host", "node-1"), ("x-forwarded-proto", "https")], Some("https://node-1")),
        ("10.0.0.1", &[("host", "node-1"), ("x-forwarded-proto", "javascript")], None),
        ("192.0.2.1", &[("host", "a@b")], None),
        ("192.0.2.1", &[("host", "a/b?c")], None),
        ("192.0.2.1", &[], None),
    ];
    for (peer, headers, expected) in table {
        assert_eq!(origin(&parts(peer, headers), &trusted).as_deref(), expected, "{peer} {headers:?}");
    }
}

fn token(reach: Reach, reads: bool, writes: bool) -> Principal {
    Principal::Token(Arc::new(Token { subject: "alice@https://id.example".into(), reach, reads, writes }))
}

#[test]
fn a_token_sees_or_changes_all_within_its_reach_and_nothing_that_it_is_not_for() {
    let (tenant, partner) = (TenantId::from_random([1; 16]), PartnerId::from_random([2; 16]));
    for reach in [Reach::Platform, Reach::Partner(partner), Reach::Tenant(tenant)] {
        for (reads, writes) in [(false, false), (true, false), (false, true), (true, true)] {
            let token = token(reach, reads, writes);
            for permission in Permission::ALL {
                let may = if permission.reads() { reads } else { writes };
                assert_eq!(token.may(*permission), may, "{reach:?} {permission:?}");
            }
            assert_eq!(token.is_platform(), reach == Reach::Platform && writes, "{reach:?}");
            assert_eq!(token.sees_platform(), reach == Reach::Platform && reads, "{reach:?}");
        }
    }
    assert_eq!(token(Reach::Platform, true, true).scope(), Scope::Platform);
    assert_eq!(token(Reach::Partner(partner), true, true).scope(), Scope::Tenant(TenantId(partner.0)));
    assert_eq!(token(Reach::Tenant(tenant), true, true).scope(), Scope::Tenant(tenant));
}

#[test]
fn one_subject_is_another_actor_in_every_reach() {
    let reaches = [
        Reach::Platform,
        Reach::Partner(PartnerId::from_random([1; 16])),
        Reach::Tenant(TenantId::from_random([1; 16])),
        Reach::Tenant(TenantId::from_random([2; 16])),
    ];
    let actors: std::collections::BTreeSet<_> =
        reaches.iter().map(|reach| token(*reach, true, true).actor_id()).collect();
    assert_eq!(actors.len(), reaches.len(), "{actors:?}");
    assert!(actors.contains("token:platform:alice@https://id.example"), "{actors:?}");
}

#[test]
fn a_platform_token_ends_with_the_admin_key_it_was_issued_for() {
    let given = postrider_core::jws::Claims {
        client_id: Some("admin".to_owned()),
        platform_token: Some(true),
        scope: Some("admin:read".to_owned()),
        bound_to: Some("this key".to_owned()),
        ..Default::default()
    };
    let bearer = |claims| claims::own(&Catalog::default(), "this key", &claims, UnixMs(0));
    let admin = bearer(given.clone()).unwrap();
    assert!(admin.sees_platform() && !admin.is_platform());
    for bound_to in [Some("another key".to_owned()), Some(String::new()), None] {
        assert!(bearer(postrider_core::jws::Claims { bound_to, ..given.clone() }).is_none());
    }
    assert!(bearer(postrider_core::jws::Claims { platform_token: None, ..given.clone() }).is_none());
    assert!(bearer(postrider_core::jws::Claims { client_id: None, ..given }).is_none());
}

#[test]
fn tenants_are_known_by_the_id_that_the_operator_has_given_them_while_they_have_it() {
    let catalog = Catalog::default();
    let tenant = |id: u8, external_id: Option<&str>| crate::store::TenantRecord {
        id: TenantId::from_random([id; 16]),
        name: String::new(),
        partner_id: None,
        external_id: external_id.map(str::to_owned),
        dialect: Default::default(),
        settings: Default::default(),
        created_at: UnixMs(0),
        updated_at: UnixMs(0),
    };
    let found = |name: &str| catalog.tenant_by_external_id(name).map(|tenant| tenant.id);
    let (one, two) = (tenant(1, None).id, tenant(2, None).id);
    catalog.put_tenant(tenant(1, Some("a")));
    catalog.put_tenant(tenant(2, Some("b")));
    assert_eq!((found("a"), found("b"), found("c")), (Some(one), Some(two), None));
    // They exchange their names.
    catalog.put_tenant(tenant(1, Some("b")));
    catalog.put_tenant(tenant(2, Some("a")));
    assert_eq!((found("a"), found("b")), (Some(two), Some(one)));
    catalog.put_tenant(tenant(1, None));
    assert_eq!((found("a"), found("b")), (Some(two), None));
    catalog.remove_tenant(two);
    assert_eq!(found("a"), None);
    let configuration = crate::store::Configuration { tenants: vec![tenant(3, Some("c"))], ..Default::default() };
    assert!(Catalog::new(configuration).tenant_by_external_id("c").is_some());
}

#[test]
fn nobody_else_is_given_our_own_name() {
    #[derive(Debug)]
    struct Nowhere;
    impl crate::egress::Fetch for Nowhere {
        fn fetch<'a>(
            &'a self,
            _: &'a url::Url,
            _: usize,
            _: Duration,
        ) -> futures_util::future::BoxFuture<'a, Result<bytes::Bytes, String>> {
            panic!("nothing is to be fetched")
        }
    }
    let fetch: Arc<dyn crate::egress::Fetch> = Arc::new(Nowhere);
    let directory = tempfile::tempdir().unwrap();
    for (issuer, is_good) in [("https://id.example", true), ("https://hooks.example", false)] {
        let opened = crate::config::Checked::defaults().open_with(&crate::ambient::System, |config| {
            config.data = directory.path().to_owned();
            config.public_url = Some("https://hooks.example/".parse().unwrap());
            let keys = crate::config::KeySource::Url(format!("{issuer}/jwks").parse().unwrap());
            config.jwt_issuers =
                vec![crate::config::JwtIssuer { issuer: issuer.to_owned(), audiences: Vec::new(), keys }];
        });
        assert_eq!(Tokens::new(&opened.unwrap().config, &fetch).is_ok(), is_good, "{issuer}");
    }
}
