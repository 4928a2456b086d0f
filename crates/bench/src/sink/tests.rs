#![allow(clippy::unwrap_used)]

use tokio::task::LocalSet;

use super::*;
use crate::payload::{Delivery, Stamp};
use crate::signature::SigningKey;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Posts a delivery that was due `age_ms` ago and signed with `secret`; the status it was answered.
async fn post(connection: &mut Connection, secret: &str, sequence: u64, age_ms: u64) -> u16 {
    try_post(connection, secret, sequence, age_ms).await.unwrap()
}

async fn try_post(connection: &mut Connection, secret: &str, sequence: u64, age_ms: u64) -> io::Result<u16> {
    let now_ns = clock::now_ns();
    let mut delivery = Delivery::new();
    let body = delivery.stamped(Stamp { sequence, scheduled_ns: now_ns - age_ms * 1_000_000 });
    let timestamp = (now_ns / 1_000_000_000).to_string();
    let signature = SigningKey::new(secret).unwrap().sign(b"evt_1", timestamp.as_bytes(), body);
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: x\r\nWebhook-Id: evt_1\r\nWebhook-Timestamp: {timestamp}\r\n\
         Webhook-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write(&[head.as_bytes(), body].concat()).await?;
    Ok(connection.answer().await?.status)
}

async fn sink(behaviours: &[Behaviour]) -> Sink {
    let mut sink = Sink::within(behaviours.len()).await.unwrap();
    let expectations: Vec<Expectation> = behaviours
        .iter()
        .map(|behaviour| Expectation { secret: Secret::Standard(SECRET.to_owned()), behaviour: *behaviour })
        .collect();
    sink.expect(&expectations).await.unwrap();
    sink
}

#[tokio::test]
async fn duplicates_gaps_and_wrong_signatures_are_all_told_apart() {
    LocalSet::new()
        .run_until(async {
            let mut sink = sink(&[Behaviour::Receives]).await;
            let mut connection = Connection::open(sink.webhooks()[0]).await.unwrap();
            for sequence in [0, 1, 1, 3] {
                assert_eq!(post(&mut connection, SECRET, sequence, 0).await, 200);
            }
            post(&mut connection, "whsec_plJ3nmyCDGBKInavdOK15jsl", 4, 0).await;
            let report = sink.report().await.unwrap();
            let counted = (report.delivered, report.duplicates, report.verified, report.bad_signatures);
            assert_eq!(counted, (4, 1, 4, 1));
            let mut accepted = crate::ledger::Ledger::default();
            (0..5).for_each(|sequence| assert!(accepted.enter(sequence)));
            assert_eq!(accepted.missing_from(&sink.seen(0).await.unwrap()), 1, "number 2 never came");
        })
        .await;
}

#[tokio::test]
async fn latency_counts_from_the_instant_an_event_was_due_and_only_inside_the_window() {
    LocalSet::new()
        .run_until(async {
            let mut sink = sink(&[Behaviour::Receives]).await;
            let now_ns = clock::now_ns();
            let second = 1_000_000_000;
            let window = Window { from_ns: now_ns - second, until_ns: now_ns + 60 * second, verify_one_in: 1 };
            sink.window(&window).await.unwrap();
            let mut connection = Connection::open(sink.webhooks()[0]).await.unwrap();
            post(&mut connection, SECRET, 0, 500).await;
            post(&mut connection, SECRET, 1, 30_000).await;
            let latency = sink.report().await.unwrap().latency;
            assert_eq!(latency.count, 1);
            assert!(latency.max_ms >= 500.0 && latency.max_ms < 20_000.0, "{latency:?}");
        })
        .await;
}

#[tokio::test]
async fn a_webhook_that_fails_answers_500_and_counts_nothing_as_delivered() {
    LocalSet::new()
        .run_until(async {
            let mut sink = sink(&[Behaviour::Receives, Behaviour::Fails, Behaviour::Hangs]).await;
            let mut failing = Connection::open(sink.webhooks()[1]).await.unwrap();
            assert_eq!(post(&mut failing, SECRET, 0, 0).await, 500);
            let mut hanging = Connection::open(sink.webhooks()[2]).await.unwrap();
            let unanswered = tokio::task::spawn_local(async move { post(&mut hanging, SECRET, 0, 0).await });
            while sink.report().await.unwrap().turned_away < 2 {
                tokio::task::yield_now().await;
            }
            assert!(!unanswered.is_finished());
            assert_eq!(sink.report().await.unwrap().delivered, 0);
        })
        .await;
}

#[tokio::test]
async fn a_webhook_that_stumbles_fails_some_each_in_its_way_and_takes_them_all_in_the_end() {
    LocalSet::new()
        .run_until(async {
            let mut sink = sink(&[Behaviour::Stumbles]).await;
            let address = sink.webhooks()[0];
            let mut connection = Connection::open(address).await.unwrap();
            let (mut failed, mut reset) = (0, 0);
            for sequence in 0..400 {
                loop {
                    match try_post(&mut connection, SECRET, sequence, 0).await {
                        Ok(200) => break,
                        Ok(status) => assert!([500, 503].contains(&status), "{status}"),
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                            connection = Connection::open(address).await.unwrap();
                            reset += 1;
                        }
                    }
                    failed += 1;
                }
            }
            assert!(post(&mut connection, SECRET, 0, 0).await == 200, "what was taken is never failed again");
            let report = sink.report().await.unwrap();
            assert_eq!((report.delivered, report.duplicates, report.turned_away), (400, 1, failed));
            assert!(reset > 0 && failed > reset, "{reset} of {failed}");
            let interval = interval(&mut sink.counter().await.unwrap()).await.unwrap();
            assert_eq!((interval.failed, interval.delivered), (failed, 400));
            assert_eq!(interval.first.count + interval.retried.count, 400);
        })
        .await;
}

#[tokio::test]
async fn what_carries_no_stamp_is_malformed() {
    LocalSet::new()
        .run_until(async {
            let mut sink = sink(&[Behaviour::Receives]).await;
            let mut connection = Connection::open(sink.webhooks()[0]).await.unwrap();
            connection.write(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            assert_eq!(connection.answer().await.unwrap().status, 400);
            assert_eq!(sink.report().await.unwrap().malformed, 1);
        })
        .await;
}
