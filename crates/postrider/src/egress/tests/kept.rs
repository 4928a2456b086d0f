//! The pool at its bounds.

use postrider_core::limits::{IDLE_PER_HOST_MAX, IDLE_SPAN};
use tokio::sync::Barrier;

use super::*;

/// An endpoint that answers when `together` requests have come, so that as many connections are open at once.
async fn gathering(together: usize) -> Endpoint {
    let barrier = Arc::new(Barrier::new(together));
    Endpoint::start(move |mut stream, _| {
        let barrier = Arc::clone(&barrier);
        async move {
            while read_request(&mut stream).await.is_some() {
                barrier.wait().await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await
}

async fn burst(client: &Client, endpoint: &Endpoint, requests: usize) {
    let sent = futures_util::future::join_all((0..requests).map(|_| client.send(request(&endpoint.url())))).await;
    assert!(sent.iter().all(|sent| sent.error.is_none()));
}

fn idle(client: &Client) -> usize {
    client.pool.lock().idle()
}

#[tokio::test]
async fn idle_connections_are_bounded_for_one_host() {
    let burst_size = IDLE_PER_HOST_MAX + 6;
    let endpoint = gathering(burst_size).await;
    let client = client();
    burst(&client, &endpoint, burst_size).await;
    assert_eq!(idle(&client), IDLE_PER_HOST_MAX);
    burst(&client, &endpoint, burst_size).await;
    assert_eq!(endpoint.connections(), burst_size + 6, "those that were kept were used again");
}

#[tokio::test]
async fn idle_connections_are_bounded_over_all_hosts_and_clients() {
    let shared = Arc::new(Settings { idle: Arc::new(Semaphore::new(10)), ..settings(local(), Scripted::new(&[])) });
    let (one, other) = (Client::new(Arc::clone(&shared)), Client::new(shared));
    let (first, second) = (gathering(8).await, gathering(8).await);
    burst(&one, &first, 8).await;
    burst(&other, &second, 8).await;
    assert_eq!((idle(&one), idle(&other)), (8, 2));
    drop(one);
    burst(&other, &second, 8).await;
    assert_eq!(idle(&other), 8, "a client that is gone leaves its places to others");
}

#[tokio::test]
async fn what_nobody_used_for_a_while_is_closed_and_not_used() {
    let endpoint = gathering(4).await;
    let client = client();
    burst(&client, &endpoint, 4).await;
    let origin = format!("http://{}", endpoint.address);
    let later = Instant::now() + IDLE_SPAN;
    assert!(client.pool.lock().sweep(Instant::now()), "still fresh");
    assert_eq!(idle(&client), 4);
    assert!(client.pool.lock().take(&origin, later).is_none());
    burst(&client, &endpoint, 4).await;
    assert!(!client.pool.lock().sweep(later + IDLE_SPAN));
    assert_eq!(idle(&client), 0);
}

#[tokio::test]
async fn connections_are_kept_apart_by_scheme_host_and_port() {
    let (one, other) = (gathering(1).await, gathering(1).await);
    let client = client();
    for _ in 0..2 {
        burst(&client, &one, 1).await;
        burst(&client, &other, 1).await;
        let by_name = request(&format!("http://localhost:{}/", one.address.port()));
        assert_eq!(client.send(by_name).await.error, None);
    }
    assert_eq!((one.connections(), other.connections()), (2, 1));
}
