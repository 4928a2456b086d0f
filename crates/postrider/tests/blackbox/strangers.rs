//! What somebody without a key, or with one, does to the server itself: connections that never say anything, heads and
//! bodies that drip, heads that two programs read differently, bodies that unfold.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use postrider_core::limits::{SERVE_CONNECTIONS_MAX, SERVE_HEAD_TIMEOUT};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{Deployment, SOON, Server, quiet_machine, shared_machine};

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

/// More connections than are served at once, or as many as the machine allows and can open before the first is cut off. Some
/// say nothing, some half a head, some half a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_that_say_nothing_or_too_little_are_in_nobodys_way() {
    let _machine = quiet_machine().await;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(allowed.saturating_sub(500)).unwrap().min(SERVE_CONNECTIONS_MAX + 500);
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Patient").await;
    let before = server.peak_memory();
    let head =
        format!("POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", server.deployment.admin_key());
    let half_a_body = format!("{head}content-length: 500\r\n\r\n{{");
    let began = Instant::now();
    let mut open = Vec::with_capacity(count);
    while open.len() < count && began.elapsed() < SERVE_HEAD_TIMEOUT.mul_f64(0.8) {
        let mut stream = connect(&server).await;
        match open.len() % 3 {
            0 => {}
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nhos").await.unwrap(),
            _ => stream.write_all(half_a_body.as_bytes()).await.unwrap(),
        }
        open.push(stream);
        if open.len().is_multiple_of(250) {
            // The queue of the socket is first come, first served: once this is answered, all of them are accepted.
            let (answer, _) = told(&server, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    let opened = open.len();
    assert!(opened >= 500, "{opened} connections were opened, {allowed} files are allowed");
    let began = Instant::now();
    for number in 0..100 {
        // Each on a connection of its own, as newcomers would.
        let body = json!({ "tenant_id": tenant, "type": "a.b", "data": number }).to_string();
        let length = body.len();
        let rest =
            format!("content-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        let (answer, _) = told(&server, format!("{head}{rest}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
    // Far more than it takes, and far less than if one of them had been waited for.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let each = (server.peak_memory() - before) / opened as u64;
    let metrics = server.api.get("/metrics").await.expect(200).text;
    let gave_way = metrics
        .lines()
        .find_map(|line| line.strip_prefix("postrider_http_connections_gave_way_total "))
        .map_or(0, |count| count.parse::<usize>().unwrap());
    println!("{opened} connections, {each} bytes of memory each, {gave_way} gave way");
    assert!(each < 64 * 1024, "{each} bytes of memory for each of {opened}");
    assert!(gave_way > 0 || opened <= SERVE_CONNECTIONS_MAX, "none of {opened} gave way");
    // Half a head is cut off, whether it had to give way or not.
    let mut half_a_head = open.swap_remove(1);
    let mut rest = Vec::new();
    let _ = timeout(SOON, half_a_head.read_to_end(&mut rest)).await.expect("cut off in time");
}
