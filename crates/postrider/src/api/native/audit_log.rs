//! The audit log: who changed what, when, from where.

use std::net::IpAddr;

use axum::http::Method;
use postrider_core::ids::{AuditId, TenantId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::Result;
use crate::api::page::{self, List};
use crate::api::route::{Access, Route};
use crate::auth::Permission;
use crate::store::{AuditQuery, AuditRecord};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/v1/audit-log", Access::Needs(Permission::AuditRead), list)
            .says("Read the audit log", "Secrets are never in it.")
            .query::<ListQuery>()
            .gives_list::<AuditEntry>("Entries, newest first"),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Only what this actor did: `admin`, `system`, or a key's id.
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
    /// `admin`, `system`, or a key's id.
    id: String,
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
            actor: AuditActor { id: entry.actor.id, address: entry.actor.address, request_id: entry.actor.request_id },
            action: entry.action,
            target: entry.target,
            before: entry.before,
            after: entry.after,
        }
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
