//! What somebody without a key, or with one, does to the server itself: connections that never say anything, heads and
//! bodies that drip, heads that two programs read differently, bodies that unfold.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{Deployment, SOON, Server, quiet_machine, shared_machine, until};

async fn connect(server: &Server) -> TcpStream {
    let address: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Sends `bytes` and reads until the server closes, or has been silent for a while after an answer.
async fn told(server: &Server, bytes: &[u8]) -> (String, bool) {
    let mut stream = connect(server).await;
    // The server may have closed before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let patience = if answer.is_empty() { SOON } else { Duration::from_millis(300) };
        match timeout(patience, stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(Ok(count)) => answer.extend_from_slice(&chunk[..count]),
            Err(_) if answer.is_empty() => panic!("no answer to {:?}", String::from_utf8_lossy(bytes)),
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
        }
    }
}

/// Heads of which a proxy in front could see another end of the request than we do: how they differ from a good one, and
/// what a caller without a key is told. With a length and chunks the chunks count, and the connection ends with the answer
/// (RFC 9112, 6.1); all others are refused as they stand.
const AMBIGUOUS: [(&str, &str, u16); 17] = [
    ("two lengths", "content-length: 4\r\ncontent-length: 5\r\n", 400),
    ("a list of two lengths", "content-length: 4, 5\r\n", 400),
    ("a length with a sign", "content-length: +4\r\n", 400),
    ("a negative length", "content-length: -4\r\n", 400),
    ("a length in hexadecimal", "content-length: 0x4\r\n", 400),
    ("a length beyond all bounds", "content-length: 99999999999999999999999\r\n", 400),
    ("an empty length", "content-length:\r\n", 400),
    ("a length, and chunks", "content-length: 4\r\ntransfer-encoding: chunked\r\n", 401),
    ("chunks, and a length", "transfer-encoding: chunked\r\ncontent-length: 4\r\n", 401),
    ("chunks that are not last", "transfer-encoding: chunked, identity\r\n", 400),
    ("chunks twice, the last one unknown", "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n", 400),
    ("an unknown coding", "transfer-encoding: xchunked\r\n", 400),
    ("a space before the colon", "transfer-encoding : chunked\r\n", 400),
    ("a tab in the name", "transfer-\tencoding: chunked\r\n", 400),
    ("a folded line", "x-fold: a\r\n transfer-encoding: chunked\r\n", 400),
    ("a bare carriage return", "x-bare: a\rtransfer-encoding: chunked\r\n", 400),
    ("a NUL in a value", "x-nul: a\0b\r\ncontent-length: 4\r\n", 400),
];

/// Whatever the first request is taken for: what stands in its body is never taken for a request of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_two_programs_read_differently_are_refused_and_nothing_is_smuggled() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Smuggled").await;
    let key = server.deployment.admin_key().to_owned();
    let body = json!({ "tenant_id": tenant, "type": "smuggled.in", "data": {} }).to_string();
    let length = body.len();
    let hidden = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    for (what, lines, status) in AMBIGUOUS {
        let request = format!("POST /v1/events HTTP/1.1\r\nhost: x\r\n{lines}\r\n0\r\n\r\n{hidden}");
        let (answer, closed) = told(&server, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(closed && answer.matches("HTTP/1.1").count() == 1, "{what}: {answer}");
    }
    // Chunks whose end is nowhere, or elsewhere than it seems.
    for chunks in
        ["FFFFFFFFFFFFFFFFF\r\n", "-1\r\n", "0x4\r\nabcd\r\n0\r\n\r\n", "4\nabcd\n0\n\n", "4 4\r\nabcd\r\n0\r\n\r\n"]
    {
        let head = format!("POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n");
        let request = format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}{hidden}");
        let (answer, closed) = told(&server, request.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 2") && closed, "{chunks:?}: {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{chunks:?}: {answer}");
    }
    let events = server.api.get(&format!("/v1/events?tenant_id={tenant}")).await.expect(200);
    assert_eq!(events.body["items"], json!([]));
    // The same request in its own right is taken: it was not refused for what it says.
    let (answer, _) = told(&server, hidden.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_beyond_the_bounds_are_refused() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let many: String = (0..5_000).fold(String::new(), |mut lines, number| {
        write!(lines, "x-{number}: y\r\n").unwrap();
        lines
    });
    let long = "a".repeat(1024 * 1024);
    for (what, head) in [
        ("5,000 headers", format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")),
        ("a header of 1 MiB", format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n")),
        ("a path of 1 MiB", format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n")),
        ("a method of 1 MiB", format!("{long} / HTTP/1.1\r\nhost: x\r\n\r\n")),
    ] {
        let (answer, closed) = told(&server, head.as_bytes()).await;
        assert!(
            closed && answer.matches("HTTP/1.1 4").count() <= 1 && !answer.contains("HTTP/1.1 2"),
            "{what}: {answer}"
        );
    }
    server.api.get("/healthz").await.expect(200);
}

/// 20 MB of zeros in 20 KB, and a client that says it is JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_would_unfold_is_refused_as_it_is() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Bomb").await;
    let before = server.peak_memory();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![b' '; 20_000_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 50_000);
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        server.deployment.admin_key(),
        bomb.len()
    );
    for _ in 0..20 {
        let (answer, _) = told(&server, &[head.as_bytes(), &bomb].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 15_000_000, "{grown} bytes more");
    server.api.publish(&tenant, "a.b", json!(1)).await;
}

/// More connections than the server may have files, were each of them to cost one more: as many as the machine allows,
/// thousands where it does. Some say nothing, some half a head, some half a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_that_say_nothing_or_too_little_are_in_nobodys_way() {
    let _machine = quiet_machine().await;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(allowed.saturating_sub(500) / 2).unwrap().min(4_000);
    assert!(count >= 200, "this machine allows {allowed} files");
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Patient").await;
    let key = server.deployment.admin_key().to_owned();
    let before = server.peak_memory();
    let half_a_body =
        format!("POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 500\r\n\r\n{{");
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = connect(&server).await;
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nhos").await.unwrap(),
            _ => stream.write_all(half_a_body.as_bytes()).await.unwrap(),
        }
        open.push(stream);
    }
    until("all are open", SOON, async || {
        let page = server.api.get("/metrics").await.expect(200).text;
        let line = page.lines().find_map(|line| line.strip_prefix("postrider_http_connections "))?;
        (line.parse::<f64>().unwrap() >= count as f64).then_some(())
    })
    .await;
    let began = Instant::now();
    for number in 0..100 {
        server.api.publish(&tenant, "a.b", json!(number)).await;
    }
    // Far more than it takes, and far less than if one of them had been waited for.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let each = (server.peak_memory() - before) / count as u64;
    println!("{count} connections, {each} bytes of memory each");
    assert!(each < 64 * 1024, "{each} bytes of memory for each of {count}");
    // Half a head is cut off; who says nothing may wait a little longer.
    let mut half_a_head = open.swap_remove(1);
    let mut rest = Vec::new();
    let _ = timeout(SOON, half_a_head.read_to_end(&mut rest)).await.expect("cut off in time");
}
