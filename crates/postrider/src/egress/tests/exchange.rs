//! Requests, replies and kept connections over HTTP/1.1.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_arrives_whole_and_its_reply_comes_back() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoint::start(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            seen.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream
                .write_all(b"HTTP/1.1 201 Created\r\nX-Odd-CASE: Yes\r\ncontent-length: 5\r\n\r\nhello")
                .await
                .unwrap();
        }
    })
    .await;
    let mut request = request(&format!("{}?a=b&c=%20d", endpoint.url()));
    request.headers.insert("webhook-id", "evt_1".parse().unwrap());
    let sent = client().send(request).await;
    assert_eq!(sent.error, None);
    assert_eq!(sent.remote_address, Some("127.0.0.1".parse().unwrap()));
    let response = sent.response.unwrap();
    assert_eq!((response.status, response.body.as_str()), (201, "hello"));
    assert_eq!(response.headers[0], ("x-odd-case".into(), "Yes".into()));
    let got = requests.recv().await.unwrap();
    assert!(got.starts_with("POST /hook?a=b&c=%20d HTTP/1.1\r\n"), "{got}");
    assert!(got.contains(&format!("host: {}\r\n", endpoint.address)), "{got}");
    assert!(got.contains("webhook-id: evt_1\r\n") && got.contains("content-length: 7\r\n"), "{got}");
    assert!(got.ends_with("\r\n\r\n{\"n\":1}"), "{got}");
}

#[tokio::test]
async fn a_request_has_the_method_that_was_asked_for() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoint::start(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                seen.send(request).unwrap();
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let client = client();
    for (method, body, length) in [
        ("GET", &b""[..], None),
        ("DELETE", b"", None),
        ("PUT", b"{}", Some("content-length: 2\r\n")),
        ("PATCH", b"{}", Some("content-length: 2\r\n")),
        ("GET", b"{}", Some("content-length: 2\r\n")),
    ] {
        let asked =
            Request { method: method.parse().unwrap(), body: Bytes::from_static(body), ..request(&endpoint.url()) };
        assert_eq!(status(&client.send(asked).await), Some(200));
        let got = requests.recv().await.unwrap();
        assert!(got.starts_with(&format!("{method} /hook HTTP/1.1\r\n")), "{got}");
        assert_eq!(got.contains("content-length"), length.is_some(), "{got}");
        assert!(length.is_none_or(|length| got.contains(length)), "{got}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let endpoint = Endpoint::replying(OK).await;
    let client = client();
    for _ in 0..50 {
        assert_eq!(status(&client.send(request(&endpoint.url())).await), Some(200));
    }
    assert_eq!(endpoint.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_attempt() {
    // The first connection answers once and is closed as soon as the next request is on it.
    let endpoint = Endpoint::start(|mut stream, number| async move {
        let mut answered = 0;
        while read_request(&mut stream).await.is_some() && (number > 0 || answered == 0) {
            stream.write_all(OK.as_bytes()).await.unwrap();
            answered += 1;
        }
    })
    .await;
    let client = client();
    for _ in 0..3 {
        let sent = client.send(request(&endpoint.url())).await;
        assert_eq!(sent.error, None);
    }
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_the_outcome_and_is_not_repeated() {
    let endpoint = Endpoint::start(|mut stream, _| async move {
        read_request(&mut stream).await;
    })
    .await;
    let sent = client().send(request(&endpoint.url())).await;
    assert_eq!(class(&sent), Some(ErrorClass::Reset));
    assert_eq!(sent.response, None);
    assert_eq!(endpoint.connections(), 1);
}

#[tokio::test]
async fn a_redirect_is_a_reply_like_any_other() {
    let target = Endpoint::replying(OK).await;
    let redirect =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url());
    let endpoint = Endpoint::replying(redirect).await;
    let sent = client().send(request(&endpoint.url())).await;
    assert_eq!((status(&sent), class(&sent)), (Some(307), Some(ErrorClass::HttpStatus)));
    assert_eq!(detail(&sent), "the endpoint answered 307; redirects are not followed");
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn connection_headers_of_a_request_do_not_reach_the_endpoint() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = Endpoint::start(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            seen.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mut request = request(&endpoint.url());
    for (name, value) in
        [("host", "evil.example"), ("content-length", "1"), ("transfer-encoding", "chunked"), ("connection", "upgrade")]
    {
        request.headers.insert(name, value.parse().unwrap());
    }
    assert_eq!(client().send(request).await.error, None);
    let got = requests.recv().await.unwrap();
    assert!(!got.contains("evil.example") && !got.contains("chunked") && !got.contains("upgrade"), "{got}");
    assert_eq!(got.matches("content-length: 7\r\n").count(), 1, "{got}");
}

#[tokio::test]
async fn giving_up_on_a_request_closes_its_connection() {
    let (came, arrived) = tokio::sync::oneshot::channel();
    let (left, closed) = tokio::sync::oneshot::channel();
    let ends = Arc::new(Mutex::new(Some((came, left))));
    let endpoint = Endpoint::start(move |mut stream, _| {
        let (came, left) = ends.lock().take().unwrap();
        async move {
            read_request(&mut stream).await.unwrap();
            came.send(()).unwrap();
            left.send(read_request(&mut stream).await).unwrap();
        }
    })
    .await;
    let client = client();
    let sending = client.send(request(&endpoint.url()));
    tokio::select! {
        _ = sending => panic!("nobody answers"),
        arrived = arrived => arrived.unwrap(),
    }
    assert_eq!(closed.await.unwrap(), None);
}
