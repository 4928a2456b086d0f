//! The table of switches.
#![allow(clippy::unit_arg, reason = "one assignment a line keeps the table a table")]

use std::path::PathBuf;
use std::time::Duration;

use postrider_core::signing::Secret;

use super::parse::{self, Parsed};
use super::{Checked, LogFormat, gateway, issuers, oidc, portal};
use crate::sealing::MasterKey;
use crate::store::postgres;

/// One switch of the operator.
#[derive(Debug)]
pub struct Setting {
    /// Key in the TOML file. The flag has dashes for underscores, the variable is in capitals behind `POSTRIDER_`.
    pub name: &'static str,
    /// As it would be written; empty: not set.
    pub default: &'static str,
    /// What a value looks like, in a word.
    pub value: &'static str,
    /// One or two sentences.
    pub help: &'static str,
    /// Masked wherever it is shown; has no flag, since other users see the flags of a process.
    pub secret: bool,
    /// How a value is shown that holds a secret within; by itself the text as it is.
    pub shown: fn(&str) -> String,
    /// A further variable that is read when ours is not set, because a standard names it.
    pub standard_variable: Option<&'static str>,
    apply: fn(&mut Checked, &str) -> Parsed<()>,
}

impl Setting {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("POSTRIDER_{}", self.name.to_ascii_uppercase())
    }

    /// Its flag, without the leading dashes; none for secrets.
    pub fn flag(&self) -> Option<String> {
        (!self.secret).then(|| self.name.replace('_', "-"))
    }

    /// Takes a value over.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn apply(&self, checked: &mut Checked, value: &str) -> Parsed<()> {
        (self.apply)(checked, value.trim())
    }
}

/// What most switches have.
const PLAIN: Setting = Setting {
    name: "",
    default: "",
    value: "",
    help: "",
    secret: false,
    shown: str::to_owned,
    standard_variable: None,
    apply: |_, _| Ok(()),
};

/// Every switch, in the order in which it is shown.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        default: "127.0.0.1:8080",
        value: "address:port",
        help: "Address to serve. 0.0.0.0:8080 (or [::]:8080) serves every interface.",
        apply: |checked, value| Ok(checked.config.listen = parse::listen(value)?),
        ..PLAIN
    },
    Setting {
        name: "data",
        default: "./postrider-data",
        value: "directory",
        help: "Data directory of the embedded store and of the generated keys. Created with mode 0700.",
        apply: |checked, value| Ok(checked.config.data = parse::required_path(value)?),
        ..PLAIN
    },
    Setting {
        name: "store",
        default: "embedded",
        value: "embedded|postgres://…",
        help: "Where everything is kept: the embedded SQLite store in the data directory, or a PostgreSQL database \
               (14 or newer) that any number of nodes share: postgres://user:password@host/database?sslmode=verify-full.",
        shown: postgres::masked,
        apply: |checked, value| Ok(checked.config.store = parse::store(value)?),
        ..PLAIN
    },
    Setting {
        name: "store_ca_file",
        value: "file",
        help: "PEM file with the certificate authorities that vouch for PostgreSQL's server, instead of the system's.",
        apply: |checked, value| Ok(checked.with_postgres(|store| store.ca_file = parse::optional_path(value))),
        ..PLAIN
    },
    Setting {
        name: "store_connections",
        default: "12",
        value: "count",
        help: "Connections of this node to PostgreSQL, at most; five more are for its session.",
        apply: |checked, value| {
            let count = parse::number(value, postgres::CONNECTIONS_MIN as u32, 1000)? as usize;
            Ok(checked.with_postgres(|store| store.connections = count))
        },
        ..PLAIN
    },
    Setting {
        name: "node_name",
        value: "text",
        help: "Name of this node where nodes are listed. When not set, the machine's host name. PostgreSQL only.",
        apply: |checked, value| {
            let name = if value.is_empty() { parse::host_name() } else { value.to_owned() };
            Ok(checked.with_postgres(|store| store.name = name))
        },
        ..PLAIN
    },
    Setting {
        name: "node_ttl",
        default: "15s",
        value: "duration",
        help: "Others take over the deliveries of a node that has given no sign of life for so long; from 2s to 10m. \
               PostgreSQL only.",
        apply: |checked, value| {
            let ttl = parse::duration_between(value, Duration::from_secs(2), Duration::from_secs(600))?;
            Ok(checked.with_postgres(|store| store.ttl = ttl))
        },
        ..PLAIN
    },
    Setting {
        name: "auto_migrate",
        default: "true",
        value: "true|false",
        help: "Bring PostgreSQL's schema to this version at start. When false, `postrider migrate` must have done it.",
        apply: |checked, value| {
            let auto_migrate = parse::switch(value)?;
            Ok(checked.with_postgres(|store| store.auto_migrate = auto_migrate))
        },
        ..PLAIN
    },
    Setting {
        name: "admin_key",
        value: "text",
        help: "Platform admin key. When not set, one is generated once into <data>/admin.key (mode 0600) and shown at \
               the first start. Nodes that share a PostgreSQL should share it too.",
        secret: true,
        apply: |checked, value| Ok(checked.admin_key = parse::admin_key(value)?.map(Secret::new)),
        ..PLAIN
    },
    Setting {
        name: "master_key",
        value: "base64 of 32 bytes",
        help: "Key that wraps the key with which secrets are encrypted at rest. When not set, one is generated once \
               into <data>/master.key (mode 0600). `postrider keys generate-master` prints a fresh one. With PostgreSQL it \
               must be set, the same on every node.",
        secret: true,
        apply: |checked, value| {
            let parsed = (!value.is_empty()).then(|| MasterKey::parse(value, "POSTRIDER_MASTER_KEY"));
            Ok(checked.master_key = parsed.transpose().map_err(|error| error.to_string())?)
        },
        ..PLAIN
    },
    Setting {
        name: "public_url",
        value: "https://host",
        help: "Where this deployment is reached from outside: what receive URLs start with, and the issuer of our \
               tokens. When not set, it is taken from the request.",
        apply: |checked, value| Ok(checked.config.public_url = parse::optional_url(value, &["http", "https"])?),
        ..PLAIN
    },
    Setting {
        name: "egress_allow",
        value: "CIDR,…",
        help: "Address ranges exempt from the egress guard: reachable though private, over plain http too, and on \
               ports 1024-65535.",
        apply: |checked, value| Ok(checked.config.egress.allow = parse::networks(value)?),
        ..PLAIN
    },
    Setting {
        name: "egress_ports",
        default: "80,443,8080,8443",
        value: "port,…",
        help: "Ports that deliveries may dial; ranges such as 9000-9010 are allowed.",
        apply: |checked, value| Ok(checked.config.egress.ports = parse::ports(value)?),
        ..PLAIN
    },
    Setting {
        name: "allow_http",
        default: "false",
        value: "true|false",
        help: "Accept http:// webhook URLs. They are always accepted for addresses in egress_allow.",
        apply: |checked, value| Ok(checked.config.egress.allow_http = parse::switch(value)?),
        ..PLAIN
    },
    Setting {
        name: "egress_ca_files",
        value: "file,…",
        help: "PEM files with certificate authorities that are trusted beside the system's.",
        apply: |checked, value| Ok(checked.config.egress_ca_files = parse::list(value).map(PathBuf::from).collect()),
        ..PLAIN
    },
    Setting {
        name: "egress_proxy",
        value: "http://host:port",
        help: "Forward proxy for all deliveries. The proxy variables of the environment are ignored.",
        apply: |checked, value| Ok(checked.config.egress_proxy = parse::optional_url(value, &["http"])?),
        ..PLAIN
    },
    Setting {
        name: "retention_days",
        default: "7",
        value: "days",
        help: "How long events, deliveries and attempts are kept.",
        apply: |checked, value| Ok(checked.config.retention_days = parse::number(value, 1, 3650)?),
        ..PLAIN
    },
    Setting {
        name: "trusted_proxies",
        value: "CIDR,…",
        help: "Proxies whose X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto are believed.",
        apply: |checked, value| Ok(checked.config.trusted_proxies = parse::networks(value)?),
        ..PLAIN
    },
    Setting {
        name: "shutdown_grace",
        default: "20s",
        value: "duration",
        help: "How long SIGTERM waits for requests and attempts in flight. What does not end in time is released, \
               uncounted, and resumes at the next start.",
        apply: |checked, value| Ok(checked.config.shutdown_grace = parse::duration(value)?),
        ..PLAIN
    },
    Setting {
        name: "auto_disable_after",
        default: "5d",
        value: "duration|off",
        help: "A webhook that has seen nothing but failures for so long is disabled.",
        apply: |checked, value| Ok(checked.config.auto_disable_after = parse::duration_or_off(value)?),
        ..PLAIN
    },
    Setting {
        name: "api_rate",
        default: "off",
        value: "requests|off",
        help: "Requests a second that one API key may make, also its burst; beyond it, 429 with Retry-After.",
        apply: |checked, value| Ok(checked.config.api_rate_per_second = parse::rate_or_off(value)?),
        ..PLAIN
    },
    Setting {
        name: "jwt_issuers",
        value: "JSON list",
        help: "Whose signed tokens (JWT) are accepted beside our own: a JSON list of {\"issuer\", \"audience\", \
               \"jwks_url\" or \"jwks_file\"}. In TOML also an array of tables. See docs/tokens.md.",
        apply: |checked, value| Ok(checked.config.jwt_issuers = issuers::issuers(value)?),
        ..PLAIN
    },
    Setting {
        name: "jwt_audience",
        default: "postrider",
        value: "text",
        help: "Audience (aud) of the tokens that we issue, and of those of issuers for which none is named.",
        apply: |checked, value| Ok(checked.config.jwt_audience = issuers::audience(value)?),
        ..PLAIN
    },
    Setting {
        name: "token_lifetime",
        default: "1h",
        value: "duration",
        help: "How long a token from POST /oauth/token is valid; from 1m to 24h.",
        apply: |checked, value| Ok(checked.config.token_lifetime = issuers::lifetime(value)?),
        ..PLAIN
    },
    Setting {
        name: "console",
        default: "true",
        value: "true|false",
        help: "Serve the console (/settings, /login). When false, those paths do not exist.",
        apply: |checked, value| Ok(checked.config.console = parse::switch(value)?),
        ..PLAIN
    },
    Setting {
        name: "oidc_issuer",
        value: "https://host",
        help: "Identity provider (OpenID Connect) by which people log in to the console, as its discovery document names \
               itself. It is reached as webhooks are: egress_allow opens private addresses. See docs/console.md.",
        apply: |checked, value| Ok(checked.config.oidc = oidc::issuer(value)?),
        ..PLAIN
    },
    Setting {
        name: "oidc_client_id",
        value: "text",
        help: "How the identity provider knows this deployment. Its redirect address is <public_url>/login/oidc/callback.",
        apply: |checked, value| Ok(checked.with_oidc(|oidc| value.clone_into(&mut oidc.client_id))),
        ..PLAIN
    },
    Setting {
        name: "oidc_client_secret",
        value: "text",
        help: "The secret that goes with it; none for a public client (PKCE is used either way).",
        secret: true,
        apply: |checked, value| {
            let secret = (!value.is_empty()).then(|| Secret::new(value.to_owned()));
            Ok(checked.with_oidc(|oidc| oidc.client_secret = secret))
        },
        ..PLAIN
    },
    Setting {
        name: "oidc_scopes",
        default: "openid email profile",
        value: "text",
        help: "Scopes that are asked for; openid is among them in any case.",
        apply: |checked, value| Ok(checked.with_oidc(|oidc| oidc.scopes = oidc::scopes(value))),
        ..PLAIN
    },
    Setting {
        name: "oidc_name",
        default: "single sign-on",
        value: "text",
        help: "What the button to log in by the identity provider says after \"Continue with\".",
        apply: |checked, value| Ok(checked.with_oidc(|oidc| value.clone_into(&mut oidc.name))),
        ..PLAIN
    },
    Setting {
        name: "portal",
        default: "true",
        value: "true|false",
        help: "Serve the customers' portal (/portal). When false, it does not exist, and no links into it are made.",
        apply: |checked, value| Ok(checked.config.portal.is_on = parse::switch(value)?),
        ..PLAIN
    },
    Setting {
        name: "portal_name",
        default: "Webhooks",
        value: "text",
        help: "What the portal is called at its top: your product, for example.",
        apply: |checked, value| Ok(checked.config.portal.name = portal::name(value)?),
        ..PLAIN
    },
    Setting {
        name: "portal_logo_file",
        value: "file",
        help: "Picture beside that name: .svg, .png, .webp or .jpg of at most 256 KiB, read at start and served by us.",
        apply: |checked, value| Ok(checked.config.portal.logo = portal::logo(value)?),
        ..PLAIN
    },
    Setting {
        name: "portal_accent",
        value: "#rrggbb",
        help: "Accent colour of the portal. Refused if anything written in it would have less contrast than WCAG AA asks \
               for; the message names a near one that has enough. That for dark pages is made from it.",
        apply: |checked, value| Ok(checked.config.portal.accent = portal::accent(value)?),
        ..PLAIN
    },
    Setting {
        name: "portal_accent_dark",
        value: "#rrggbb",
        help: "Accent colour on dark pages, checked in the same way.",
        apply: |checked, value| portal::accent_dark(&mut checked.config.portal, value),
        ..PLAIN
    },
    Setting {
        name: "portal_frame_ancestors",
        value: "origins",
        help: "Origins whose pages may show the portal in a frame, such as https://app.example.com or \
               https://*.example.com; when not set, none may. See docs/portal.md.",
        apply: |checked, value| Ok(checked.config.portal.frame_ancestors = portal::frame_ancestors(value)?),
        ..PLAIN
    },
    Setting {
        name: "dispatch_threads",
        default: "auto",
        value: "count|auto",
        help: "Threads that make deliveries, each with its own connections. auto: one for every two processors.",
        apply: |checked, value| Ok(checked.config.dispatch_threads = parse::threads(value)?),
        ..PLAIN
    },
    Setting {
        name: "gateway_keys",
        default: "on",
        value: "on|off",
        help: "Whether the data gateway's callers need a gateway key, where a client does not say otherwise.",
        apply: |checked, value| Ok(checked.config.gateway.enforces_keys = parse::switch(value)?),
        ..PLAIN
    },
    Setting {
        name: "sqlite_clients",
        value: "directory,…",
        help: "Directories in which the data gateway's clients may have SQLite databases; when not set, none may.",
        apply: |checked, value| Ok(checked.config.gateway.sqlite_directories = gateway::directories(value)?),
        ..PLAIN
    },
    Setting {
        name: "client_hosts",
        value: "host[:port],…",
        help: "Where the data gateway's clients may have PostgreSQL databases: hosts, *.domain, addresses or ranges. When \
               not set, anywhere.",
        apply: |checked, value| Ok(checked.config.gateway.client_hosts = gateway::HostRule::list(value)?),
        ..PLAIN
    },
    Setting {
        name: "tenant_host_pattern",
        default: "*.v3.athena-cluster.com",
        value: "*.domain|off",
        help: "Hostnames that stand for a client of the data gateway: the star is the key of a public route.",
        apply: |checked, value| Ok(checked.config.gateway.host_pattern = gateway::host_pattern(value)?),
        ..PLAIN
    },
    Setting {
        name: "gateway_connections",
        default: "5",
        value: "count",
        help: "Connections of this node to one client's database, at most.",
        apply: |checked, value| Ok(checked.config.gateway.connections_per_client = parse::number(value, 1, 100)?),
        ..PLAIN
    },
    Setting {
        name: "gateway_connections_total",
        default: "50",
        value: "count",
        help: "Connections of this node to all clients' databases together, at most.",
        apply: |checked, value| Ok(checked.config.gateway.connections_max = parse::number(value, 1, 10_000)?),
        ..PLAIN
    },
    Setting {
        name: "gateway_statement_timeout",
        default: "30s",
        value: "duration",
        help: "How long one statement at a client's database may take; from 100ms to 10m.",
        apply: |checked, value| Ok(checked.config.gateway.statement_timeout = gateway::statement_timeout(value)?),
        ..PLAIN
    },
    Setting {
        name: "gateway_rows",
        default: "10000",
        value: "count",
        help: "Rows that one operation of the data gateway may return.",
        apply: |checked, value| Ok(checked.config.gateway.rows_max = parse::number(value, 1, 10_000)?),
        ..PLAIN
    },
    Setting {
        name: "gateway_reply_bytes",
        default: "16777216",
        value: "bytes",
        help: "How long the reply of one operation of the data gateway may be.",
        apply: |checked, value| Ok(checked.config.gateway.reply_bytes_max = parse::number(value, 1024, 64 << 20)?),
        ..PLAIN
    },
    Setting {
        name: "log",
        default: "info",
        value: "level",
        help: "error, warn, info, debug or trace; or per module: info,postrider::pipeline=debug.",
        apply: |checked, value| Ok(checked.config.log.filter = parse::log_filter(value)?),
        ..PLAIN
    },
    Setting {
        name: "log_format",
        default: "auto",
        value: "auto|text|json",
        help: "auto: text on a terminal, JSON otherwise.",
        apply: |checked, value| {
            checked.config.log.format = match value {
                "auto" => LogFormat::Auto,
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err("must be auto, text or json".to_owned()),
            };
            Ok(())
        },
        ..PLAIN
    },
    Setting {
        name: "otlp_endpoint",
        value: "http://host:4318",
        help: "OpenTelemetry collector that takes traces by OTLP over HTTP (protobuf). When not set, no trace is made.",
        standard_variable: Some("OTEL_EXPORTER_OTLP_ENDPOINT"),
        apply: |checked, value| Ok(checked.config.otlp_endpoint = parse::optional_url(value, &["http", "https"])?),
        ..PLAIN
    },
];
