#![allow(clippy::unwrap_used)]

use tokio::net::TcpListener;

use super::*;

async fn pair() -> (Connection, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = Connection::open(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    (near, Connection::over(stream).unwrap())
}

fn owned(request: &Request<'_>) -> (String, Vec<u8>, Vec<u8>) {
    (request.path.to_owned(), request.header("webhook-id").to_vec(), request.body.to_vec())
}

#[tokio::test]
async fn requests_that_arrive_together_are_told_apart() {
    let (mut near, mut far) = pair().await;
    near.write(b"POST /a HTTP/1.1\r\nWebhook-Id: 1\r\nContent-Length: 2\r\n\r\nhiPOST /b HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    drop(near);
    assert_eq!(far.request(owned).await.unwrap(), Some(("/a".to_owned(), b"1".to_vec(), b"hi".to_vec())));
    assert_eq!(far.request(owned).await.unwrap(), Some(("/b".to_owned(), Vec::new(), Vec::new())));
    assert_eq!(far.request(owned).await.unwrap(), None);
}

#[test]
fn a_message_is_whole_only_with_its_last_byte() {
    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nabc";
    for end in 0..answer.len() {
        assert!(parse_answer(&answer[..end]).unwrap().is_none(), "whole after {end} bytes");
    }
    let (parsed, length) = parse_answer(answer).unwrap().unwrap();
    assert_eq!((parsed.status, length), (202, answer.len()));
}

#[test]
fn a_length_that_cannot_be_trusted_is_an_error() {
    for field in ["content-length: -1", "content-length: 99999999999", "transfer-encoding: chunked"] {
        assert!(parse_answer(format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").as_bytes()).is_err(), "{field}");
    }
}

#[tokio::test]
async fn a_call_reports_the_status_and_text_of_a_refusal() {
    let (mut near, mut far) = pair().await;
    let server = async {
        far.request(owned).await.unwrap();
        far.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone").await.unwrap();
    };
    let (called, ()) = tokio::join!(near.call_raw("GET", "/v1/x", "key", b""), server);
    assert_eq!(called.unwrap_err().to_string(), "GET /v1/x answered 404: gone");
}
