//! No secret leaves: not in a log, a reply, a metric, or as plain text in the data directory or database.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::harness::{Deployment, Receiver, Reply, SOON, shared_machine};

/// Every file below `place`, with its bytes.
pub(crate) fn files(place: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

pub(crate) fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_secrets_are_found_nowhere() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let master = BASE64_STANDARD.encode(b"master-key-of-32-bytes-in-hiding");
    let deployment = Deployment::new()
        .with("POSTRIDER_MASTER_KEY", &master)
        .with("RUST_LOG", "debug,hyper=info")
        .with("POSTRIDER_LOG", "debug");
    let server = deployment.start().await;
    let (api, transcript) = server.api.transcribed();
    let tenant = api.tenant("Secrets").await;

    let first = format!("whsec_{}", BASE64_STANDARD.encode(b"first-marked-secret-of-32-bytes!"));
    let second = format!("whsec_{}", BASE64_STANDARD.encode(b"second-marked-secret-of-32-byte!"));
    let header = "Bearer marked-custom-header-value";
    let more = json!({ "secret": first, "headers": { "authorization": header }, "retry": { "schedule_ms": [50] } });
    let webhook = api.webhook(&tenant, &receiver.url("/hook"), more).await;
    let made = api.post("/v1/api-keys", json!({ "tenant_id": tenant, "name": "k", "role": "owner" })).await.expect(201);
    let key = made.body["key"].as_str().unwrap().to_owned();
    api.post(&format!("/v1/webhooks/{}/rotate-secret", webhook.id), json!({ "secret": second })).await.expect(200);
    // Each of these replies may show its secret: that is its purpose. None that follows may.
    transcript.lock().unwrap().clear();

    receiver.script("/hook", [Reply::status(500)]);
    let own = api.as_key(&key);
    let event = api.publish(&tenant, "a.b", json!(1)).await;
    let requests = receiver.wait("/hook", 2).await;
    assert_eq!(requests[0].header("authorization"), header, "the header is sent to the endpoint");
    api.drained(&tenant, SOON).await;
    let delivery = api.deliveries(&format!("webhook_id={}", webhook.id)).await[0]["id"].clone();
    own.delivery(&delivery).await;
    for path in [
        "/v1/tenants".to_owned(),
        format!("/v1/tenants/{tenant}"),
        format!("/v1/api-keys?tenant_id={tenant}"),
        "/v1/webhooks".to_owned(),
        format!("/v1/webhooks/{}", webhook.id),
        format!("/v1/webhooks/{}/stats?window=1h", webhook.id),
        format!("/v1/events/{event}"),
        "/v1/audit-log".to_owned(),
        "/v1/stats?window=1h".to_owned(),
        "/metrics".to_owned(),
        "/openapi.json".to_owned(),
        "/docs".to_owned(),
        "/readyz".to_owned(),
        "/v1/nothing-here".to_owned(),
    ] {
        api.get(&path).await;
        own.get(&path).await;
    }
    // Refusals must not repeat what they refuse.
    let path = format!("/v1/webhooks/{}", webhook.id);
    api.patch(&path, json!({ "headers": { "authorization": header, "bad header": "x" } })).await;
    api.post("/v1/webhooks", json!({ "tenant_id": tenant, "url": "nonsense", "secret": first, "events": [] })).await;
    api.post("/v1/webhooks", json!({ "tenant_id": tenant, "url": "https://example.com", "secrets": second })).await;
    api.as_key(&format!("{key}x")).get("/v1/webhooks").await.expect(401);

    let bare = |secret: &str| secret.trim_start_matches("whsec_").to_owned();
    let secrets = [
        ("admin key", deployment.admin_key().to_owned()),
        ("master key", master.clone()),
        ("master key in bytes", "master-key-of-32-bytes-in-hiding".to_owned()),
        ("first webhook secret", bare(&first)),
        ("first webhook secret in bytes", "first-marked-secret-of-32-bytes!".to_owned()),
        ("second webhook secret", bare(&second)),
        ("second webhook secret in bytes", "second-marked-secret-of-32-byte!".to_owned()),
        ("API key", key.clone()),
    ];
    let header_value = ("custom header", header.to_owned());
    let replies = transcript.lock().unwrap().clone();
    assert!(replies.len() > 25, "only {} replies were read", replies.len());
    let mut leaks = Vec::new();
    for (request, reply) in &replies {
        for (name, secret) in secrets.iter().chain([&header_value]) {
            if reply.contains(secret.as_str()) {
                leaks.push(format!("{name} in the reply to {request}"));
            }
        }
    }
    server.terminate();
    server.ended(SOON).await;
    let output = deployment.output();
    assert!(!output.is_empty(), "the process logs something");
    leaks.extend(
        secrets
            .iter()
            .chain([&header_value])
            .filter(|(_, secret)| output.contains(secret.as_str()))
            .map(|(name, _)| format!("{name} in the log")),
    );
    if let Some(database) = deployment.database() {
        for (table, text) in database.contents().await {
            // PostgreSQL shows bytes as hexadecimal digits.
            let found =
                secrets.iter().filter(|(_, secret)| text.contains(secret) || text.contains(&hex::encode(secret)));
            leaks.extend(found.map(|(name, _)| format!("{name} in the table {table}")));
        }
    }
    // On PostgreSQL a node that is given its keys needs no directory.
    let kept = if deployment.data().exists() { files(&deployment.data()) } else { Vec::new() };
    assert!(deployment.database().is_some() || !kept.is_empty(), "the embedded store is in the data directory");
    for (file, bytes) in kept {
        let found = secrets.iter().filter(|(_, secret)| contains(&bytes, secret));
        leaks.extend(found.map(|(name, _)| format!("{name} in {file}")));
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_keys_are_files_that_only_their_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    let _server = deployment.start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&deployment.data()), 0o700, "nobody else looks into the data directory");
    assert_eq!(mode(&deployment.data().join("master.key")), 0o600);
    let master = std::fs::read(deployment.data().join("master.key")).unwrap();
    assert!(!deployment.output().contains(String::from_utf8_lossy(&master).trim()), "the master key was shown");
}
