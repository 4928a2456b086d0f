//! The audit log: who changed what, when, from where.

mod export;

use std::net::IpAddr;

use axum::http::Method;
use postrider_core::ids::{AuditId, KeyId, TenantId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::Result;
use crate::api::page::{self, List};
use crate::api::route::{Access, Returns, Route};
use crate::auth::Permission;
use crate::store::{AuditQuery, AuditRecord};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/v1/audit-log", Access::Needs(Permission::AuditRead), list)
            .says("Read the audit log", "Secrets are never in it.")
            .query::<ListQuery>()
            .gives_list::<AuditEntry>("Entries, newest first"),
        Route::new(Method::GET, "/v1/audit-log/export", Access::Needs(Permission::AuditRead), export::export)
            .says(
                "Export the audit log",
                "All of it as lines of JSON, however long it is. With the platform admin key: oldest first, each line \
                 `{\"number\", \"hash\", \"entry\"}`, where `hash` is the SHA-256 of the hash before it and the bytes of \
                 `entry`; `postrider audit verify` checks that. Of one tenant: newest first, each line `{\"entry\"}`, \
                 since the chain is that of all tenants together. A transfer that breaks off is not complete.",
            )
            .query::<export::ExportQuery>()
            .success(200, "The entries, one a line", Returns::Other("application/x-ndjson")),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Only what this actor did, by its id.
    actor: Option<String>,
    /// Only this action, such as `webhook.created`.
    action: Option<String>,
    /// At this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct AuditEntry {
    #[schema(value_type = String)]
    id: AuditId,
    #[schema(value_type = String, format = DateTime)]
    at: UnixMs,
    /// Null: of the platform.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    actor: AuditActor,
    #[schema(example = "webhook.created")]
    action: String,
    /// The id of what was changed.
    target: String,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Serialize, ToSchema)]
struct AuditActor {
    /// `admin`, a key's id, `token:` and whom it was issued to, `user:` and a user's,
    /// `operator` (the command line on the server), `nobody` (who failed to log in), or `system`.
    id: String,
    /// What it showed: `admin_key`, `api_key`, `token` or `session`. Null: nothing had to be shown.
    credential: Option<&'static str>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    request_id: Option<String>,
}

impl From<AuditRecord> for AuditEntry {
    fn from(record: AuditRecord) -> AuditEntry {
        let entry = record.entry;
        AuditEntry {
            id: entry.id,
            at: entry.at,
            tenant_id: entry.tenant_id,
            actor: AuditActor {
                credential: credential(&entry.actor.id),
                id: entry.actor.id,
                address: entry.actor.address,
                request_id: entry.actor.request_id,
            },
            action: entry.action,
            target: entry.target,
            before: entry.before,
            after: entry.after,
        }
    }
}

/// What an actor of this id has authenticated with.
fn credential(actor: &str) -> Option<&'static str> {
    match actor {
        "admin" => Some("admin_key"),
        _ if actor.starts_with("token:") => Some("token"),
        _ if actor.starts_with("user:") => Some("session"),
        _ if actor.parse::<KeyId>().is_ok() => Some("api_key"),
        _ => None,
    }
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let wanted = AuditQuery {
        scope: call.narrowed(query.tenant_id)?,
        actor: query.actor,
        action: query.action,
        since: query.since,
        page: page::stored(query.limit, query.cursor.as_deref())?,
    };
    let listed = call.app().store.audit_log(wanted).await?;
    Reply::ok(&List::stored(listed, AuditEntry::from))
}
