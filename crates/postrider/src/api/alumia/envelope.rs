//! `{"success":true,"data":…}` and `{"success":false,"error":{"code","message"}}`: how everything of this contract looks.

use axum::http::StatusCode;
use serde::Serialize;

use crate::api::call::Reply;
use crate::api::error::{ApiError, Code, Result};

#[derive(Serialize)]
struct Success<'a, T> {
    success: bool,
    data: &'a T,
}

#[derive(Serialize)]
struct Failure<'a> {
    success: bool,
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    code: &'static str,
    message: &'a str,
}

/// A list without pages.
#[derive(Serialize)]
pub(super) struct Items<T> {
    pub items: Vec<T>,
}

/// A success.
pub(in crate::api) fn data(status: StatusCode, data: &impl Serialize) -> Result<Reply> {
    Reply::json(status, &Success { success: true, data })
}

/// Status and body of an error. There is no place for the name of a field but the message.
pub(in crate::api) fn error(error: &ApiError) -> (StatusCode, Vec<u8>) {
    let param = error.param.as_deref().map(own_name);
    let (status, code) = code(error.code, param.as_deref());
    let mut message = own_name(&error.message);
    if let Some(param) = param.filter(|param| !message.contains(param.as_str())) {
        message = format!("{param}: {message}");
    }
    let body = Failure { success: false, error: Told { code, message: &message } };
    (status, serde_json::to_vec(&body).expect("two strings are plain JSON"))
}

/// Our names of fields as this contract has them.
fn own_name(text: &str) -> String {
    text.replace("receiver.", "").replace("verify_token", "verifyToken")
}

/// The contract's code. `BAD_REQUEST` is for what the document's table names (name, URL, status) and for bodies that are
/// no JSON object; every other value that does not fit is a `VALIDATION_ERROR`.
fn code(code: Code, param: Option<&str>) -> (StatusCode, &'static str) {
    let bad_request = (StatusCode::BAD_REQUEST, "BAD_REQUEST");
    match code {
        Code::InvalidField | Code::MissingField if matches!(param, Some("name" | "url" | "status")) => bad_request,
        Code::InvalidJson | Code::UrlNotAllowed | Code::UnsupportedMediaType => bad_request,
        Code::InvalidField
        | Code::MissingField
        | Code::UnknownField
        | Code::InvalidParameter
        | Code::SchemaMismatch => (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR"),
        Code::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        Code::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN"),
        Code::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        Code::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        Code::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
        Code::Conflict
        | Code::LimitReached
        | Code::IncompatibleSchema
        | Code::InFlight
        | Code::AlreadyDone
        | Code::IdempotencyMismatch
        | Code::IdempotencyInProgress => (StatusCode::CONFLICT, "CONFLICT"),
        Code::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
        Code::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        Code::StoreFull | Code::Unavailable | Code::Overloaded | Code::ShuttingDown => {
            (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE")
        }
    }
}
