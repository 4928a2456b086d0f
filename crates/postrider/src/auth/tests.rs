#![allow(clippy::unwrap_used)]

use axum::http::Request;
use postrider_core::ids::TenantId;

use super::*;

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
