//! Somebody else's service that sends signed webhooks to a receiver, and writes down what was answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::Api;

/// A receiver of GitHub's webhooks, as whoever made it and its sender know it.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    /// `wh_…`
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) secret: String,
}

/// What was answered to one webhook.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) body: Value,
}

impl Inlet {
    /// A new receiver of the tenant that forwards to `target`, if any. `more` goes into its `receiver`.
    pub(crate) async fn make(api: &Api, tenant: &str, target: Option<&str>, more: Value) -> Inlet {
        let secret = "a secret that GitHub was told, too";
        let mut receiver = json!({ "source": "github", "secret": secret });
        receiver.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let url = target.unwrap_or_default();
        let body = json!({ "tenant_id": tenant, "url": url, "dialect": "alumia", "events": [], "receiver": receiver });
        let made = api.post("/v1/webhooks", body).await.expect(201).body;
        Inlet {
            id: made["id"].as_str().unwrap().to_owned(),
            path: path_of(made["receiver"]["receive_url"].as_str().unwrap()),
            secret: secret.to_owned(),
        }
    }

    /// The signature as GitHub writes it.
    pub(crate) fn signature(&self, body: &[u8]) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes()), body);
        format!("sha256={}", hex::encode(tag))
    }
}

pub(crate) fn path_of(url: &str) -> String {
    let (_, rest) = url.split_once("://").expect("an absolute URL");
    rest[rest.find('/').expect("a path")..].to_owned()
}

/// A body that no two JSON printers would print alike: it must arrive as it is.
pub(crate) fn webhook(serial: u64) -> Vec<u8> {
    let filling = "ä\\u00e4 ".repeat(usize::try_from(serial % 100).unwrap());
    format!("{{\"serial\" : {serial},\n\t\"n\":1.50 ,\"filling\":\"{filling}\"}}\r\n").into_bytes()
}

/// Sends to the servers at `urls` in turn.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: reqwest::Client,
    urls: Arc<Vec<String>>,
    inlet: Inlet,
}

impl Sender {
    pub(crate) fn new(urls: &[&str], inlet: &Inlet) -> Sender {
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let urls = Arc::new(urls.iter().map(|url| (*url).to_owned()).collect());
        Sender { client, urls, inlet: inlet.clone() }
    }

    /// `None` when there was no complete answer.
    pub(crate) async fn send(&self, serial: u64) -> Option<Reply> {
        self.send_body(serial, webhook(serial)).await
    }

    pub(crate) async fn send_body(&self, serial: u64, body: Vec<u8>) -> Option<Reply> {
        let signature = self.inlet.signature(&body);
        self.send_signed(serial, body, &signature).await
    }

    pub(crate) async fn send_signed(&self, serial: u64, body: Vec<u8>, signature: &str) -> Option<Reply> {
        let url = &self.urls[usize::try_from(serial).unwrap() % self.urls.len()];
        let request = self.client.post(format!("{url}{}", self.inlet.path)).body(body);
        let request = request.header("content-type", "application/json; charset=utf-8");
        let request =
            request.header("x-github-event", "push").header("x-github-delivery", format!("delivery-{serial}"));
        let response = request.header("x-hub-signature-256", signature).send().await.ok()?;
        let (status, retry_after) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
        let text = response.text().await.ok()?;
        Some(Reply { status, retry_after, body: serde_json::from_str(&text).unwrap_or_default() })
    }
}

/// Serial numbers answered 2xx, with the id that the answer gave.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    answered: Mutex<BTreeMap<u64, String>>,
    next: AtomicU64,
}

impl Receipts {
    pub(crate) fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    pub(crate) fn answered(&self) -> BTreeMap<u64, String> {
        self.answered.lock().unwrap().clone()
    }
}

/// A sender that keeps to a rate, until it is told to stop or a server is gone.
#[derive(Debug)]
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    lanes: JoinSet<()>,
    started: Instant,
    before: usize,
}

const LANES: u32 = 32;

impl Stream {
    pub(crate) fn start(sender: &Sender, per_second: u32, receipts: &Arc<Receipts>) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let (sender, receipts, stop) = (sender.clone(), receipts.clone(), stop.clone());
            let period = Duration::from_secs(u64::from(LANES)) / per_second;
            // Lanes take turns within one period.
            let begin = Instant::now() + period * lane / LANES;
            lanes.spawn(async move {
                let mut due = tokio::time::interval_at(begin, period);
                due.set_missed_tick_behavior(MissedTickBehavior::Burst);
                while !stop.load(Relaxed) {
                    due.tick().await;
                    let serial = receipts.next.fetch_add(1, Relaxed);
                    match sender.send(serial).await {
                        Some(reply) if reply.status == 202 => {
                            let id = reply.body["data"]["id"].as_str().unwrap().to_owned();
                            receipts.answered.lock().unwrap().insert(serial, id);
                        }
                        // The server is about to end, or has ended.
                        Some(reply) if reply.status == 503 => return,
                        Some(reply) => panic!("unexpected answer: {reply:?}"),
                        None => return,
                    }
                }
            });
        }
        Stream { stop, lanes, started: Instant::now(), before: receipts.count() }
    }

    /// Waits until every lane has stopped; the rate of answers that it reached.
    pub(crate) async fn ended(mut self, receipts: &Receipts) -> f64 {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.lanes.join_next().await {
            ended.unwrap();
        }
        (receipts.count() - self.before) as f64 / self.started.elapsed().as_secs_f64()
    }
}
