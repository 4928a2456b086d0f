//! Event types: what a publisher says about the events it sends.

use axum::http::Method;
use postrider_core::ids::TenantId;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Route};
use crate::auth::Permission;
use crate::registry::compatibility::Break;
use crate::registry::event_types::{self, Compatibility, Description};
use crate::store::EventTypeRecord;

const WHOSE: &str = "With the platform admin key and without `tenant_id`: of the platform, seen by every tenant.";

const PUT: &str = "With the platform admin key and without `tenant_id`: of the platform, seen by every tenant. A schema that \
                   accepts less than the one before is taken with `warnings`, or refused if `compatibility` is `block`. A \
                   schema that refers outside itself, or could take too long to check, is refused.";

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::EventTypesRead), Access::Needs(Permission::EventTypesWrite));
    vec![
        Route::new(Method::PUT, "/v1/event-types/{name}", write, put)
            .says("Describe an event type", PUT)
            .query::<PutQuery>()
            .takes::<EventTypePut>()
            .gives::<EventType>(200, "The type")
            .fails(&[Code::NotFound, Code::LimitReached, Code::IncompatibleSchema]),
        Route::new(Method::GET, "/v1/event-types", read, list)
            .says("List event types", "A tenant's own types and the platform's.")
            .query::<ListQuery>()
            .gives_list::<EventType>("Types, newest first"),
        Route::new(Method::GET, "/v1/event-types/{name}", read, get)
            .says("Get an event type", WHOSE)
            .query::<TenantQuery>()
            .gives::<EventType>(200, "The type"),
        Route::new(Method::DELETE, "/v1/event-types/{name}", write, delete)
            .says("Forget an event type", "Events of this type go on being delivered.")
            .query::<TenantQuery>()
            .gives_nothing(204, "It is gone"),
    ]
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventTypePut {
    /// Under which the console shows it.
    #[schema(min_length = 1, max_length = 120)]
    group: Option<String>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    /// JSON Schema of the event's data; must accept the example.
    #[schema(value_type = Option<Value>)]
    schema: Option<Value>,
    /// An example of the event's data.
    #[schema(value_type = Option<Value>)]
    example: Option<Value>,
    #[serde(default)]
    deprecated: bool,
}

#[derive(Serialize, ToSchema)]
struct EventType {
    name: String,
    /// Null: of the platform.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    group: Option<String>,
    description: Option<String>,
    schema: Option<Value>,
    example: Option<Value>,
    deprecated: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
    /// What the schema no longer accepts of what the one before accepted; only in the answer to a change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<Break>,
}

impl From<&EventTypeRecord> for EventType {
    fn from(record: &EventTypeRecord) -> EventType {
        EventType {
            name: record.name.clone(),
            tenant_id: record.tenant_id,
            group: record.group.clone(),
            description: record.description.clone(),
            schema: record.schema.clone(),
            example: record.example.clone(),
            deprecated: record.deprecated,
            created_at: record.created_at,
            updated_at: record.updated_at,
            warnings: Vec::new(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PutQuery {
    /// Whose type; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// What becomes of a schema that accepts less than the one before: `warn` unless given.
    #[param(inline)]
    compatibility: Option<Compatibility>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TenantQuery {
    /// Whose type; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Whose types; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn put(mut call: Call) -> Result<Reply> {
    let query: PutQuery = call.query()?;
    let tenant = call.tenant_filter(query.tenant_id)?;
    let said: EventTypePut = call.json().await?;
    let said = Description {
        group: said.group,
        description: said.description,
        schema: said.schema,
        example: said.example,
        deprecated: said.deprecated,
    };
    let said = (said, query.compatibility.unwrap_or_default());
    let (record, warnings) = event_types::put(call.app(), tenant, call.path_text("name"), said, &call.actor()).await?;
    Reply::ok(&EventType { warnings, ..EventType::from(&record) })
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let all = call.app().catalog.event_types(call.tenant_filter(query.tenant_id)?);
    let place = |it: &std::sync::Arc<EventTypeRecord>| (it.created_at.0, it.name.as_bytes().to_vec());
    let (items, next_cursor) = page::in_memory(all, place, query.limit, query.cursor.as_deref())?;
    Reply::ok(&List { items: items.iter().map(|it| EventType::from(&**it)).collect::<Vec<_>>(), next_cursor })
}

async fn get(call: Call) -> Result<Reply> {
    let tenant = call.tenant_filter(call.query::<TenantQuery>()?.tenant_id)?;
    let record = call.app().catalog.event_type(tenant, call.path_text("name"));
    Reply::ok(&EventType::from(&*record.ok_or_else(|| ApiError::not_found("event type"))?))
}

async fn delete(call: Call) -> Result<Reply> {
    let tenant = call.tenant_filter(call.query::<TenantQuery>()?.tenant_id)?;
    event_types::delete(call.app(), tenant, call.path_text("name"), &call.actor()).await?;
    Reply::no_content()
}
