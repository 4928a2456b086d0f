//! One row of a resource's table of calls: where it is, who may make it, what it takes and gives, and what it does.

use std::sync::Arc;

use axum::http::Method;
use futures_util::future::BoxFuture;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use super::call::{Call, Reply};
use super::contract::Contract;
use super::error::{ApiError, Code};
use crate::auth::Permission;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone; the call reveals nothing of any tenant but what the tenant has made public.
    Open,
    /// Whoever has the permission, within his own scope.
    Needs(Permission),
    /// As `Needs`, of those who administer a tenant, a partner or the platform ([`Principal::administers`]).
    ///
    /// [`Principal::administers`]: crate::auth::Principal::administers
    Administers(Permission),
    /// The platform admin.
    Platform,
    /// The platform admin by the headers of the contract Athena.
    AdminKey,
    /// Whoever may by the rules of the data gateway, which the call goes by itself.
    GatewayKey,
}

/// What a call does to the world, and so how it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, or it takes care of itself; dropped when the caller goes away.
    Reads,
    /// Changes something: runs to its end even if the caller goes away.
    Changes,
    /// Creates something: as `Changes`, and repeatable under an `Idempotency-Key`.
    Creates,
}

pub(super) type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Reply, ApiError>> + Send + Sync>;

/// A named schema with all that it refers to.
#[derive(Clone)]
pub(super) struct Shape {
    pub name: String,
    pub schemas: Vec<(String, RefOr<Schema>)>,
}

impl Shape {
    pub(super) fn of<T: ToSchema>() -> Shape {
        let mut schemas = Vec::new();
        T::schemas(&mut schemas);
        schemas.push((T::name().into_owned(), T::schema()));
        Shape { name: T::name().into_owned(), schemas }
    }
}

/// What a successful reply holds.
#[derive(Clone)]
pub(super) enum Returns {
    Nothing,
    One(Shape),
    List(Shape),
    /// Not JSON: its media type.
    Other(&'static str),
}

pub(super) struct Success {
    pub status: u16,
    pub description: &'static str,
    pub returns: Returns,
}

pub(super) struct Takes {
    pub shape: Shape,
    pub required: bool,
}

/// One call.
pub(super) struct Route {
    pub method: Method,
    pub path: &'static str,
    /// The path as the router matches it, where that differs.
    pub served_at: Option<&'static str>,
    pub access: Access,
    pub effect: Effect,
    /// Called thousands of times a second: it goes by the configuration as this node knows it.
    pub is_hot: bool,
    pub handler: Handler,
    pub tag: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub parameters: Vec<Parameter>,
    pub takes: Option<Takes>,
    pub successes: Vec<Success>,
    /// Beyond those that follow from access, effect and what it takes.
    pub codes: Vec<Code>,
}

impl Route {
    pub(super) fn new<F, R>(method: Method, path: &'static str, access: Access, handler: F) -> Route
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, ApiError>> + Send + 'static,
    {
        let effect = if method == Method::GET { Effect::Reads } else { Effect::Changes };
        Route {
            method,
            path,
            served_at: None,
            access,
            effect,
            is_hot: false,
            handler: Arc::new(move |call| Box::pin(handler(call))),
            tag: "",
            summary: "",
            description: "",
            parameters: Vec::new(),
            takes: None,
            successes: Vec::new(),
            codes: Vec::new(),
        }
    }

    pub(super) fn effect(mut self, effect: Effect) -> Route {
        self.effect = effect;
        self
    }

    pub(super) fn served_at(mut self, path: &'static str) -> Route {
        self.served_at = Some(path);
        self
    }

    pub(super) fn hot(mut self) -> Route {
        self.is_hot = true;
        self
    }

    pub(super) fn says(mut self, summary: &'static str, description: &'static str) -> Route {
        self.summary = summary;
        self.description = description;
        self
    }

    pub(super) fn query<Q: IntoParams>(mut self) -> Route {
        self.parameters.extend(Q::into_params(|| Some(ParameterIn::Query)));
        self
    }

    pub(super) fn takes<T: ToSchema>(mut self) -> Route {
        self.takes = Some(Takes { shape: Shape::of::<T>(), required: true });
        self
    }

    pub(super) fn may_take<T: ToSchema>(mut self) -> Route {
        self.takes = Some(Takes { shape: Shape::of::<T>(), required: false });
        self
    }

    pub(super) fn gives<T: ToSchema>(self, status: u16, description: &'static str) -> Route {
        self.success(status, description, Returns::One(Shape::of::<T>()))
    }

    pub(super) fn gives_list<T: ToSchema>(self, description: &'static str) -> Route {
        self.success(200, description, Returns::List(Shape::of::<T>()))
    }

    pub(super) fn gives_nothing(self, status: u16, description: &'static str) -> Route {
        self.success(status, description, Returns::Nothing)
    }

    pub(super) fn success(mut self, status: u16, description: &'static str, returns: Returns) -> Route {
        self.successes.push(Success { status, description, returns });
        self
    }

    pub(super) fn fails(mut self, codes: &[Code]) -> Route {
        self.codes.extend_from_slice(codes);
        self
    }

    /// The paths it is served at.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = vec![self.served_at.unwrap_or(self.path).to_owned()];
        if Contract::of(self.path).takes_last_slash() {
            paths.push(self.path.strip_suffix('/').map_or_else(|| format!("{}/", self.path), str::to_owned));
        }
        paths
    }

    pub(super) fn has_query(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.parameter_in == ParameterIn::Query)
    }

    /// Names of the parameters in the path.
    pub(super) fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// Gives all `routes` the tag of their resource.
pub(super) fn tagged(tag: &'static str, routes: Vec<Route>) -> Vec<Route> {
    routes.into_iter().map(|route| Route { tag, ..route }).collect()
}
