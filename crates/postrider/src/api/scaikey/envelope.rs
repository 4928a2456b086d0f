//! Errors as FastAPI writes them: `{"detail":"…"}`, and `{"detail":[{"loc","msg","type"}]}` for what does not fit.

use std::borrow::Cow;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::{ApiError, Code, Problem, Step};

#[derive(Serialize, ToSchema)]
#[schema(as = HTTPValidationError)]
pub(in crate::api) struct Invalid {
    /// All that is wrong.
    #[schema(required = false)]
    detail: Vec<Problem>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HTTPError)]
pub(in crate::api) struct Refused<'a> {
    /// For people; may change.
    detail: &'a str,
}

/// The contract's status for what has this code: whatever does not fit is a 422.
pub(in crate::api) fn status(code: Code) -> StatusCode {
    match code {
        Code::UnsupportedMediaType => StatusCode::UNPROCESSABLE_ENTITY,
        other if other.status() == StatusCode::BAD_REQUEST => StatusCode::UNPROCESSABLE_ENTITY,
        other => other.status(),
    }
}

/// Status and body of an error.
pub(in crate::api) fn error(error: &ApiError) -> (StatusCode, Vec<u8>) {
    let status = status(error.code);
    let body = match status {
        StatusCode::UNPROCESSABLE_ENTITY => serde_json::to_vec(&Invalid { detail: problems(error) }),
        _ => serde_json::to_vec(&Refused { detail: &error.message }),
    };
    (status, body.expect("texts and numbers are plain JSON"))
}

fn problems(error: &ApiError) -> Vec<Problem> {
    if !error.problems.is_empty() {
        return error.problems.clone();
    }
    let param = error.param.as_deref();
    let place = match error.code {
        _ if matches!(param, Some("content-type" | "idempotency-key")) => "header",
        Code::InvalidParameter => "query",
        _ => "body",
    };
    let mut loc = vec![Step::Name(place.to_owned())];
    loc.extend(param.map(steps).unwrap_or_default());
    let (kind, msg) = match error.code {
        Code::InvalidJson => ("json_invalid", error.message.clone()),
        Code::MissingField => ("missing", "Field required".into()),
        _ => ("value_error", value_error(&error.message)),
    };
    vec![Problem { loc, msg, kind }]
}

/// What pydantic makes of the message of an error that a check of ours has raised.
pub(super) fn value_error(message: &str) -> Cow<'static, str> {
    format!("Value error, {message}").into()
}

/// `retry.schedule_ms[3]` step by step, in the contract's names.
fn steps(param: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in param.split('.') {
        let (name, places) = part.split_once('[').unwrap_or((part, ""));
        let name = if name == "timeout_ms" { "timeout_seconds" } else { name };
        steps.push(Step::Name(name.to_owned()));
        steps.extend(places.split(['[', ']']).filter_map(|place| place.parse().ok()).map(Step::At));
    }
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn told(error: &ApiError) -> (u16, Value) {
        let (status, body) = super::error(error);
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn every_code_has_one_of_the_two_shapes_and_never_a_400() {
        for code in Code::ALL {
            let (status, body) = told(&ApiError::new(*code, "why"));
            assert_ne!(status, 400, "{code:?}");
            assert_eq!(status == 422, body["detail"].is_array(), "{code:?}");
            assert!(body["detail"].is_array() || body["detail"] == "why", "{code:?}");
            assert_eq!(body.as_object().unwrap().len(), 1, "{code:?}");
        }
    }

    #[test]
    fn a_field_is_placed_where_it_was_sent() {
        for (error, loc) in [
            (ApiError::field("url", "x"), json!(["body", "url"])),
            (ApiError::field("events[2]", "x"), json!(["body", "events", 2])),
            (ApiError::field("retry.schedule_ms[3]", "x"), json!(["body", "retry", "schedule_ms", 3])),
            (ApiError::field("timeout_ms", "x"), json!(["body", "timeout_seconds"])),
            (ApiError::new(Code::UrlNotAllowed, "x").at("url"), json!(["body", "url"])),
            (ApiError::new(Code::InvalidParameter, "x").at("window"), json!(["query", "window"])),
            (ApiError::new(Code::InvalidParameter, "x").at("idempotency-key"), json!(["header", "idempotency-key"])),
            (ApiError::new(Code::UnsupportedMediaType, "x").at("content-type"), json!(["header", "content-type"])),
            (ApiError::new(Code::InvalidJson, "x"), json!(["body"])),
        ] {
            let (status, body) = told(&error);
            assert_eq!((status, &body["detail"][0]["loc"]), (422, &loc), "{error:?}");
        }
        let missing = told(&ApiError::missing("tenant_id")).1;
        let expected = json!({ "loc": ["body", "tenant_id"], "msg": "Field required", "type": "missing" });
        assert_eq!(missing, json!({ "detail": [expected] }));
    }
}
