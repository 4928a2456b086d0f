//! The OpenAPI 3.1 documents, made from the table of routes and the types it names.
//!
//! What every call has in common (credentials, rate limit, bounds on bodies, idempotency) is added here from what its
//! row says, so a call cannot forget to document it. A published contract may have a document of its own, in which
//! errors and the names of calls are the contract's.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, Content, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, Schema,
};

use super::athena::{document as athena, envelope as athena_envelope};
use super::contract::Contract;
use super::error::{Code, ErrorBody};
use super::route::{Access, Effect, Returns, Route, Shape, Success};
use super::scaikey::{document as scaikey, envelope};

/// What a document says before its calls.
pub(super) struct Preface {
    pub title: &'static str,
    pub description: &'static str,
    /// What to send as the bearer.
    pub credential: &'static str,
}

const NATIVE: Preface = Preface {
    title: "Postrider",
    description: "Postrider's native API. Times are RFC 3339 UTC with milliseconds. Lists are newest first; pass \
        `next_cursor` as `cursor` for the next page. Unknown fields and parameters are refused. Every reply carries \
        `x-request-id`.",
    credential: "The platform admin key, or a tenant's key (`sk_live_…`, `sk_test_…`).",
};

pub(super) fn document(contract: Contract, routes: &[Route]) -> OpenApi {
    let (preface, errors) = match contract {
        Contract::Scaikey => (scaikey::PREFACE, scaikey::errors()),
        Contract::Athena => (athena::PREFACE, athena::errors()),
        Contract::Native | Contract::Alumia => (NATIVE, vec![Shape::of::<ErrorBody<'static>>()]),
    };
    let mut schemas: BTreeMap<String, RefOr<Schema>> = errors.into_iter().flat_map(|shape| shape.schemas).collect();
    let mut paths = Paths::new();
    let mut tags: Vec<&str> = Vec::new();
    for route in routes {
        paths.add_path_operation(route.path, vec![http_method(&route.method)], operation(contract, route));
        schemas.extend(shapes(route).flat_map(|shape| shape.schemas.iter().cloned()));
        if !tags.contains(&route.tag) {
            tags.push(route.tag);
        }
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(preface.credential)).build();
    let scheme = match contract {
        Contract::Athena => athena::security(),
        _ => SecurityScheme::Http(bearer),
    };
    let mut components = ComponentsBuilder::new().security_scheme("key", scheme);
    if contract == Contract::Athena {
        components = components.security_scheme("gateway_key", athena::gateway_key());
    }
    let components = schemas.into_iter().fold(components, |all, (name, schema)| all.schema(name, schema));
    let info = InfoBuilder::new()
        .title(preface.title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(preface.description))
        .license(Some(utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").build()));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(tags.into_iter().map(|tag| TagBuilder::new().name(tag).build())))
        .build()
}

fn http_method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn shapes(route: &Route) -> impl Iterator<Item = &Shape> {
    let given = route.successes.iter().filter_map(|success| match &success.returns {
        Returns::One(shape) | Returns::List(shape) => Some(shape),
        Returns::Nothing | Returns::Other(_) => None,
    });
    given.chain(route.takes.iter().map(|takes| &takes.shape))
}

fn operation(contract: Contract, route: &Route) -> Operation {
    let operation_id = match contract {
        Contract::Scaikey => scaikey::operation_id(route),
        Contract::Native | Contract::Alumia | Contract::Athena => operation_id(route),
    };
    let mut operation = OperationBuilder::new()
        .tag(route.tag)
        .summary(Some(route.summary))
        .operation_id(Some(operation_id))
        .request_body(route.takes.as_ref().map(|takes| request_body(&takes.shape, takes.required)));
    let description = description(route);
    if !description.is_empty() {
        operation = operation.description(Some(description));
    }
    for name in route.path_parameters() {
        operation = operation.parameter(path_parameter(name));
    }
    for parameter in &route.parameters {
        operation = operation.parameter(parameter.clone());
    }
    if contract == Contract::Scaikey {
        operation = operation.parameter(scaikey::authorization());
    }
    if contract == Contract::Athena && athena::needs_client(route) {
        operation = operation.parameter(athena::client());
    }
    if is_idempotent(route) {
        operation = operation.parameter(idempotency_key());
    }
    match route.access {
        Access::Open => {}
        Access::GatewayKey => {
            operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>("gateway_key", []));
            // Where no key is asked for, none is needed.
            operation = operation.security(SecurityRequirement::default());
        }
        _ => operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>("key", [])),
    }
    for success in &route.successes {
        operation = operation.response(success.status.to_string(), success_response(success));
    }
    for (status, codes) in errors(contract, route) {
        operation = operation.response(status.to_string(), error_response(contract, status, &codes));
    }
    let mut operation = operation.build();
    if contract == Contract::Athena {
        athena::complete(&mut operation, route);
    }
    operation
}

/// `post_v1_webhooks_id_test`: the method and the path.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '-', '.']).map(|part| part.trim_matches(['{', '}']));
    let words = std::iter::once(route.method.as_str()).chain(words.filter(|word| !word.is_empty()));
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

fn description(route: &Route) -> String {
    let needs = match route.access {
        // Who may call it, its own description says.
        Access::Open | Access::GatewayKey => String::new(),
        Access::Platform | Access::AdminKey => "Needs the platform admin key.".to_owned(),
        Access::Administers(permission) => scaikey::needs(permission),
        Access::Needs(permission) => {
            let role = crate::auth::role_name(permission.role());
            format!("Needs the scope `{}`, which the role {role} and those above have.", permission.name())
        }
    };
    [route.description, &needs].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// Publishing has its own idempotency, of events rather than replies.
fn is_idempotent(route: &Route) -> bool {
    route.effect == Effect::Creates || route.path == "/v1/events" && route.method == Method::POST
}

fn string() -> Schema {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build().into()
}

fn path_parameter(name: &str) -> Parameter {
    let integer = || Schema::from(ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).build());
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(if name == "delivery_id" { integer() } else { string() }))
        .build()
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .min_length(Some(1))
        .max_length(Some(256))
        .pattern(Some("^[ -~]+$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The same request again within 24 hours has the same effect as one."))
        .schema(Some(schema.build()))
        .build()
}

fn request_body(shape: &Shape, required: bool) -> RequestBody {
    RequestBodyBuilder::new()
        .content("application/json", Content::new(Some(Ref::from_schema_name(&shape.name))))
        .required(Some(if required { Required::True } else { Required::False }))
        .build()
}

fn success_response(success: &Success) -> Response {
    let response = ResponseBuilder::new().description(success.description).header("x-request-id", request_id());
    match &success.returns {
        Returns::Nothing => response,
        Returns::One(shape) => {
            response.content("application/json", Content::new(Some(Ref::from_schema_name(&shape.name))))
        }
        Returns::List(shape) => response.content("application/json", Content::new(Some(list_schema(shape)))),
        // A stream is described by one event of it, an object with `event` and `data`.
        Returns::Other(media_type @ ("application/json" | "text/event-stream")) => {
            let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::Object)).build();
            response.content(*media_type, Content::new(Some(Schema::from(object))))
        }
        Returns::Other(media_type) => response.content(*media_type, Content::new(Some(string()))),
    }
    .build()
}

fn list_schema(shape: &Shape) -> Schema {
    let items = ArrayBuilder::new().items(Ref::from_schema_name(&shape.name)).max_items(Some(200));
    let cursor = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("Pass it as `cursor` for the next page; null on the last one."));
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .property("items", items)
        .required("items")
        .property("next_cursor", cursor)
        .required("next_cursor")
        .build()
        .into()
}

fn request_id() -> Header {
    let mut header = Header::new(string());
    header.description = Some("Names the request in our log.".to_owned());
    header
}

/// The codes that a call can answer with, by status: its own and those that follow from its row.
fn errors(contract: Contract, route: &Route) -> BTreeMap<u16, BTreeSet<Code>> {
    let mut codes: BTreeSet<Code> = route.codes.iter().copied().collect();
    codes.insert(Code::InvalidParameter);
    if route.access != Access::Open {
        codes.extend([Code::Unauthorized, Code::Forbidden, Code::RateLimited, Code::Internal, Code::Unavailable]);
    }
    if route.path_parameters().next().is_some() || route.has_query() && route.access != Access::Open {
        codes.insert(Code::NotFound);
    }
    if route.takes.is_some() {
        codes.extend([Code::InvalidJson, Code::InvalidField, Code::MissingField, Code::UnknownField]);
        codes.extend([Code::RequestTimeout, Code::BodyTooLarge, Code::UnsupportedMediaType]);
    }
    if contract == Contract::Athena && athena::needs_client(route) {
        codes.insert(Code::MissingField);
    }
    if takes_tenant(route) {
        codes.extend([Code::MissingField, Code::NotFound]);
    }
    if matches!(route.effect, Effect::Changes | Effect::Creates) {
        codes.extend([Code::StoreFull, Code::Overloaded, Code::ShuttingDown]);
    }
    if route.effect == Effect::Creates {
        codes.extend([Code::IdempotencyMismatch, Code::IdempotencyInProgress]);
        codes.extend([Code::RequestTimeout, Code::BodyTooLarge, Code::UnsupportedMediaType]);
    }
    let mut by_status: BTreeMap<u16, BTreeSet<Code>> = BTreeMap::new();
    for code in codes {
        let status = match contract {
            Contract::Scaikey => envelope::status(code),
            Contract::Athena => athena_envelope::status(code),
            Contract::Native | Contract::Alumia => code.status(),
        };
        by_status.entry(status.as_u16()).or_default().insert(code);
    }
    by_status
}

fn takes_tenant(route: &Route) -> bool {
    let in_query = route.parameters.iter().any(|parameter| parameter.name == "tenant_id");
    in_query || route.takes.is_some() && route.path_parameters().next().is_none() && route.access != Access::Platform
}

fn error_response(contract: Contract, status: u16, codes: &BTreeSet<Code>) -> Response {
    let (description, schema) = match contract {
        Contract::Scaikey => scaikey::error(status, codes),
        Contract::Athena => athena::error(status, codes),
        Contract::Native | Contract::Alumia => {
            let lines: Vec<_> = codes.iter().map(|code| format!("- `{}`: {}", code.name(), code.meaning())).collect();
            (lines.join("\n"), "Error")
        }
    };
    let mut response = ResponseBuilder::new()
        .description(description)
        .content("application/json", Content::new(Some(Ref::from_schema_name(schema))))
        .header("x-request-id", request_id());
    if matches!(status, 429 | 503) {
        let seconds = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).minimum(Some(1));
        let mut header = Header::new(Schema::from(seconds.build()));
        header.description = Some("Seconds to wait before the next try.".to_owned());
        response = response.header("retry-after", header);
    }
    response.build()
}
