//! The one error of the HTTP edge: a closed set of codes, rendered as `{"code","message","param"?}`.
//!
//! The cause of a 5xx is logged once, where the reply is written, and never shown.

use std::borrow::Cow;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::pipeline::PublishError;
use crate::registry::Rejection;
use crate::registry::compatibility::Break;
use crate::store;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:tt, $status:ident;)+) => {
        /// Every code that an error can carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        #[schema(as = ErrorCode)]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];

            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)+ }
            }

            /// What it means, for the reference.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    /// The body is not JSON, or nests deeper than 64.
    InvalidJson = "invalid_json", BAD_REQUEST;
    /// A field has the wrong type or a value that is not allowed; `param` names it.
    InvalidField = "invalid_field", BAD_REQUEST;
    /// A required field or parameter is absent; `param` names it.
    MissingField = "missing_field", BAD_REQUEST;
    /// The body has a field that the call does not know; `param` names it.
    UnknownField = "unknown_field", BAD_REQUEST;
    /// A query parameter or header is unknown or has a value that is not allowed; `param` names it.
    InvalidParameter = "invalid_parameter", BAD_REQUEST;
    /// The data does not fit the schema of its type, and the tenant enforces schemas; `param` is the JSON Pointer of the
    /// value in the body.
    SchemaMismatch = "schema_mismatch", UNPROCESSABLE_ENTITY;
    /// The webhook's URL is refused by the egress policy; the message names the rule.
    UrlNotAllowed = "url_not_allowed", BAD_REQUEST;
    /// No valid `Authorization: Bearer <key>`.
    Unauthorized = "unauthorized", UNAUTHORIZED;
    /// The key is valid, but its role or scopes do not allow the call.
    Forbidden = "forbidden", FORBIDDEN;
    /// It does not exist, or not for this key.
    NotFound = "not_found", NOT_FOUND;
    /// The path exists, but not with this method; `Allow` lists those that do.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// The body took too long to arrive.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT;
    /// A unique value is taken; `param` names it.
    Conflict = "conflict", CONFLICT;
    /// A bound on the number of objects is reached.
    LimitReached = "limit_reached", CONFLICT;
    /// The schema accepts less than the one before, and `compatibility=block` was asked for; the message says in what.
    IncompatibleSchema = "incompatible_schema", CONFLICT;
    /// A request for the delivery is in flight; try again when it has ended.
    InFlight = "in_flight", CONFLICT;
    /// Nothing to do: the delivery is due already (retry) or has ended (cancel); nobody waits for the result (listen).
    AlreadyDone = "already_done", CONFLICT;
    /// The `Idempotency-Key` was used before with another body.
    IdempotencyMismatch = "idempotency_mismatch", CONFLICT;
    /// The first request with this `Idempotency-Key` is still being worked on.
    IdempotencyInProgress = "idempotency_in_progress", CONFLICT;
    /// The body is larger than the call allows.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// `Content-Type` is not JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
    /// The key has used up its rate, or the tenant its quota of events; `Retry-After` says when to go on.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS;
    /// A fault of ours; the log has it under the request id.
    Internal = "internal", INTERNAL_SERVER_ERROR;
    /// No space is left on the server's disk; nothing was accepted.
    StoreFull = "store_full", SERVICE_UNAVAILABLE;
    /// The store cannot be reached; try again after `Retry-After`.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE;
    /// Too many events wait to be accepted; try again after `Retry-After`.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE;
    /// The process is stopping; try again after `Retry-After`.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE;
}

/// What a caller is told, and the cause that is kept from him.
#[derive(Debug)]
pub struct ApiError {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub param: Option<String>,
    /// Everything that is wrong with the request, for a contract that tells all of it at once.
    pub problems: Vec<Problem>,
    pub retry_after_seconds: Option<u32>,
    /// The credential is a token that is not accepted, and the message says why.
    pub refused_token: bool,
    /// What a contract with words of its own says.
    pub told: Option<Box<Told>>,
    pub cause: Option<anyhow::Error>,
}

/// An error in a contract's own words.
#[derive(Debug, Default)]
pub struct Told {
    pub code: &'static str,
    /// In short.
    pub summary: Cow<'static, str>,
    /// Instead of the code's.
    pub status: Option<StatusCode>,
    pub data: Option<serde_json::Value>,
    pub details: Option<serde_json::Value>,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ValidationError)]
pub struct Problem {
    /// Where it is: `["body", "events", 0]`.
    #[schema(inline)]
    pub loc: Vec<Step>,
    /// For people; may change.
    #[schema(value_type = String)]
    pub msg: Cow<'static, str>,
    /// For programs: `missing`, `string_type`, `value_error`…
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// The name of a field or parameter, or a place in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Step {
    Name(String),
    At(usize),
}

pub(super) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody<'a> {
    #[schema(value_type = Code)]
    pub code: Code,
    /// For people; may change.
    pub message: &'a str,
    /// The field, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub param: Option<&'a str>,
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> ApiError {
        let retry_after_seconds = (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        ApiError {
            code,
            message: message.into(),
            param: None,
            problems: Vec::new(),
            retry_after_seconds,
            refused_token: false,
            told: None,
            cause: None,
        }
    }

    pub fn at(mut self, param: impl Into<String>) -> ApiError {
        self.param = Some(param.into());
        self
    }

    /// In a contract's own words.
    pub fn told(mut self, code: &'static str, summary: impl Into<Cow<'static, str>>) -> ApiError {
        self.told = Some(Box::new(Told { code, summary: summary.into(), ..Told::default() }));
        self
    }

    pub fn field(param: impl Into<String>, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(Code::InvalidField, message).at(param)
    }

    pub fn missing(param: &'static str) -> ApiError {
        ApiError::new(Code::MissingField, format!("{param} is required")).at(param)
    }

    pub fn not_found(what: &'static str) -> ApiError {
        ApiError::new(Code::NotFound, format!("no such {what}"))
    }

    pub fn internal(cause: impl Into<anyhow::Error>) -> ApiError {
        ApiError { cause: Some(cause.into()), ..ApiError::new(Code::Internal, "internal error") }
    }

    pub fn body(&self) -> ErrorBody<'_> {
        ErrorBody { code: self.code, message: &self.message, param: self.param.as_deref() }
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> ApiError {
        match error {
            store::Error::Full => {
                let told = "no space is left to store this; nothing was accepted";
                ApiError { cause: Some(store::Error::Full.into()), ..ApiError::new(Code::StoreFull, told) }
            }
            store::Error::Unavailable(why) => {
                let cause = Some(store::Error::Unavailable(why).into());
                ApiError { cause, ..ApiError::new(Code::Unavailable, "the store is unavailable") }
            }
            store::Error::Conflict(field) => ApiError::new(Code::Conflict, format!("{field} is taken")).at(field),
            store::Error::Other(cause) => ApiError::internal(cause),
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> ApiError {
        match error {
            PublishError::UnknownTenant => ApiError::not_found("tenant").at("tenant_id"),
            PublishError::Misfit { misfit, .. } => {
                // Where the event stands in the body is for the surface to say.
                ApiError::new(Code::SchemaMismatch, misfit.message).at(format!("/data{}", misfit.pointer))
            }
            PublishError::OverQuota { message, retry_after } => {
                let seconds = u32::try_from(retry_after.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX).max(1);
                ApiError { retry_after_seconds: Some(seconds), ..ApiError::new(Code::RateLimited, message) }
            }
            PublishError::Overloaded => ApiError::new(Code::Overloaded, error.to_string()),
            PublishError::ShuttingDown => ApiError::new(Code::ShuttingDown, error.to_string()),
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> ApiError {
        match rejection {
            Rejection::NotFound(what) => ApiError::not_found(what),
            Rejection::Missing(param) => ApiError::missing(param),
            Rejection::Invalid { param, message } => ApiError::field(param, message),
            Rejection::UrlNotAllowed(why) => ApiError::new(Code::UrlNotAllowed, why).at("url"),
            Rejection::Conflict { param, message } => ApiError::new(Code::Conflict, message).at(param),
            Rejection::LimitReached(message) => ApiError::new(Code::LimitReached, message),
            Rejection::Incompatible(breaks) => incompatible(&breaks),
            Rejection::Forbidden { param, message } => ApiError::new(Code::Forbidden, message).at(param),
            Rejection::Store(error) => error.into(),
            Rejection::Other(cause) => ApiError::internal(cause),
        }
    }
}

/// Names the first finding, and how many there are.
fn incompatible(breaks: &[Break]) -> ApiError {
    let Some(first) = breaks.first() else { return ApiError::new(Code::IncompatibleSchema, "incompatible") };
    let more = match breaks.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("{}: {}{more}", first.pointer, first.message);
    ApiError::new(Code::IncompatibleSchema, message).at("schema")
}

#[cfg(test)]
mod tests;
