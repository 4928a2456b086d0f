//! Talking to a server's API: the one HTTP client of all commands that do.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use postrider_core::signing::Secret;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::failure::{Failure, Kind};
use crate::config::ADMIN_KEY_FILE;

/// Which server, and who is asking.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerFlags {
    /// Address of the server.
    #[arg(long, env = "POSTRIDER_URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// API key; without one, the admin key of a server on this machine is taken from its data directory. Better given
    /// by the variable: other users see the flags of a process.
    #[arg(long, env = "POSTRIDER_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Tenant to act for; only needed with the admin key, and only if there are several.
    #[arg(long, env = "POSTRIDER_TENANT")]
    tenant: Option<String>,
    /// Data directory of a server on this machine, to find its admin key.
    #[arg(long, env = "POSTRIDER_DATA", default_value = "./postrider-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
}

/// How long the server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An API client with its credential.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    key: Secret,
    tenant: Option<String>,
}

/// `{code, message, param?}`, as every error of the API is.
#[derive(Debug, Default, Deserialize)]
struct ApiError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    /// What the gateway's administration says in full.
    #[serde(default)]
    error: String,
    param: Option<String>,
}

/// One page of a list.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Tenant {
    id: String,
    name: String,
}

impl ServerFlags {
    /// A client for these flags.
    ///
    /// # Errors
    /// There is no key; the message says where it was looked for.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let key = match &self.key {
            Some(key) => key.trim().to_owned(),
            None => self.local_admin_key()?,
        };
        Client::new(self.url.clone(), Secret::new(key), self.tenant.clone())
    }

    /// Only for a server on this machine: its key is not sent anywhere else.
    fn local_admin_key(&self) -> Result<String, Failure> {
        let is_local = match self.url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if !is_local {
            return Err(Failure::usage(format!("{} is not this machine, so a key must be given", origin(&self.url)))
                .hint("set POSTRIDER_API_KEY to the server's admin key or to a tenant's key"));
        }
        let path = self.data_dir.join(ADMIN_KEY_FILE);
        let read = std::fs::read_to_string(&path).map(|text| text.trim().to_owned());
        read.map_err(|error| {
            Failure::usage(format!("no API key, and the server's own cannot be read from {}: {error}", path.display()))
                .hint("set POSTRIDER_API_KEY, or name the server's data directory with --data-dir")
        })
    }
}

fn origin(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

impl Client {
    pub(super) fn new(url: Url, key: Secret, tenant: Option<String>) -> Result<Client, Failure> {
        let tls = crate::egress::client_config(&[])?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("postrider-cli/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(anyhow::Error::from)?;
        Ok(Client { http, url, key, tenant })
    }

    /// Without the slash at the end.
    pub(super) fn origin(&self) -> String {
        origin(&self.url)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        self.call(Method::GET, path, query, None).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<T, Failure> {
        self.call(Method::PUT, path, query, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        let reply = self.send(self.request(Method::DELETE, path, &[]).timeout(TIMEOUT)).await?;
        refused(reply).await.map(drop)
    }

    /// As `delete`, where the reply says something.
    pub(super) async fn delete_told<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        self.call(Method::DELETE, path, query, None).await
    }

    /// A request whose reply is a stream, without a time limit.
    pub(super) async fn stream(&self, path: &str, query: &[(&str, &str)]) -> Result<reqwest::Response, Failure> {
        let reply = self.send(self.request(Method::GET, path, query)).await?;
        refused(reply).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let mut request = self.request(method, path, query).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = refused(self.send(request).await?).await?;
        let bytes = reply.bytes().await.map_err(|error| self.unreachable(&error))?;
        let text = if bytes.is_empty() { &b"null"[..] } else { &bytes };
        serde_json::from_slice(text).map_err(|error| {
            Failure::failed(format!("{} answered something unexpected: {error}", self.origin()))
                .hint("is it a Postrider server, and of this version?")
        })
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        // The gateway's administration takes the admin key in a header of its own alone.
        match path.starts_with("/admin/") {
            true => request.header("x-athena-admin-key", self.key.reveal()),
            false => request.bearer_auth(self.key.reveal()),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { innermost(error) };
        Failure::new(Kind::Unreachable, format!("could not reach {}: {why}", self.origin()))
            .hint("is `postrider serve` running there? Another address is given with --url or POSTRIDER_URL")
    }

    /// The tenant to act for, if one must be named: the one given, else the only one there is.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub(super) async fn tenant(&self) -> Result<String, Failure> {
        if let Some(tenant) = &self.tenant {
            return Ok(tenant.clone());
        }
        let page: Page<Tenant> = self.get("/v1/tenants", &[("limit", "10")]).await?;
        match page.items.as_slice() {
            [only] => Ok(only.id.clone()),
            [] => Err(Failure::failed("there is no tenant yet")
                .hint("create one with `postrider tenants create NAME`: a tenant is one of your customers, or you")),
            several => {
                let names = several.iter().map(|tenant| format!("\n    {}  {}", tenant.id, tenant.name));
                Err(Failure::usage("there are several tenants, so one must be named")
                    .hint(format!("use --tenant or POSTRIDER_TENANT with one of{}", names.collect::<String>())))
            }
        }
    }

    /// `tenant_id` of a query: the tenant given, else none, which means all that the key may see.
    pub(super) fn tenant_filter(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// `body` with the tenant in it.
    pub(super) async fn for_tenant(&self, mut body: Value) -> Result<Value, Failure> {
        body["tenant_id"] = json!(self.tenant().await?);
        Ok(body)
    }
}

/// What the lowest layer says, which is what a person can act on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The reply if it is a success; else the server's words with an exit code.
async fn refused(reply: reqwest::Response) -> Result<reqwest::Response, Failure> {
    let status = reply.status();
    if status.is_success() {
        return Ok(reply);
    }
    let body = reply.bytes().await.unwrap_or_default();
    let error: ApiError = serde_json::from_slice(&body).unwrap_or_default();
    let in_full = if error.error.is_empty() { &error.message } else { &error.error };
    let mut message = match in_full.as_str() {
        "" => format!("the server answered {status}"),
        message => message.to_owned(),
    };
    if let Some(param) = &error.param {
        message = format!("{param}: {message}");
    }
    if !error.code.is_empty() {
        message = format!("{message} ({}, {})", status.as_u16(), error.code);
    }
    Err(match status {
        StatusCode::UNAUTHORIZED => Failure::new(Kind::Refused, message)
            .hint("set POSTRIDER_API_KEY to a key of this server; its admin key is in <data>/admin.key"),
        StatusCode::FORBIDDEN => Failure::new(Kind::Refused, message),
        StatusCode::SERVICE_UNAVAILABLE => Failure::new(Kind::Unreachable, message),
        _ => Failure::failed(message),
    })
}
