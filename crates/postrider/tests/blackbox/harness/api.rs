//! A client of the native API that knows nothing but `docs/api.md`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{SOON, until};

/// Requests with the replies they got, headers included.
pub(crate) type Transcript = Arc<Mutex<Vec<(String, String)>>>;

#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: reqwest::Client,
    url: String,
    key: String,
    /// Every reply so far, for the story about secrets.
    transcript: Option<Transcript>,
}

/// A reply of the API. `body` is null when it is no JSON.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The reply if it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "unexpected answer: {}", self.text);
        self
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// A webhook as its creator knows it.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> Api {
        // The client wants one even for plain HTTP; a second installation is refused, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Api { client, url: url.to_owned(), key: key.to_owned(), transcript: None }
    }

    /// A client of its own that sends everything over one connection (HTTP/2), many requests at once.
    pub(crate) fn many_at_once(url: &str, key: &str) -> Api {
        let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().timeout(Duration::from_secs(60));
        Api { client: client.build().unwrap(), ..Api::new(url, key) }
    }

    /// The same server with another key.
    pub(crate) fn as_key(&self, key: &str) -> Api {
        Api { key: key.to_owned(), ..self.clone() }
    }

    /// The same, but every reply is written down.
    pub(crate) fn transcribed(&self) -> (Api, Transcript) {
        let transcript = Transcript::default();
        (Api { transcript: Some(Arc::clone(&transcript)), ..self.clone() }, transcript)
    }

    /// `None` when there was no complete reply.
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Option<Answer> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        assert!(headers.contains_key("x-request-id"), "{method} {path}: a reply without a request id");
        let text = response.text().await.ok()?;
        if let Some(transcript) = &self.transcript {
            transcript.lock().unwrap().push((format!("{method} {path}"), format!("{headers:?}\n{text}")));
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Answer { status, headers, body, text })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.try_call(method.clone(), path, body, &[]).await;
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_call(Method::GET, path, None, &[]).await
    }

    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        self.try_call(Method::POST, path, Some(body), &[]).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    // ---- the steps that most stories take ----------------------------------------------------------------------

    /// A new tenant; its id.
    pub(crate) async fn tenant(&self, name: &str) -> String {
        let answer = self.post("/v1/tenants", json!({ "name": name })).await.expect(201);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// A new key of the tenant; the key itself.
    pub(crate) async fn key(&self, tenant: &str, role: &str) -> String {
        let body = json!({ "tenant_id": tenant, "name": "story", "role": role });
        let answer = self.post("/v1/api-keys", body).await.expect(201);
        answer.body["key"].as_str().unwrap().to_owned()
    }

    /// A new webhook of the tenant for all events unless `more` says otherwise.
    pub(crate) async fn webhook(&self, tenant: &str, url: &str, more: Value) -> Webhook {
        let mut body = json!({ "tenant_id": tenant, "url": url, "events": ["*"] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post("/v1/webhooks", body).await.expect(201);
        let text = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        Webhook { id: text("id"), secret: text("secret") }
    }

    /// Publishes one event; its id.
    pub(crate) async fn publish(&self, tenant: &str, event_type: &str, data: Value) -> String {
        let body = json!({ "tenant_id": tenant, "type": event_type, "data": data });
        let answer = self.post("/v1/events", body).await.expect(202);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// The first page of deliveries that match `query`, newest first.
    pub(crate) async fn deliveries(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/deliveries?limit=200&{query}")).await.expect(200);
        answer.body["items"].as_array().unwrap().clone()
    }

    /// Every delivery that matches `query`, page by page.
    pub(crate) async fn all_deliveries(&self, query: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/deliveries?limit=200&{query}{cursor}")).await.expect(200).body;
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }

    pub(crate) async fn delivery(&self, id: &Value) -> Value {
        self.get(&format!("/v1/deliveries/{id}")).await.expect(200).body
    }

    /// The only delivery that matches `query`, once `wanted` is true of its full record.
    pub(crate) async fn delivery_once(&self, query: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = tokio::time::Instant::now() + SOON;
        until(what, SOON * 2, async || {
            let listed = self.deliveries(query).await;
            assert!(listed.len() <= 1, "several deliveries: {listed:#?}");
            if let Some(listed) = listed.first() {
                last = self.delivery(&listed["id"]).await;
                if wanted(&last) {
                    return Some(last.clone());
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}, but: {last:#}");
            None
        })
        .await
    }

    /// Waits until nothing of the tenant is pending or in flight; its totals of the last hour then.
    pub(crate) async fn drained(&self, tenant: &str, within: Duration) -> Value {
        let path = format!("/v1/stats?window=1h&tenant_id={tenant}");
        until("nothing is pending", within, async || {
            let totals = self.get(&path).await.expect(200).body["totals"].clone();
            (totals["pending"] == 0).then_some(totals)
        })
        .await
    }
}
