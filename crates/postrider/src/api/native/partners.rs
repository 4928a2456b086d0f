//! Partners: the owners of several tenants.

use axum::http::Method;
use postrider_core::ids::PartnerId;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::registry;
use crate::store::PartnerRecord;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/partners", Access::Platform, create)
            .effect(Effect::Creates)
            .says("Create a partner", "A partner owns any number of tenants.")
            .takes::<PartnerCreate>()
            .gives::<Partner>(201, "The partner"),
        Route::new(Method::GET, "/v1/partners", Access::Platform, list)
            .says("List partners", "")
            .query::<ListQuery>()
            .gives_list::<Partner>("Partners, newest first"),
        Route::new(Method::GET, "/v1/partners/{id}", Access::Platform, get)
            .says("Get a partner", "")
            .gives::<Partner>(200, "The partner"),
    ]
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PartnerCreate {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
}

#[derive(Serialize, ToSchema)]
struct Partner {
    #[schema(value_type = String, example = "prt_0b0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: PartnerId,
    name: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
}

impl From<PartnerRecord> for Partner {
    fn from(record: PartnerRecord) -> Partner {
        Partner { id: record.id, name: record.name, created_at: record.created_at }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn create(mut call: Call) -> Result<Reply> {
    let PartnerCreate { name } = call.json().await?;
    let partner = registry::tenants::create_partner(call.app(), name, &call.actor()).await?;
    Reply::created(&Partner::from(partner))
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let listed = call.app().store.partners(page::stored(query.limit, query.cursor.as_deref())?).await?;
    Reply::ok(&List::stored(listed, Partner::from))
}

async fn get(call: Call) -> Result<Reply> {
    let partner = call.app().catalog.partner(call.id("partner")?).ok_or_else(|| ApiError::not_found("partner"))?;
    Reply::ok(&Partner::from(PartnerRecord::clone(&partner)))
}
