//! The driver and the sink against a stand-in for the server that forwards without storing, and misbehaves on demand.

#![allow(clippy::unwrap_used)]

use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;
use crate::payload::Stamp;
use crate::signature::SigningKey;
use crate::sink::{Behaviour, Expectation, Secret};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the stand-in does with the event of this number.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Delivered,
    Lost,
    Twice,
    Refused,
}

/// Accepts single events and posts each to all `targets`; the address it listens on.
async fn stand_in(targets: Vec<SocketAddr>, fate: fn(u64) -> Fate) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(forward(Connection::over(stream).unwrap(), targets.clone(), fate));
        }
    });
    address
}

async fn forward(mut from: Connection, targets: Vec<SocketAddr>, fate: fn(u64) -> Fate) {
    let mut to = Vec::new();
    for target in targets {
        to.push(Connection::open(target).await.unwrap());
    }
    let key = SigningKey::new(SECRET).unwrap();
    while let Ok(Some(body)) = from.request(|request| request.body.to_vec()).await {
        let sequence = Stamp::find(&body).unwrap().sequence;
        let (status, times) = match fate(sequence) {
            Fate::Delivered => ("202 Accepted", 1),
            Fate::Lost => ("202 Accepted", 0),
            Fate::Twice => ("202 Accepted", 2),
            Fate::Refused => ("503 Service Unavailable", 0),
        };
        from.write(format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\ndone").as_bytes()).await.unwrap();
        let timestamp = (clock::now_ns() / 1_000_000_000).to_string();
        let signature = key.sign(b"evt_1", timestamp.as_bytes(), &body);
        let head = format!(
            "POST / HTTP/1.1\r\nwebhook-id: evt_1\r\nwebhook-timestamp: {timestamp}\r\n\
             webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        for _ in 0..times {
            for target in &mut to {
                target.write(&[head.as_bytes(), &body].concat()).await.unwrap();
                assert_eq!(target.answer().await.unwrap().status, 200);
            }
        }
    }
}

/// A sink with `webhooks` and a driver of one tenant that owns them all, with the stand-in between.
async fn bench(webhooks: usize, fate: fn(u64) -> Fate) -> (Sink, Driver) {
    let mut sink = Sink::within(webhooks).await.unwrap();
    let expectation = Expectation { secret: Secret::Standard(SECRET.to_owned()), behaviour: Behaviour::Receives };
    sink.expect(&vec![expectation; webhooks]).await.unwrap();
    let server = stand_in(sink.webhooks().to_vec(), fate).await;
    let tenant = Tenant { key: "sk_test_x".to_owned(), inlet: None, webhooks: (0..webhooks).collect(), well: true };
    (sink, Driver::new(vec![server], vec![tenant]))
}

async fn publish_all(driver: &Driver, sink: &Sink, pace: Pace, events: u64) {
    let plan = Plan { connections: 4, batch: 1, pace, events_max: events };
    let running = driver.start(&plan, Some(sink)).await.unwrap();
    while !running.finished() {
        tokio::task::yield_now().await;
    }
    running.stop(Duration::from_secs(5)).await.unwrap();
    driver.drain(sink, Duration::from_secs(1)).await.unwrap();
}

const CLOSED: Pace = Pace::Closed { outstanding_max: 50 };

#[tokio::test]
async fn everything_accepted_arrives_at_every_webhook_and_nothing_is_missed() {
    LocalSet::new()
        .run_until(async {
            let (mut sink, driver) = bench(3, |_| Fate::Delivered).await;
            publish_all(&driver, &sink, CLOSED, 400).await;
            let report = sink.report().await.unwrap();
            assert_eq!((driver.accepted(), report.delivered, report.verified), (400, 1_200, 1_200));
            assert_eq!((driver.losses(&mut sink).await.unwrap(), report.duplicates), (0, 0));
        })
        .await;
}

#[tokio::test]
async fn a_lost_event_is_found_even_when_a_doubled_one_makes_the_counts_agree() {
    LocalSet::new()
        .run_until(async {
            let fate = |sequence| match sequence {
                7 => Fate::Lost,
                8 => Fate::Twice,
                _ => Fate::Delivered,
            };
            let (mut sink, driver) = bench(1, fate).await;
            publish_all(&driver, &sink, CLOSED, 100).await;
            assert_eq!(driver.losses(&mut sink).await.unwrap(), 1);
            assert_eq!(sink.report().await.unwrap().duplicates, 1);
        })
        .await;
}

#[tokio::test]
async fn a_refused_event_is_neither_accepted_nor_lost() {
    LocalSet::new()
        .run_until(async {
            let fate = |sequence| if sequence % 10 == 0 { Fate::Refused } else { Fate::Delivered };
            let (mut sink, driver) = bench(1, fate).await;
            publish_all(&driver, &sink, CLOSED, 50).await;
            assert_eq!(driver.accepted(), 45);
            assert_eq!(driver.refused(), (5, Some("503 done".to_owned())));
            assert_eq!(driver.losses(&mut sink).await.unwrap(), 0);
        })
        .await;
}

#[tokio::test]
async fn a_closed_pace_never_has_more_outstanding_than_its_bound_and_what_is_in_flight() {
    LocalSet::new()
        .run_until(async {
            let (sink, driver) = bench(1, |_| Fate::Lost).await;
            let pace = Pace::Closed { outstanding_max: 50 };
            let plan = Plan { connections: 4, batch: 1, pace, events_max: 10_000 };
            let running = driver.start(&plan, Some(&sink)).await.unwrap();
            while driver.accepted() < 50 {
                tokio::task::yield_now().await;
            }
            // The senders are waiting for room that never comes; two more counts of the sink must not let them go.
            tokio::time::sleep(3 * COUNT_EVERY).await;
            assert!(driver.accepted() <= 50 + 4, "{}", driver.accepted());
            assert!(!running.finished());
            running.stop(Duration::from_secs(5)).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_fixed_pace_publishes_at_its_rate_and_times_from_the_due_instant() {
    LocalSet::new()
        .run_until(async {
            let (mut sink, driver) = bench(1, |_| Fate::Delivered).await;
            let window = Window { from_ns: 0, until_ns: u64::MAX, verify_one_in: 1 };
            sink.window(&window).await.unwrap();
            driver.window(&window);
            let started = Instant::now();
            publish_all(&driver, &sink, Pace::Fixed { per_second: 1_000.0 }, 200).await;
            assert!(started.elapsed() >= Duration::from_millis(198), "{:?}", started.elapsed());
            assert_eq!(driver.accepted(), 200);
            assert_eq!(sink.report().await.unwrap().latency.count, 200);
            assert_eq!(driver.seen().answers.count, 200);
            assert_eq!(driver.losses(&mut sink).await.unwrap(), 0);
        })
        .await;
}
