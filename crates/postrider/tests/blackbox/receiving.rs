//! Webhooks of others: what was answered 2xx is on record and forwarded, byte for byte, and nobody stands in another's way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::{
    Api, Chance, Database, Deployment, Inlet, Nodes, Receipts, Receiver, Reply, Request, SOON, Sender, Server, Stream,
    path_of, quiet_machine, shared_machine, until, webhook,
};
use crate::secrets::{contains, files};

const PER_SECOND: u32 = 2_000;

/// A tenant with a receiver that forwards to `/forwarded`.
struct Scene {
    sink: Receiver,
    tenant: String,
    key: String,
    inlet: Inlet,
    receipts: Arc<Receipts>,
}

impl Scene {
    async fn set(api: &Api) -> Scene {
        let sink = Receiver::start().await;
        let tenant = api.tenant("Receiving").await;
        let key = api.key(&tenant, "owner").await;
        let inlet = Inlet::make(api, &tenant, Some(&sink.url("/forwarded")), json!({})).await;
        Scene { sink, tenant, key, inlet, receipts: Arc::default() }
    }

    /// Receives at the usual rate until `count` more were answered.
    async fn receive(&self, urls: &[&str], count: usize) -> Stream {
        let wanted = self.receipts.count() + count;
        let stream = Stream::start(&Sender::new(urls, &self.inlet), PER_SECOND, &self.receipts);
        until("enough is answered", SOON, async || (self.receipts.count() >= wanted).then_some(())).await;
        stream
    }

    /// Everything that was answered is in the record of both surfaces under the id of the answer, and was forwarded as it
    /// came in.
    async fn assert_all_there(&self, api: &Api) {
        api.drained(&self.tenant, Duration::from_secs(120)).await;
        let answered = self.receipts.answered();
        let records = received(api, &self.inlet).await;
        assert_on_record(&answered, &records);
        let own = api.as_key(&self.key);
        assert_on_alumias_record(&answered, &own, &self.inlet).await;
        self.assert_forwarded(&answered);
        println!("{} webhooks were answered 2xx, {} are on record", answered.len(), records.len());
    }

    fn assert_forwarded(&self, answered: &BTreeMap<u64, String>) {
        let requests = self.sink.requests("/forwarded");
        let mut forwarded = BTreeSet::new();
        for request in &requests {
            let serial = serial_of(&request.body);
            assert_eq!(request.body, webhook(serial), "not byte for byte");
            assert_eq!(request.header("content-type"), "application/json; charset=utf-8");
            assert_signed(request, &self.inlet.secret);
            forwarded.insert(serial);
        }
        let lost: Vec<&u64> = answered.keys().filter(|serial| !forwarded.contains(serial)).collect();
        assert!(lost.is_empty(), "{} of {} were never forwarded: {lost:?}", lost.len(), answered.len());
        println!("{} forwarded requests, {} of them again", requests.len(), requests.len() - forwarded.len());
    }
}

fn serial_of(body: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(body).unwrap()["serial"].as_u64().unwrap()
}

/// `X-Alumia-Signature`, by a reading of our own.
#[track_caller]
fn assert_signed(request: &Request, secret: &str) {
    let header = request.header("x-alumia-signature");
    let (time, signature) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("t= and v1=");
    let message = [time.as_bytes(), b".", &request.body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &message);
    assert_eq!(signature, hex::encode(tag), "wrongly signed");
}

/// All requests to the receiver, page by page.
async fn received(api: &Api, inlet: &Inlet) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/received?limit=200&webhook_id={}{cursor}", inlet.id);
        let page = api.get(&path).await.expect(200).body;
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

fn assert_on_record(answered: &BTreeMap<u64, String>, records: &[Value]) {
    let mut kept: HashMap<u64, &Value> = HashMap::new();
    for record in records {
        assert_eq!(record["verdict"], "verified", "{record:#}");
        let serial = record["provider_event_id"].as_str().and_then(|id| id.strip_prefix("delivery-")).unwrap();
        let before = kept.insert(serial.parse().unwrap(), record);
        assert!(before.is_none(), "twice on record: {record:#}");
    }
    let lost: Vec<&u64> = answered.keys().filter(|serial| !kept.contains_key(serial)).collect();
    assert!(lost.is_empty(), "{} of {} answered are not on record: {lost:?}", lost.len(), answered.len());
    for (serial, id) in answered {
        let bare = |id: &str| id.trim_start_matches("evt_").replace('-', "");
        assert_eq!(bare(kept[serial]["id"].as_str().unwrap()), bare(id), "another id than was answered");
    }
}

async fn assert_on_alumias_record(answered: &BTreeMap<u64, String>, own: &Api, inlet: &Inlet) {
    let id = path_of(&format!("x://{}", inlet.path)).rsplit('/').next().unwrap().to_owned();
    let mut kept = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = own.get(&format!("/api/v1/webhooks/{id}/events?limit=100{cursor}")).await.expect(200).body;
        let data = &page["data"];
        for item in data["items"].as_array().unwrap() {
            assert_eq!((&item["verdict"], &item["type"]), (&json!("verified"), &json!("push")), "{item:#}");
            kept.insert(item["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = data["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let lost: Vec<&String> = answered.values().filter(|id| !kept.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are not in the events list: {lost:?}", lost.len(), answered.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_while_receiving_loses_nothing_that_was_answered() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("kill -9 while receiving");
    let deployment = Deployment::new();
    let mut server = deployment.start().await;
    let scene = Scene::set(&server.api).await;
    let mut rates = Vec::new();
    for _ in 0..6 {
        let count = 500 + usize::try_from(chance.below(2_000)).unwrap();
        let stream = scene.receive(&[&server.url], count).await;
        server.kill().await;
        rates.push(stream.ended(&scene.receipts).await.round());
        scene.sink.next_life();
        server = deployment.start().await;
    }
    println!("answered a second, life by life: {rates:?} (asked for {PER_SECOND})");
    scene.assert_all_there(&server.api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nodes_killed_while_receiving_lose_nothing_that_was_answered() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("nodes killed while receiving");
    let deployment = Deployment::on_postgres(Database::new());
    let mut nodes = Nodes::start(&deployment, 3).await;
    let scene = Scene::set(nodes.api(0)).await;
    for _ in 0..5 {
        nodes.agree().await;
        let urls: Vec<String> = (0..3).map(|n| nodes.node(n).url.clone()).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let count = 500 + usize::try_from(chance.below(1_000)).unwrap();
        let stream = scene.receive(&urls, count).await;
        let victim = usize::try_from(chance.below(3)).unwrap();
        nodes.kill(victim).await;
        stream.ended(&scene.receipts).await;
        scene.sink.next_life();
        nodes.start_again(victim).await;
    }
    scene.assert_all_there(nodes.api(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_never_answers_does_not_hold_up_the_receipt() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let scene = Scene::set(&server.api).await;
    scene.sink.always("/forwarded", Reply::never());
    let sender = Sender::new(&[&server.url], &scene.inlet);
    // The target has the first and answers nothing: everything that is answered from now on is answered without it.
    sender.send(0).await.unwrap();
    scene.sink.wait("/forwarded", 1).await;
    for serial in 1..300 {
        let reply = sender.send(serial).await.unwrap();
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    assert!(scene.sink.open() > 0, "the target still owes its answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_flooded_over_its_limit_delays_no_other() {
    let _machine = quiet_machine().await;
    let server = Deployment::new().start().await;
    let scene = Scene::set(&server.api).await;
    let limited = json!({ "rate_limit": { "per_second": 5 } });
    let flooded = Inlet::make(&server.api, &scene.tenant, None, limited).await;
    let calm = slowest(&Sender::new(&[&server.url], &scene.inlet), 0).await;

    let flood = Sender::new(&[&server.url], &flooded);
    let floods: Vec<_> = (0..16u64).map(|lane| tokio::spawn(flood_with(flood.clone(), lane * 10_000))).collect();
    until("the limit is reached", SOON, async || {
        let reply = flood.send(1_000_000).await.unwrap();
        (reply.status == 429).then(|| assert!(reply.retry_after, "{reply:?}"))
    })
    .await;
    let beside = slowest(&Sender::new(&[&server.url], &scene.inlet), 10_000).await;
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    println!("slowest answer alone {calm:?}, beside the flood {beside:?}");
    // Two cores are shared with the flood itself; a second is what the strictest sender allows.
    assert!(beside < Duration::from_secs(1), "{beside:?}");
    let kept = received(&server.api, &flooded).await.len();
    assert!(kept < 500, "{kept} requests of the flood are on record");
}

/// The slowest of some answers, one after the other.
async fn slowest(sender: &Sender, first: u64) -> Duration {
    let mut slowest = Duration::ZERO;
    for serial in first..first + 200 {
        let asked = tokio::time::Instant::now();
        assert_eq!(sender.send(serial).await.unwrap().status, 202);
        slowest = slowest.max(asked.elapsed());
    }
    slowest
}

async fn flood_with(sender: Sender, first: u64) {
    for serial in first.. {
        let reply = sender.send(serial).await;
        assert!(reply.is_some_and(|reply| matches!(reply.status, 202 | 429)));
    }
}

/// The example of Alumia's document, but for host and key.
const EXAMPLE: &str = r#"curl -X POST https://alumia.com/api/v1/webhooks \
-H "Authorization: Bearer alm_live_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
-H "Content-Type: application/json" \
-d '{ "name": "Stripe events", "events": ["payment_intent.succeeded"] }'"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_example_works_as_printed() {
    let _machine = shared_machine().await;
    let has_curl = std::process::Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    if !has_curl.is_ok_and(|status| status.success()) {
        println!("skipped: there is no curl on this machine");
        return;
    }
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Example").await;
    let body = json!({ "tenant_id": tenant, "name": "example", "role": "owner", "prefix": "alm" });
    let key = server.api.post("/v1/api-keys", body).await.expect(201).body["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("alm_live_"), "{key}");
    let example = EXAMPLE.replace("https://alumia.com", &server.url);
    let example = example.replace("alm_live_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &key);
    let ran =
        tokio::process::Command::new("sh").args(["-c", &example]).env_remove("http_proxy").output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let made: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let record = &made["data"];
    assert_eq!((&made["success"], &record["name"]), (&json!(true), &json!("Stripe events")), "{made:#}");
    assert_eq!(record["events"], json!(["payment_intent.succeeded"]));
    assert_eq!(
        (&record["source"], &record["status"], &record["enabled"]),
        (&json!("custom"), &json!("active"), &json!(true))
    );
    let (secret, url) = (record["secret"].as_str().unwrap(), record["receiveUrl"].as_str().unwrap());
    assert!(secret.starts_with("whsec_") && url.starts_with(&server.url), "{made:#}");
    assert_eq!(receive_signed(url, secret, r#"{"type":"payment_intent.succeeded"}"#).await, 202);
    assert_eq!(receive_signed(url, "whsec_AAAA", r#"{"type":"payment_intent.succeeded"}"#).await, 401);
}

/// Sends with `X-Alumia-Signature`; the status of the answer.
async fn receive_signed(url: &str, secret: &str, body: &'static str) -> u16 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), format!("{time}.{body}").as_bytes());
    let header = format!("t={time},v1={}", hex::encode(tag));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.post(url).header("x-alumia-signature", header).body(body).send().await.unwrap();
    response.status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_receivers_are_found_nowhere() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new().with("RUST_LOG", "debug,hyper=info").with("POSTRIDER_LOG", "debug");
    let server = deployment.start().await;
    let (api, transcript) = server.api.transcribed();
    let tenant = api.tenant("Secrets").await;
    let own = api.as_key(&api.key(&tenant, "owner").await);
    let planted = Planted::new();
    let urls = planted.make_receivers(&api, &own, &tenant).await;
    // Those replies may show the secret that forwards: that is their purpose. None that follows may.
    transcript.lock().unwrap().clear();

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = async |url: &str, headers: &[(&str, &str)], body: &str| {
        let mut request = client.post(url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let bearer = format!("Bearer {}", planted.token);
    assert_eq!(send(&urls["token"], &[("authorization", &bearer)], "{}").await, 202);
    assert_eq!(send(&urls["gitlab"], &[("x-gitlab-token", &planted.token)], "{}").await, 202);
    assert_eq!(send(&urls["gitlab"], &[("x-gitlab-token", &format!("{}x", planted.token))], "{}").await, 401);
    assert_eq!(send(&urls["github"], &[("x-hub-signature-256", "sha256=00")], "{}").await, 401);
    for path in ["/v1/webhooks", "/v1/received?limit=50", "/v1/audit-log", "/metrics", "/v1/events"] {
        api.get(path).await;
    }
    for path in ["", "/events"] {
        own.get(&format!("/api/v1/webhooks{path}")).await.expect(200);
    }
    let replies = transcript.lock().unwrap().clone();
    planted.assert_hidden(server, &deployment, &replies).await;
}

/// Secrets that can be told from everything else.
struct Planted {
    shared: String,
    older: String,
    token: String,
    verify_token: String,
}

impl Planted {
    fn new() -> Planted {
        let text = |name: &str| format!("marked-{name}-of-a-receiver");
        Planted {
            shared: text("shared-key"),
            older: text("older-key"),
            token: text("token"),
            verify_token: text("verify-token"),
        }
    }

    /// Receive URLs by source.
    async fn make_receivers(&self, api: &Api, own: &Api, tenant: &str) -> HashMap<&'static str, String> {
        let mut urls = HashMap::new();
        for (source, secret) in [("github", &self.shared), ("gitlab", &self.token), ("token", &self.token)] {
            let body = json!({ "name": source, "source": source, "secret": secret });
            let made = own.post("/api/v1/webhooks", body).await.expect(201).body;
            urls.insert(source, made["data"]["receiveUrl"].as_str().unwrap().to_owned());
        }
        let receiver = json!({
            "source": "meta", "secrets": [self.shared, self.older], "verify_token": self.verify_token
        });
        let body = json!({ "tenant_id": tenant, "url": "", "events": [], "dialect": "alumia", "receiver": receiver });
        api.post("/v1/webhooks", body).await.expect(201);
        urls
    }

    async fn assert_hidden(&self, server: Server, deployment: &Deployment, replies: &[(String, String)]) {
        let secrets = [
            ("shared key", &self.shared),
            ("older key", &self.older),
            ("token", &self.token),
            ("verify token", &self.verify_token),
        ];
        let encoded: Vec<(&str, String)> = secrets
            .iter()
            .flat_map(|(name, secret)| [(*name, (*secret).clone()), (*name, BASE64_STANDARD.encode(secret.as_bytes()))])
            .collect();
        let mut leaks = Vec::new();
        for (name, secret) in &encoded {
            let shown = replies.iter().filter(|(_, reply)| reply.contains(secret.as_str()));
            leaks.extend(shown.map(|(request, _)| format!("{name} in the reply to {request}")));
        }
        server.terminate();
        server.ended(SOON).await;
        let output = deployment.output();
        assert!(!output.is_empty(), "the process logs something");
        let logged = encoded.iter().filter(|(_, secret)| output.contains(secret.as_str()));
        leaks.extend(logged.map(|(name, _)| format!("{name} in the log")));
        if let Some(database) = deployment.database() {
            for (table, text) in database.contents().await {
                let is_there = |secret: &str| text.contains(secret) || text.contains(&hex::encode(secret));
                let found = encoded.iter().filter(|(_, secret)| is_there(secret));
                leaks.extend(found.map(|(name, _)| format!("{name} in the table {table}")));
            }
        }
        let kept = if deployment.data().exists() { files(&deployment.data()) } else { Vec::new() };
        for (file, bytes) in kept {
            let found = encoded.iter().filter(|(_, secret)| contains(&bytes, secret));
            leaks.extend(found.map(|(name, _)| format!("{name} in {file}")));
        }
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    }
}
