//! Replies that are too big, too slow, too many-headed or odd.

use postrider_core::limits::{
    RESPONSE_HEADERS_KEPT_BYTES_MAX, RESPONSE_HEADERS_MAX, RESPONSE_READ_BYTES_MAX, RESPONSE_SNIPPET_BYTES_MAX,
};
use tokio::sync::oneshot;

use super::*;

const SOON: Duration = Duration::from_millis(150);

/// An endpoint that writes `start`, then `chunk` for ever; tells how much it got rid of before the client hung up.
async fn endless(start: &'static str, chunk: Vec<u8>) -> (Endpoint, oneshot::Receiver<usize>) {
    let (tell, written) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let endpoint = Endpoint::start(move |mut stream, _| {
        let (tell, chunk) = (tell.lock().take().unwrap(), chunk.clone());
        async move {
            read_request(&mut stream).await;
            stream.write_all(start.as_bytes()).await.unwrap();
            let mut written = 0;
            while let Ok(n) = stream.write(&chunk).await {
                written += n;
            }
            tell.send(written).unwrap();
        }
    })
    .await;
    (endpoint, written)
}

/// A client whose requests end soon, and what became of one of them.
async fn hurried(endpoint: &Endpoint) -> Sent {
    client().send(Request { timeout: SOON, ..request(&endpoint.url()) }).await
}

fn with_headers(count: usize, value: &str) -> String {
    let mut reply = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_owned();
    for n in 1..count {
        reply += &format!("x-{n}: {value}\r\n");
    }
    reply + "\r\n"
}

#[tokio::test]
async fn a_body_of_11_gigabytes_is_cut_and_counts_by_its_status() {
    let (endpoint, written) =
        endless("HTTP/1.1 200 OK\r\ncontent-length: 11811160064\r\n\r\n", vec![b'x'; 64 * 1024]).await;
    let client = client();
    let sent = client.send(request(&endpoint.url())).await;
    assert_eq!(sent.error, None);
    assert_eq!(sent.response.unwrap().body.len(), RESPONSE_SNIPPET_BYTES_MAX);
    // What the sockets' buffers hold, and not more.
    assert!(written.await.unwrap() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_chunked_body_without_end_is_cut_too() {
    let chunk = format!("1000\r\n{}\r\n", "y".repeat(0x1000)).into_bytes();
    let (endpoint, written) = endless("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", chunk).await;
    let client = client();
    let sent = client.send(request(&endpoint.url())).await;
    assert_eq!((status(&sent), class(&sent)), (Some(500), Some(ErrorClass::HttpStatus)));
    assert!(written.await.unwrap() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_body_is_read_to_the_bound_so_that_its_connection_can_be_used_again() {
    for (bytes, connections) in [(RESPONSE_READ_BYTES_MAX, 1), (RESPONSE_READ_BYTES_MAX + 1, 2)] {
        let body = "z".repeat(bytes);
        let endpoint = Endpoint::replying(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{body}")).await;
        let client = client();
        for _ in 0..2 {
            let sent = client.send(request(&endpoint.url())).await;
            assert_eq!(sent.error, None);
            assert_eq!(sent.response.unwrap().body, body[..RESPONSE_SNIPPET_BYTES_MAX]);
        }
        assert_eq!(endpoint.connections(), connections, "{bytes} bytes");
    }
}

#[tokio::test]
async fn a_reply_that_stops_half_way_is_a_timeout_with_what_had_come() {
    for (start, stage, code) in [
        ("", "no reply came within 150ms", None),
        ("HTTP/1.1 200 OK\r\nx-slow: ", "no reply came within 150ms", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "the reply did not end within 150ms", Some(200)),
        (
            "HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n",
            "the reply did not end within 150ms",
            Some(503),
        ),
    ] {
        let endpoint = Endpoint::replying(start).await;
        let sent = hurried(&endpoint).await;
        assert_eq!((class(&sent), detail(&sent), status(&sent)), (Some(ErrorClass::Timeout), stage, code));
        assert!(sent.duration >= SOON);
        assert!(sent.remote_address.is_some());
    }
}

#[tokio::test]
async fn a_reply_that_stops_after_what_is_kept_is_no_failure() {
    let endpoint =
        Endpoint::replying(format!("HTTP/1.1 200 OK\r\n\r\n{}", "k".repeat(RESPONSE_SNIPPET_BYTES_MAX))).await;
    assert_eq!(hurried(&endpoint).await.error, None);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure_whatever_the_status() {
    let endpoint = Endpoint::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    })
    .await;
    let sent = client().send(request(&endpoint.url())).await;
    assert_eq!((status(&sent), class(&sent)), (Some(200), Some(ErrorClass::Reset)));
    assert_eq!(sent.response.unwrap().body, "half");
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_in_bytes() {
    let long = "v".repeat(1000);
    for (reply, fits) in [
        (with_headers(RESPONSE_HEADERS_MAX, "v"), true),
        (with_headers(RESPONSE_HEADERS_MAX + 1, "v"), false),
        (with_headers(10_000, "v"), false),
        (with_headers(60, &long), true),
        (with_headers(70, &long), false),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", long.repeat(1000)), false),
    ] {
        let bytes = reply.len();
        let sent = client().send(request(&Endpoint::replying(reply).await.url())).await;
        if fits {
            assert_eq!(sent.error, None, "{bytes} bytes");
            let kept = sent.response.unwrap().headers;
            let kept: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(kept <= RESPONSE_HEADERS_KEPT_BYTES_MAX, "{kept}");
        } else {
            assert_eq!((class(&sent), status(&sent)), (Some(ErrorClass::TooLarge), None), "{bytes} bytes");
        }
    }
}

#[tokio::test]
async fn informational_replies_are_passed_over() {
    let endpoint = Endpoint::replying(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(status(&client.send(request(&endpoint.url())).await), Some(200));
    }
    assert_eq!(endpoint.connections(), 1);
}

#[tokio::test]
async fn a_switch_of_protocols_is_a_failure_and_ends_the_connection() {
    let endpoint =
        Endpoint::replying("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    let client = client();
    for _ in 0..2 {
        let sent = client.send(request(&endpoint.url())).await;
        assert_eq!((status(&sent), class(&sent)), (Some(101), Some(ErrorClass::HttpStatus)));
    }
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn a_204_with_a_body_confuses_neither_its_own_attempt_nor_the_next() {
    let endpoint = Endpoint::replying("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello").await;
    let client = client();
    for _ in 0..5 {
        let sent = client.send(request(&endpoint.url())).await;
        assert_eq!((sent.error, sent.response.map(|r| (r.status, r.body))), (None, Some((204, String::new()))));
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_kept_with_replacement_characters() {
    let mut reply = b"HTTP/1.1 200 OK\r\nx-name: caf\xe9\r\ncontent-length: 3\r\n\r\n".to_vec();
    reply.extend_from_slice(b"a\xffb");
    let sent = client().send(request(&Endpoint::replying(reply).await.url())).await;
    let response = sent.response.unwrap();
    assert_eq!(response.headers[0], ("x-name".into(), "caf\u{fffd}".into()));
    assert_eq!(response.body, "a\u{fffd}b");
}

#[tokio::test]
async fn a_snippet_stays_within_its_bound_and_splits_no_character() {
    for body in ["a".to_owned() + &"ü".repeat(20_000), "a".repeat(16_383) + "€€"] {
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let sent = client().send(request(&Endpoint::replying(reply).await.url())).await;
        let kept = sent.response.unwrap().body;
        assert!(body.starts_with(&kept) && kept.len() > RESPONSE_SNIPPET_BYTES_MAX - 3, "{}", kept.len());
    }
    let mut reply = b"HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n".to_vec();
    reply.extend(std::iter::repeat_n(0xff, 20_000));
    let sent = client().send(request(&Endpoint::replying(reply).await.url())).await;
    assert!(sent.response.unwrap().body.len() <= RESPONSE_SNIPPET_BYTES_MAX);
}

#[tokio::test]
async fn what_is_not_http_is_said_so() {
    for reply in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n"] {
        let sent = client().send(request(&Endpoint::replying(reply).await.url())).await;
        assert_eq!(class(&sent), Some(ErrorClass::Reset), "{reply}");
        assert!(detail(&sent).starts_with("the reply is not valid HTTP: "), "{}", detail(&sent));
    }
}

#[tokio::test]
async fn an_answer_before_the_request_was_read_counts_and_its_connection_is_not_used_again() {
    let endpoint = Endpoint::start(|mut stream, _| async move {
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let client = client();
    for _ in 0..2 {
        let body = Bytes::from(vec![b'x'; 32 * 1024 * 1024]);
        let sent = client.send(Request { body, ..request(&endpoint.url()) }).await;
        assert_eq!(status(&sent), Some(413));
    }
    assert_eq!(endpoint.connections(), 2);
}
