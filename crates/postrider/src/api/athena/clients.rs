//! Clients: `/admin/clients`.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use postrider_core::ids::TenantId;
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body;
use super::envelope::{self, reply};
use crate::api::call::{Call, Reply};
use crate::api::error::{Code, Result};
use crate::api::route::{Access, Effect, Returns, Route};
use crate::app::App;
use crate::gateway::address;
use crate::registry::Patch;
use crate::registry::clients::{self as registry, ClientChange, NewClient};
use crate::store::ClientRecord;

pub(super) fn routes() -> Vec<Route> {
    let admin = Access::AdminKey;
    vec![
        Route::new(Method::GET, "/admin/clients", admin, list)
            .says("List clients", "By name, with the state of their connections on this node.")
            .success(200, "Clients", Returns::One(envelope::of::<ClientList>())),
        Route::new(Method::POST, "/admin/clients", admin, create)
            .effect(Effect::Creates)
            .says(
                "Create a client",
                "Creates its tenant, too, or joins the one that `tenant_id` names. The address is kept encrypted.",
            )
            .takes::<ClientCreate>()
            .success(201, "Created", Returns::One(envelope::of::<OneClient>()))
            .fails(&[Code::Conflict, Code::LimitReached]),
        Route::new(Method::PATCH, "/admin/clients/{name}", admin, change)
            .says("Change a client", "Fields that are absent or null stay as they are.")
            .takes::<ClientPatch>()
            .success(200, "Changed", Returns::One(envelope::of::<OneClient>()))
            .fails(&[Code::Conflict]),
        Route::new(Method::PUT, "/admin/clients/{name}/freeze", admin, freeze)
            .says("Freeze or unfreeze a client", "No operation is run on a frozen client.")
            .takes::<Freeze>()
            .success(200, "Done", Returns::One(envelope::of::<OneClient>())),
        Route::new(Method::DELETE, "/admin/clients/{name}", admin, delete)
            .says("Delete a client", "Its name is free; its tenant stays, with its webhooks and their history.")
            .success(200, "Deleted", Returns::One(envelope::of::<OneClient>())),
    ]
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaClient)]
struct Client {
    id: Uuid,
    client_name: String,
    /// Its tenant in the native API.
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(required)]
    description: Option<String>,
    /// Its password is masked.
    #[schema(required)]
    pg_uri: Option<String>,
    #[schema(required)]
    pg_uri_env_var: Option<String>,
    source: String,
    is_active: bool,
    is_frozen: bool,
    /// Whether callers need a gateway key; null: as the deployment has it.
    #[schema(required)]
    enforce_api_keys: Option<bool>,
    #[schema(value_type = Object)]
    metadata: Value,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    deleted_at: Option<UnixMs>,
}

impl Client {
    fn of(app: &App, client: &ClientRecord) -> Client {
        let uri = client.sealed_uri.as_ref().map(|_| match registry::uri(app, client) {
            Ok(uri) => uri.map_or_else(String::new, |uri| address::shown(uri.reveal())),
            Err(error) => {
                tracing::error!(client = client.name, "an address does not open: {error:#}");
                "****".to_owned()
            }
        });
        Client {
            id: client.id,
            client_name: client.name.clone(),
            tenant_id: client.tenant_id,
            description: client.description.clone(),
            pg_uri: uri,
            pg_uri_env_var: client.uri_env_var.clone(),
            source: client.source.clone(),
            is_active: client.is_active,
            is_frozen: client.is_frozen,
            enforce_api_keys: client.enforce_keys,
            metadata: registry::shown_metadata(&client.metadata),
            created_at: client.created_at,
            updated_at: client.updated_at,
            deleted_at: client.deleted_at,
        }
    }
}

/// How a client does on this node.
#[derive(Serialize, ToSchema)]
#[schema(as = AthenaClientRuntime)]
struct Runtime {
    client_name: String,
    is_active: bool,
    is_frozen: bool,
    /// Whether this node has a connection to its database.
    pool_connected: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaClientList)]
struct ClientList {
    clients: Vec<Client>,
    runtime: Vec<Runtime>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOneClient)]
struct OneClient {
    client: Client,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaClientCreate)]
struct ClientCreate {
    #[schema(required)]
    client_name: Option<String>,
    description: Option<String>,
    /// `postgres://`, `postgresql://` or `sqlite:` and an absolute path. This or `pg_uri_env_var`.
    #[schema(value_type = Option<String>)]
    pg_uri: Option<Secret>,
    /// The environment variable that holds it.
    pg_uri_env_var: Option<String>,
    /// True unless said otherwise.
    is_active: Option<bool>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    enforce_api_keys: Option<bool>,
    /// A tenant that the client joins; by default it gets one of its own.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaClientPatch)]
struct ClientPatch {
    client_name: Option<String>,
    description: Option<String>,
    #[schema(value_type = Option<String>)]
    pg_uri: Option<Secret>,
    pg_uri_env_var: Option<String>,
    is_active: Option<bool>,
    is_frozen: Option<bool>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    enforce_api_keys: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaFreeze)]
struct Freeze {
    is_frozen: bool,
}

fn one(call: &Call, status: StatusCode, message: &str, client: &ClientRecord) -> Result<Reply> {
    reply(status, message, &OneClient { client: Client::of(call.app(), client) })
}

async fn list(call: Call) -> Result<Reply> {
    let all = call.app().catalog.clients();
    let runtime = all.iter().map(|client| Runtime {
        client_name: client.name.clone(),
        is_active: client.is_active,
        is_frozen: client.is_frozen,
        pool_connected: call.app().gateway.is_connected(client),
    });
    let runtime = runtime.collect();
    let clients = all.iter().map(|client| Client::of(call.app(), client)).collect();
    reply(StatusCode::OK, "Listed clients", &ClientList { clients, runtime })
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: ClientCreate = body(&mut call).await?;
    let new = NewClient {
        name: wanted.client_name.unwrap_or_default(),
        description: wanted.description,
        uri: wanted.pg_uri,
        uri_env_var: wanted.pg_uri_env_var,
        tenant_id: wanted.tenant_id,
        is_active: wanted.is_active.unwrap_or(true),
        metadata: wanted.metadata.unwrap_or_default(),
        enforce_keys: wanted.enforce_api_keys,
    };
    let client = registry::create(call.app(), new, &call.actor()).await?;
    one(&call, StatusCode::CREATED, "Created client", &client)
}

async fn change(mut call: Call) -> Result<Reply> {
    let wanted: ClientPatch = body(&mut call).await?;
    let change = ClientChange {
        name: wanted.client_name,
        description: wanted.description.into(),
        uri: wanted.pg_uri,
        uri_env_var: wanted.pg_uri_env_var,
        is_active: wanted.is_active,
        is_frozen: wanted.is_frozen,
        metadata: wanted.metadata,
        enforce_keys: wanted.enforce_api_keys.into(),
    };
    let client = changed(&call, change).await?;
    one(&call, StatusCode::OK, "Updated client", &client)
}

async fn freeze(mut call: Call) -> Result<Reply> {
    let Freeze { is_frozen } = body(&mut call).await?;
    let change = ClientChange { is_frozen: Some(is_frozen), description: Patch::Absent, ..ClientChange::default() };
    let client = changed(&call, change).await?;
    one(&call, StatusCode::OK, if is_frozen { "Froze client" } else { "Unfroze client" }, &client)
}

async fn changed(call: &Call, change: ClientChange) -> Result<Arc<ClientRecord>> {
    Ok(registry::change(call.app(), call.path_text("name"), change, &call.actor()).await?)
}

async fn delete(call: Call) -> Result<Reply> {
    let client = registry::delete(call.app(), call.path_text("name"), &call.actor()).await?;
    one(&call, StatusCode::OK, "Deleted client", &client)
}
