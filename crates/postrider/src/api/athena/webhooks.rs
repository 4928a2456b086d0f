//! Gateway webhooks of the client that a header names: `/admin/webhooks`.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use postrider_core::gateway::events::EVENTS;
use postrider_core::gateway::webhook::{GatewayInput, GatewaySpec, LookupKey};
use postrider_core::time::UnixMs;
use postrider_core::webhook::{InvalidField, WebhookStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::envelope::{self, reply};
use super::{Piece, check_client_name, client, number, query_text, value};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Returns, Route};
use crate::app::App;
use crate::registry::gateway_webhooks as registry;
use crate::store::{ClientRecord, WebhookRecord};

pub(super) fn routes() -> Vec<Route> {
    let admin = Access::AdminKey;
    vec![
        Route::new(Method::GET, "/admin/webhooks", admin, list)
            .says("List webhooks", "Those of the client, newest first.")
            .query::<ListQuery>()
            .success(200, "Webhooks", Returns::One(envelope::of::<WebhookList>())),
        Route::new(Method::POST, "/admin/webhooks", admin, save)
            .says(
                "Save a webhook",
                "One with the same `route_key`, `http_method`, `url_template` and `table_name` is made as it is asked for \
                 here.",
            )
            .takes::<WebhookSave>()
            .success(200, "Saved", Returns::One(envelope::of::<OneWebhook>()))
            .fails(&[Code::Conflict, Code::LimitReached, Code::UrlNotAllowed]),
        Route::new(Method::GET, "/admin/webhooks/events", admin, events)
            .says("List what webhooks can wait for", "The operations that fire them.")
            .success(200, "Operations", Returns::One(envelope::of::<EventList>())),
        Route::new(Method::GET, "/admin/webhooks/{id}", admin, get)
            .says("Get a webhook", "")
            .success(200, "The webhook", Returns::One(envelope::of::<OneWebhook>())),
        Route::new(Method::PATCH, "/admin/webhooks/{id}", admin, change)
            .says("Change a webhook", "Fields that are absent or null stay as they are; an empty text takes one away.")
            .takes::<WebhookSave>()
            .success(200, "Changed", Returns::One(envelope::of::<OneWebhook>()))
            .fails(&[Code::Conflict, Code::UrlNotAllowed]),
        Route::new(Method::DELETE, "/admin/webhooks/{id}", admin, delete)
            .says("Delete a webhook", "What it has fired and is not delivered is canceled.")
            .success(200, "Deleted", Returns::One(envelope::of::<Deleted>())),
    ]
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document")]
struct ListQuery {
    #[param(required = false, minimum = 1, maximum = 200, default = 50)]
    limit: usize,
    #[param(required = false, minimum = 0, default = 0)]
    offset: usize,
    /// Must be the client of the header.
    #[param(required = false)]
    client_name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhook)]
pub(super) struct Webhook {
    id: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
    enabled: bool,
    name: String,
    #[schema(required)]
    description: Option<String>,
    client_name: String,
    /// Null: every table.
    #[schema(required)]
    table_name: Option<String>,
    route_key: String,
    http_method: &'static str,
    url_template: String,
    headers_templates: BTreeMap<String, String>,
    #[schema(required)]
    body_template: Option<String>,
    timeout_ms: u32,
    include_request_body_in_context: bool,
    #[schema(value_type = Object)]
    lookup_keys: BTreeMap<String, LookupKey>,
    #[schema(required)]
    slug: Option<String>,
    #[schema(required)]
    state_key_template: Option<String>,
    #[schema(required)]
    state_cap_max_fires: Option<u32>,
    #[schema(required)]
    state_cap_window_seconds: Option<u32>,
    #[schema(required)]
    idempotency_template: Option<String>,
    max_attempts: u32,
    /// Whether its requests are signed.
    has_secret: bool,
}

impl Webhook {
    fn of(app: &App, client: &ClientRecord, record: &WebhookRecord) -> Result<Webhook> {
        let gateway: &GatewaySpec = record.spec.gateway.as_ref().ok_or_else(|| ApiError::not_found(registry::WHAT))?;
        Ok(Webhook {
            id: gateway.number,
            created_at: record.created_at,
            updated_at: record.updated_at,
            enabled: gateway.enabled && record.status != WebhookStatus::Disabled,
            name: record.spec.name.clone().unwrap_or_default(),
            description: record.spec.description.clone(),
            client_name: client.name.clone(),
            table_name: gateway.table_name.clone(),
            route_key: gateway.route_key.clone(),
            http_method: gateway.http_method.name(),
            url_template: gateway.url_template.clone(),
            headers_templates: gateway.headers_templates.clone(),
            body_template: gateway.body_template.clone(),
            timeout_ms: gateway.timeout_ms,
            include_request_body_in_context: gateway.include_request_body_in_context,
            lookup_keys: gateway.lookup_keys.clone(),
            slug: gateway.slug.clone(),
            state_key_template: gateway.state_key_template.clone(),
            state_cap_max_fires: gateway.state_cap_max_fires,
            state_cap_window_seconds: gateway.state_cap_window_seconds,
            idempotency_template: gateway.idempotency_template.clone(),
            max_attempts: gateway.max_attempts,
            has_secret: registry::has_secret(app, record)?,
        })
    }
}

/// What is read of a body, for the document; `core::gateway` reads it.
#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaWebhookSave)]
#[expect(dead_code, reason = "for the document")]
struct WebhookSave {
    name: Option<String>,
    description: Option<String>,
    /// The client of the header, if given.
    client_name: Option<String>,
    /// By default every table.
    table_name: Option<String>,
    /// One of `GET /admin/webhooks/events`.
    route_key: Option<String>,
    /// GET, POST, PUT, PATCH or DELETE.
    http_method: Option<String>,
    url_template: Option<String>,
    headers_templates: Option<BTreeMap<String, String>>,
    /// By default the context as JSON, except with GET and DELETE.
    body_template: Option<String>,
    /// Moved into 1000 to 300000; by default 30000.
    timeout_ms: Option<i64>,
    include_request_body_in_context: Option<bool>,
    /// By `schema.table`: `key_column`, and `key_source` such as `header:x-user-id`, `payload:path` or `response:path`.
    #[schema(value_type = Option<Object>)]
    lookup_keys: Option<Value>,
    slug: Option<String>,
    enabled: Option<bool>,
    /// Then requests are signed. Never shown again.
    secret: Option<String>,
    state_key_template: Option<String>,
    state_cap_max_fires: Option<u32>,
    state_cap_window_seconds: Option<u32>,
    idempotency_template: Option<String>,
    max_attempts: Option<u32>,
    /// The five above may stand in here, in this spelling or in camelCase.
    #[schema(value_type = Option<Object>)]
    resilience_policy: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhookList)]
struct WebhookList {
    webhooks: Vec<Webhook>,
    total: usize,
    limit: usize,
    offset: usize,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOneWebhook)]
struct OneWebhook {
    webhook: Webhook,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaDeletedWebhook)]
struct Deleted {
    id: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhookEvent)]
struct Event {
    route_key: &'static str,
    category: &'static str,
    title: &'static str,
    description: &'static str,
    table_scope_supported: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhookEventList)]
struct EventList {
    events: Vec<Event>,
}

/// A body as the contract reads it.
async fn input(call: &mut Call, client: &ClientRecord) -> Result<GatewayInput> {
    let input = GatewayInput::parse(&value(call).await?).map_err(invalid)?;
    check_client_name(client, input.client_name.as_deref())?;
    Ok(input)
}

fn invalid(wrong: InvalidField) -> ApiError {
    let message = format!("{} {}", wrong.field, wrong.problem);
    ApiError::field(wrong.field, message)
}

fn one(call: &Call, client: &ClientRecord, message: &str, record: &WebhookRecord) -> Result<Reply> {
    reply(StatusCode::OK, message, &OneWebhook { webhook: Webhook::of(call.app(), client, record)? })
}

async fn list(call: Call) -> Result<Reply> {
    let client = client(&call)?;
    check_client_name(&client, query_text(&call, "client_name").as_deref())?;
    let Piece { limit, offset } = Piece::of(&call)?;
    let all = registry::of_client(call.app(), &client);
    let webhooks = all.iter().skip(offset).take(limit).map(|record| Webhook::of(call.app(), &client, record));
    let webhooks = webhooks.collect::<Result<_>>()?;
    reply(StatusCode::OK, "Listed webhooks", &WebhookList { webhooks, total: all.len(), limit, offset })
}

async fn save(mut call: Call) -> Result<Reply> {
    let client = client(&call)?;
    let input = input(&mut call, &client).await?;
    let record = registry::save(call.app(), &client, input, &call.actor()).await?;
    one(&call, &client, "Saved webhook", &record)
}

async fn events(_: Call) -> Result<Reply> {
    let events = EVENTS.iter().map(|event| Event {
        route_key: event.route_key,
        category: event.category,
        title: event.title,
        description: event.description,
        table_scope_supported: event.table_scope_supported,
    });
    reply(StatusCode::OK, "Listed webhook events", &EventList { events: events.collect() })
}

async fn get(call: Call) -> Result<Reply> {
    let client = client(&call)?;
    let record = registry::get(call.app(), &client, number(&call)?)?;
    one(&call, &client, "Fetched webhook", &record)
}

async fn change(mut call: Call) -> Result<Reply> {
    let client = client(&call)?;
    let id = number(&call)?;
    registry::get(call.app(), &client, id)?;
    let input = input(&mut call, &client).await?;
    let record = registry::change(call.app(), &client, id, input, &call.actor()).await?;
    one(&call, &client, "Updated webhook", &record)
}

async fn delete(call: Call) -> Result<Reply> {
    let client = client(&call)?;
    let id = number(&call)?;
    registry::delete(call.app(), &client, id, &call.actor()).await?;
    reply(StatusCode::OK, "Deleted webhook", &Deleted { id })
}
