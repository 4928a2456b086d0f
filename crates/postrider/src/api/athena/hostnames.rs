//! Tenant hostnames: `/admin/tenant-hostnames`.

use std::net::IpAddr;

use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::envelope::{self, reply};
use super::public_routes::{PublicRoute, told};
use super::query_text;
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Returns, Route};
use crate::registry::tenant_hostnames::{self as registry, Binding, Refusal, Wanted};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::PUT, "/admin/tenant-hostnames/{tenant}", Access::AdminKey, onboard)
            .says(
                "Make a tenant hostname",
                "Makes the public route that the hostname is resolved by, and tells where the public is to find the \
                 client's PostgreSQL. Traffic to that is not passed on. A name that does not resolve is no error.",
            )
            .may_take::<Onboard>()
            .success(200, "Done", Returns::One(envelope::of::<Onboarded>()))
            .fails(&[Code::NotFound]),
        Route::new(Method::GET, "/admin/tenant-hostnames/ask", Access::Open, ask)
            .says(
                "Ask whether a hostname is one of a client",
                "For edge proxies that get certificates on demand: 200 if the domain stands for a client now, else 404. \
                 Needs no key, for they can send none; it tells what a request to the hostname would tell.",
            )
            .query::<Ask>()
            .success(200, "It does", Returns::One(envelope::of::<Known>()))
            .fails(&[Code::NotFound, Code::MissingField]),
    ]
}

#[derive(Default, Deserialize, ToSchema)]
#[schema(as = AthenaTenantHostname)]
struct Onboard {
    /// By default called as the tenant.
    client_name: Option<String>,
    /// By default `fetch`.
    allowed_ops: Option<Vec<String>>,
    /// By default true.
    enable_http_route: Option<bool>,
    /// By default true, unless there is a `target_url`.
    enable_postgres_binding: Option<bool>,
    target_url: Option<String>,
    /// By default the hostname.
    public_host: Option<String>,
    /// By default the port of the client's own address.
    public_port: Option<u16>,
    /// Laid over the route's metadata.
    #[schema(value_type = Option<Object>)]
    route_metadata: Option<Map<String, Value>>,
    /// Whether the client's metadata tells it, by default true.
    persist_in_catalog: Option<bool>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOnboarded)]
struct Onboarded {
    tenant: String,
    derived_host: String,
    wildcard_pattern: String,
    #[schema(required)]
    http_route: Option<PublicRoute>,
    #[schema(required)]
    postgres_binding: Option<PostgresBinding>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaPostgresBinding)]
struct PostgresBinding {
    /// Its password is masked.
    public_pg_uri: String,
    #[schema(value_type = Object)]
    binding: Value,
    dns: Dns,
    persisted_in_catalog: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaDnsReport)]
struct Dns {
    host: String,
    resolves: bool,
    records: Vec<DnsRecord>,
    #[schema(required)]
    error: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaDnsRecord)]
struct DnsRecord {
    #[schema(value_type = String)]
    address: IpAddr,
    /// ipv4 or ipv6.
    family: &'static str,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document")]
struct Ask {
    domain: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaKnownHostname)]
struct Known {
    domain: String,
}

impl PostgresBinding {
    fn of(token: &str, bound: Binding) -> PostgresBinding {
        let records = bound
            .dns
            .addresses
            .iter()
            .map(|address| DnsRecord { address: *address, family: if address.is_ipv4() { "ipv4" } else { "ipv6" } });
        PostgresBinding {
            binding: registry::binding_view(token, &bound.client_name, &bound.target, &bound.public),
            dns: Dns {
                resolves: !bound.dns.addresses.is_empty(),
                records: records.collect(),
                host: bound.dns.host,
                error: bound.dns.error,
            },
            public_pg_uri: bound.public_pg_uri,
            persisted_in_catalog: bound.is_persisted,
        }
    }
}

fn refused(refusal: Refusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        Refusal::SwitchedOff => ApiError::new(Code::InvalidField, message)
            .told("tenant_hostnames_disabled", "Tenant hostnames are disabled"),
        Refusal::NothingToDo => ApiError::new(Code::InvalidField, message).told("nothing_to_do", "Nothing to do"),
        Refusal::UnknownClient => {
            ApiError::new(Code::NotFound, message).at("client_name").told("unknown_client", "Unknown client")
        }
        Refusal::IneligibleClient => {
            ApiError::field("client_name", message).told("ineligible_client", "Ineligible client")
        }
        Refusal::Rejected(rejection) => told(rejection),
    }
}

async fn onboard(mut call: Call) -> Result<Reply> {
    let asked: Onboard = call.json_or_default().await?;
    let wanted = Wanted {
        client_name: asked.client_name,
        allowed_ops: asked.allowed_ops.unwrap_or_else(|| vec!["fetch".to_owned()]),
        enable_http_route: asked.enable_http_route.unwrap_or(true),
        enable_postgres_binding: asked.enable_postgres_binding,
        target_url: asked.target_url,
        public_host: asked.public_host,
        public_port: asked.public_port,
        route_metadata: asked.route_metadata.unwrap_or_default(),
        persist_in_catalog: asked.persist_in_catalog.unwrap_or(true),
    };
    let made = registry::onboard(call.app(), call.path_text("tenant"), wanted, &call.actor()).await;
    let made = made.map_err(refused)?;
    let onboarded = Onboarded {
        derived_host: made.host,
        wildcard_pattern: made.pattern,
        http_route: made.route.map(|route| PublicRoute::of(call.app(), &route)),
        postgres_binding: made.binding.map(|bound| PostgresBinding::of(&made.token, bound)),
        tenant: made.token,
    };
    reply(StatusCode::OK, "Upserted tenant hostname", &onboarded)
}

async fn ask(call: Call) -> Result<Reply> {
    let domain = query_text(&call, "domain").ok_or_else(|| ApiError::missing("domain"))?;
    if registry::is_known(call.app(), &domain) {
        return reply(StatusCode::OK, "Known hostname", &Known { domain });
    }
    Err(ApiError::not_found("tenant hostname"))
}
