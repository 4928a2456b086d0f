//! What the OpenAPI document of this contract has of its own.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Required, Schema};

use super::envelope::{Invalid, Refused};
use crate::api::error::Code;
use crate::api::openapi::Preface;
use crate::api::route::{Route, Shape};
use crate::auth::{Permission, role_name};
use crate::store::Role;

pub(in crate::api) const PREFACE: Preface = Preface {
    title: "Webhooks API",
    description: "Administration of webhooks over partners and tenants. A slash at the end of a path makes no \
        difference. Times are RFC 3339 UTC with milliseconds. What is outside the caller's partner or tenant does not \
        exist: 404. Unknown fields and parameters are ignored.",
    credential: "A JWT of a configured issuer or of `POST /oauth/token`, the platform admin key, or the key of a \
        tenant's admin.",
};

/// The shapes of errors.
pub(in crate::api) fn errors() -> Vec<Shape> {
    vec![Shape::of::<Invalid>(), Shape::of::<Refused<'static>>()]
}

/// Description and schema of the errors with one status.
pub(in crate::api) fn error(status: u16, codes: &BTreeSet<Code>) -> (String, &'static str) {
    if status == StatusCode::UNPROCESSABLE_ENTITY.as_u16() {
        return ("Validation Error".to_owned(), "HTTPValidationError");
    }
    let lines: Vec<_> = codes.iter().map(|code| format!("- {}", code.meaning())).collect();
    (lines.join("\n"), "HTTPError")
}

/// As FastAPI names a call: its function, its path and its method, so that a client that was generated from the
/// contract's own document and one that is generated from ours have the same names.
pub(in crate::api) fn operation_id(route: &Route) -> String {
    let of_word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let text = format!("{}{}", route.summary, route.path);
    format!("{}_{}", text.chars().map(of_word).collect::<String>(), route.method.as_str().to_ascii_lowercase())
}

/// Every call of the contract's document has it; clients that know the security scheme leave it alone.
pub(in crate::api) fn authorization() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null])).build();
    ParameterBuilder::new()
        .name("authorization")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(Schema::from(schema)))
        .build()
}

/// Who may make a call.
pub(in crate::api) fn needs(permission: Permission) -> String {
    let scope = if permission.role() == Role::Viewer { "admin:read" } else { "admin:write" };
    let role = role_name(Role::Admin);
    let name = permission.name();
    format!(
        "Needs an admin role, a platform token with the scope `{scope}`, the platform admin key, or the key of a tenant \
         with the role {role} and, if it has scopes, `{name}`."
    )
}
