//! What is dialled, and what is not.

use std::future::pending;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Exempts 127.0.0.1 alone: 127.0.0.2 stands for a private host that must not be reached.
fn narrow() -> EgressPolicy {
    EgressPolicy { allow: vec!["127.0.0.1/32".parse().unwrap()], ..EgressPolicy::default() }
}

fn resolving(policy: EgressPolicy, answers: &[(&'static str, &[&[&str]])]) -> (Client, Arc<Scripted>) {
    let resolver = Scripted::new(answers);
    (Client::new(Arc::new(settings(policy, Arc::clone(&resolver) as Arc<dyn Resolve>))), resolver)
}

/// Answers nothing, ever.
#[derive(Debug)]
struct Silent;

impl Resolve for Silent {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        pending().boxed()
    }
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_refused_at_connect() {
    let endpoint = Endpoint::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let private = TcpListener::bind(("127.0.0.2", endpoint.address.port())).await.unwrap();
    let (client, resolver) = resolving(narrow(), &[("rebind.example", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let url = format!("http://rebind.example:{}/", endpoint.address.port());
    assert_eq!(status(&client.send(request(&url)).await), Some(200));
    let sent = client.send(request(&url)).await;
    assert_eq!(class(&sent), Some(ErrorClass::RefusedByPolicy));
    assert_eq!(detail(&sent), "rebind.example resolves to a refused address: loopback address (127.0.0.0/8)");
    assert_eq!(sent.remote_address, None);
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2, "one look-up for each connection");
    assert!(private.accept().now_or_never().is_none(), "nobody knocked at the private host");
}

#[tokio::test]
async fn of_several_addresses_only_allowed_ones_are_dialled() {
    let endpoint = Endpoint::replying(OK).await;
    let private = TcpListener::bind(("127.0.0.2", endpoint.address.port())).await.unwrap();
    let (client, _) = resolving(narrow(), &[("mixed.example", &[&["127.0.0.2", "10.0.0.1", "127.0.0.1", "::1"]])]);
    let sent = client.send(request(&format!("http://mixed.example:{}/", endpoint.address.port()))).await;
    assert_eq!((sent.error, sent.remote_address), (None, Some("127.0.0.1".parse().unwrap())));
    assert!(private.accept().now_or_never().is_none());
}

#[tokio::test]
async fn what_the_policy_refuses_is_refused_by_the_client_itself() {
    let (client, resolver) = resolving(narrow(), &[("public.example", &[&["8.8.8.8"]])]);
    for (url, rule) in [
        ("https://10.0.0.1/", "host 10.0.0.1: private network address (10.0.0.0/8)"),
        ("https://2130706434/", "host 127.0.0.2: loopback address (127.0.0.0/8)"),
        ("https://metadata.google.internal/", "the host is a cloud metadata name"),
        ("https://user:password@public.example/", "credentials in the URL are not accepted"),
        ("https://public.example:22/", "port 22 is not one of the ports that may be dialled"),
        ("ftp://public.example/", "the scheme must be https (or http, where the operator allows it)"),
    ] {
        let sent = client.send(request(url)).await;
        assert_eq!((class(&sent), detail(&sent)), (Some(ErrorClass::RefusedByPolicy), rule), "{url}");
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
    let sent = client.send(request("http://public.example/")).await;
    assert_eq!(class(&sent), Some(ErrorClass::RefusedByPolicy));
    assert!(detail(&sent).ends_with("plain http is not accepted; use https"), "{}", detail(&sent));
}

#[tokio::test]
async fn localhost_is_loopback_whatever_the_resolver_says() {
    let endpoint = Endpoint::replying(OK).await;
    let (client, resolver) = resolving(narrow(), &[("localhost", &[&["8.8.8.8"]])]);
    let sent = client.send(request(&format!("http://localhost:{}/", endpoint.address.port()))).await;
    assert_eq!((sent.error, sent.remote_address), (None, Some("127.0.0.1".parse().unwrap())));
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    let (client, _) = resolving(local(), &[("empty.example", &[&[]])]);
    for (url, text) in [
        ("https://missing.example/", "missing.example does not exist"),
        ("https://empty.example/", "empty.example has no address"),
    ] {
        let sent = client.send(request(url)).await;
        assert_eq!((class(&sent), detail(&sent)), (Some(ErrorClass::Dns), text));
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let endpoint = Endpoint::replying(OK).await;
    let (client, _) = resolving(local(), &[("twin.example", &[&["127.0.0.3", "127.0.0.4", "127.0.0.1"]])]);
    let sent = client.send(request(&format!("http://twin.example:{}/", endpoint.address.port()))).await;
    assert_eq!((sent.error, sent.remote_address), (None, Some("127.0.0.1".parse().unwrap())));
}

#[tokio::test]
async fn a_refused_connection_names_who_refused_it() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sent = client().send(request(&format!("http://{free}/"))).await;
    assert_eq!(class(&sent), Some(ErrorClass::Connect));
    assert_eq!(detail(&sent), format!("connection refused by {free}"));
}

#[tokio::test]
async fn the_connect_deadline_covers_the_look_up_and_the_handshake() {
    let mute = Endpoint::start(|stream, _| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let limit = Duration::from_millis(100);
    let client = Client::new(Arc::new(Settings { connect_timeout: limit, ..settings(local(), Arc::new(Silent)) }));
    for (url, text) in [
        ("https://silent.example/".to_owned(), "the host name was not resolved within 100ms"),
        (format!("https://{}/", mute.address), "the TLS handshake was not finished within 100ms"),
    ] {
        let sent = client.send(request(&url)).await;
        assert_eq!((class(&sent), detail(&sent)), (Some(ErrorClass::Timeout), text));
        assert!(sent.duration >= limit && sent.duration < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_request_that_has_less_time_than_connecting_may_take_ends_by_its_own_deadline() {
    let client = Client::new(Arc::new(settings(local(), Arc::new(Silent))));
    let hurried = Request { timeout: Duration::from_millis(100), ..request("https://silent.example/") };
    let sent = client.send(hurried).await;
    assert_eq!(detail(&sent), "the host name was not resolved within 100ms");
    assert!(sent.duration < CONNECT_TIMEOUT);
}

#[tokio::test]
async fn a_full_backlog_is_a_connect_timeout() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: connections fill the queue until further ones are left without an answer.
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "the backlog never fills");
    }
    let limit = Duration::from_millis(100);
    let client = Client::new(Arc::new(Settings { connect_timeout: limit, ..settings(local(), Arc::new(Silent)) }));
    let sent = client.send(request(&format!("http://{address}/"))).await;
    assert_eq!(class(&sent), Some(ErrorClass::Timeout));
    assert_eq!(detail(&sent), "no connection was established within 100ms");
}
