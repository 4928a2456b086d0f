//! What the embedded store can do on this machine, without HTTP around it.
//!
//! ```text
//! cargo run --release -p postrider --example store_bench -- [directory] [rows]
//! ```
//!
//! A *life* is one accepted 1 KB event with one delivery that succeeds at its first try (one in a hundred fails):
//! accept transaction, record transaction, history, health and rollups, fsync on every commit. Accepting and recording
//! run beside each other, as in the pipeline. `rows` (default 1,000,000) is how much history the second half runs on.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postrider::store::sqlite::SqliteStore;
use postrider::store::{
    Accepted, DeliveryQuery, NewDelivery, NewEvent, Page, Recorded, RecordedOutcome, Scope, Source, Store,
};
use postrider_core::delivery::{Attempt, AttemptError, DeliveryStatus, ErrorClass, Response, Trigger};
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::time::UnixMs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TENANTS: usize = 10;
const WEBHOOKS: usize = 100;

fn now() -> UnixMs {
    UnixMs(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap())
}

/// Processor time of this process so far, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Bytes this process has caused to be written to the disk so far.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

fn tenant(webhook: usize) -> TenantId {
    TenantId::from_random([u8::try_from(webhook % TENANTS).unwrap(); 16])
}

fn webhook(number: usize) -> WebhookId {
    let mut bytes = [7; 16];
    bytes[3] = u8::try_from(number).unwrap();
    WebhookId::from_random(bytes)
}

struct Load {
    next: usize,
    data: Bytes,
}

impl Load {
    fn batch(&mut self, size: usize) -> Vec<NewEvent> {
        (0..size).map(|_| self.event()).collect()
    }

    fn event(&mut self) -> NewEvent {
        self.next += 1;
        let number = self.next.wrapping_mul(2_654_435_761) % WEBHOOKS;
        NewEvent {
            tenant_id: tenant(number),
            event_type: "order.updated".into(),
            occurred_at: None,
            external_id: None,
            idempotency_key: None,
            ordering_key: None,
            source: Source::Api,
            trace_parent: None,
            data: self.data.clone(),
            raw: None,
            entropy: (self.next as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            deliveries: vec![NewDelivery {
                webhook_id: webhook(number),
                held: true,
                homed: false,
                trigger: Trigger::Event,
            }],
            received: None,
            releases: None,
        }
    }
}

fn outcome(event: &NewEvent, accepted: &Accepted, now: UnixMs) -> Recorded {
    let Accepted::New { id, first_delivery, .. } = *accepted else { panic!("{accepted:?}") };
    let failed = first_delivery.0.wrapping_mul(0x9e37_79b9).rotate_left(20) % 100 == 0;
    let headers =
        [("content-type", "application/json"), ("date", "Tue, 03 Mar 2026 10:00:00 GMT"), ("server", "nginx")];
    let response = Response {
        status: if failed { 500 } else { 200 },
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: "{\"ok\":true}".into(),
    };
    let error = AttemptError { class: ErrorClass::HttpStatus, detail: "the endpoint answered 500".into() };
    Recorded {
        delivery_id: first_delivery,
        webhook_id: event.deliveries[0].webhook_id,
        tenant_id: event.tenant_id,
        event_id: id,
        event_type: event.event_type.clone(),
        trigger: Trigger::Event,
        replay_id: None,
        attempts: 1,
        attempt: Some(Attempt {
            number: 1,
            at: now,
            duration_ms: u32::try_from(first_delivery.0 % 97).unwrap(),
            response: Some(response),
            error: failed.then_some(error),
            remote_address: Some([192, 0, 2, 17].into()),
        }),
        outcome: if failed { RecordedOutcome::Failed } else { RecordedOutcome::Succeeded },
    }
}

/// Runs `lives` lives, accepted in batches of `size`; recording follows, up to `together` batches in one call.
async fn live(store: &SqliteStore, load: &mut Load, lives: usize, size: usize, together: usize) {
    let (done, mut to_record) = tokio::sync::mpsc::channel::<Vec<Recorded>>(4);
    let accepting = async move {
        for _ in 0..lives / size {
            let batch = load.batch(size);
            let accepted = store.accept(batch.clone(), now()).await.unwrap();
            let now = now();
            done.send(batch.iter().zip(&accepted).map(|(event, id)| outcome(event, id, now)).collect()).await.unwrap();
        }
    };
    let recording = async {
        while let Some(mut outcomes) = to_record.recv().await {
            for _ in 1..together {
                outcomes.extend(to_record.recv().await.into_iter().flatten());
            }
            assert!(store.record(outcomes, now()).await.unwrap().into_iter().all(|done| done));
        }
    };
    tokio::join!(accepting, recording);
}

async fn measure(store: &SqliteStore, load: &mut Load, lives: usize, size: usize, together: usize) {
    let (start, cpu_before, written_before) = (Instant::now(), cpu(), written());
    live(store, load, lives, size, together).await;
    let (wall, cpu, written) = (start.elapsed(), cpu() - cpu_before, written() - written_before);
    println!(
        "accepted by {size:>4}, recorded by {:>4}: {:>7.0} lives/s, {:>5.1} us cpu per life, {:>6} bytes written per life",
        size * together,
        lives as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / lives as f64,
        written / lives as u64,
    );
}

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

async fn latest_failed(store: &SqliteStore) {
    let mut times = Vec::new();
    for number in 0..500 {
        let query = DeliveryQuery {
            scope: Scope::Tenant(tenant(number % WEBHOOKS)),
            webhook_id: Some(webhook(number % WEBHOOKS)),
            event_id: None,
            event_type: None,
            status: Some(DeliveryStatus::Failed),
            since: None,
            until: None,
            page: Page { before: None, limit: 50 },
        };
        let start = Instant::now();
        let found = store.deliveries(query).await.unwrap();
        times.push(start.elapsed());
        assert_eq!(found.items.len(), 50);
    }
    println!(
        "latest 50 failed of one webhook: median {:?}, p99 {:?}",
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99)
    );
}

/// Retention of all that is there, and what a writer sees meanwhile.
async fn drop_day(store: &SqliteStore) {
    let later = now() + Duration::from_secs(10 * 24 * 60 * 60);
    let (mut calls, mut rows) = (Vec::new(), 0);
    loop {
        let start = Instant::now();
        let report = store.sweep(later, 7).await.unwrap();
        calls.push(start.elapsed());
        rows += report.rows_removed;
        if !report.more {
            break;
        }
    }
    let total: Duration = calls.iter().sum();
    println!(
        "dropping a day of {rows} rows: {total:?} in {} steps, median {:?}, longest {:?}",
        calls.len(),
        percentile(&mut calls, 0.5),
        percentile(&mut calls, 1.0)
    );
}

async fn start_with_parked(directory: &Path, load: &mut Load, rows: usize) {
    let store = SqliteStore::open(directory).unwrap();
    store.begin(now()).await.unwrap();
    for _ in 0..rows / 2000 {
        let mut batch = load.batch(2000);
        batch.iter_mut().for_each(|event| event.deliveries[0].held = false);
        store.accept(batch, now()).await.unwrap();
    }
    drop(store);
    let start = Instant::now();
    let store = SqliteStore::open(directory).unwrap();
    let opened = start.elapsed();
    let lanes = store.begin(now()).await.unwrap();
    let parked: u64 = lanes.lanes.iter().map(|lane| lane.parked).sum();
    println!("start with {parked} parked: open {opened:?}, begin {:?}", start.elapsed() - opened);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let directory = args.next().map_or_else(|| PathBuf::from("/tmp/store-bench"), PathBuf::from);
    let rows: usize = args.next().map_or(1_000_000, |rows| rows.parse().unwrap());
    let mut load = Load { next: 0, data: Bytes::from(format!("{{\"text\":\"{}\"}}", "x".repeat(1012))) };
    let store = SqliteStore::open(&directory).unwrap();
    store.begin(now()).await.unwrap();
    for (size, together) in [(1, 1), (50, 1), (200, 1), (200, 10), (2000, 1)] {
        measure(&store, &mut load, if size == 1 { 2_000 } else { 60_000 }, size, together).await;
    }
    let before = load.next;
    live(&store, &mut load, rows.saturating_sub(before), 2000, 1).await;
    println!("with {} lives there:", load.next);
    for (size, together) in [(50, 1), (200, 1), (200, 10), (2000, 1)] {
        measure(&store, &mut load, 60_000, size, together).await;
    }
    latest_failed(&store).await;
    drop(store);
    let bytes = std::fs::metadata(directory.join("postrider.db")).unwrap().len();
    println!("{} bytes on disk per life", bytes / load.next as u64);
    let store = SqliteStore::open(&directory).unwrap();
    drop_day(&store).await;
    drop(store);
    start_with_parked(&directory, &mut load, rows / 2).await;
}
