//! Links into the customers' portal.

use std::time::Duration;

use axum::http::Method;
use postrider_core::ids::{PortalLinkId, TenantId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::portal::sessions::{self, ENTRANCE, Unused, Wanted};
use crate::schemas;
use crate::store::Role;

const CREATE: &str = "A link that lets its bearer into the portal of one tenant: its webhooks, deliveries and event types. It is \
                      good for one use, and it and the session that it becomes end at `expires_at`.";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/portal-sessions", Access::Needs(Permission::PortalWrite), create)
            .effect(Effect::Creates)
            .says("Make a link into the portal", CREATE)
            .takes::<PortalSessionCreate>()
            .gives::<PortalSession>(201, "The link, shown only here")
            .fails(&[Code::NotFound, Code::Conflict]),
        Route::new(Method::GET, "/v1/portal-links", Access::Needs(Permission::PortalWrite), list)
            .says(
                "List links into the portal",
                "Those of one tenant that were not used yet, without the links themselves.",
            )
            .query::<ListQuery>()
            .gives_list::<PortalLink>("Links, newest first")
            .fails(&[Code::NotFound]),
        Route::new(Method::DELETE, "/v1/portal-links/{id}", Access::Needs(Permission::PortalWrite), revoke)
            .says(
                "Revoke a link into the portal",
                "Nobody gets in by it any more. A session that it became is ended in the console.",
            )
            .gives_nothing(204, "It is revoked"),
    ]
}

/// What the bearer may do.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PortalRole {
    /// Looks.
    Viewer,
    /// Also sends tests and retries deliveries.
    Member,
    /// Also manages the webhooks.
    Admin,
}

impl From<PortalRole> for Role {
    fn from(role: PortalRole) -> Role {
        match role {
            PortalRole::Viewer => Role::Viewer,
            PortalRole::Member => Role::Member,
            PortalRole::Admin => Role::Admin,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PortalSessionCreate {
    /// Whose portal.
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// `admin` unless given; never above the caller's own.
    role: Option<PortalRole>,
    /// Seconds until the link and its session end, an hour unless given.
    #[schema(minimum = 60, maximum = 86_400)]
    expires_in: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct PortalSession {
    /// Good for one use. Show it in a frame, or send the browser there.
    #[schema(example = "https://hooks.example.com/portal/enter/8esSbo…")]
    url: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: UnixMs,
}

/// A link that was not used yet.
#[derive(Serialize, ToSchema)]
struct PortalLink {
    #[schema(value_type = String, example = "lnk_9c0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: PortalLinkId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(value_type = schemas::Role)]
    role: Role,
    /// Who has made it, as in the audit log; null: not known.
    created_by: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    expires_at: UnixMs,
}

impl From<Unused> for PortalLink {
    fn from(link: Unused) -> PortalLink {
        PortalLink {
            id: link.id,
            tenant_id: link.tenant_id,
            role: link.role,
            created_by: link.by,
            created_at: link.created_at,
            expires_at: link.expires_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Needed with the platform admin key; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let all = sessions::unused(call.app(), call.tenant(query.tenant_id)?).await?;
    let place = |link: &Unused| (link.created_at.0, link.id.0.as_bytes().to_vec());
    let (items, next_cursor) = page::in_memory(all, place, query.limit, query.cursor.as_deref())?;
    Reply::ok(&List { items: items.into_iter().map(PortalLink::from).collect(), next_cursor })
}

async fn revoke(call: Call) -> Result<Reply> {
    sessions::revoke(call.app(), call.scope(), call.id("portal link")?, &call.actor()).await?;
    Reply::no_content()
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: PortalSessionCreate = call.json().await?;
    if !call.app().config.portal.is_on {
        return Err(ApiError::new(Code::Conflict, "the portal is switched off (POSTRIDER_PORTAL)"));
    }
    let wanted = Wanted {
        tenant_id: call.tenant(Some(wanted.tenant_id))?,
        role: wanted.role.map(Role::from),
        lifetime: wanted.expires_in.map(Duration::from_secs),
    };
    let made = sessions::make_link(call.app(), call.principal(), wanted, &call.actor()).await?;
    let url = format!("{}{ENTRANCE}{}", call.origin(), made.token.reveal());
    Reply::created(&PortalSession { url, expires_at: made.expires_at })
}
