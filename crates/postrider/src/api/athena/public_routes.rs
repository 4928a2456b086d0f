//! Public routes: `/admin/public-routes`.

use axum::http::{Method, StatusCode};
use postrider_core::time::UnixMs;
use postrider_gateway::contract::ExposedOperation;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body;
use super::envelope::{self, reply};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Effect, Returns, Route as Row};
use crate::app::App;
use crate::gateway::exposure;
use crate::registry::Rejection;
use crate::registry::clients::shown_metadata;
use crate::registry::public_routes::{self as registry, NewRoute, RouteChange};
use crate::store::PublicRouteRecord;

pub(super) fn routes() -> Vec<Row> {
    let admin = Access::AdminKey;
    vec![
        Row::new(Method::GET, "/admin/public-routes", admin, list).says("List public routes", "By key.").success(
            200,
            "Public routes",
            Returns::One(envelope::of::<RouteList>()),
        ),
        Row::new(Method::POST, "/admin/public-routes", admin, create)
            .effect(Effect::Creates)
            .says("Create a public route", "Under its key, the operations it allows can be called at `/public`.")
            .takes::<RouteCreate>()
            .success(201, "Created", Returns::One(envelope::of::<OneRoute>()))
            .fails(&[Code::Conflict, Code::LimitReached]),
        Row::new(Method::PATCH, "/admin/public-routes/{route_key}", admin, change)
            .says("Change a public route", "Fields that are absent or null stay as they are.")
            .takes::<RoutePatch>()
            .success(200, "Changed", Returns::One(envelope::of::<OneRoute>()))
            .fails(&[Code::Conflict]),
        Row::new(Method::DELETE, "/admin/public-routes/{route_key}", admin, delete)
            .says("Delete a public route", "Its key is free.")
            .success(200, "Deleted", Returns::One(envelope::of::<OneRoute>())),
        Row::new(Method::GET, "/admin/public-routes/{route_key}/exposure", admin, show_exposure)
            .says(
                "See what a route opens",
                "What a stranger, or whoever has a key, reaches by its contract, with a few rows of each table that \
                 can be fetched. Without a contract only gateway keys decide, and that is said.",
            )
            .success(200, "What it opens", Returns::One(envelope::of::<Exposure>())),
    ]
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaPublicRoute)]
pub(super) struct PublicRoute {
    id: Uuid,
    route_key: String,
    client_name: String,
    #[schema(required)]
    target_url: Option<String>,
    allowed_ops: Vec<String>,
    is_active: bool,
    #[schema(value_type = Object)]
    metadata: Value,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
}

impl PublicRoute {
    pub(super) fn of(app: &App, route: &PublicRouteRecord) -> PublicRoute {
        let client = app.catalog.client(route.client_id);
        PublicRoute {
            id: route.id,
            route_key: route.route_key.clone(),
            client_name: client.map(|client| client.name.clone()).unwrap_or_default(),
            target_url: route.target_url.clone(),
            allowed_ops: route.allowed_ops.iter().cloned().collect(),
            is_active: route.is_active,
            metadata: shown_metadata(&route.metadata),
            created_at: route.created_at,
            updated_at: route.updated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaPublicRouteList)]
struct RouteList {
    routes: Vec<PublicRoute>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOnePublicRoute)]
struct OneRoute {
    route: PublicRoute,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaPublicRouteCreate)]
struct RouteCreate {
    /// Of a-z 0-9 - _ and /.
    #[schema(required)]
    route_key: Option<String>,
    #[schema(required)]
    client_name: Option<String>,
    /// One or more of query, fetch, insert, update, delete.
    #[schema(required)]
    allowed_ops: Option<Vec<String>>,
    /// Where `fetch` is passed on to, instead of the client's database.
    target_url: Option<String>,
    is_active: Option<bool>,
    /// `contract` says what strangers may reach.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaPublicRoutePatch)]
struct RoutePatch {
    route_key: Option<String>,
    client_name: Option<String>,
    allowed_ops: Option<Vec<String>>,
    /// Empty: none.
    target_url: Option<String>,
    is_active: Option<bool>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// The two things that can be wrong with a client have names in the contract.
pub(super) fn told(rejection: Rejection) -> ApiError {
    let summary = match &rejection {
        Rejection::Invalid { param, message } if param == "client_name" => match message.as_str() {
            "Unknown client" => Some(("unknown_client", "Unknown client")),
            "Ineligible client" => Some(("ineligible_client", "Ineligible client")),
            _ => None,
        },
        _ => None,
    };
    let error = ApiError::from(rejection);
    match summary {
        Some((code, summary)) => error.told(code, summary),
        None => error,
    }
}

async fn list(call: Call) -> Result<Reply> {
    let routes = call.app().catalog.public_routes();
    let routes = routes.iter().map(|route| PublicRoute::of(call.app(), route)).collect();
    reply(StatusCode::OK, "Listed public routes", &RouteList { routes })
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: RouteCreate = body(&mut call).await?;
    let new = NewRoute {
        route_key: wanted.route_key.unwrap_or_default(),
        client_name: wanted.client_name.unwrap_or_default(),
        allowed_ops: wanted.allowed_ops.unwrap_or_default(),
        target_url: wanted.target_url,
        is_active: wanted.is_active.unwrap_or(true),
        metadata: wanted.metadata.unwrap_or_default(),
    };
    let route = registry::create(call.app(), new, &call.actor()).await.map_err(told)?;
    let route = PublicRoute::of(call.app(), &route);
    reply(StatusCode::CREATED, "Created public route", &OneRoute { route })
}

async fn change(mut call: Call) -> Result<Reply> {
    let wanted: RoutePatch = body(&mut call).await?;
    let change = RouteChange {
        route_key: wanted.route_key,
        client_name: wanted.client_name,
        allowed_ops: wanted.allowed_ops,
        target_url: wanted.target_url,
        is_active: wanted.is_active,
        metadata: wanted.metadata,
    };
    let changed = registry::change(call.app(), call.path_text("route_key"), change, &call.actor()).await;
    let changed = changed.map_err(told)?;
    let route = PublicRoute::of(call.app(), &changed);
    reply(StatusCode::OK, "Updated public route", &OneRoute { route })
}

async fn delete(call: Call) -> Result<Reply> {
    let route = registry::delete(call.app(), call.path_text("route_key"), &call.actor()).await?;
    let route = PublicRoute::of(call.app(), &route);
    reply(StatusCode::OK, "Deleted public route", &OneRoute { route })
}

/// Rows shown of each table.
const SAMPLE_ROWS: u64 = 3;

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaExposure)]
struct Exposure {
    route_key: String,
    client_name: String,
    is_active: bool,
    /// Whether it has a contract. Without one, whoever has a gateway key for its operations reaches every table.
    has_contract: bool,
    allowed_ops: Vec<String>,
    /// What the contract allows of these.
    #[schema(value_type = Vec<Object>)]
    operations: Vec<ExposedOperation>,
    samples: Vec<Sample>,
}

/// A few rows, as a fetch by the contract shows them.
#[derive(Serialize, ToSchema)]
#[schema(as = AthenaExposureSample)]
struct Sample {
    table: String,
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Box<RawValue>>,
    /// Why there are none to be seen.
    #[schema(required)]
    error: Option<String>,
}

async fn show_exposure(call: Call) -> Result<Reply> {
    let app = call.app();
    let route = registry::get(app, call.path_text("route_key"))?;
    let client = app.catalog.client(route.client_id).ok_or_else(|| ApiError::not_found("client"))?;
    let examined = exposure::examine(&route, crate::gateway::keys::enforced(app, &client));
    let bounds = app.gateway.databases.bounds();
    let samples = exposure::samples(&app.gateway.databases, &route, &client, (SAMPLE_ROWS, &bounds)).await;
    let samples = samples.into_iter().map(|sample| match sample.rows {
        Ok(rows) => Sample { table: sample.table, rows, error: None },
        Err(fault) => Sample { table: sample.table, rows: Vec::new(), error: Some(fault.message) },
    });
    let exposure = Exposure {
        route_key: route.route_key.clone(),
        client_name: client.name.clone(),
        is_active: route.is_active,
        has_contract: examined.has_contract,
        allowed_ops: route.allowed_ops.iter().cloned().collect(),
        operations: examined.operations,
        samples: samples.collect(),
    };
    reply(StatusCode::OK, "Examined public route", &exposure)
}
