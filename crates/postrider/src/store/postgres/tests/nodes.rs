//! Several nodes on one database: who owns what, before and after a node dies.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use uuid::Uuid;

use super::Database;
use crate::ambient::{Ambient as _, System};
use crate::store::conformance::Backend;
use crate::store::conformance::world::{World, ok, tenant, webhook};
use crate::store::postgres::PgStore;
use crate::store::postgres::homes::gather;
use crate::store::postgres::nodes::{Pulse, beat};
use crate::store::postgres::takeover::{Taken, mark_dead, take_over};
use crate::store::{Notice, RecordedOutcome, Signal, Store};

/// Short enough for a test, long enough for a machine that is busy.
const TTL: Duration = Duration::from_secs(2);
/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// A node that nobody takes for dead within a test.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// A store that is open already.
struct Opened(Arc<PgStore>);

#[async_trait]
impl Backend for Opened {
    async fn open(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
}

pub(super) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !done().await {
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn now() -> UnixMs {
    System.now()
}

/// Puts rows into the queue as an acceptance would: every second one held.
async fn put_rows(client: &Client, webhook: Uuid, owner: i32, numbers: std::ops::Range<i64>) {
    let due = now().0;
    client
        .execute(
            "INSERT INTO pending (tenant, webhook, n, event, owner, due_at, trigger) \
             SELECT $1, $2, n, n, $3, CASE WHEN n % 2 = 0 THEN $4::bigint END, 0 FROM generate_series($5::bigint, $6::bigint) AS n",
            &[&tenant(1).0, &webhook, &owner, &due, &numbers.start, &(numbers.end - 1)],
        )
        .await
        .unwrap();
}

async fn put_home(client: &Client, webhook: Uuid, owner: i32) {
    let sql = "INSERT INTO homes (webhook, tenant, owner) VALUES ($1, $2, $3)";
    client.execute(sql, &[&webhook, &tenant(1).0, &owner]).await.unwrap();
}

/// How many rows are parked for `owner`.
async fn parked_for(client: &Client, owner: i32) -> i64 {
    let sql = "SELECT count(*) FROM pending WHERE owner = $1 AND due_at IS NOT NULL";
    client.query_one(sql, &[&owner]).await.unwrap().get(0)
}

async fn home_of(client: &Client, webhook: Uuid) -> (i32, i32, i64) {
    let sql = "SELECT owner, heir, parked_last FROM homes WHERE webhook = $1";
    let row = client.query_one(sql, &[&webhook]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

async fn next_signal(
    receiver: &mut tokio::sync::mpsc::UnboundedReceiver<Signal>,
    wanted: impl Fn(&Signal) -> bool,
) -> Signal {
    let found = async {
        loop {
            let signal = receiver.recv().await.unwrap();
            if wanted(&signal) {
                return signal;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("the signal does not come")
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_node_begins_with_a_session_a_slot_and_a_lease() {
    let database = Database::new();
    let node = database.node("one", TTL).await;
    let lease = node.lease();
    assert!(!lease.is_valid());
    node.begin(now()).await.unwrap();
    assert!(lease.is_valid() && node.session() > 0);
    assert_eq!(node.slot(), 0);
    let client = database.client().await;
    let outlived = async || {
        let sql = "SELECT heartbeat_at - started_at > ttl_ms * interval '1 millisecond' FROM nodes";
        client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0)
    };
    until("heartbeats", outlived).await;
    assert!(lease.is_valid(), "heartbeats renew it");
    assert!(node.offset.load(std::sync::atomic::Ordering::Relaxed).abs() < 1000, "the same machine, the same clock");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn every_node_knows_how_many_live() {
    let database = Database::new();
    let (first, second) = (database.node("one", TTL).await, database.node("two", TTL).await);
    first.begin(now()).await.unwrap();
    assert_eq!(first.nodes(), 1);
    second.begin(now()).await.unwrap();
    assert_eq!(second.nodes(), 2);
    until("the first hears of the second", async || first.nodes() == 2).await;
    drop(second);
    until("the first hears that it is gone", async || first.nodes() == 1).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_a_dead_node_owned_is_taken_over_within_twice_its_time_to_live() {
    let database = Database::new();
    let client = database.client().await;
    let (dying, heir) = (database.node("dying", TTL).await, database.node("heir", TTL).await);
    dying.begin(now()).await.unwrap();
    heir.begin(now()).await.unwrap();
    let mut signals = heir.signals().unwrap();
    put_rows(&client, webhook(1).0, dying.session(), 1..101).await;
    put_rows(&client, webhook(2).0, heir.session(), 101..111).await;
    put_home(&client, webhook(1).0, dying.session()).await;
    drop(dying);
    let started = Instant::now();
    next_signal(&mut signals, |signal| matches!(signal, Signal::Wake(woken) if woken.contains(&webhook(1)))).await;
    assert!(started.elapsed() < TTL * 2 + Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(parked_for(&client, heir.session()).await, 105, "those held by the living one stay so");
    assert_eq!(home_of(&client, webhook(1).0).await, (heir.session(), 0, 100));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_node_that_begins_takes_over_before_it_tells_what_waits() {
    let database = Database::new();
    let client = database.client().await;
    let former = database.node("former", LONG).await;
    former.begin(now()).await.unwrap();
    put_rows(&client, webhook(1).0, former.session(), 1..2_001).await;
    put_home(&client, webhook(1).0, former.session()).await;
    put_rows(&client, webhook(2).0, former.session(), 20_001..22_001).await;
    put_rows(&client, webhook(3).0, 0, 30_001..30_011).await;
    former.close().await.unwrap();

    let node = database.node("next", LONG).await;
    let mut lanes = node.begin(now()).await.unwrap().lanes;
    lanes.sort_by_key(|lane| lane.webhook_id);
    let counts: Vec<_> = lanes.iter().map(|lane| (lane.webhook_id, lane.parked)).collect();
    assert_eq!(counts, [(webhook(1), 2_000), (webhook(2), 2_000), (webhook(3), 10)]);
    assert_eq!(home_of(&client, webhook(1).0).await, (node.session(), 0, 2_000));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_node_begins_before_it_has_taken_over_a_great_backlog() {
    let database = Database::new();
    let client = database.client().await;
    let former = database.node("former", LONG).await;
    former.begin(now()).await.unwrap();
    put_rows(&client, webhook(1).0, former.session(), 1..30_001).await;
    put_home(&client, webhook(1).0, former.session()).await;
    put_rows(&client, webhook(2).0, former.session(), 40_001..40_011).await;
    former.close().await.unwrap();

    let node = database.node("next", LONG).await;
    let lanes = node.begin(now()).await.unwrap().lanes;
    assert!(lanes.iter().any(|lane| lane.webhook_id == webhook(2) && lane.parked == 10), "{lanes:?}");
    assert!(lanes.iter().map(|lane| lane.parked).sum::<u64>() < 15_000, "{lanes:?}");
    until("the rest", async || home_of(&client, webhook(1).0).await.0 == node.session()).await;
    assert_eq!(parked_for(&client, node.session()).await, 30_010);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn rows_of_a_home_go_with_it_and_others_are_shared_out() {
    let database = Database::new();
    let client = database.client().await;
    let (home, other) = (database.node("home", LONG).await, database.node("other", LONG).await);
    home.begin(now()).await.unwrap();
    put_home(&client, webhook(1).0, home.session()).await;
    put_rows(&client, webhook(1).0, 0, 1..11).await;
    put_rows(&client, webhook(2).0, 0, 11..21).await;
    let mut signals = home.signals().unwrap();
    other.begin(now()).await.unwrap();
    next_signal(&mut signals, |signal| matches!(signal, Signal::Wake(woken) if woken == &[webhook(1)])).await;
    until("its own", async || parked_for(&client, home.session()).await == 10).await;
    until("the others", async || parked_for(&client, other.session()).await == 10).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn an_end_in_good_order_hands_over_at_once() {
    let database = Database::new();
    let client = database.client().await;
    let (leaving, staying) = (database.node("leaving", LONG).await, database.node("staying", LONG).await);
    staying.begin(now()).await.unwrap();
    leaving.begin(now()).await.unwrap();
    let mut signals = staying.signals().unwrap();
    until("listening", async || heard(&leaving, &mut signals).await).await;
    put_rows(&client, webhook(1).0, leaving.session(), 1..51).await;
    let lease = leaving.lease();
    leaving.close().await.unwrap();
    assert!(!lease.is_valid());
    until("the takeover", async || parked_for(&client, staying.session()).await == 50).await;
    assert!(matches!(leaving.ping().await, Err(crate::store::Error::Unavailable(_))));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn two_survivors_share_a_backlog_and_lose_nothing() {
    let database = Database::new();
    let client = database.client().await;
    let (dying, one, two) =
        (database.node("dying", LONG).await, database.node("one", LONG).await, database.node("two", LONG).await);
    for node in [&dying, &one, &two] {
        node.begin(now()).await.unwrap();
    }
    for number in 0..20 {
        let start = i64::from(number) * 3_000 + 1;
        put_rows(&client, webhook(number).0, dying.session(), start..start + 3_000).await;
    }
    dying.close().await.unwrap();
    let total = async || parked_for(&client, one.session()).await + parked_for(&client, two.session()).await;
    until("the takeover", async || total().await == 60_000).await;
    let all: i64 = client.query_one("SELECT count(*) FROM pending", &[]).await.unwrap().get(0);
    assert_eq!(all, 60_000);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_long_queue_of_a_dead_node_delays_the_takeover_of_no_other() {
    let database = Database::new();
    let client = database.client().await;
    let (dead, taker) = (database.node("dead", LONG).await, database.node("taker", LONG).await);
    dead.begin(now()).await.unwrap();
    taker.begin(now()).await.unwrap();
    // One webhook with many rows among some with few, whose ids are on either side of its own.
    put_rows(&client, webhook(5).0, dead.session(), 1..40_001).await;
    for number in [1, 4, 6, 9] {
        let start = 50_000 + i64::from(number) * 100;
        put_rows(&client, webhook(number).0, dead.session(), start..start + 20).await;
    }
    client.execute("UPDATE pending SET due_at = 1 WHERE due_at IS NULL", &[]).await.unwrap();
    client.execute("UPDATE nodes SET dead = true WHERE session = $1", &[&dead.session()]).await.unwrap();

    let mut taken = Taken::default();
    take_over(&taker.node, now(), 5_000, &mut taken).await.unwrap();
    assert!(taken.more && (1_000..10_000).contains(&taken.rows), "{taken:?}");
    let left = "SELECT count(*) FROM pending WHERE owner = $1 AND webhook <> $2";
    let left: i64 = client.query_one(left, &[&dead.session(), &webhook(5).0]).await.unwrap().get(0);
    assert_eq!(left, 0, "of webhooks with few rows");

    while taken.more {
        let rows_max = taken.rows + 5_000;
        take_over(&taker.node, now(), rows_max, &mut taken).await.unwrap();
    }
    assert_eq!(taken.rows, 40_080);
    assert_eq!(parked_for(&client, taker.session()).await, 40_080);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_long_queue_with_a_home_delays_no_other_and_is_heard_of_when_it_may_be_sent() {
    let database = Database::new();
    let client = database.client().await;
    let (dead, taker) = (database.node("dead", LONG).await, database.node("taker", LONG).await);
    dead.begin(now()).await.unwrap();
    taker.begin(now()).await.unwrap();
    let mut signals = taker.signals().unwrap();
    put_rows(&client, webhook(5).0, dead.session(), 1..22_001).await;
    for number in [4, 6, 7] {
        let start = 50_000 + i64::from(number) * 100;
        put_rows(&client, webhook(number).0, dead.session(), start..start + 20).await;
    }
    for homed in [4, 5, 6] {
        put_home(&client, webhook(homed).0, dead.session()).await;
    }
    client.execute("UPDATE nodes SET dead = true WHERE session = $1", &[&dead.session()]).await.unwrap();

    let mut taken = Taken::default();
    taken.more = true;
    let mut heard = Vec::new();
    for step in 1.. {
        let rows_max = taken.rows + 5_000;
        take_over(&taker.node, now(), rows_max, &mut taken).await.unwrap();
        taken.wake(&taker.node);
        while let Ok(signal) = signals.try_recv() {
            let Signal::Wake(woken) = signal else { continue };
            for webhook in woken {
                heard.push((step, webhook));
            }
        }
        if step == 1 {
            let left = "SELECT count(*) FROM pending WHERE owner = $1 AND webhook <> $2";
            let left: i64 = client.query_one(left, &[&dead.session(), &webhook(5).0]).await.unwrap().get(0);
            assert_eq!(left, 0, "of webhooks with few rows");
            for short in [4, 6] {
                assert_eq!(home_of(&client, webhook(short).0).await.0, taker.session());
            }
        }
        let long_is_here = home_of(&client, webhook(5).0).await.0 == taker.session();
        assert_eq!(heard.iter().any(|(_, heard)| *heard == webhook(5)), long_is_here, "step {step}: {heard:?}");
        if !taken.more {
            assert!(step > 3 && long_is_here, "step {step}");
            break;
        }
    }
    for few in [4, 6, 7] {
        assert!(heard.contains(&(1, webhook(few))), "{heard:?}");
    }
    assert_eq!(parked_for(&client, taker.session()).await, 22_060);
    assert_eq!(home_of(&client, webhook(5).0).await, (taker.session(), 0, 22_000));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_home_that_acceptances_keep_locked_is_taken_over_all_the_same() {
    let database = Database::new();
    let client = database.client().await;
    let (dead, taker) = (database.node("dead", LONG).await, database.node("taker", LONG).await);
    dead.begin(now()).await.unwrap();
    taker.begin(now()).await.unwrap();
    put_rows(&client, webhook(1).0, dead.session(), 1..11).await;
    put_home(&client, webhook(1).0, dead.session()).await;
    client.execute("UPDATE nodes SET dead = true WHERE session = $1", &[&dead.session()]).await.unwrap();

    let mut accepting = database.client().await;
    let acceptance = accepting.transaction().await.unwrap();
    acceptance.execute("SELECT FROM homes FOR UPDATE", &[]).await.unwrap();
    let (heir, node) = (taker.session(), taker.clone());
    let taking = tokio::spawn(async move { take_over(&node.node, now(), 5_000, &mut Taken::default()).await });
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock')";
    until("the wait for the acceptance", async || client.query_one(waiting, &[]).await.unwrap().get(0)).await;
    acceptance.commit().await.unwrap();
    taking.await.unwrap().unwrap();
    assert_eq!(home_of(&client, webhook(1).0).await, (heir, 0, 10));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn lanes_hear_of_every_row_that_is_due_and_once_more_at_the_end() {
    let database = Database::new();
    let client = database.client().await;
    let (dead, taker) = (database.node("dead", LONG).await, database.node("taker", LONG).await);
    dead.begin(now()).await.unwrap();
    taker.begin(now()).await.unwrap();
    let mut signals = taker.signals().unwrap();
    // One webhook whose rows are due, and one whose first row is.
    put_rows(&client, webhook(1).0, dead.session(), 1..20_001).await;
    put_rows(&client, webhook(2).0, dead.session(), 20_001..40_001).await;
    let (at, due) = (now(), "UPDATE pending SET due_at = CASE WHEN n > 20001 THEN $1::bigint + n ELSE n END");
    client.execute(due, &[&at.0]).await.unwrap();
    client.execute("UPDATE nodes SET dead = true WHERE session = $1", &[&dead.session()]).await.unwrap();

    let mut taken = Taken::default();
    taken.more = true;
    let started = Instant::now();
    let mut heard: Vec<Vec<_>> = Vec::new();
    while taken.more {
        let rows_max = taken.rows + 5_000;
        take_over(&taker.node, at, rows_max, &mut taken).await.unwrap();
        taken.wake(&taker.node);
        let mut woken = Vec::new();
        while let Ok(signal) = signals.try_recv() {
            if let Signal::Wake(webhooks) = signal {
                woken.extend(webhooks);
            }
        }
        heard.push(woken);
    }
    let of = |number| heard.iter().map(move |woken| woken.contains(&webhook(number))).collect::<Vec<_>>();
    let (due, later) = (of(1), of(2));
    assert!(due.len() > 4 && due[..4].iter().all(|heard| *heard), "{due:?}");
    assert!(later[0] && later[later.len() - 1], "{later:?}");
    // Beside that, whoever looks for what is due tells of it every two seconds.
    let looks = started.elapsed().as_secs() as usize / 2 + 1;
    let between = later[1..later.len() - 1].iter().filter(|heard| **heard).count();
    assert!(between <= looks.min(later.len() / 2), "{later:?}");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_waits_away_from_home_goes_there_beside_a_great_backlog_at_home() {
    let database = Database::new();
    let client = database.client().await;
    let (here, home) = (database.node("here", LONG).await, database.node("home", LONG).await);
    here.begin(now()).await.unwrap();
    home.begin(now()).await.unwrap();
    let mut signals = home.signals().unwrap();
    until("listening", async || heard(&here, &mut signals).await).await;
    // Statistics that know nothing of what comes now, as after every burst.
    client.batch_execute("ALTER TABLE pending SET (autovacuum_enabled = off); ANALYZE pending").await.unwrap();
    put_rows(&client, webhook(1).0, here.session(), 1..12_001).await;
    put_rows(&client, webhook(2).0, here.session(), 20_001..60_001).await;
    put_rows(&client, webhook(3).0, here.session(), 70_001..70_011).await;
    put_home(&client, webhook(1).0, home.session()).await;
    put_home(&client, webhook(2).0, here.session()).await;
    let mut steps = 1;
    while gather(&here).await.unwrap() {
        steps += 1;
    }
    // Every second row is held; these end here.
    assert_eq!((steps, parked_for(&client, home.session()).await), (2, 6_000));
    assert_eq!(parked_for(&client, here.session()).await, 20_005);
    next_signal(&mut signals, |signal| matches!(signal, Signal::Wake(woken) if woken == &[webhook(1)])).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_node_that_was_taken_for_dead_hears_of_it_and_begins_again() {
    let database = Database::new();
    let client = database.client().await;
    let node = database.node("slept", TTL).await;
    node.begin(now()).await.unwrap();
    let (mut signals, lease, before) = (node.signals().unwrap(), node.lease(), node.session());
    put_rows(&client, webhook(1).0, before, 1..11).await;
    client.execute("UPDATE nodes SET dead = true", &[]).await.unwrap();
    next_signal(&mut signals, |signal| *signal == Signal::Lost).await;
    assert!(!lease.is_valid());
    let begun = node.begin(now()).await.unwrap();
    assert!(lease.is_valid() && node.session() > before);
    assert_eq!(begun.lanes[0].parked, 10);
    assert!(beat(&node).await.unwrap());
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_home_changes_hands_in_the_order_of_numbers() {
    let database = Database::new();
    let client = database.client().await;
    let (former, heir) = (database.node("former", LONG).await, database.node("heir", LONG).await);
    former.begin(now()).await.unwrap();
    heir.begin(now()).await.unwrap();
    put_home(&client, webhook(1).0, former.session()).await;
    put_rows(&client, webhook(1).0, former.session(), 1..30_001).await;
    // What has moved must always be all that comes before the rest.
    let watch = database.client().await;
    let (to, done) = (heir.session(), tokio_util::sync::CancellationToken::new());
    let stop = done.clone();
    let watching = tokio::spawn(async move {
        let sql = "SELECT (SELECT max(n) FROM pending WHERE owner = $1) \
                   > (SELECT min(n) FROM pending WHERE owner <> $1)";
        let mut looks = 0;
        while !stop.is_cancelled() {
            let overtaken: Option<bool> = watch.query_one(sql, &[&to]).await.unwrap().get(0);
            assert_ne!(overtaken, Some(true));
            looks += 1;
        }
        looks
    });
    former.close().await.unwrap();
    until("the takeover", async || home_of(&client, webhook(1).0).await.0 == heir.session()).await;
    done.cancel();
    assert!(watching.await.unwrap() > 0);
    assert_eq!(parked_for(&client, heir.session()).await, 30_000);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_was_taken_over_is_recorded_by_its_new_owner_only() {
    let database = Database::new();
    let client = database.client().await;
    let (slept, heir) = (database.node("slept", LONG).await, database.node("heir", LONG).await);
    let mut world = World::new(Box::new(Opened(slept.clone()))).await;
    world.now = now();
    heir.begin(world.now).await.unwrap();
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    client.execute("UPDATE nodes SET dead = true WHERE session = $1", &[&slept.session()]).await.unwrap();
    heir.tick.notify_one();
    until("the takeover", async || parked_for(&client, heir.session()).await == 1).await;

    world.now = now();
    let outcome = sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded);
    assert!(!world.record(outcome.clone()).await, "it is another's");
    assert_eq!(world.delivery(sent.delivery(0)).await.status, DeliveryStatus::Pending);
    let refill = heir.refill(webhook(1), Ordering::None, world.now, 10, usize::MAX).await.unwrap();
    assert_eq!(refill.jobs[0].delivery_id, sent.delivery(0));
    assert_eq!(heir.record(vec![outcome], world.now).await.unwrap(), [true]);
    assert_eq!(world.delivery(sent.delivery(0)).await.status, DeliveryStatus::Succeeded);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn slots_are_used_again() {
    let database = Database::new();
    let nodes = [database.node("a", LONG).await, database.node("b", LONG).await, database.node("c", LONG).await];
    let begun = futures_util::future::join_all(nodes.iter().map(|node| node.begin(now()))).await;
    assert!(begun.iter().all(Result::is_ok), "{begun:?}");
    let mut slots: Vec<i16> = nodes.iter().map(|node| node.slot()).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
    let freed = nodes[1].slot();
    nodes[1].close().await.unwrap();
    let next = database.node("d", LONG).await;
    next.begin(now()).await.unwrap();
    assert_eq!(next.slot(), freed);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_start_after_the_death_of_all_takes_over_at_once() {
    let database = Database::new();
    let client = database.client().await;
    let former = database.node("former", TTL).await;
    former.begin(now()).await.unwrap();
    put_rows(&client, webhook(1).0, former.session(), 1..11).await;
    drop(former);
    let aged = "UPDATE nodes SET heartbeat_at = heartbeat_at - interval '1 hour'";
    client.execute(aged, &[]).await.unwrap();
    let next = database.node("next", TTL).await;
    assert_eq!(next.begin(now()).await.unwrap().lanes[0].parked, 10);
}

/// Whether a notice of `from` arrives within a moment.
async fn heard(from: &PgStore, signals: &mut tokio::sync::mpsc::UnboundedReceiver<Signal>) -> bool {
    let notice = Notice::Breaker { webhook_id: webhook(9), open_until: Some(now()) };
    from.tell(notice.clone()).await;
    let told = next_signal(signals, |signal| *signal == Signal::Noticed(notice.clone()));
    timeout(Duration::from_millis(500), told).await.is_ok()
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_node_listens_again_after_its_connection_was_cut() {
    let database = Database::new();
    let client = database.client().await;
    let (speaker, listener) = (database.node("speaker", LONG).await, database.node("listener", LONG).await);
    speaker.begin(now()).await.unwrap();
    listener.begin(now()).await.unwrap();
    let mut signals = listener.signals().unwrap();
    until("the first notice", async || heard(&speaker, &mut signals).await).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND query = 'LISTEN postrider'";
    assert_eq!(client.execute(sql, &[]).await.unwrap(), 2);
    until("a notice after the cut", async || heard(&speaker, &mut signals).await).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_nobody_told_is_found_by_looking() {
    let database = Database::new();
    let client = database.client().await;
    let node = database.node("one", LONG).await;
    node.begin(now()).await.unwrap();
    let mut signals = node.signals().unwrap();
    next_signal(&mut signals, |signal| *signal == Signal::Configuration).await;
    for number in 0..5 {
        put_rows(&client, webhook(number).0, node.session(), i64::from(number) * 10 + 1..i64::from(number) * 10 + 9)
            .await;
    }
    let later = "UPDATE pending SET due_at = due_at + 3600000 WHERE webhook = $1";
    client.execute(later, &[&webhook(3).0]).await.unwrap();
    let signal = next_signal(&mut signals, |signal| matches!(signal, Signal::Wake(_))).await;
    assert_eq!(signal, Signal::Wake([0, 1, 2, 4].map(webhook).to_vec()));
    client.execute("UPDATE configuration_state SET version = version + 1", &[]).await.unwrap();
    next_signal(&mut signals, |signal| *signal == Signal::Configuration).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_home_is_woken_wherever_it_is() {
    let database = Database::new();
    let (from, to) = (database.node("from", LONG).await, database.node("to", LONG).await);
    from.begin(now()).await.unwrap();
    to.begin(now()).await.unwrap();
    let mut signals = to.signals().unwrap();
    until("listening", async || heard(&from, &mut signals).await).await;
    let many: Vec<_> = (0..100).map(webhook).collect();
    from.wake(to.session(), many.clone());
    from.wake(to.session(), [webhook(7), webhook(101)]);
    let mut woken = Vec::new();
    while woken.len() < 101 {
        let signal = next_signal(&mut signals, |signal| matches!(signal, Signal::Wake(_))).await;
        let Signal::Wake(some) = signal else { unreachable!() };
        woken.extend(some);
    }
    woken.sort_unstable();
    woken.dedup();
    assert_eq!(woken.len(), 101, "each once, in few messages");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn numbers_are_unique_and_rise_over_all_nodes() {
    let database = Database::new();
    let mut takers = Vec::new();
    for _ in 0..4 {
        let client = database.client().await;
        takers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            for round in 0..200_i64 {
                let count = round % 7 + 1;
                let sql = "SELECT take_numbers($1, $2)";
                let first: i64 = client.query_one(sql, &[&count, &(round * 3)]).await.unwrap().get(0);
                assert!(first >= round * 3);
                assert!(taken.last().is_none_or(|last| *last < first), "within one node they rise");
                taken.extend(first..first + count);
            }
            taken
        }));
    }
    let mut all = Vec::new();
    for taker in takers {
        all.extend(taker.await.unwrap());
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[tokio::test]
async fn after_a_gap_a_node_judges_nobody_for_one_time_to_live() {
    let mut pulse = Pulse::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let ttl = Duration::from_secs(15);
    assert!(!pulse.may_judge(at(0), ttl), "it has not shown a sign of life itself");
    pulse.beaten(at(0), ttl);
    assert!(pulse.may_judge(at(3), ttl));
    assert!(!pulse.may_judge(at(20), ttl), "its own heartbeats fail");
    pulse.beaten(at(40), ttl);
    assert!(!pulse.may_judge(at(41), ttl), "the others may only just be back too");
    for second in (43..56).step_by(3) {
        pulse.beaten(at(second), ttl);
    }
    assert!(pulse.may_judge(at(56), ttl));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_judgement_that_was_long_on_its_way_kills_nobody() {
    let database = Database::new();
    let store = database.node("judge", LONG).await;
    store.begin(now()).await.unwrap();
    let silent = "INSERT INTO nodes (session, slot, name, version, ttl_ms, heartbeat_at) \
         VALUES (nextval('node_sessions'), 7, 'silent', '1', 1000, clock_timestamp() - interval '1 minute')";
    database.client().await.execute(silent, &[]).await.unwrap();
    let on_time = store.offset.swap(-600_000, Relaxed);
    assert_eq!(mark_dead(&store).await.unwrap(), 0);
    store.offset.store(on_time, Relaxed);
    assert_eq!(mark_dead(&store).await.unwrap(), 1);
}
