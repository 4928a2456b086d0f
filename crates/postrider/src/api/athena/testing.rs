//! A try of a gateway webhook, now: `POST /admin/webhooks/{id}/test`.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use postrider_core::gateway::events;
use postrider_core::gateway::template::{Context, Occasion};
use postrider_core::ids::DeliveryId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::deliveries::{resolved_url, snippet};
use super::envelope::{self, reply};
use super::{body, check_client_name, client, number};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Returns, Route};
use crate::registry::gateway_webhooks as registry;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/admin/webhooks/{id}/test", Access::AdminKey, test)
            .says(
                "Try a webhook",
                "Sends a request now, as an operation like this would, and answers with what came back. It counts against \
                 no cap. Whatever the endpoint answers is an answer; only when it cannot be reached, the try has failed.",
            )
            .takes::<Try>()
            .success(200, "Sent", Returns::One(envelope::of::<Tried>())),
    ]
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaWebhookTry)]
struct Try {
    /// One of `GET /admin/webhooks/events`.
    #[schema(required)]
    route_key: Option<String>,
    /// The client of the header, if given.
    client_name: Option<String>,
    table_name: Option<String>,
    request_id: Option<String>,
    /// By default POST.
    request_method: Option<String>,
    /// By default the path of the operation.
    request_path: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
    #[schema(value_type = Option<Object>)]
    response: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhookTried)]
struct Tried {
    #[schema(value_type = i64)]
    delivery_id: DeliveryId,
    #[schema(required)]
    resolved_url: Option<String>,
    #[schema(required)]
    http_status: Option<u16>,
    #[schema(required)]
    response_snippet: Option<String>,
}

async fn test(mut call: Call) -> Result<Reply> {
    let client = client(&call)?;
    let record = registry::get(call.app(), &client, number(&call)?)?;
    let wanted: Try = body(&mut call).await?;
    check_client_name(&client, wanted.client_name.as_deref())?;
    let route_key = wanted.route_key.ok_or_else(|| ApiError::missing("route_key"))?;
    if events::find(&route_key).is_none() {
        return Err(ApiError::field("route_key", "route_key is none of GET /admin/webhooks/events"));
    }
    let path = wanted.request_path.unwrap_or_else(|| format!("/{}", route_key.replacen('_', "/", 1)));
    let headers: Vec<(String, String)> = wanted.headers.unwrap_or_default().into_iter().collect();
    let (payload, response) = (wanted.payload.unwrap_or_default(), wanted.response.unwrap_or_default());
    let occasion = Occasion {
        request_id: wanted.request_id.as_deref().or(Some(&call.request_id)),
        method: wanted.request_method.as_deref().unwrap_or("POST"),
        path: &path,
        client: &client.name,
        route_key: &route_key,
        table: wanted.table_name.as_deref(),
        headers: &headers,
        payload: &payload,
        response: &response,
    };
    let with_payload = record.spec.gateway.as_ref().is_some_and(|gateway| gateway.include_request_body_in_context);
    let context = Context::of(&occasion, with_payload).to_json();
    let data = RawValue::from_string(context).map_err(ApiError::internal)?;
    let resolved_url = resolved_url(&record, data.get());
    let report = call.app().engine.test(record.id, &route_key, data).await?;
    let Some(response) = report.attempt.response else {
        let reason = report.attempt.error.map_or_else(|| "no reply".to_owned(), |error| error.detail);
        let mut error = ApiError::new(Code::InvalidField, reason).told("webhook_test_failed", "Webhook test failed");
        if let Some(told) = &mut error.told {
            told.status = Some(StatusCode::INTERNAL_SERVER_ERROR);
            told.data = Some(serde_json::json!({ "delivery_id": report.delivery_id, "resolved_url": resolved_url }));
        }
        return Err(error);
    };
    let tried = Tried {
        delivery_id: report.delivery_id,
        resolved_url,
        http_status: Some(response.status),
        response_snippet: Some(snippet(&response.body)),
    };
    reply(StatusCode::OK, "Sent test webhook", &tried)
}
