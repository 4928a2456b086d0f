//! The way of one request: its session, its permission, its form, then the page; and the headers of every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, Limited};
use postrider_core::limits::FORM_BYTES_MAX;

use super::Console;
use super::answer::{Answer, Fault, retry_after};
use super::cookies::{Cookie, Jar};
use super::csrf;
use super::flash::Flash;
use super::layout::{Chrome, Theme};
use super::realm::Realm;
use super::route::{Access, Route};
use super::visit::{Form, SignedIn, Visit};
use crate::accounts::{random_token, sessions};
use crate::auth;
use crate::config::PortalOptions;

/// From the last header to the last byte of a form.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a page's word to the next one waits.
const FLASH_LIFETIME: Duration = Duration::from_secs(120);

macro_rules! policy {
    ($ancestors:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; ",
            "form-action 'self'; base-uri 'none'; frame-ancestors ",
            $ancestors
        )
    };
}

const POLICY: &str = policy!("'none'");

/// The policy of the portal's pages: the same, but for who may frame them.
pub(super) fn portal_policy(portal: &PortalOptions) -> HeaderValue {
    let origins = portal.frame_ancestors.join(" ");
    let ancestors = if origins.is_empty() { "'none'" } else { &origins };
    let policy = format!("{}{ancestors}", policy!(""));
    HeaderValue::try_from(policy).expect("configured origins are of letters, digits and a few signs")
}

pub(super) async fn serve(console: Arc<Console>, route: Arc<Route>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let about = About { is_public: route.access == Access::Public, ..About::of(&console, &parts) };
    let visit = match visit(&console, parts, &about).await {
        Ok(visit) => visit,
        Err(fault) => return failed(&console, fault, &about, None),
    };
    let told = Told::of(&visit);
    match answer(route, visit, body).await {
        Ok(answer) => finished(&console, answer, &about, &told),
        Err(fault) => failed(&console, fault, &about, Some(&told)),
    }
}

pub(super) async fn no_such_page(console: Arc<Console>, request: Request) -> Response {
    refuse(console, request, Fault::NotFound).await
}

pub(super) async fn wrong_method(console: Arc<Console>, request: Request) -> Response {
    refuse(console, request, Fault::WrongMethod).await
}

async fn refuse(console: Arc<Console>, request: Request, fault: Fault) -> Response {
    let (parts, _) = request.into_parts();
    let about = About::of(&console, &parts);
    match visit(&console, parts, &about).await {
        Ok(visit) => failed(&console, fault, &about, Some(&Told::of(&visit))),
        Err(fault) => failed(&console, fault, &about, None),
    }
}

/// What is known of a request before anybody is known.
struct About {
    request_id: Box<str>,
    jar: Jar,
    is_fragment: bool,
    theme: Theme,
    /// Where to come back to after logging in.
    wanted: String,
    /// Set when the visitor had no cookie.
    new_visitor: Option<String>,
    visitor: String,
    had_flash: bool,
    /// Nobody is looked up, and no cookie is set.
    is_public: bool,
}

impl About {
    fn of(console: &Console, parts: &Parts) -> About {
        let config = &console.app.config;
        let is_secure = config.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
            || auth::origin(parts, &config.trusted_proxies).is_some_and(|origin| origin.starts_with("https:"));
        let realm = Realm::of(parts.uri.path());
        let is_framed = realm == Realm::Portal && !config.portal.frame_ancestors.is_empty();
        let jar = Jar { realm, is_secure, is_framed };
        let shown = jar.get(Cookie::Visitor, parts).map(str::to_owned);
        // In the portal, whoever has no session has no form to send either.
        let new_visitor = (shown.is_none() && realm == Realm::Console)
            .then(|| random_token(&*console.app.ambient).reveal().to_owned());
        About {
            request_id: hex::encode(console.app.ambient.random::<8>()).into(),
            jar,
            is_fragment: parts.headers.contains_key("hx-request"),
            theme: Theme::of(jar.get(Cookie::Theme, parts)),
            wanted: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            visitor: shown.or_else(|| new_visitor.clone()).unwrap_or_default(),
            new_visitor,
            had_flash: jar.get(Cookie::Flash, parts).is_some(),
            is_public: false,
        }
    }
}

/// What an answer needs to know of its visit.
struct Told {
    chrome: Chrome,
    secret: String,
    flash_is_shown: Arc<AtomicBool>,
    is_signed_in: bool,
    is_get: bool,
}

impl Told {
    fn of(visit: &Visit) -> Told {
        Told {
            chrome: Chrome::quiet(visit),
            secret: visit.secret.clone(),
            flash_is_shown: visit.flash_is_shown.clone(),
            is_signed_in: visit.signed_in.is_some(),
            is_get: visit.parts.method == Method::GET,
        }
    }
}

async fn visit(console: &Arc<Console>, mut parts: Parts, about: &About) -> Result<Visit, Fault> {
    let app = &console.app;
    // Whatever another node has answered, this one knows too. While the store cannot be asked, what is known must do.
    if !about.is_public
        && let Err(error) = app.catalog.sync(&*app.store).await
    {
        tracing::debug!(%error, "changes of configuration could not be read");
    }
    let token = about.jar.get(Cookie::Session, &parts).map(str::to_owned);
    let token = token.filter(|_| !about.is_public);
    let signed_in = match &token {
        Some(token) => SignedIn::find(app, about.jar.realm, token).await?,
        None => None,
    };
    let secret = match (&signed_in, token) {
        (Some(_), Some(token)) => token,
        _ => about.visitor.clone(),
    };
    let flash = about.jar.get(Cookie::Flash, &parts);
    let flash = flash.and_then(|cookie| Flash::opened(&app.sealer, &secret, cookie));
    let params = RawPathParams::from_request_parts(&mut parts, &()).await;
    let path = params.map(|params| params.iter().map(|(name, value)| (name.into(), value.into())).collect());
    let visit = Visit {
        console: console.clone(),
        parts,
        form: Form::default(),
        path: path.unwrap_or_default(),
        request_id: about.request_id.clone(),
        signed_in,
        secret,
        jar: about.jar,
        flash,
        flash_is_shown: Arc::default(),
    };
    if let Some(signed_in) = &visit.signed_in {
        sessions::keep_alive(app, &signed_in.session, &visit.place()).await;
    }
    Ok(visit)
}

async fn answer(route: Arc<Route>, mut visit: Visit, body: Body) -> Result<Answer, Fault> {
    permit(&route, &visit)?;
    if route.method == Method::GET {
        return (route.handler)(visit).await;
    }
    let public = visit.app().config.public_url.as_ref().map(|url| url.origin().ascii_serialization());
    let reached = auth::origin(&visit.parts, &visit.app().config.trusted_proxies);
    if !csrf::is_from_here(&visit.parts, &[public, reached]) {
        return Err(Fault::Stale);
    }
    visit.form = read_form(&visit.parts, body).await?;
    let header = visit.parts.headers.get(csrf::HEADER).and_then(|value| value.to_str().ok());
    let given = header.unwrap_or_else(|| visit.form.text(csrf::FIELD));
    if !csrf::fits(given, &visit.secret, visit.tenant_id()) {
        return Err(Fault::Stale);
    }
    // A change runs to its end even if the browser goes away.
    let done = tokio::spawn((route.handler)(visit)).await;
    done.unwrap_or_else(|failure| Err(Fault::Internal(failure.into())))
}

/// Whether this visitor may ask for that.
fn permit(route: &Route, visit: &Visit) -> Result<(), Fault> {
    if matches!(route.access, Access::Open | Access::Public) {
        return Ok(());
    }
    let Some(signed_in) = &visit.signed_in else { return Err(Fault::SignIn) };
    match route.access {
        Access::Needs(permission) if !signed_in.principal.may(permission) => {
            if visit.is_portal() {
                return Err(Fault::Forbidden("The link that you came by does not allow this.".to_owned()));
            }
            let needed = auth::role_name(permission.role());
            Err(Fault::Forbidden(format!("This takes the role {needed}. Ask an owner of this tenant for it.")))
        }
        // What is of the platform does not exist for others.
        Access::Platform if !signed_in.principal.is_platform() => Err(Fault::NotFound),
        _ => Ok(()),
    }
}

async fn read_form(parts: &Parts, body: Body) -> Result<Form, Fault> {
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.is_empty() && !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Fault::Unreadable("The form could not be read."));
    }
    let read = tokio::time::timeout(FORM_TIMEOUT, Limited::new(body, FORM_BYTES_MAX).collect()).await;
    let read = read.map_err(|_| Fault::Unreadable("The form did not arrive in time."))?;
    let bytes = read.map_err(|_| Fault::Unreadable("The form is too large, or broke off."))?.to_bytes();
    Ok(Form::parse(&bytes))
}

// ---- answers -------------------------------------------------------------------------------------------------------------

fn finished(console: &Console, answer: Answer, about: &About, told: &Told) -> Response {
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let headers = response.headers_mut();
    let jar = about.jar;
    let mut secret = told.secret.clone();
    match answer.session {
        Some(Some((token, life))) => {
            headers.append(header::SET_COOKIE, jar.set(Cookie::Session, &token, Some(life)));
            secret = token;
        }
        Some(None) => {
            headers.append(header::SET_COOKIE, jar.forget(Cookie::Session));
            about.visitor.clone_into(&mut secret);
        }
        None => {}
    }
    if let Some(flash) = answer.flash {
        let sealed = flash.sealed(&console.app.sealer, &secret);
        headers.append(header::SET_COOKIE, jar.set(Cookie::Flash, &sealed, Some(FLASH_LIFETIME)));
    } else if about.had_flash && told.is_get && told.flash_is_shown.load(Relaxed) {
        headers.append(header::SET_COOKIE, jar.forget(Cookie::Flash));
    }
    let is_stranger = !told.is_signed_in && !about.is_public;
    if let Some(visitor) = about.new_visitor.as_ref().filter(|_| is_stranger) {
        headers.append(header::SET_COOKIE, jar.set(Cookie::Visitor, visitor, None));
    }
    secured(console, headers, about);
    response
}

fn failed(console: &Console, fault: Fault, about: &About, told: Option<&Told>) -> Response {
    if let Fault::Internal(cause) | Fault::Unavailable(cause) = &fault {
        let cause = format!("{cause:#}");
        tracing::error!(request_id = &*about.request_id, cause, "a page of the console failed");
    }
    let mut response = match &fault {
        Fault::SignIn if about.jar.realm == Realm::Console => sign_in(about),
        _ => error_page(console, &fault, about, told),
    };
    secured(console, response.headers_mut(), about);
    response
}

fn sign_in(about: &About) -> Response {
    let query = serde_urlencoded::to_string([("next", &about.wanted)]).unwrap_or_default();
    let location = HeaderValue::try_from(format!("/login?{query}")).unwrap_or(HeaderValue::from_static("/login"));
    let mut response = Response::new(Body::empty());
    if about.is_fragment {
        // A piece of a page has no place for the form: the whole page goes there.
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(HeaderName::from_static("hx-redirect"), HeaderValue::from_static("/login"));
    } else {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    chrome: Chrome,
    title: &'static str,
    message: String,
    request_id: String,
    is_signed_in: bool,
}

/// What somebody without a session is told in the portal, where there is nothing to log in with.
const ENDED: &str = "Go back to where you came from and open this page from there again. The address of a page here is of no \
                     use by itself, and a link is good for one use.";

fn error_page(console: &Console, fault: &Fault, about: &About, told: Option<&Told>) -> Response {
    let (title, message) = match (about.jar.realm, fault) {
        (Realm::Portal, Fault::SignIn) => ("Your session has ended", ENDED.to_owned()),
        _ => fault.told(),
    };
    let blank = || Chrome::blank(console, about.jar.realm, about.theme);
    let page = ErrorPage {
        chrome: told.map_or_else(blank, |told| told.chrome.clone()).titled(title),
        title,
        message,
        request_id: about.request_id.to_string(),
        is_signed_in: told.is_some_and(|told| told.is_signed_in),
    };
    let html = page.render().unwrap_or_else(|_| title.to_owned());
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = fault.status();
    if let Fault::TooMany(wait) = fault {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after(*wait)));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// What the headers of every answer say.
fn secured(console: &Console, headers: &mut HeaderMap, about: &About) {
    if let Ok(value) = HeaderValue::from_str(&about.request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // `no-referrer` would have browsers send forms with the origin `null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if about.jar.realm == Realm::Portal {
        headers.insert(header::CONTENT_SECURITY_POLICY, console.portal_policy.clone());
        if about.jar.is_framed {
            // A page with `Cross-Origin-Embedder-Policy` frames only what allows it; who that is, the policy says.
            let policy = HeaderName::from_static("cross-origin-resource-policy");
            headers.insert(policy, HeaderValue::from_static("cross-origin"));
        }
    }
    // An answer may say that itself: assets do.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
