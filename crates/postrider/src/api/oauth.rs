//! Tokens of our own: where they are had (OAuth 2.0 client credentials, RFC 6749, sections 2.3 and 4.4), and where
//! those who verify them find our keys and ourselves (RFC 7517, RFC 8414, OpenID Connect Discovery).

use std::borrow::Cow;

use axum::http::{HeaderValue, Method, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postrider_core::limits::TOKEN_REQUEST_BYTES_MAX;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::call::{Call, Reply};
use super::error::{ApiError, Code, Result};
use super::route::{Access, Effect, Route};
use super::serve::{catch_up, denial};
use crate::auth::{Denied, NotIssued, Principal};

pub(super) fn routes() -> Vec<Route> {
    vec![
        // Changes nothing: a token is not kept.
        Route::new(Method::POST, "/oauth/token", Access::Open, token).effect(Effect::Reads),
        Route::new(Method::GET, "/.well-known/jwks.json", Access::Open, key_set),
        Route::new(Method::GET, "/.well-known/openid-configuration", Access::Open, metadata),
        Route::new(Method::GET, "/.well-known/oauth-authorization-server", Access::Open, metadata),
    ]
}

/// How long others may keep our keys; each is published a month before it signs.
const KEYS_MAY_BE_KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

#[derive(Serialize)]
struct Granted {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

/// Why there is no token, in the words of RFC 6749, section 5.2.
#[derive(Debug)]
enum Refusal {
    Said {
        status: StatusCode,
        error: &'static str,
        description: Cow<'static, str>,
    },
    /// What every call can be refused for.
    Other(ApiError),
}

type Answer<T> = std::result::Result<T, Refusal>;

fn refuse<T>(error: &'static str, description: impl Into<Cow<'static, str>>) -> Answer<T> {
    let status = if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    Err(Refusal::Said { status, error, description: description.into() })
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        let status = error.code.status();
        if status.is_server_error() || error.retry_after_seconds.is_some() {
            return Refusal::Other(error);
        }
        Refusal::Said { status, error: "invalid_request", description: error.message }
    }
}

async fn token(mut call: Call) -> Result<Reply> {
    let reply = match granted(&mut call).await {
        Ok(granted) => Reply::ok(&granted)?,
        Err(Refusal::Said { status, error, description }) => {
            let told = json!({ "error": error, "error_description": description });
            let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="postrider""#));
            let mut reply = Reply::json(status, &told)?;
            reply.headers.extend((status == StatusCode::UNAUTHORIZED).then_some(challenge));
            reply
        }
        Err(Refusal::Other(error)) => return Err(error),
    };
    let no_store = HeaderValue::from_static("no-store");
    Ok(reply.header(header::CACHE_CONTROL, no_store).header(header::PRAGMA, HeaderValue::from_static("no-cache")))
}

async fn granted(call: &mut Call) -> Answer<Granted> {
    let form = Form::read(call).await?;
    let client = client(call, &form).await?;
    match form.field("grant_type")? {
        Some("client_credentials") => {}
        Some(_) => return refuse("unsupported_grant_type", "grant_type must be client_credentials"),
        None => return refuse("invalid_request", "grant_type is required"),
    }
    let app = call.app();
    match app.tokens.issue(app, &client, form.field("scope")?, call.origin()).await {
        Ok(issued) => Ok(Granted {
            access_token: issued.token,
            token_type: "Bearer",
            expires_in: issued.expires_in.as_secs(),
            scope: issued.scope,
        }),
        Err(error @ NotIssued::Scope(_)) => refuse("invalid_scope", error.to_string()),
        Err(NotIssued::Other(error)) => Err(Refusal::Other(unavailable(error))),
    }
}

fn unavailable(cause: anyhow::Error) -> ApiError {
    ApiError { cause: Some(cause), ..ApiError::new(Code::Unavailable, "the keys for tokens cannot be read now") }
}

/// The parameters of the body.
struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    async fn read(call: &mut Call) -> Answer<Form> {
        if let Some(value) = call.parts.headers.get(header::CONTENT_TYPE) {
            let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
                return refuse("invalid_request", "send the body as application/x-www-form-urlencoded");
            }
        }
        let body = call.any_bytes(TOKEN_REQUEST_BYTES_MAX).await?;
        let pairs = url::form_urlencoded::parse(&body);
        Ok(Form(pairs.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect()))
    }

    /// What is given without a value is not given; what is given twice is a mistake.
    fn field(&self, name: &'static str) -> Answer<Option<&str>> {
        let mut given = self.0.iter().filter(|(other, _)| other == name);
        let value = given.next().map(|(_, value)| value.as_str());
        if given.next().is_some() {
            return refuse("invalid_request", format!("{name} is given twice"));
        }
        Ok(value.filter(|value| !value.is_empty()))
    }
}

/// Who asks: by HTTP Basic, or by the form.
async fn client(call: &Call, form: &Form) -> Answer<Principal> {
    let (id, secret) = (form.field("client_id")?, form.field("client_secret")?);
    let (id, secret) = match (basic(call)?, id, secret) {
        (Some(_), _, Some(_)) => return refuse("invalid_request", "authenticate in one way, not in two"),
        (Some((id, secret)), named, None) => {
            if named.is_some_and(|named| named != id) {
                return refuse("invalid_request", "client_id is not the one that authenticates");
            }
            (id, secret)
        }
        (None, Some(id), Some(secret)) => (id.to_owned(), Zeroizing::new(secret.to_owned())),
        (None, ..) => return refuse("invalid_client", "authenticate with client_id and client_secret"),
    };
    let app = call.app();
    let authenticator = &call.surface.authenticator;
    // RFC 6749 has both encoded within Basic, which many clients leave out: for keys of ours that is the same text.
    let forms = [(id.clone(), secret.clone()), (decoded(&id), Zeroizing::new(decoded(&secret)))];
    let ask = || {
        let mut answers = forms.iter().map(|(id, secret)| authenticator.client(app, id, secret));
        answers.find(|answer| !matches!(answer, Err(Denied::Unknown))).unwrap_or(Err(Denied::Unknown))
    };
    let known = match ask() {
        Err(Denied::Unknown) if app.store.is_shared() => {
            catch_up(app).await;
            ask()
        }
        known => known,
    };
    match known {
        Ok(client) => Ok(client),
        Err(Denied::Unknown) => {
            refuse("invalid_client", "the client is unknown, revoked or expired, or its secret wrong")
        }
        Err(denied) => Err(denial(denied).into()),
    }
}

/// The credentials of `Authorization: Basic`.
fn basic(call: &Call) -> Answer<Option<(String, Zeroizing<String>)>> {
    let Some(value) = call.parts.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let wrong = || refuse("invalid_client", "send Authorization: Basic, or client_id and client_secret in the body");
    let Some((scheme, given)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else { return wrong() };
    if !scheme.eq_ignore_ascii_case("basic") {
        return wrong();
    }
    let Ok(decoded) = BASE64.decode(given.trim()).map(Zeroizing::new) else { return wrong() };
    match std::str::from_utf8(&decoded).ok().and_then(|text| text.split_once(':')) {
        Some((id, secret)) => Ok(Some((id.to_owned(), Zeroizing::new(secret.to_owned())))),
        None => wrong(),
    }
}

/// As a value of a form is decoded.
fn decoded(text: &str) -> String {
    let pair = format!("x={text}");
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn key_set(call: Call) -> Result<Reply> {
    let keys = call.app().tokens.key_set(call.app()).await.map_err(unavailable)?;
    Ok(Reply::raw_json(StatusCode::OK, keys).header(header::CACHE_CONTROL, KEYS_MAY_BE_KEPT))
}

async fn metadata(call: Call) -> Result<Reply> {
    // What it says of where we are may be different by another way to us.
    let vary = HeaderValue::from_static("host, x-forwarded-host, x-forwarded-proto");
    let metadata = call.app().tokens.metadata(&call.origin());
    Ok(Reply::ok(&metadata)?.header(header::VARY, vary).header(header::CACHE_CONTROL, KEYS_MAY_BE_KEPT))
}
