//! One row of a page's table: where it is, who may ask for it, and what it does.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::http::Method;
use futures_util::future::BoxFuture;

use super::answer::{Answer, Fault};
use super::realm::Realm;
use super::visit::Visit;
use crate::auth::Permission;

/// Who may ask for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone, and it makes no difference who it is: nobody is looked up. For what is in the binary.
    Public,
    /// Anyone. A form is still protected: its visitor has a cookie of his own.
    Open,
    /// Whoever is logged in.
    SignedIn,
    /// Whoever may do that in the tenant that he looks at.
    Needs(Permission),
    /// A platform admin.
    Platform,
}

pub(super) type Handler = Arc<dyn Fn(Visit) -> BoxFuture<'static, Result<Answer, Fault>> + Send + Sync>;

/// One page, or one thing that a form does.
pub(super) struct Route {
    pub method: Method,
    pub path: Cow<'static, str>,
    pub access: Access,
    pub handler: Handler,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Route {
    /// A page: changes nothing.
    pub(super) fn get<F, R>(path: &'static str, access: Access, handler: F) -> Route
    where
        F: Fn(Visit) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answer, Fault>> + Send + 'static,
    {
        Route {
            method: Method::GET,
            path: path.into(),
            access,
            handler: Arc::new(move |visit| Box::pin(handler(visit))),
        }
    }

    /// What a form does. It runs to its end even if the browser goes away.
    pub(super) fn post<F, R>(path: &'static str, access: Access, handler: F) -> Route
    where
        F: Fn(Visit) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answer, Fault>> + Send + 'static,
    {
        Route {
            method: Method::POST,
            path: path.into(),
            access,
            handler: Arc::new(move |visit| Box::pin(handler(visit))),
        }
    }

    /// The same page of the console in the portal.
    pub(super) fn in_portal(self) -> Route {
        let below = self.path.strip_prefix(Realm::Console.base()).unwrap_or_default();
        let path = format!("{}{below}", Realm::Portal.base()).into();
        Route { path, ..self }
    }
}
