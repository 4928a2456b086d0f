//! Bulk replays: what was accepted in a span of time goes out again.

use axum::http::Method;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::registry::replays::{self, Wanted};
use crate::schemas;
use crate::store::{ReplayRecord, ReplayStatus, ReplayTargets};

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::DeliveriesRead), Access::Needs(Permission::ReplaysWrite));
    vec![
        Route::new(Method::POST, "/v1/replays", write, create)
            .effect(Effect::Creates)
            .says(
                "Start a replay",
                "Or count what it would take, with `dry_run`. Replayed deliveries carry the header \
                 `webhook-replay-id`. A replay goes on after a restart.",
            )
            .takes::<ReplayCreate>()
            .gives::<DryRun>(200, "A dry run: how much matches")
            .gives::<Replay>(202, "The replay, running"),
        Route::new(Method::GET, "/v1/replays", read, list)
            .says("List replays", "")
            .query::<ListQuery>()
            .gives_list::<Replay>("Replays, newest first"),
        Route::new(Method::GET, "/v1/replays/{id}", read, get)
            .says("Get a replay", "")
            .gives::<Replay>(200, "The replay"),
        Route::new(Method::DELETE, "/v1/replays/{id}", write, cancel)
            .says("Cancel a replay", "What it has queued stays queued. One that has ended stays as it is.")
            .gives::<Replay>(200, "The replay as it ended"),
    ]
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayCreate {
    /// Needed with the platform admin key; implied by a tenant's key.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Events accepted at this time or later.
    #[schema(value_type = String, format = DateTime)]
    since: UnixMs,
    /// Events accepted before this time; now unless given.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<UnixMs>,
    /// Event types, exact or by prefix (`user.*`); empty: all.
    #[serde(default)]
    #[schema(max_items = 100)]
    types: Vec<String>,
    /// How the delivery ended; empty: however it did.
    #[serde(default)]
    #[schema(value_type = Vec<schemas::FinalStatus>)]
    statuses: Vec<DeliveryStatus>,
    /// Only what went to this webhook.
    #[schema(value_type = Option<String>)]
    webhook_id: Option<WebhookId>,
    /// `original` (each delivery to its own webhook, the default), `current` (each event to whoever is subscribed
    /// now), or the id of one webhook.
    #[schema(example = "original")]
    targets: Option<String>,
    /// Deliveries queued a second; as fast as they go out unless given.
    #[schema(minimum = 0.01, maximum = 100_000)]
    rate_per_second: Option<f64>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
struct DryRun {
    matched: u64,
}

#[derive(Serialize, ToSchema)]
struct Replay {
    #[schema(value_type = String, example = "rpl_3d0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: ReplayId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(value_type = schemas::ReplayStatus)]
    status: ReplayStatus,
    #[schema(value_type = String, format = DateTime)]
    since: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    until: UnixMs,
    types: Vec<String>,
    #[schema(value_type = Vec<schemas::FinalStatus>)]
    statuses: Vec<DeliveryStatus>,
    #[schema(value_type = Option<String>)]
    webhook_id: Option<WebhookId>,
    targets: String,
    rate_per_second: Option<f64>,
    /// Counted when it started.
    matched: u64,
    /// Matches handled so far.
    done: u64,
    /// Deliveries queued so far.
    queued: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<UnixMs>,
}

impl From<ReplayRecord> for Replay {
    fn from(record: ReplayRecord) -> Replay {
        let select = record.select;
        Replay {
            id: record.id,
            tenant_id: select.tenant_id,
            status: record.status,
            since: select.since,
            until: select.until,
            types: select.types.0,
            statuses: select.statuses,
            webhook_id: select.webhook_id,
            targets: match select.targets {
                ReplayTargets::Original => "original".to_owned(),
                ReplayTargets::Current => "current".to_owned(),
                ReplayTargets::Webhook(id) => id.to_string(),
            },
            rate_per_second: record.rate_per_second,
            matched: record.matched,
            done: record.done,
            queued: record.queued,
            created_at: record.created_at,
            finished_at: record.finished_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: ReplayCreate = call.json().await?;
    let tenant_id = call.tenant(wanted.tenant_id)?;
    let (rate, dry_run) = (wanted.rate_per_second, wanted.dry_run);
    let app = call.app();
    let select = replays::select(app, tenant_id, wanted.into())?;
    if dry_run {
        return Reply::ok(&DryRun { matched: app.store.replay_count(&select).await? });
    }
    let id = ReplayId::from_random(app.ambient.random());
    let replay = app.engine.start_replay(id, select, rate, call.actor()).await?;
    Reply::accepted(&Replay::from(replay))
}

impl From<ReplayCreate> for Wanted {
    fn from(asked: ReplayCreate) -> Wanted {
        Wanted {
            since: asked.since,
            until: asked.until,
            types: asked.types,
            statuses: asked.statuses,
            webhook_id: asked.webhook_id,
            targets: asked.targets,
            rate_per_second: asked.rate_per_second,
        }
    }
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let page = page::stored(query.limit, query.cursor.as_deref())?;
    let listed = call.app().store.replay_list(call.narrowed(query.tenant_id)?, page).await?;
    Reply::ok(&List::stored(listed, Replay::from))
}

async fn get(call: Call) -> Result<Reply> {
    let replay = call.app().store.replay_get(call.scope(), call.id("replay")?).await?;
    Reply::ok(&Replay::from(replay.ok_or_else(|| ApiError::not_found("replay"))?))
}

async fn cancel(call: Call) -> Result<Reply> {
    let replay = call.app().engine.cancel_replay(call.scope(), call.id("replay")?, call.actor()).await?;
    Reply::ok(&Replay::from(replay.ok_or_else(|| ApiError::not_found("replay"))?))
}
