//! Hostile addresses and hostile replies, through the whole product.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::harness::{Deployment, RawReceiver, Receiver, Reply, Server, shared_machine};

/// Spellings of places that are not on the public internet, or of URLs that are none of ours to call.
const REFUSED: [&str; 64] = [
    // this host
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.255.255.254/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://a.localhost/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    // private networks
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.0.1/",
    "https://192.168.1.1./",
    "https://[fc00::1]/",
    "https://[fd12:3456:789a::1]/",
    // carrier-grade NAT, link-local, clouds' metadata
    "https://100.64.0.1/",
    "https://100.127.255.255/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://169.254.1.1/",
    "https://[fe80::1]/",
    "https://[fd00:ec2::254]/",
    // IPv4 inside IPv6
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[64:ff9b:1::1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a00:1::1]/",
    "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    // multicast, reserved, documentation, benchmarking
    "https://224.0.0.1/",
    "https://239.255.255.255/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://192.0.2.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://198.18.0.1/",
    "https://192.0.0.1/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    // ports, schemes, credentials
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:6379/",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "https://user:password@example.com/",
    "https://user@example.com/",
    "https://example.com\u{3002}internal@127.0.0.1/",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_to_hostile_addresses_are_refused_when_made_and_when_changed() {
    let _machine = shared_machine().await;
    let server = Deployment::strict().start().await;
    let tenant = server.api.tenant("Hostile").await;
    let good = server.api.webhook(&tenant, "https://example.com/hook", json!({})).await;
    let mut wrong = Vec::new();
    for url in REFUSED {
        let body = json!({ "tenant_id": tenant, "url": url, "events": ["*"] });
        let made = server.api.post("/v1/webhooks", body).await;
        let changed = server.api.patch(&format!("/v1/webhooks/{}", good.id), json!({ "url": url })).await;
        for (how, answer) in [("made", made), ("changed", changed)] {
            if (answer.status, answer.code()) != (400, "url_not_allowed") {
                wrong.push(format!("{url} {how}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for url in [
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/x?y=z",
        "https://example.com:8443/",
        "https://bücher.example/",
    ] {
        server.api.webhook(&tenant, url, json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_longer_allowed_is_refused_when_it_is_dialled() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Narrowed").await;
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "retry": { "max_attempts": 1 } })).await;
    server.kill().await;

    let server = deployment.with("POSTRIDER_EGRESS_ALLOW", "").start().await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let query = format!("webhook_id={}", webhook.id);
    let delivery = server.api.delivery_once(&query, "it has failed", |it| it["status"] == "failed").await;
    assert_eq!(delivery["attempts"][0]["error"]["class"], "refused_by_policy", "{delivery:#}");
    assert_eq!(receiver.count("/hook"), 0);
}

/// Sends one event to `url` with a single try and gives the failed or succeeded delivery.
async fn deliver_to(server: &Server, url: &str, timeout_ms: u32) -> Value {
    let tenant = server.api.tenant("One try").await;
    let more = json!({ "retry": { "max_attempts": 1 }, "timeout_ms": timeout_ms });
    let webhook = server.api.webhook(&tenant, url, more).await;
    server.api.publish(&tenant, "a.b", json!({ "n": 1 })).await;
    let ended = |it: &Value| it["status"] == "failed" || it["status"] == "succeeded";
    server.api.delivery_once(&format!("webhook_id={}", webhook.id), "it has ended", ended).await
}

/// Status of the delivery, class of its only attempt, status of the reply.
fn summary(delivery: &Value) -> (&str, &str, u64) {
    let attempt = &delivery["attempts"][0];
    let class = attempt["error"]["class"].as_str().unwrap_or_default();
    (delivery["status"].as_str().unwrap(), class, attempt["response_status"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_a_failure_and_is_never_followed() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    for status in [301, 302, 303, 307, 308] {
        receiver.always("/from", Reply::status(status).header("location", &receiver.url("/to")));
        let delivery = deliver_to(&server, &receiver.url("/from"), 5000).await;
        assert_eq!(summary(&delivery), ("failed", "http_status", status.into()), "{delivery:#}");
    }
    assert_eq!((receiver.count("/from"), receiver.count("/to")), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_body_costs_bounded_time_and_memory() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let before = server.peak_memory();
    let endless = RawReceiver::start(|mut stream| {
        async move {
            // 11 GB, if anybody reads that far.
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11000000000\r\n\r\n").await?;
            let chunk = vec![b'x'; 1 << 20];
            for _ in 0..11_000 {
                stream.write_all(&chunk).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await;
    let began = Instant::now();
    let delivery = deliver_to(&server, &endless.url(), 10_000).await;
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    assert_eq!(delivery["attempts"][0]["response_status"], 200, "{delivery:#}");
    let kept = delivery["attempts"][0]["response_body"].as_str().unwrap_or_default().len();
    assert!(kept <= 16 * 1024, "{kept} bytes of the body are kept");
    let grown = server.peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dripping_body_holds_its_slot_no_longer_than_the_timeout() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", "HTTP/1.1 200 OK\r\nx-drip: "] {
        let dripping = RawReceiver::start(move |mut stream| {
            async move {
                stream.write_all(head.as_bytes()).await?;
                let mut ticks = tokio::time::interval(Duration::from_millis(50));
                loop {
                    ticks.tick().await;
                    stream.write_all(b"x").await?;
                }
            }
            .boxed()
        })
        .await;
        let began = Instant::now();
        let delivery = deliver_to(&server, &dripping.url(), 700).await;
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
        assert_eq!(delivery["attempts"][0]["error"]["class"], "timeout", "{delivery:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_response_headers_are_too_large() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let before = server.peak_memory();
    let talkative = RawReceiver::start(|mut stream| {
        async move {
            let headers: String = (0..10_000).map(|n| format!("x-header-{n}: {n}\r\n")).collect();
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n").as_bytes()).await
        }
        .boxed()
    })
    .await;
    let delivery = deliver_to(&server, &talkative.url(), 5000).await;
    assert_eq!(summary(&delivery), ("failed", "too_large", 0), "{delivery:#}");
    assert!(server.peak_memory().saturating_sub(before) < 32 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_fail_is_recorded_with_its_own_class() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    receiver.always("/500", Reply::status(500).body("out of order"));
    receiver.always("/never", Reply::never());
    let closing = RawReceiver::start(|stream| {
        async move {
            drop(stream);
            Ok(())
        }
        .boxed()
    })
    .await;
    let babbling =
        RawReceiver::start(|mut stream| async move { stream.write_all(b"what is it?\r\n\r\n").await }.boxed()).await;
    let nobody = {
        let gone = Receiver::start().await;
        gone.url("/")
    };
    let expected = [
        (receiver.url("/500"), "http_status", 500),
        (receiver.url("/never"), "timeout", 0),
        (closing.url(), "reset", 0),
        (nobody, "connect", 0),
        (babbling.https_url(), "tls", 0),
    ];
    for (url, class, status) in expected {
        let delivery = deliver_to(&server, &url, 1000).await;
        assert_eq!(summary(&delivery), ("failed", class, status), "{delivery:#}");
        if class != "connect" {
            assert_eq!(delivery["attempts"][0]["remote_address"], "127.0.0.1", "{delivery:#}");
        }
    }
    let delivery = deliver_to(&server, &babbling.url(), 1000).await;
    assert_eq!(delivery["status"], "failed", "a reply that is no HTTP is no success: {delivery:#}");
    let delivery = deliver_to(&server, "https://no-such-host.invalid/", 2000).await;
    assert_eq!(summary(&delivery), ("failed", "dns", 0), "{delivery:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_confuse_other_senders_do_not_confuse_this_one() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let replies: [&[u8]; 7] = [
        b"HTTP/1.1 200 OK\r\nx-name: caf\xe9\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-nAmE: odd\r\nCONTENT-LENGTH: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\nwhich is a lie",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff\xfe\x00\x01",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil I hang up",
    ];
    for reply in replies {
        let odd = RawReceiver::start(move |mut stream| {
            async move {
                stream.write_all(reply).await?;
                stream.shutdown().await
            }
            .boxed()
        })
        .await;
        let delivery = deliver_to(&server, &odd.url(), 5000).await;
        assert_eq!(delivery["status"], "succeeded", "{}\n{delivery:#}", String::from_utf8_lossy(reply));
    }
}
