//! Logging in and out.

use askama::Template;
use axum::http::{HeaderValue, header};
use postrider_core::limits::SESSION_LIFETIME;
use postrider_core::signing::Secret;
use serde::Deserialize;

use crate::accounts::login::{self, Refused};
use crate::accounts::{oidc, sessions};
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::kit::Field;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::store::{Ending, SessionRecord};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/login", Access::Open, form),
        Route::post("/login", Access::Open, log_in),
        Route::post("/logout", Access::SignedIn, log_out),
        Route::get("/login/oidc", Access::Open, leave),
        Route::get("/login/oidc/callback", Access::Open, come_back),
    ]
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    chrome: Chrome,
    email: Field,
    password: Field,
    next: String,
    problem: Option<String>,
    /// What the identity provider is called.
    provider: Option<String>,
    is_set_up: bool,
}

fn page(visit: &Visit, next: &str, problem: Option<String>) -> Page {
    let email = visit.form.text("email");
    let (email_field, password) =
        (Field::email("email", "E-mail"), Field::password("password", "Password", "current-password"));
    Page {
        chrome: Chrome::of(visit, "Log in"),
        email: if email.is_empty() { email_field.focused() } else { email_field }.value(email).required(),
        password: if email.is_empty() { password } else { password.focused() }.required(),
        next: local(next).to_owned(),
        problem,
        provider: visit.app().accounts.oidc.as_ref().map(|oidc| oidc.options.name.clone()),
        is_set_up: visit.app().catalog.has_users(),
    }
}

/// One of our own pages: nobody is sent elsewhere by a link to this one.
fn local(next: &str) -> &str {
    let is_ours = next == "/settings" || next.starts_with("/settings/") || next.starts_with("/settings?");
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') && !next.contains("//");
    if is_ours && is_plain { next } else { "/settings" }
}

async fn form(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    if visit.signed_in.is_some() {
        return Answer::to(local(&query.next));
    }
    Answer::page(&page(&visit, &query.next, None))
}

/// Into the console with a session that has just begun.
pub(super) fn enter(session: &SessionRecord, token: &Secret, to: &str) -> Result<Answer, Fault> {
    debug_assert!(session.ends_at.since(session.created_at) <= SESSION_LIFETIME);
    Ok(Answer { session: Some(Some((token.reveal().to_owned(), SESSION_LIFETIME))), ..Answer::to(local(to))? })
}

async fn log_in(visit: Visit) -> Result<Answer, Fault> {
    let next = visit.form.text("next").to_owned();
    let password = Secret::new(visit.form.text("password").to_owned());
    let refused = match login::log_in(visit.app(), visit.form.text("email"), password, &visit.place()).await {
        Ok((session, token)) => return enter(&session, &token, &next),
        Err(refused) => refused,
    };
    let (wait, problem) = match refused {
        Refused::Wrong => (None, "The e-mail or the password is wrong.".to_owned()),
        Refused::Busy => (Some(1), "Too many people log in at once. Try again in a moment.".to_owned()),
        Refused::TooMany { wait } => {
            let minutes = wait.as_secs().div_ceil(60);
            let unit = if minutes == 1 { "minute" } else { "minutes" };
            (Some(wait.as_secs().max(1)), format!("Too many tries. Try again in {minutes} {unit}."))
        }
        Refused::Store(error) => return Err(error.into()),
        Refused::Other(error) => return Err(Fault::Internal(error)),
    };
    let page = page(&visit, &next, Some(problem));
    match wait {
        None => Answer::unfit(&page),
        Some(seconds) => {
            let answer = Answer::page_as(axum::http::StatusCode::TOO_MANY_REQUESTS, &page)?;
            Ok(answer.header(header::RETRY_AFTER, HeaderValue::from(seconds)))
        }
    }
}

async fn log_out(visit: Visit) -> Result<Answer, Fault> {
    let member = visit.member();
    sessions::end(visit.app(), &member.user, Ending::One(member.session), &visit.actor()).await?;
    let answer = Answer::to("/login")?.saying(Flash::good("You are logged out."));
    Ok(Answer { session: Some(None), ..answer })
}

async fn leave(visit: Visit) -> Result<Answer, Fault> {
    let oidc = visit.app().accounts.oidc.as_ref().ok_or(Fault::NotFound)?;
    let query: Query = visit.query();
    match oidc.begin(visit.app(), &visit.origin(), &visitor(&visit), local(&query.next)).await {
        Ok(url) => Answer::to(url.as_str()),
        Err(refused) => provider_refused(&visit, refused),
    }
}

/// What ties a log-in that is under way to its browser.
fn visitor(visit: &Visit) -> String {
    visit.secret.clone()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Callback {
    state: String,
    code: String,
    error: Option<String>,
}

async fn come_back(visit: Visit) -> Result<Answer, Fault> {
    let oidc = visit.app().accounts.oidc.as_ref().ok_or(Fault::NotFound)?;
    let query: Callback = visit.query();
    if let Some(error) = query.error {
        return provider_refused(&visit, oidc::Refused::Provider(error.chars().take(100).collect()));
    }
    let finished = oidc.finish(visit.app(), (&query.state, &query.code), &visitor(&visit), &visit.place()).await;
    match finished {
        Ok((session, token, next)) => enter(&session, &token, &next),
        Err(refused) => provider_refused(&visit, refused),
    }
}

fn provider_refused(visit: &Visit, refused: oidc::Refused) -> Result<Answer, Fault> {
    let problem = match &refused {
        oidc::Refused::Other(_) => None,
        oidc::Refused::Broken(cause) => {
            let cause = format!("{cause:#}");
            tracing::warn!(
                request_id = &*visit.request_id,
                cause,
                "the identity provider does not answer as it should"
            );
            Some("The identity provider does not answer as it should. The server's log says why.".to_owned())
        }
        told => Some(crate::console::errors::sentence(&told.to_string())),
    };
    match (problem, refused) {
        (None, oidc::Refused::Other(cause)) => Err(Fault::Internal(cause)),
        (problem, _) => Answer::page_as(axum::http::StatusCode::FORBIDDEN, &page(visit, "", problem)),
    }
}
