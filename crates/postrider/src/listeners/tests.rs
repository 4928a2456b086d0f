#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;

fn webhook(n: u8) -> WebhookId {
    WebhookId::from_random([n; 16])
}

fn tenant(n: u8) -> TenantId {
    TenantId::from_random([n; 16])
}

fn request(webhook_id: WebhookId, delivery: i64) -> Request {
    Request {
        webhook_id,
        delivery_id: DeliveryId(delivery),
        attempt: 1,
        method: http::Method::POST,
        url: Arc::new("https://listener.invalid/".parse().unwrap()),
        headers: http::HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        timeout: Duration::from_secs(10),
    }
}

/// A request whose time is soon up.
fn brief(webhook_id: WebhookId, delivery: i64) -> Request {
    Request { timeout: Duration::from_millis(50), ..request(webhook_id, delivery) }
}

fn ok() -> Sent {
    let response = Some(postrider_core::delivery::Response { status: 204, ..Default::default() });
    Sent { response, error: None, remote_address: None, duration: Duration::from_millis(1) }
}

fn class(sent: &Sent) -> ErrorClass {
    sent.error.as_ref().unwrap().class
}

#[tokio::test]
async fn the_result_of_the_listener_is_that_of_the_attempt() {
    let listeners = Arc::new(Listeners::default());
    let mut stream = listeners.connect(webhook(1), tenant(1), "lsn_1".to_owned());
    let sending = tokio::spawn({
        let listeners = listeners.clone();
        async move { listeners.send(request(webhook(1), 7)).await }
    });
    let frame = stream.recv().await.unwrap();
    assert_eq!((frame.delivery_id, frame.attempt, &frame.body[..]), (DeliveryId(7), 1, &b"{}"[..]));
    let attempt = (DeliveryId(7), 1);
    let own = Scope::Tenant(tenant(1));
    assert_eq!(listeners.answer(Scope::Tenant(tenant(2)), "lsn_1", attempt, ok()), Answered::UnknownListener);
    assert_eq!(listeners.answer(own, "lsn_2", attempt, ok()), Answered::UnknownListener);
    assert_eq!(listeners.answer(own, "lsn_1", (DeliveryId(7), 2), ok()), Answered::NobodyWaits);
    assert_eq!(listeners.answer(own, "lsn_1", attempt, ok()), Answered::Taken);
    assert_eq!(sending.await.unwrap().response.unwrap().status, 204);
    assert_eq!(listeners.answer(own, "lsn_1", attempt, ok()), Answered::NobodyWaits);
}

#[tokio::test]
async fn a_listener_that_does_not_answer_times_out_and_is_forgotten() {
    let listeners = Listeners::default();
    let _stream = listeners.connect(webhook(1), tenant(1), "lsn_1".to_owned());
    assert_eq!(class(&listeners.send(brief(webhook(1), 7)).await), ErrorClass::Timeout);
    assert!(listeners.connected.lock()[&webhook(1)].waiting.lock().is_empty());
}

#[tokio::test]
async fn without_a_listener_nothing_connects() {
    let listeners = Listeners::default();
    assert_eq!(class(&listeners.send(request(webhook(1), 7)).await), ErrorClass::Connect);
    drop(listeners.connect(webhook(1), tenant(1), "lsn_1".to_owned()));
    assert_eq!(class(&listeners.send(request(webhook(1), 7)).await), ErrorClass::Connect);
}

#[tokio::test]
async fn what_waits_for_a_listener_fails_when_it_disconnects_and_its_stream_ends() {
    let listeners = Arc::new(Listeners::default());
    let mut stream = listeners.connect(webhook(1), tenant(1), "lsn_1".to_owned());
    let sending = tokio::spawn({
        let listeners = listeners.clone();
        async move { listeners.send(request(webhook(1), 7)).await }
    });
    stream.recv().await.unwrap();
    listeners.disconnect(webhook(1));
    assert_eq!(class(&sending.await.unwrap()), ErrorClass::Reset);
    assert!(stream.recv().await.is_none());
}

#[tokio::test]
async fn a_listener_that_does_not_read_has_a_bounded_queue() {
    let listeners = Arc::new(Listeners::default());
    let _stream = listeners.connect(webhook(1), tenant(1), "lsn_1".to_owned());
    let sending: Vec<_> = (0..=QUEUE_MAX)
        .map(|n| {
            let listeners = listeners.clone();
            tokio::spawn(async move { listeners.send(brief(webhook(1), i64::try_from(n).unwrap())).await })
        })
        .collect();
    let mut classes = Vec::new();
    for sent in sending {
        classes.push(class(&sent.await.unwrap()));
    }
    assert_eq!(classes.iter().filter(|class| **class == ErrorClass::Connect).count(), 1, "the one too many");
    assert_eq!(classes.iter().filter(|class| **class == ErrorClass::Timeout).count(), QUEUE_MAX);
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_and_a_single_large_body_still_goes() {
    let listeners = Arc::new(Listeners::default());
    let mut stream = listeners.connect(webhook(1), tenant(1), "lsn_1".to_owned());
    let send = |delivery: i64, bytes: usize| {
        let listeners = listeners.clone();
        let body = Bytes::from(vec![b' '; bytes]);
        tokio::spawn(async move { listeners.send(Request { body, ..brief(webhook(1), delivery) }).await })
    };
    let large = send(1, QUEUED_BYTES_MAX + 1);
    let frame = stream.recv().await.unwrap();
    assert_eq!(class(&send(2, 1).await.unwrap()), ErrorClass::Connect, "the large one is still on its way");
    drop(frame);
    let next = send(3, 1);
    assert_eq!(stream.recv().await.unwrap().delivery_id, DeliveryId(3));
    assert_eq!(class(&large.await.unwrap()), ErrorClass::Timeout);
    assert_eq!(class(&next.await.unwrap()), ErrorClass::Timeout);
}
