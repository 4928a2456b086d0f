use super::*;

fn pattern() -> Pattern {
    Pattern::default()
}

#[test]
fn a_pattern_is_a_star_and_a_domain() {
    assert_eq!(pattern().to_string(), DEFAULT_PATTERN);
    assert_eq!(DEFAULT_PATTERN.parse(), Ok(pattern()));
    assert_eq!(" *.V3.Athena-Cluster.com ".parse(), Ok(pattern()));
    // 253 bytes with a token of 64 and its dot.
    let long = |n: usize| {
        let labels = format!("{0}.{0}.{1}", "a".repeat(62), "b".repeat(n - 126));
        assert_eq!(labels.len(), n);
        format!("*.{labels}")
    };
    assert!(long(188).parse::<Pattern>().is_ok());
    assert!(long(189).parse::<Pattern>().is_err());
    for bad in [
        "",
        "*",
        "*.",
        "*.com",
        "v3.athena-cluster.com",
        "a.*.example.com",
        "*.*.example.com",
        "*example.com",
        "*.example..com",
        "*..example.com",
        "*.example.com.",
        "*.example.com:443",
        "*.exa_mple.com",
        "*.-a.example.com",
        "*.a-.example.com",
        "*.a b.example.com",
        "*.[::1].com",
        "*.*",
        "https://*.example.com",
    ] {
        assert_eq!(bad.parse::<Pattern>(), Err(InvalidPattern), "{bad}");
    }
    let label = |n: usize| format!("*.{}.example", "a".repeat(n));
    assert!(label(63).parse::<Pattern>().is_ok() && label(64).parse::<Pattern>().is_err());
}

#[test]
fn a_host_stands_for_its_first_label() {
    let long = "a".repeat(64);
    for (host, token) in [
        ("acme.v3.athena-cluster.com", Some("acme")),
        ("ACME.V3.Athena-Cluster.COM", Some("acme")),
        ("acme.v3.athena-cluster.com:8443", Some("acme")),
        ("acme.v3.athena-cluster.com.", Some("acme")),
        ("acme.v3.athena-cluster.com.:443", Some("acme")),
        (" acme.v3.athena-cluster.com ", Some("acme")),
        ("a-b_c9.v3.athena-cluster.com", Some("a-b_c9")),
        ("acme.v3.athena-cluster.com..", None),
        ("acme.v3.athena-cluster.com:", None),
        ("acme.v3.athena-cluster.com:http", None),
        ("acme.v3.athena-cluster.com:123456", None),
        ("acme.v3.athena-cluster.com:80:80", None),
        ("acme.v3.athena-cluster.com:-1", None),
        ("v3.athena-cluster.com", None),
        (".v3.athena-cluster.com", None),
        ("a.b.v3.athena-cluster.com", None),
        ("acmev3.athena-cluster.com", None),
        ("acme.v3.athena-cluster.com.evil.example", None),
        ("acme.v3.athena-cluster.org", None),
        ("ac me.v3.athena-cluster.com", None),
        ("acme@b.v3.athena-cluster.com", None),
        ("user:80@acme.v3.athena-cluster.com", None),
        ("acme%2e.v3.athena-cluster.com", None),
        ("acmé.v3.athena-cluster.com", None),
        ("acme/.v3.athena-cluster.com", None),
        ("acme\0.v3.athena-cluster.com", None),
        ("*.v3.athena-cluster.com", None),
        ("[::1]", None),
        ("[::1]:443", None),
        ("::1", None),
        ("[acme.v3.athena-cluster.com]", None),
        ("[acme.v3.athena-cluster.com]:443", None),
        ("127.0.0.1", None),
        ("127.0.0.1:80", None),
        ("", None),
        (".", None),
        (":", None),
        (":443", None),
    ] {
        assert_eq!(pattern().token(host).as_deref(), token, "{host}");
    }
    let host = |n: usize| format!("{}.v3.athena-cluster.com", "a".repeat(n));
    assert_eq!(pattern().token(&host(limits::GATEWAY_TOKEN_BYTES_MAX)), Some(long));
    assert_eq!(pattern().token(&host(limits::GATEWAY_TOKEN_BYTES_MAX + 1)), None);
    let own: Pattern = "*.data.example.org".parse().unwrap();
    assert_eq!(own.token("acme.data.example.org").as_deref(), Some("acme"));
    assert_eq!(own.token("acme.v3.athena-cluster.com"), None);
    assert_eq!(own.host("acme"), "acme.data.example.org");
    assert_eq!(own.token(&own.host("acme")).as_deref(), Some("acme"));
}

#[test]
fn a_token_is_one_label() {
    assert_eq!(parse_token(" Acme-1_x "), Ok("acme-1_x".to_owned()));
    for bad in ["", " ", "a.b", "a b", "a/b", "ä", "a*", "a\n b", &"a".repeat(65)] {
        assert_eq!(parse_token(bad), Err(InvalidToken), "{bad}");
    }
}

fn names<'a>(host: &'a str, x_forwarded_host: &'a str, forwarded: &'a str) -> Headers<'a> {
    let given = |value: &'a str| Some(value).filter(|value| !value.is_empty());
    Headers { host: given(host), x_forwarded_host: given(x_forwarded_host), forwarded: given(forwarded) }
}

#[test]
fn what_a_proxy_forwards_counts_only_if_it_is_trusted() {
    let (a, b, c) = ("a.v3.athena-cluster.com", "b.v3.athena-cluster.com", "host=c.v3.athena-cluster.com");
    assert_eq!(pattern().tokens(names(a, b, c), false), ["a"]);
    assert_eq!(pattern().tokens(names(a, b, c), true), ["a", "b", "c"]);
    assert_eq!(pattern().tokens(names("", b, c), false), [""; 0]);
    assert_eq!(pattern().tokens(names("10.0.0.1:80", b, c), false), [""; 0]);
    assert_eq!(pattern().tokens(names("10.0.0.1:80", b, c), true), ["b", "c"]);
    assert_eq!(pattern().tokens(names(a, a, ""), true), ["a"]);
    assert_eq!(pattern().tokens(Headers::default(), true), [""; 0]);
}

#[test]
fn of_several_forwarded_hosts_the_first_counts() {
    let of = |x_forwarded_host, forwarded| pattern().tokens(names("", x_forwarded_host, forwarded), true);
    assert_eq!(of("a.v3.athena-cluster.com, b.v3.athena-cluster.com", ""), ["a"]);
    assert_eq!(of("evil.example, b.v3.athena-cluster.com", ""), [""; 0]);
    assert_eq!(of(",b.v3.athena-cluster.com", ""), [""; 0]);
    for (forwarded, tokens) in [
        ("host=a.v3.athena-cluster.com", vec!["a"]),
        ("HOST=\"A.v3.athena-cluster.com:443\"", vec!["a"]),
        ("for=192.0.2.60;proto=https; host=a.v3.athena-cluster.com;by=x", vec!["a"]),
        ("for=\"[2001:db8::1]:80\", for=x;host=b.v3.athena-cluster.com", vec!["b"]),
        ("for=\"a,host=x.v3.athena-cluster.com\";host=b.v3.athena-cluster.com", vec!["b"]),
        ("for=\"a\\\"b;host=x.v3.athena-cluster.com\";host=b.v3.athena-cluster.com", vec!["b"]),
        ("host=\"a\\.v3.athena-cluster.com\"", vec!["a"]),
        ("host=a.v3.athena-cluster.com, host=b.v3.athena-cluster.com", vec!["a"]),
        ("host=evil.example, host=b.v3.athena-cluster.com", vec![]),
        ("host=\"a.v3.athena-cluster.com", vec![]),
        ("host=\"[::1]:80\"", vec![]),
        ("host=", vec![]),
        ("host", vec![]),
        (";;,,=;", vec![]),
        ("xhost=a.v3.athena-cluster.com", vec![]),
        ("host = a.v3.athena-cluster.com", vec!["a"]),
        ("ä=é;host=a.v3.athena-cluster.com", vec!["a"]),
    ] {
        assert_eq!(of("", forwarded), tokens, "{forwarded}");
    }
}
