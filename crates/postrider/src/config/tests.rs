#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::{Args, FromArgMatches};
use postrider_core::limits::{JWKS_BYTES_MAX, JWT_ISSUERS_MAX, JWT_NAME_BYTES_MAX};

use super::*;
use crate::ambient::System;

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

const ISSUERS: &str = r#"[
    {"issuer": "https://id.example", "audience": ["a", "b"], "jwks_url": "https://id.example/jwks"},
    {"issuer": "accounts.example", "jwks_file": "/etc/keys.json"}
]"#;

/// The one message about a bad value.
fn refusal(name: &str, value: &str) -> String {
    let error = variables(&[(name, value)]).load().unwrap_err();
    assert_eq!(error.0.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn without_any_source_the_documented_defaults_hold() {
    let checked = Sources::default().load().unwrap().checked;
    let config = &checked.config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.data, PathBuf::from("./postrider-data"));
    assert_eq!(config.egress.ports, [80, 443, 8080, 8443]);
    assert!(!config.egress.allow_http);
    assert_eq!(config.retention_days, 7);
    assert_eq!(config.shutdown_grace, Duration::from_secs(20));
    assert_eq!(config.auto_disable_after, Some(Duration::from_secs(5 * 86_400)));
    assert_eq!(config.api_rate_per_second, 0);
    assert!(config.jwt_issuers.is_empty());
    assert_eq!((config.jwt_audience.as_str(), config.token_lifetime), ("postrider", Duration::from_secs(3600)));
    assert!(config.dispatch_threads >= 1);
    assert!(config.gateway.enforces_keys && config.gateway.sqlite_directories.is_empty());
    assert_eq!(config.gateway.host_pattern.as_ref().unwrap().to_string(), "*.v3.athena-cluster.com");
    assert!(config.console && config.oidc.is_none());
    assert!(config.portal.is_on && config.portal.logo.is_none() && config.portal.accent.is_none());
    assert_eq!((config.portal.name.as_str(), config.portal.frame_ancestors.len()), ("Webhooks", 0));
    assert!(config.otlp_endpoint.is_none());
    assert_eq!(format!("{config:?}"), format!("{:?}", Checked::defaults().config));
}

#[test]
fn every_switch_takes_a_good_value_from_its_variable() {
    let master = MasterKey::new([3; 32], "").encoded();
    let logo = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/icon.svg");
    let loaded = variables(&[
        ("POSTRIDER_LISTEN", "localhost:9000"),
        ("POSTRIDER_DATA", "/var/lib/postrider"),
        ("POSTRIDER_STORE", "embedded"),
        ("POSTRIDER_STORE_CA_FILE", "/c.pem"),
        ("POSTRIDER_STORE_CONNECTIONS", "8"),
        ("POSTRIDER_NODE_NAME", "a"),
        ("POSTRIDER_NODE_TTL", "30s"),
        ("POSTRIDER_AUTO_MIGRATE", "no"),
        ("POSTRIDER_ADMIN_KEY", "an-admin-key"),
        ("POSTRIDER_MASTER_KEY", &master),
        ("POSTRIDER_PUBLIC_URL", "https://hooks.example.com"),
        ("POSTRIDER_EGRESS_ALLOW", "10.1.2.3/8, ::1, 192.168.0.7"),
        ("POSTRIDER_EGRESS_PORTS", "443, 9000-9002"),
        ("POSTRIDER_ALLOW_HTTP", "true"),
        ("POSTRIDER_EGRESS_CA_FILES", "/a.pem,/b.pem"),
        ("POSTRIDER_EGRESS_PROXY", "http://proxy:3128"),
        ("POSTRIDER_RETENTION_DAYS", "30"),
        ("POSTRIDER_TRUSTED_PROXIES", "172.16.0.0/12"),
        ("POSTRIDER_SHUTDOWN_GRACE", "1500ms"),
        ("POSTRIDER_AUTO_DISABLE_AFTER", "off"),
        ("POSTRIDER_API_RATE", "100"),
        ("POSTRIDER_JWT_ISSUERS", ISSUERS),
        ("POSTRIDER_JWT_AUDIENCE", "https://hooks.example.com"),
        ("POSTRIDER_TOKEN_LIFETIME", "15m"),
        ("POSTRIDER_CONSOLE", "off"),
        ("POSTRIDER_OIDC_ISSUER", "https://id.example.com/realm"),
        ("POSTRIDER_OIDC_CLIENT_ID", "postrider"),
        ("POSTRIDER_OIDC_CLIENT_SECRET", "s3cret-s3cret"),
        ("POSTRIDER_OIDC_SCOPES", "email openid groups"),
        ("POSTRIDER_OIDC_NAME", "Example ID"),
        ("POSTRIDER_PORTAL", "yes"),
        ("POSTRIDER_PORTAL_NAME", "Acme"),
        ("POSTRIDER_PORTAL_LOGO_FILE", logo),
        ("POSTRIDER_PORTAL_ACCENT", "#0b6b3a"),
        ("POSTRIDER_PORTAL_ACCENT_DARK", "#6fd59b"),
        ("POSTRIDER_PORTAL_FRAME_ANCESTORS", "https://app.example.com, http://localhost:3000"),
        ("POSTRIDER_DISPATCH_THREADS", "3"),
        ("POSTRIDER_GATEWAY_KEYS", "off"),
        ("POSTRIDER_SQLITE_CLIENTS", "/a, /b"),
        ("POSTRIDER_CLIENT_HOSTS", "db.internal:5433, *.example.com, 10.0.0.0/8"),
        ("POSTRIDER_TENANT_HOST_PATTERN", "*.db.example.com"),
        ("POSTRIDER_GATEWAY_CONNECTIONS", "2"),
        ("POSTRIDER_GATEWAY_CONNECTIONS_TOTAL", "20"),
        ("POSTRIDER_GATEWAY_STATEMENT_TIMEOUT", "5s"),
        ("POSTRIDER_GATEWAY_ROWS", "100"),
        ("POSTRIDER_GATEWAY_REPLY_BYTES", "4096"),
        ("POSTRIDER_LOG", "warn,postrider::pipeline=debug"),
        ("POSTRIDER_LOG_FORMAT", "json"),
        ("POSTRIDER_OTLP_ENDPOINT", "http://collector:4318"),
    ])
    .load()
    .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(
        loaded.values.iter().all(|value| value.origin == Origin::Variable(value.setting.variable())),
        "every switch of the table is in this test"
    );
    let config = &loaded.checked.config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(config.data, PathBuf::from("/var/lib/postrider"));
    assert_eq!(loaded.checked.admin_key.as_ref().unwrap().reveal(), "an-admin-key");
    assert_eq!(loaded.checked.master_key.as_ref().unwrap().encoded(), master);
    assert_eq!(config.public_url.as_ref().unwrap().as_str(), "https://hooks.example.com/");
    let allowed: Vec<String> = config.egress.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.0/8", "::1/128", "192.168.0.7/32"]);
    assert_eq!(config.egress.ports, [443, 9000, 9001, 9002]);
    assert!(config.egress.allow_http);
    assert_eq!(config.egress_ca_files, [PathBuf::from("/a.pem"), PathBuf::from("/b.pem")]);
    assert_eq!(config.egress_proxy.as_ref().unwrap().host_str(), Some("proxy"));
    assert_eq!(config.retention_days, 30);
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.shutdown_grace, Duration::from_millis(1500));
    assert_eq!(config.auto_disable_after, None);
    assert_eq!(config.api_rate_per_second, 100);
    let issuers: Vec<_> = config.jwt_issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
    assert_eq!(issuers, ["https://id.example", "accounts.example"]);
    assert_eq!(config.jwt_issuers[0].audiences, ["a", "b"]);
    assert_eq!(config.jwt_issuers[0].keys, KeySource::Url("https://id.example/jwks".parse().unwrap()));
    assert_eq!(config.jwt_issuers[1].keys, KeySource::File("/etc/keys.json".into()));
    assert_eq!(config.jwt_audience, "https://hooks.example.com");
    assert_eq!(config.token_lifetime, Duration::from_secs(900));
    assert!(!config.console);
    let oidc = config.oidc.as_ref().unwrap();
    assert_eq!((oidc.issuer.as_str(), oidc.client_id.as_str()), ("https://id.example.com/realm", "postrider"));
    assert_eq!(oidc.client_secret.as_ref().unwrap().reveal(), "s3cret-s3cret");
    assert_eq!((oidc.scopes.as_str(), oidc.name.as_str()), ("openid email groups", "Example ID"));
    assert_eq!(config.dispatch_threads, 3);
    let gateway = &config.gateway;
    assert!(!gateway.enforces_keys);
    assert_eq!(gateway.sqlite_directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(gateway.client_hosts.len(), 3);
    assert_eq!(gateway.host_pattern.as_ref().unwrap().to_string(), "*.db.example.com");
    assert_eq!((gateway.connections_per_client, gateway.connections_max), (2, 20));
    assert_eq!(gateway.statement_timeout, Duration::from_secs(5));
    assert_eq!((gateway.rows_max, gateway.reply_bytes_max), (100, 4096));
    assert_eq!(config.log.filter, "warn,postrider::pipeline=debug");
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.otlp_endpoint.as_ref().unwrap().port(), Some(4318));
}

#[test]
fn every_switch_refuses_a_bad_value_by_name() {
    let bad = [
        ("POSTRIDER_LISTEN", "8080"),
        ("POSTRIDER_LISTEN", "127.0.0.1"),
        ("POSTRIDER_STORE", "redis://x"),
        ("POSTRIDER_PUBLIC_URL", "hooks.example.com"),
        ("POSTRIDER_PUBLIC_URL", "ftp://x"),
        ("POSTRIDER_EGRESS_ALLOW", "10.0.0.0/8,ten"),
        ("POSTRIDER_EGRESS_PORTS", "0"),
        ("POSTRIDER_EGRESS_PORTS", "9-1"),
        ("POSTRIDER_EGRESS_PORTS", ","),
        ("POSTRIDER_ALLOW_HTTP", "maybe"),
        ("POSTRIDER_EGRESS_PROXY", "socks5://x"),
        ("POSTRIDER_RETENTION_DAYS", "0"),
        ("POSTRIDER_RETENTION_DAYS", "a week"),
        ("POSTRIDER_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("POSTRIDER_SHUTDOWN_GRACE", "20"),
        ("POSTRIDER_AUTO_DISABLE_AFTER", "never"),
        ("POSTRIDER_API_RATE", "-1"),
        ("POSTRIDER_JWT_ISSUERS", "https://id.example"),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","jwks_url":"https://a/","jwks_file":"/a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","jwks_url":"file:///a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","jwks_file":""}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"","jwks_file":"/a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a@b","jwks_file":"/a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","audience":[],"jwks_file":"/a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","audience":"b c","jwks_file":"/a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","algorithm":"HS256","jwks_file":"/a"}]"#),
        ("POSTRIDER_JWT_ISSUERS", r#"[{"issuer":"a","jwks_file":"/a"},{"issuer":"a","jwks_file":"/b"}]"#),
        ("POSTRIDER_JWT_AUDIENCE", "a b"),
        ("POSTRIDER_TOKEN_LIFETIME", "59s"),
        ("POSTRIDER_TOKEN_LIFETIME", "25h"),
        ("POSTRIDER_STORE_CONNECTIONS", "1"),
        ("POSTRIDER_NODE_TTL", "1s"),
        ("POSTRIDER_AUTO_MIGRATE", "perhaps"),
        ("POSTRIDER_DISPATCH_THREADS", "0"),
        ("POSTRIDER_GATEWAY_KEYS", "perhaps"),
        ("POSTRIDER_SQLITE_CLIENTS", "data"),
        ("POSTRIDER_CLIENT_HOSTS", "a b"),
        ("POSTRIDER_TENANT_HOST_PATTERN", "example.com"),
        ("POSTRIDER_GATEWAY_CONNECTIONS", "0"),
        ("POSTRIDER_GATEWAY_CONNECTIONS_TOTAL", "0"),
        ("POSTRIDER_GATEWAY_STATEMENT_TIMEOUT", "1ms"),
        ("POSTRIDER_GATEWAY_ROWS", "10001"),
        ("POSTRIDER_GATEWAY_REPLY_BYTES", "1023"),
        ("POSTRIDER_LOG", "postrider=loud"),
        ("POSTRIDER_LOG_FORMAT", "xml"),
        ("POSTRIDER_OTLP_ENDPOINT", "collector:4318"),
    ];
    for (name, value) in bad {
        let message = refusal(name, value);
        assert!(message.contains(name) && message.contains(&format!("{value:?}")), "{message}");
    }
}

/// A URL whose password must never be seen.
const POSTGRES: &str = "postgres://rider:hunter2@db.internal/postrider?sslmode=verify-full";

#[test]
fn a_postgresql_url_is_taken_with_what_belongs_to_it() {
    let loaded = variables(&[
        ("POSTRIDER_STORE", POSTGRES),
        ("POSTRIDER_STORE_CA_FILE", "/etc/ca.pem"),
        ("POSTRIDER_STORE_CONNECTIONS", "20"),
        ("POSTRIDER_NODE_TTL", "5s"),
        ("POSTRIDER_NODE_NAME", "node-a"),
        ("POSTRIDER_AUTO_MIGRATE", "false"),
    ])
    .load()
    .unwrap();
    let store = loaded.checked.store().unwrap();
    assert_eq!(store.ca_file.as_deref(), Some(std::path::Path::new("/etc/ca.pem")));
    assert_eq!((store.connections, store.ttl, &*store.name), (20, Duration::from_secs(5), "node-a"));
    assert!(!store.auto_migrate);

    let plain = variables(&[("POSTRIDER_STORE", POSTGRES)]).load().unwrap();
    let store = plain.checked.store().unwrap();
    assert_eq!((store.connections, store.ttl, store.auto_migrate), (postgres::CONNECTIONS, postgres::TTL, true));
    assert!(!store.name.is_empty(), "the host's name");
}

#[test]
fn the_password_of_the_store_is_shown_nowhere() {
    let loaded = variables(&[("POSTRIDER_STORE", POSTGRES)]).load().unwrap();
    let shown = [loaded.print(), loaded.print_json().to_string(), format!("{:?}", loaded.checked)];
    for text in shown {
        assert!(!text.contains("hunter2") && text.contains("rider:****@db.internal"), "{text}");
    }
    for wrong in ["postgres://rider:hunter2@db:port/x", "mysql://rider:hunter2@db/x", "rider:hunter2@db/x"] {
        let message = refusal("POSTRIDER_STORE", wrong);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn nodes_need_a_common_master_key_and_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let open = |master: Option<&str>| {
        let mut pairs = vec![("POSTRIDER_STORE", POSTGRES), ("POSTRIDER_ADMIN_KEY", "admin")];
        pairs.push(("POSTRIDER_DATA", data.to_str().unwrap()));
        pairs.extend(master.map(|master| ("POSTRIDER_MASTER_KEY", master)));
        variables(&pairs).load().unwrap().checked.open(&System)
    };
    let message = open(None).unwrap_err().to_string();
    assert!(message.contains("POSTRIDER_MASTER_KEY is not set"), "{message}");
    let master = MasterKey::new([3; 32], "").encoded();
    assert!(open(Some(&master)).unwrap().warnings.is_empty());
    assert!(!data.exists());
}

#[test]
fn a_bad_secret_is_named_but_not_shown() {
    for (name, value) in [("POSTRIDER_ADMIN_KEY", "hunter2 with spaces"), ("POSTRIDER_MASTER_KEY", "hunter2")] {
        let message = refusal(name, value);
        assert!(message.contains(name) && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let error =
        variables(&[("POSTRIDER_LISTEN", "x"), ("POSTRIDER_LOG_FORMAT", "y"), ("POSTRIDER_RETENTION_DAYS", "z")])
            .load()
            .unwrap_err();
    assert_eq!(error.0.len(), 3, "{error}");
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.toml");
    fs::write(
        &path,
        "listen = '127.0.0.1:1'\nretention_days = 3\nallow_http = true\negress_ports = [443, '9000-9001']\n",
    )
    .unwrap();
    let mut sources = variables(&[("POSTRIDER_LISTEN", "127.0.0.1:2"), ("POSTRIDER_RETENTION_DAYS", "4")]);
    sources.config_file = Some(path.clone());
    sources.flags.insert("listen", "127.0.0.1:3".to_owned());
    let loaded = sources.load().unwrap();
    assert_eq!(loaded.checked.config.listen.port(), 3);
    assert_eq!(loaded.checked.config.retention_days, 4);
    assert!(loaded.checked.config.egress.allow_http);
    assert_eq!(loaded.checked.config.egress.ports, [443, 9000, 9001]);
    let origins = loaded.print_json();
    assert_eq!(origins["listen"]["origin"], "--listen");
    assert_eq!(origins["retention_days"]["origin"], "POSTRIDER_RETENTION_DAYS");
    assert_eq!(origins["allow_http"]["origin"], path.display().to_string());
    assert_eq!(origins["shutdown_grace"]["origin"], "default");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let loaded = variables(&[("POSTRIDER_LISTEN", ""), ("POSTRIDER_MASTER_KEY", " ")]).load().unwrap();
    assert_eq!(loaded.checked.config.listen.port(), 8080);
    assert!(loaded.checked.master_key.is_none());
}

#[test]
fn issuers_may_be_tables_in_the_file_and_have_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.toml");
    let table = |name: String| format!("[[jwt_issuers]]\nissuer = '{name}'\naudience = ['a', 'b']\njwks_file = '/k'\n");
    let load = |count: usize| {
        let tables: String = (0..count).map(|number| table(format!("https://{number}.example"))).collect();
        fs::write(&path, tables).unwrap();
        Sources { config_file: Some(path.clone()), ..Sources::default() }.load()
    };
    let issuers = load(JWT_ISSUERS_MAX).unwrap().checked.config.jwt_issuers;
    assert_eq!(issuers.len(), JWT_ISSUERS_MAX);
    assert_eq!((issuers[1].issuer.as_str(), issuers[1].audiences.len()), ("https://1.example", 2));
    assert!(load(JWT_ISSUERS_MAX + 1).is_err());
    let name = |length: usize| format!("https://{}", "a".repeat(length - 8));
    assert!(issuers::audience(&name(JWT_NAME_BYTES_MAX)).is_ok());
    assert!(issuers::audience(&name(JWT_NAME_BYTES_MAX + 1)).is_err());
    for (value, is_good) in [("1m", true), ("24h", true), ("59999ms", false), ("86400001ms", false)] {
        assert_eq!(issuers::lifetime(value).is_ok(), is_good, "{value}");
    }
}

#[test]
fn a_key_set_in_a_file_is_read_up_to_its_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    fs::write(&path, " ".repeat(JWKS_BYTES_MAX)).unwrap();
    assert_eq!(read_key_set(&path).unwrap().len(), JWKS_BYTES_MAX);
    fs::write(&path, " ".repeat(JWKS_BYTES_MAX + 1)).unwrap();
    assert!(read_key_set(&path).unwrap_err().contains("keys.json"));
    assert!(read_key_set(&directory.path().join("none")).unwrap_err().contains("none"));
}

#[test]
fn an_unknown_key_in_the_file_is_a_mistake_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.toml");
    fs::write(&path, "retention_day = 3\nlog = 4.5\n").unwrap();
    let error = Sources { config_file: Some(path), ..Sources::default() }.load().unwrap_err().to_string();
    assert!(error.contains("did you mean retention_days?"), "{error}");
    assert!(error.contains("`log` must be a text"), "{error}");
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let gone = variables(&[("POSTRIDER_CONFIG", "/nowhere/postrider.toml")]).load().unwrap_err().to_string();
    assert!(gone.contains("/nowhere/postrider.toml"), "{gone}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    fs::write(&path, "listen = ").unwrap();
    let broken = Sources { config_file: Some(path), ..Sources::default() }.load().unwrap_err().to_string();
    assert!(broken.contains("is not TOML"), "{broken}");
}

#[test]
fn a_foreign_variable_is_only_warned_about() {
    let loaded = variables(&[
        ("POSTRIDER_RETENTION_DAY", "3"),
        ("POSTRIDER_WILDCARD_HOST", ""),
        ("POSTRIDER_URL", "http://x"),
        ("PATH", "/bin"),
    ])
    .load()
    .unwrap();
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("did you mean POSTRIDER_RETENTION_DAYS?"), "{:?}", loaded.warnings);
}

#[test]
fn the_standard_variable_of_opentelemetry_is_read_when_ours_is_not_set() {
    let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4318");
    let config = |pairs: &[(&str, &str)]| variables(pairs).load().unwrap().checked.config.otlp_endpoint.unwrap();
    assert_eq!(config(&[standard]).host_str(), Some("standard"));
    assert_eq!(config(&[standard, ("POSTRIDER_OTLP_ENDPOINT", "http://ours:4318")]).host_str(), Some("ours"));
}

#[test]
fn secrets_are_masked_in_print_and_have_no_flag() {
    let loaded = variables(&[("POSTRIDER_ADMIN_KEY", "very-secret-text")]).load().unwrap();
    assert!(!loaded.print().contains("very-secret-text"));
    assert!(!loaded.print_json().to_string().contains("very-secret-text"));
    assert!(!format!("{:?}", loaded.checked).contains("very-secret-text"));
    let command = ConfigFlags::augment_args(clap::Command::new("x"));
    assert!(command.get_arguments().all(|arg| arg.get_long() != Some("admin-key")));
    let matches = command.try_get_matches_from(["x", "--log-format", "json"]).unwrap();
    assert_eq!(ConfigFlags::from_arg_matches(&matches).unwrap().values["log_format"], "json");
}

#[test]
fn the_sample_is_a_file_that_loads_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.toml");
    // Every line that has a default, switched on.
    let active: Vec<String> = sample()
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        .filter(|line| SETTINGS.iter().any(|s| !s.default.is_empty() && line.starts_with(&format!("{} =", s.name))))
        .map(str::to_owned)
        .collect();
    assert_eq!(active.len(), SETTINGS.iter().filter(|setting| !setting.default.is_empty()).count());
    fs::write(&path, active.join("\n")).unwrap();
    let loaded = Sources { config_file: Some(path), ..Sources::default() }.load().unwrap();
    assert_eq!(format!("{:?}", loaded.checked), format!("{:?}", Checked::defaults()));
    assert!(sample().parse::<toml::Table>().unwrap().is_empty());
}

#[test]
fn keys_are_made_once_and_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("a/b");
    let open = || Checked::defaults().open_with(&System, |config| config.data = data.clone()).unwrap();
    let first = open();
    assert_eq!(first.new_admin_key, Some(data.join("admin.key")));
    assert!(first.warnings.is_empty(), "{:?}", first.warnings);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data.clone()), 0o700);
    assert_eq!(mode(data.join("admin.key")), 0o600);
    assert_eq!(mode(data.join("master.key")), 0o600);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 2, "no temporary file is left");

    let second = open();
    assert_eq!(second.new_admin_key, None);
    assert_eq!(second.config.admin_key, first.config.admin_key);
    assert_eq!(second.config.master_key.encoded(), first.config.master_key.encoded());
}

#[test]
fn a_key_file_that_others_can_read_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let open = || Checked::defaults().open_with(&System, |config| config.data = data.clone()).unwrap();
    open();
    fs::set_permissions(data.join("admin.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = open().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("chmod 600"), "{warnings:?}");
}

#[test]
fn a_lost_master_key_is_not_silently_replaced() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("postrider.db"), "x").unwrap();
    let opened = Checked::defaults().open_with(&System, |config| config.data = directory.path().to_owned());
    let message = format!("{:#}", opened.unwrap_err());
    assert!(message.contains("master.key is missing"), "{message}");
    assert!(!directory.path().join("master.key").exists());
}

#[test]
fn the_documented_table_is_the_one_in_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let document = fs::read_to_string(path).unwrap();
    assert!(
        document.contains(&markdown()),
        "docs/configuration.md is out of date: put the output of `postrider config sample --markdown` into it"
    );
}
