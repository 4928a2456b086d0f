//! What a page answers, and what it says when it cannot.

use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use postrider_core::limits::SENDS_BY_HAND_MAX;

use super::flash::Flash;
use crate::registry::Rejection;
use crate::store;

/// A page, a way to one, or a document.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    pub flash: Option<Flash>,
    /// The token of a session that begins, and how long it may live; `Some(None)`: the session ends.
    pub session: Option<Option<(String, Duration)>>,
}

impl Answer {
    fn new(status: StatusCode, body: Body) -> Answer {
        Answer { status, headers: HeaderMap::new(), body, flash: None, session: None }
    }

    pub(super) fn page(page: &impl Template) -> Result<Answer, Fault> {
        Answer::page_as(StatusCode::OK, page)
    }

    /// A form again, with what is wrong beside its fields.
    pub(super) fn unfit(page: &impl Template) -> Result<Answer, Fault> {
        Answer::page_as(StatusCode::UNPROCESSABLE_ENTITY, page)
    }

    pub(super) fn page_as(status: StatusCode, page: &impl Template) -> Result<Answer, Fault> {
        let html = page.render().map_err(|error| Fault::Internal(error.into()))?;
        let answer = Answer::new(status, Body::from(html));
        Ok(answer.header(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
    }

    /// Where to go after something was done. `path` is one of ours.
    pub(super) fn to(path: &str) -> Result<Answer, Fault> {
        let location = HeaderValue::try_from(path).map_err(|error| Fault::Internal(error.into()))?;
        Ok(Answer::new(StatusCode::SEE_OTHER, Body::empty()).header(header::LOCATION, location))
    }

    /// A document that is no page.
    pub(super) fn document(content_type: &'static str, body: impl Into<Body>) -> Answer {
        let answer = Answer::new(StatusCode::OK, body.into());
        answer.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.insert(name, value);
        self
    }

    /// Has the next page say it.
    pub(super) fn saying(mut self, flash: Flash) -> Answer {
        self.flash = Some(flash);
        self
    }
}

/// Why there is no such page.
#[derive(Debug)]
pub(super) enum Fault {
    /// It does not exist, or not for this visitor.
    NotFound,
    WrongMethod,
    Forbidden(String),
    /// Nobody is logged in.
    SignIn,
    /// The form is not one of ours, or of a page from before.
    Stale,
    /// The form cannot be read.
    Unreadable(&'static str),
    /// Something is as it should not be for that; the text says what.
    Conflict(String),
    /// Too much was sent by hand; how long to wait.
    TooMany(Duration),
    /// There is no tenant to look at.
    NoTenant,
    Unavailable(anyhow::Error),
    Internal(anyhow::Error),
}

impl Fault {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Fault::NotFound => StatusCode::NOT_FOUND,
            Fault::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Fault::Forbidden(_) | Fault::Stale => StatusCode::FORBIDDEN,
            Fault::SignIn => StatusCode::UNAUTHORIZED,
            Fault::Unreadable(_) => StatusCode::BAD_REQUEST,
            Fault::Conflict(_) => StatusCode::CONFLICT,
            Fault::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Fault::NoTenant => StatusCode::OK,
            Fault::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// In a few words, and what to do.
    pub(super) fn told(&self) -> (&'static str, String) {
        match self {
            Fault::NotFound => ("Not found", "There is nothing here, or nothing that you may see.".to_owned()),
            Fault::WrongMethod => ("Not like that", "This address does not take that.".to_owned()),
            Fault::Forbidden(why) => ("Not allowed", why.clone()),
            Fault::SignIn => ("Log in", "Log in to see this page.".to_owned()),
            Fault::Stale => (
                "This page was out of date",
                "Nothing was changed. Go back, reload the page and try again; that happens after logging in again or \
                 switching tenants in another tab."
                    .to_owned(),
            ),
            Fault::Unreadable(why) => ("That could not be read", (*why).to_owned()),
            Fault::Conflict(why) => ("That cannot be done now", why.clone()),
            Fault::TooMany(wait) => ("Too many at once", too_many(*wait)),
            Fault::NoTenant => (
                "No tenant yet",
                "You are a member of no tenant, so there is nothing to show. Ask an admin to invite you to one."
                    .to_owned(),
            ),
            Fault::Unavailable(_) => (
                "Unavailable for the moment",
                "The store does not answer. Events are safe; reload the page in a moment.".to_owned(),
            ),
            Fault::Internal(_) => (
                "Something went wrong",
                "This is a fault of ours. The server's log has it under the request id below.".to_owned(),
            ),
        }
    }
}

/// What somebody is told who has too much sent by hand.
pub(super) fn too_many(wait: Duration) -> String {
    let seconds = retry_after(wait);
    let unit = if seconds == 1 { "second" } else { "seconds" };
    format!(
        "{SENDS_BY_HAND_MAX} tests, retries and new webhooks a minute are as many as there may be. Nothing was sent; go \
         back and try again in {seconds} {unit}."
    )
}

/// As `Retry-After` says it.
pub(super) fn retry_after(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

impl From<store::Error> for Fault {
    fn from(error: store::Error) -> Fault {
        match error {
            store::Error::Full | store::Error::Unavailable(_) => Fault::Unavailable(error.into()),
            store::Error::Conflict(field) => Fault::Conflict(format!("{field} is taken.")),
            store::Error::Other(cause) => Fault::Internal(cause),
        }
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Fault {
        match rejection {
            Rejection::NotFound(_) => Fault::NotFound,
            Rejection::Forbidden { message, .. } => Fault::Forbidden(super::errors::sentence(&message)),
            Rejection::Store(error) => error.into(),
            Rejection::Other(cause) => Fault::Internal(cause),
            Rejection::Conflict { message, .. } => Fault::Conflict(super::errors::sentence(&message)),
            other => Fault::Conflict(super::errors::sentence(&other.to_string())),
        }
    }
}
