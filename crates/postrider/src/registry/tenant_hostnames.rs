//! Tenant hostnames: a public route whose key is the first label of a hostname, and where to find the client's PostgreSQL
//! under that name. Traffic to it is never passed on by us.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::gateway::hostname::{Pattern, parse_token};
use postrider_core::signing::Secret;
use serde_json::{Map, Value, json};

use super::clients::{self, Unusable};
use super::public_routes::{self, NewRoute};
use super::{Rejection, Result};
use crate::app::App;
use crate::gateway::address;
use crate::store::{Actor, ClientRecord, PublicRouteRecord};

/// How long a look into the domain name system may take.
const DNS_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest name of the domain name system, bytes.
const HOST_BYTES_MAX: usize = 253;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `None`: called as the hostname's own label.
    pub client_name: Option<String>,
    pub allowed_ops: Vec<String>,
    pub enable_http_route: bool,
    /// `None`: unless there is a target.
    pub enable_postgres_binding: Option<bool>,
    pub target_url: Option<String>,
    /// `None`: the hostname.
    pub public_host: Option<String>,
    /// `None`: the port of the client's own address.
    pub public_port: Option<u16>,
    pub route_metadata: Map<String, Value>,
    pub persist_in_catalog: bool,
}

/// What stands afterwards.
#[derive(Clone, Debug)]
pub struct Onboarded {
    pub token: String,
    /// The hostname.
    pub host: String,
    pub pattern: String,
    pub route: Option<Arc<PublicRouteRecord>>,
    pub binding: Option<Binding>,
}

/// Where a client's PostgreSQL is, and where the public is to find it.
#[derive(Clone, Debug)]
pub struct Binding {
    pub client_name: String,
    pub target: (String, u16),
    pub public: (String, u16),
    /// The password is masked.
    pub public_pg_uri: String,
    pub dns: Dns,
    pub is_persisted: bool,
}

/// What the domain name system says of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    pub host: String,
    pub addresses: Vec<IpAddr>,
    pub error: Option<String>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("tenant hostnames are switched off (POSTRIDER_TENANT_HOST_PATTERN)")]
    SwitchedOff,
    #[error("both enable_http_route and enable_postgres_binding are off")]
    NothingToDo,
    #[error("there is no such client")]
    UnknownClient,
    #[error("the client is inactive or frozen")]
    IneligibleClient,
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Makes `tenant` a hostname of a client.
///
/// # Errors
/// See [`Refusal`]. That a name does not resolve is told, and no error.
pub async fn onboard(app: &App, tenant: &str, wanted: Wanted, actor: &Actor) -> Result<Onboarded, Refusal> {
    let pattern = app.config.gateway.host_pattern.as_ref().ok_or(Refusal::SwitchedOff)?;
    let token = parse_token(tenant).map_err(|error| Rejection::invalid("tenant", error.to_string()))?;
    let has_target = wanted.target_url.as_deref().is_some_and(|url| !url.trim().is_empty());
    let binds = wanted.enable_postgres_binding.unwrap_or(!has_target);
    if !wanted.enable_http_route && !binds {
        return Err(Refusal::NothingToDo);
    }
    let name = wanted.client_name.as_deref().filter(|name| !name.trim().is_empty()).unwrap_or(&token);
    let client = clients::usable(app, name).map_err(|unusable| match unusable {
        Unusable::Unknown => Refusal::UnknownClient,
        Unusable::Ineligible => Refusal::IneligibleClient,
    })?;
    let host = pattern.host(&token);
    // Looked at before anything is changed.
    let planned = if binds { plan(app, &client, &wanted, &host)? } else { None };
    let route = if wanted.enable_http_route { Some(upsert(app, &token, &client, &wanted, actor).await?) } else { None };
    let binding = match planned {
        Some(planned) => Some(bind(app, &client, &token, planned, wanted.persist_in_catalog, actor).await?),
        None => None,
    };
    Ok(Onboarded { token, host, pattern: pattern.to_string(), route, binding })
}

async fn upsert(
    app: &App,
    token: &str,
    client: &ClientRecord,
    wanted: &Wanted,
    actor: &Actor,
) -> Result<Arc<PublicRouteRecord>> {
    let route = NewRoute {
        route_key: token.to_owned(),
        client_name: client.name.clone(),
        allowed_ops: wanted.allowed_ops.clone(),
        target_url: wanted.target_url.clone(),
        is_active: true,
        metadata: wanted.route_metadata.clone(),
    };
    public_routes::upsert(app, route, actor).await
}

/// A binding that is still to be made.
struct Planned {
    target: (String, u16),
    public: (String, u16),
    public_pg_uri: String,
    private_pg_uri: String,
}

/// `None`: the client has no PostgreSQL, and nobody has asked for it by name.
fn plan(app: &App, client: &ClientRecord, wanted: &Wanted, host: &str) -> Result<Option<Planned>> {
    let is_asked = wanted.enable_postgres_binding == Some(true);
    let none = |why: &str| {
        if is_asked { Err(Rejection::invalid("enable_postgres_binding", why)) } else { Ok(None) }
    };
    let Some(uri) = clients::uri(app, client)? else { return none("the client's address is not set") };
    let known = match address::allowed(uri.reveal(), &app.config.gateway) {
        Ok(known) => known,
        Err(refused) => return none(&format!("the client's address {refused}")),
    };
    let Some((target_host, target_port)) = known.hosts().into_iter().next() else {
        return none("the client has no PostgreSQL");
    };
    let public_host = match wanted.public_host.as_deref().map(str::trim).filter(|host| !host.is_empty()) {
        Some(host) => checked_host(host)?,
        None => host.to_owned(),
    };
    let public_port = wanted.public_port.unwrap_or(target_port);
    if public_port == 0 {
        return Err(Rejection::invalid("public_port", "must be from 1 to 65535"));
    }
    Ok(Some(Planned {
        target: (target_host, target_port),
        public_pg_uri: public_uri(&uri, &public_host, public_port),
        private_pg_uri: address::shown(uri.reveal()),
        public: (public_host, public_port),
    }))
}

fn checked_host(host: &str) -> Result<String> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) {
        return Ok(name);
    }
    Err(Rejection::invalid("public_host", "must be a hostname"))
}

/// The address with the public place in it, and its password masked.
fn public_uri(uri: &Secret, host: &str, port: u16) -> String {
    let masked = address::shown(uri.reveal());
    let (base, query) = masked.split_once('?').map_or((masked.as_str(), None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgresql", base));
    let (place, path) = rest.split_once('/').map_or((rest, ""), |(place, path)| (place, path));
    let credentials = place.rsplit_once('@').map_or(String::new(), |(credentials, _)| format!("{credentials}@"));
    // What says where it is otherwise would say something else.
    let is_kept =
        |pair: &&str| !["host=", "hostaddr=", "port="].iter().any(|name| pair.starts_with(name)) && !pair.is_empty();
    let kept: Vec<&str> = query.unwrap_or_default().split('&').filter(is_kept).collect();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    format!("{scheme}://{credentials}{host}:{port}/{path}{query}")
}

async fn bind(
    app: &App,
    client: &ClientRecord,
    token: &str,
    planned: Planned,
    persists: bool,
    actor: &Actor,
) -> Result<Binding> {
    if persists {
        let network = |metadata: &Map<String, Value>| with_binding(metadata, client, token, &planned);
        clients::change_metadata(app, &client.name, network, actor).await?;
    }
    let dns = look_up(app, &planned.public.0).await;
    let Planned { target, public, public_pg_uri, .. } = planned;
    Ok(Binding { client_name: client.name.clone(), target, public, public_pg_uri, dns, is_persisted: persists })
}

/// A client's metadata with what its network looks like.
fn with_binding(
    metadata: &Map<String, Value>,
    client: &ClientRecord,
    token: &str,
    planned: &Planned,
) -> Map<String, Value> {
    let mut metadata = metadata.clone();
    let network = metadata.entry("network").or_insert_with(|| json!({}));
    if !network.is_object() {
        *network = json!({});
    }
    let (host, port) = &planned.public;
    network["public_host"] = json!(host);
    network["public_port"] = json!(port);
    network["public_pg_uri"] = json!(planned.public_pg_uri);
    // The first one stays: later ones may be public already.
    if !network["private_pg_uri"].is_string() {
        network["private_pg_uri"] = json!(planned.private_pg_uri);
    }
    if !network["pg_route_bindings"].is_object() {
        network["pg_route_bindings"] = json!({});
    }
    network["pg_route_bindings"][token] = binding_view(token, &client.name, &planned.target, &planned.public);
    metadata
}

/// A binding as it is kept and shown.
pub fn binding_view(token: &str, client: &str, target: &(String, u16), public: &(String, u16)) -> Value {
    json!({
        "route_key": token,
        "client_name": client,
        "target": { "host": target.0, "port": target.1 },
        "public": { "host": public.0, "port": public.1 },
        "protocol": "postgresql/tcp",
    })
}

/// Asks the domain name system for a host, for three seconds at most.
pub async fn look_up(app: &App, host: &str) -> Dns {
    let looked = tokio::time::timeout(DNS_TIMEOUT, app.gateway.resolver.resolve(host)).await;
    let (addresses, error) = match looked {
        Ok(Ok(addresses)) if addresses.is_empty() => (addresses, Some("it has no addresses".to_owned())),
        Ok(Ok(addresses)) => (addresses, None),
        Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
        Err(_) => (Vec::new(), Some("no answer in time".to_owned())),
    };
    Dns { host: host.to_owned(), addresses, error }
}

/// A name that stands, or could stand, for a client.
#[derive(Clone, Debug)]
pub struct Hostname {
    pub host: String,
    pub route: Arc<PublicRouteRecord>,
    /// `None`: it is gone.
    pub client: Option<Arc<ClientRecord>>,
}

impl Hostname {
    /// Whether requests to it find their client now.
    pub fn is_known(&self) -> bool {
        self.route.is_active && self.client.as_ref().is_some_and(|client| client.is_usable())
    }
}

/// Every route whose key is a label, with its hostname, by key. None where tenant hostnames are switched off.
pub fn all(app: &App) -> Vec<Hostname> {
    let named = |route: Arc<PublicRouteRecord>| {
        Some(Hostname {
            host: host_of(app, &route)?,
            client: app.catalog.client(route.client_id).filter(|client| client.deleted_at.is_none()),
            route,
        })
    };
    app.catalog.public_routes().into_iter().filter_map(named).collect()
}

/// The hostname by which a route finds its client.
pub fn host_of(app: &App, route: &PublicRouteRecord) -> Option<String> {
    let pattern = app.config.gateway.host_pattern.as_ref()?;
    let token = parse_token(&route.route_key).ok()?;
    Some(pattern.host(&token))
}

/// Where a client's database is to be found under the label, as its metadata has it since it was onboarded.
pub fn binding_of<'c>(client: &'c ClientRecord, token: &str) -> Option<&'c Value> {
    client.metadata.get("network")?.get("pg_route_bindings")?.get(token)
}

/// Whether `host` stands for a client now: its label is the key of an active public route. An edge proxy asks before it
/// gets a certificate for it.
pub fn is_known(app: &App, host: &str) -> bool {
    let token = app.config.gateway.host_pattern.as_ref().and_then(|pattern: &Pattern| pattern.token(host));
    let route = token.and_then(|token| app.catalog.public_route(&token)).filter(|route| route.is_active);
    route.and_then(|route| app.catalog.client(route.client_id)).is_some_and(|client| client.is_usable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_elsewhere_and_shows_no_password() {
        for (uri, expected) in [
            ("postgres://u:s3cret@db:6000/shop", "postgres://u:****@s.example:5432/shop"),
            ("postgresql://u@db/shop?sslmode=require", "postgresql://u@s.example:5432/shop?sslmode=require"),
            (
                "postgres:///shop?host=/run&port=1&user=u&password=s3cret",
                "postgres://s.example:5432/shop?user=u&password=****",
            ),
            ("postgres://a,b/shop", "postgres://s.example:5432/shop"),
            ("postgres://db", "postgres://s.example:5432/"),
        ] {
            assert_eq!(public_uri(&Secret::new(uri.to_owned()), "s.example", 5432), expected);
        }
    }

    #[test]
    fn a_public_host_is_a_name() {
        assert_eq!(checked_host("Db.Example.com.").ok().as_deref(), Some("db.example.com"));
        for wrong in ["a b", "a/b", "-..", "a:1", "[::1]", &"a.".repeat(130)] {
            assert!(checked_host(wrong).is_err(), "{wrong}");
        }
    }
}
