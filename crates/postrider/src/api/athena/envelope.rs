//! Successes and errors in the contract's words: `{"status":"success","message","data"}` and
//! `{"status":"error","code","message","error","data"?}`.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::api::call::Reply;
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::Shape;

/// What is said to whoever does not show the admin key, word by word.
const NO_ADMIN: &str = "Invalid or missing API key. Use X-Athena-Key.";

#[derive(Serialize)]
struct Success<'a, T> {
    status: &'static str,
    message: &'a str,
    data: &'a T,
}

/// A success.
pub(in crate::api) fn reply(status: StatusCode, message: &str, data: &impl Serialize) -> Result<Reply> {
    Reply::json(status, &Success { status: "success", message, data })
}

/// The schema of a success whose data is a `T`.
pub(in crate::api) fn of<T: ToSchema>() -> Shape {
    let inner = Shape::of::<T>();
    let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let whole = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .property("status", text().enum_values(Some(["success"])))
        .required("status")
        .property("message", text())
        .required("message")
        .property("data", Ref::from_schema_name(&inner.name))
        .required("data");
    let name = format!("{}Reply", inner.name);
    let mut schemas = inner.schemas;
    schemas.push((name.clone(), RefOr::T(Schema::from(whole.build()))));
    Shape { name, schemas }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaError)]
pub(in crate::api) struct Failure<'a> {
    /// Always `error`.
    status: &'static str,
    /// For programs.
    code: &'a str,
    /// For people, in short.
    message: &'a str,
    /// For people, in full.
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    data: Option<&'a Value>,
    /// What a program may want to know of a failure of the database, such as `constraint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    details: Option<&'a Value>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaUnauthorized)]
pub(in crate::api) struct Unauthorized {
    error: &'static str,
}

/// The contract's status for what has this code.
pub(in crate::api) fn status(code: Code) -> StatusCode {
    match code {
        Code::UnsupportedMediaType | Code::SchemaMismatch => StatusCode::BAD_REQUEST,
        other => other.status(),
    }
}

/// Status and body of an error.
pub(in crate::api) fn error(error: &ApiError) -> (StatusCode, Vec<u8>) {
    let told = error.told.as_deref();
    let status = told.and_then(|told| told.status).unwrap_or_else(|| self::status(error.code));
    let body = if status == StatusCode::UNAUTHORIZED && told.is_none() {
        serde_json::to_vec(&Unauthorized { error: NO_ADMIN })
    } else {
        let (code, summary) = match told {
            Some(told) => (Cow::Borrowed(told.code), told.summary.clone()),
            None => usual(error),
        };
        let data = told.and_then(|told| told.data.as_ref());
        let details = told.and_then(|told| told.details.as_ref());
        let message = &summary;
        serde_json::to_vec(&Failure { status: "error", code: &code, message, error: &error.message, data, details })
    };
    (status, body.expect("texts are plain JSON"))
}

/// Status and code of an error, for logs.
pub(in crate::api) fn verdict(error: &ApiError) -> (StatusCode, Cow<'static, str>) {
    let told = error.told.as_deref();
    let status = told.and_then(|told| told.status).unwrap_or_else(|| status(error.code));
    (status, told.map_or_else(|| usual(error).0, |told| told.code.into()))
}

/// Code and summary of an error that has no words of its own.
fn usual(error: &ApiError) -> (Cow<'static, str>, Cow<'static, str>) {
    // "no such public route": `public_route_not_found`, "Public route not found".
    if error.code == Code::NotFound
        && let Some(what) = error.message.strip_prefix("no such ")
    {
        let mut summary = format!("{what} not found");
        if let Some(first) = summary.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        return (format!("{}_not_found", what.replace(' ', "_").to_ascii_lowercase()).into(), summary.into());
    }
    let summary = match error.code {
        Code::InvalidJson => "Malformed JSON",
        Code::MissingField => "Missing required field",
        Code::InvalidField | Code::UnknownField | Code::InvalidParameter => "Invalid request",
        Code::UrlNotAllowed => "URL not allowed",
        Code::Forbidden => "Forbidden",
        Code::NotFound => "Not found",
        Code::MethodNotAllowed => "Method not allowed",
        Code::RequestTimeout => "Request timeout",
        Code::Conflict | Code::InFlight | Code::AlreadyDone => "Conflict",
        Code::LimitReached => "Limit reached",
        Code::IdempotencyMismatch | Code::IdempotencyInProgress => "Idempotency conflict",
        Code::BodyTooLarge => "Body too large",
        Code::UnsupportedMediaType => "Unsupported media type",
        Code::RateLimited => "Too many requests",
        Code::StoreFull | Code::Unavailable | Code::Overloaded | Code::ShuttingDown => "Service unavailable",
        _ => "Internal error",
    };
    (error.code.name().into(), summary.into())
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-athena-request-id");
const TIME: HeaderName = HeaderName::from_static("x-athena-time");
pub(in crate::api) const CLIENT: HeaderName = HeaderName::from_static("x-athena-client");

/// What every reply carries.
pub(in crate::api) fn add_headers(headers: &mut HeaderMap, took: Duration, client: Option<HeaderValue>) {
    if let Some(id) = headers.get("x-request-id").cloned() {
        headers.insert(REQUEST_ID, id);
    }
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    headers.insert(TIME, ms.into());
    // A public route has a client of its own, which its handler has named.
    if let Some(client) = client {
        headers.entry(CLIENT).or_insert(client);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn told(error: &ApiError) -> (u16, Value) {
        let (status, body) = super::error(error);
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn every_code_has_one_of_the_two_shapes() {
        for code in Code::ALL {
            let (status, body) = told(&ApiError::new(*code, "why"));
            if status == 401 {
                assert_eq!(body, json!({ "error": NO_ADMIN }));
                continue;
            }
            assert_eq!((&body["status"], &body["error"]), (&json!("error"), &json!("why")), "{code:?}");
            assert!(!body["message"].as_str().unwrap().is_empty() && body["code"] == code.name(), "{code:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (status, body) = told(&ApiError::not_found("public route"));
        let expected = json!({
            "status": "error", "code": "public_route_not_found", "message": "Public route not found",
            "error": "no such public route",
        });
        assert_eq!((status, body), (404, expected));
    }

    #[test]
    fn a_contracts_own_words_win() {
        let mut error = ApiError::field("a", "detail").told("own", "Own words");
        error.told.as_mut().unwrap().data = Some(json!({ "x": 1 }));
        error.told.as_mut().unwrap().status = StatusCode::from_u16(409).ok();
        let expected =
            json!({ "status": "error", "code": "own", "message": "Own words", "error": "detail", "data": { "x": 1 } });
        assert_eq!(told(&error), (409, expected));
        assert_eq!(
            told(&ApiError::new(Code::Unauthorized, "key").told("invalid_key", "Invalid key")).1["code"],
            "invalid_key"
        );
    }
}
