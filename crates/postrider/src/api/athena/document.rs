//! What the OpenAPI document of this contract has of its own.

use std::collections::BTreeSet;

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{RefOr, Required, Schema};

use super::envelope::{Failure, Unauthorized};
use crate::api::error::Code;
use crate::api::openapi::Preface;
use crate::api::route::{Access, Route, Shape};

pub(in crate::api) const PREFACE: Preface = Preface {
    title: "Data gateway",
    description: "Operations on the databases of clients, public routes, and their administration: clients, keys, webhooks, \
        public routes and tenant hostnames. Times \
        are RFC 3339 UTC with milliseconds. Every reply carries `x-athena-request-id` and `x-athena-time`, and \
        `x-athena-client` where a client is known. Unknown fields and parameters are ignored.",
    credential: "",
};

/// The admin key; `X-Athena-Key` carries it just as well.
pub(in crate::api) fn security() -> SecurityScheme {
    let text = "The platform admin key. `X-Athena-Key` may carry it instead.";
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description("x-athena-admin-key", text)))
}

/// A key of callers; `x-api-key` and a bearer carry it just as well.
pub(in crate::api) fn gateway_key() -> SecurityScheme {
    let text = "A gateway key, `ath_…`. `x-api-key` or `Authorization: Bearer` may carry it instead.";
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description("x-athena-key", text)))
}

/// The shapes of errors.
pub(in crate::api) fn errors() -> Vec<Shape> {
    vec![Shape::of::<Failure<'static>>(), Shape::of::<Unauthorized>()]
}

/// Description and schema of the errors with one status.
pub(in crate::api) fn error(status: u16, codes: &BTreeSet<Code>) -> (String, &'static str) {
    let lines: Vec<_> = codes.iter().map(|code| format!("- {}", code.meaning())).collect();
    (lines.join("\n"), if status == 401 { "AthenaUnauthorized" } else { "AthenaError" })
}

/// Whether a call is about the client that a header names.
pub(in crate::api) fn needs_client(route: &Route) -> bool {
    let of_webhooks = route.path.starts_with("/admin/webhooks") && route.path != "/admin/webhooks/events";
    route.access == Access::AdminKey && of_webhooks || route.path.starts_with("/gateway/")
}

/// The header that names the client.
pub(in crate::api) fn client() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build();
    ParameterBuilder::new()
        .name("X-Athena-Client")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some("Name of the client."))
        .schema(Some(Schema::from(schema)))
        .build()
}

/// Says what every reply carries, and what a route's target may answer.
pub(in crate::api) fn complete(operation: &mut Operation, route: &Route) {
    if route.path.starts_with("/public/") {
        let told = ResponseBuilder::new().description("What the route's target has answered.");
        operation.responses.responses.insert("default".to_owned(), told.build().into());
    }
    let header = |kind, description: &str| {
        let mut header = Header::new(Schema::from(ObjectBuilder::new().schema_type(SchemaType::new(kind)).build()));
        header.description = Some(description.to_owned());
        RefOr::T(header)
    };
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let id = header(Type::String, "Names the request in our log.");
        response.headers.insert("x-athena-request-id".to_owned(), id);
        response
            .headers
            .insert("x-athena-time".to_owned(), header(Type::Integer, "How long it took, in milliseconds."));
    }
}
