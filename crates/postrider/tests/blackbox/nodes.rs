//! Several nodes on one database: killed, paused, changed behind each other's back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use postrider_core::limits;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::crashes::{Stage, TYPES};
use crate::harness::{
    Api, Chance, Database, Deployment, Load, NODE_TTL, Nodes, Receiver, Reply, Request, SOON, publisher, quiet_machine,
    serial, shared_machine, until,
};

const NODES: usize = 3;

/// In which a dead or paused node must have been succeeded.
const TAKEOVER: Duration = NODE_TTL.saturating_mul(2);

/// Within which a change of configuration holds on every node.
const PROPAGATION: Duration = Duration::from_secs(1);

/// How long a story about chance goes on: `POSTRIDER_STORY_SECONDS`, or as long as every run can afford.
pub(crate) fn story_span(usual: Duration) -> Duration {
    let chosen = std::env::var("POSTRIDER_STORY_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    chosen.map_or(usual, Duration::from_secs)
}

/// What one more crash may repeat of a webhook without order: what was in flight, and what was answered but not recorded.
pub(crate) const REPEATED_MAX: usize = limits::LANE_IN_FLIGHT_MAX + limits::RECORD_BATCH_MAX;

/// How often events came again, over all of `requests`.
pub(crate) fn duplicates(requests: &[Request]) -> usize {
    let events: HashSet<&str> = requests.iter().map(Request::event).collect();
    requests.len() - events.len()
}

/// What each publisher published one after the other, arrived one after the other; repetitions left out.
pub(crate) fn assert_publishers_order(requests: &[Request]) {
    let mut seen = HashSet::new();
    let mut last: HashMap<u64, u64> = HashMap::new();
    for request in requests.iter().filter(|request| seen.insert(request.event())) {
        let (publisher, serial) = (publisher(request), serial(request));
        if let Some(before) = last.insert(publisher, serial) {
            assert!(before < serial, "publisher {publisher}: {serial} came after {before}");
        }
    }
}

// ---- nodes that are killed ---------------------------------------------------------------------------------------------

/// Publishers at every node of a stage, and the nodes as they come and go.
struct Fleet {
    nodes: Nodes,
    loads: Vec<Load>,
    /// Where the nodes are now, for publishers that go to any.
    doors: Arc<Mutex<Vec<Option<Api>>>>,
    kills: Vec<Instant>,
    /// Serial numbers of what was published to a node right before it was killed, with the number of the kill.
    left: Vec<(usize, Vec<u64>)>,
}

/// Events that a node is left with when it is killed, and how long their receiver takes to answer each: slow enough
/// that the node cannot have sent them all.
const LEFT: u64 = 300;
const LEFT_ANSWER: Duration = Duration::from_millis(100);

/// Webhooks for what killed nodes leave, in turns: what the last ones left must not wait in line behind each other.
const LEFT_WEBHOOKS: usize = 8;

/// In which a successor has sent what a node left, and what is left from eight kills before: its lane may have to start
/// with few at once.
const LEFT_SENT: Duration = LEFT_ANSWER.saturating_mul(2 * LEFT as u32 / limits::LANE_IN_FLIGHT_START as u32 + 1);

/// What the node left that was killed as the `kill`th.
fn left_type(kill: usize) -> String {
    format!("load.left{}", kill % LEFT_WEBHOOKS)
}

impl Fleet {
    async fn start(deployment: &Deployment) -> Fleet {
        let nodes = Nodes::start(deployment, NODES).await;
        let doors = Arc::new(Mutex::new((0..NODES).map(|n| Some(nodes.api(n).clone())).collect()));
        Fleet { nodes, loads: Vec::new(), doors, kills: Vec::new(), left: Vec::new() }
    }

    fn publish_to(&mut self, n: usize, stage: &Stage, chance: &mut Chance) {
        let api = self.nodes.api(n).as_key(&stage.key);
        self.loads.push(Load::start(&api, &TYPES, 2, &stage.ledger, Chance::from(chance.next())));
    }

    /// Leaves it with more than it can have sent.
    async fn kill(&mut self, n: usize, stage: &Stage) {
        self.doors.lock().unwrap()[n] = None;
        let first = self.kills.len() as u64 * LEFT;
        let serials: Vec<u64> = (first..first + LEFT).collect();
        let event_type = left_type(self.kills.len());
        let event = |serial: &u64| json!({ "type": event_type, "data": { "serial": serial } });
        let events: Vec<Value> = serials.iter().map(event).collect();
        let api = self.nodes.api(n).as_key(&stage.key);
        api.post("/v1/events", json!({ "events": events })).await.expect(202);
        self.nodes.kill(n).await;
        self.left.push((self.kills.len(), serials));
        self.kills.push(Instant::now());
    }

    async fn start_again(&mut self, n: usize, stage: &Stage, chance: &mut Chance) {
        self.nodes.start_again(n).await;
        self.doors.lock().unwrap()[n] = Some(self.nodes.api(n).clone());
        self.publish_to(n, stage, chance);
    }

    /// Until when what a node killed at `kill` left must have been sent: its successor may have been killed as well.
    fn taken_over_by(&self, kill: Instant) -> Instant {
        let mut by = kill + TAKEOVER;
        for later in self.kills.iter().filter(|later| **later > kill) {
            if *later <= by {
                by = *later + TAKEOVER;
            }
        }
        by
    }
}

async fn pause(span: Duration) {
    // How long a node stays up or down is what the story is about.
    tokio::time::sleep(span).await;
}

/// Kills and restarts nodes until the time is up; at least one lives at any time, and in the end all do.
async fn kill_and_restart(fleet: &mut Fleet, stage: &Stage, span: Duration, chance: &mut Chance) {
    let end = Instant::now() + span;
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let mut victims = vec![usize::try_from(chance.below(NODES as u64)).unwrap()];
        if chance.below(3) == 0 {
            victims.push((victims[0] + 1) % NODES);
        }
        for victim in &victims {
            fleet.kill(*victim, stage).await;
        }
        // Every other time the others have to take over before it is back, and can show that they do so in time.
        let down = if round % 2 == 0 { TAKEOVER } else { Duration::from_millis(chance.below(4000)) };
        pause(down).await;
        for victim in victims {
            fleet.start_again(victim, stage, chance).await;
        }
        pause(Duration::from_millis(chance.below(2000))).await;
    }
}

/// Publishes each event twice at once, to any two nodes, under one idempotency key, until one is sure to have it; the
/// event's id by serial number. All answers must agree.
async fn publish_once(
    doors: Arc<Mutex<Vec<Option<Api>>>>,
    key: String,
    stop: Arc<AtomicBool>,
    mut chance: Chance,
) -> BTreeMap<u64, String> {
    let mut accepted: BTreeMap<u64, String> = BTreeMap::new();
    let mut serial = 0;
    while !stop.load(Relaxed) {
        let data = json!({ "serial": serial, "publisher": 0 });
        let body = json!({ "type": "load.once", "data": data, "idempotency_key": format!("once-{serial}") });
        let open: Vec<Api> = doors.lock().unwrap().iter().flatten().cloned().collect();
        let mut any = || open[usize::try_from(chance.below(open.len() as u64)).unwrap()].as_key(&key);
        let (one, other) = (any(), any());
        let (one, other) = tokio::join!(one.try_post("/v1/events", &body), other.try_post("/v1/events", &body));
        for answer in one.into_iter().chain(other) {
            if answer.status == 503 {
                continue;
            }
            assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text);
            let id = answer.body["id"].as_str().unwrap().to_owned();
            let first = accepted.entry(serial).or_insert_with(|| id.clone());
            assert_eq!(*first, id, "two events under one idempotency key");
        }
        if accepted.contains_key(&serial) {
            serial += 1;
        }
        // Beside the load, not instead of it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    accepted
}

/// How long it took at most until others began with what a killed node had left.
fn assert_taken_over_in_time(fleet: &Fleet, stage: &Stage) -> Duration {
    let mut first: HashMap<u64, Instant> = HashMap::new();
    for request in (0..LEFT_WEBHOOKS).flat_map(|n| stage.requests(&left_type(n))) {
        first.entry(serial(&request)).or_insert(request.at);
    }
    let mut worst = Duration::ZERO;
    let mut waited = 0;
    for (number, serials) in &fleet.left {
        let kill = fleet.kills[*number];
        let by = fleet.taken_over_by(kill);
        let arrived =
            |serial| *first.get(serial).unwrap_or_else(|| panic!("event {serial} of a killed node never arrived"));
        // What was on its way when the node was killed still arrives; what comes later, a successor sent.
        let late: Vec<Instant> = serials.iter().map(arrived).filter(|at| *at > kill + 2 * LEFT_ANSWER).collect();
        let (Some(begun), Some(ended)) = (late.iter().min(), late.iter().max()) else { continue };
        waited += late.len();
        worst = worst.max(*begun - kill);
        assert!(
            *begun <= by,
            "nothing of {} events was sent for {:?} after kill {number} of those at {:?}, {:?} are allowed",
            late.len(),
            *begun - kill,
            fleet.kills.iter().map(|each| each.duration_since(fleet.kills[0])).collect::<Vec<_>>(),
            by - kill
        );
        assert!(
            *ended <= by + LEFT_SENT,
            "the last was sent {:?} after a kill, {:?} are allowed",
            *ended - kill,
            by - kill
        );
    }
    assert!(waited > 0, "the killed nodes had sent everything they had accepted");
    for (number, kill) in fleet.kills.iter().enumerate() {
        let by = fleet.taken_over_by(*kill);
        for event_type in ["load.strict", "load.keyed"] {
            let requests = stage.requests(event_type);
            let next = requests.iter().find(|request| request.at > *kill).map(|request| request.at - *kill);
            let next = next.expect("the load went on after every kill");
            assert!(
                next <= by - *kill,
                "{event_type}: nothing was sent for {next:?} after kill {number} of those at {:?}",
                fleet.kills.iter().map(|each| each.duration_since(fleet.kills[0])).collect::<Vec<_>>()
            );
        }
    }
    worst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nodes_killed_at_random_lose_nothing_keep_order_and_are_succeeded_in_time() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("nodes killed at random");
    let span = story_span(Duration::from_secs(40));
    let deployment = Deployment::on_postgres(Database::new());
    let mut fleet = Fleet::start(&deployment).await;
    let stage = Stage::on(deployment, fleet.nodes.api(0)).await;
    let once = json!({ "events": ["load.once"] });
    fleet.nodes.api(0).webhook(&stage.tenant, &stage.receiver.url("/load.once"), once).await;
    for event_type in (0..LEFT_WEBHOOKS).map(left_type) {
        let path = format!("/{event_type}");
        stage.receiver.always(&path, Reply::status(200).after(LEFT_ANSWER));
        let left = json!({ "events": [event_type] });
        fleet.nodes.api(0).webhook(&stage.tenant, &stage.receiver.url(&path), left).await;
    }
    fleet.nodes.agree().await;
    (0..NODES).for_each(|n| fleet.publish_to(n, &stage, &mut chance));
    let stop = Arc::new(AtomicBool::new(false));
    let doors = (fleet.doors.clone(), stage.key.clone(), stop.clone(), Chance::from(chance.next()));
    let once = tokio::spawn(publish_once(doors.0, doors.1, doors.2, doors.3));

    kill_and_restart(&mut fleet, &stage, span, &mut chance).await;
    stop.store(true, Relaxed);
    let once = once.await.unwrap();
    join_all(std::mem::take(&mut fleet.loads).into_iter().map(Load::ended)).await;
    fleet.nodes.assert_run();
    // A strict webhook is published to faster than it can be delivered to, one after the other.
    fleet.nodes.api(0).drained(&stage.tenant, Duration::from_secs(90) + 3 * span).await;

    let successor = assert_taken_over_in_time(&fleet, &stage);
    let kills = fleet.kills.len();
    let repeated_max = [REPEATED_MAX, 1, 8].map(|each| each * kills);
    let fault = format!("{kills} nodes killed");
    stage.assert_kept(&fault, fleet.nodes.api(1), repeated_max, Some(successor)).await;
    assert_each_arrived_as_one_event(&once, &stage.requests("load.once"));
}

fn assert_each_arrived_as_one_event(accepted: &BTreeMap<u64, String>, requests: &[Request]) {
    let mut arrived: BTreeMap<u64, HashSet<&str>> = BTreeMap::new();
    for request in requests {
        arrived.entry(serial(request)).or_default().insert(request.event());
    }
    assert!(accepted.len() > 20, "only {} events under keys", accepted.len());
    for (serial, id) in accepted {
        let events = arrived.get(serial).unwrap_or_else(|| panic!("event {serial} never arrived"));
        assert_eq!(events.iter().copied().collect::<Vec<_>>(), [id.as_str()], "event {serial}");
    }
}

// ---- a node that is paused ---------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_paused_in_the_middle_of_an_attempt_records_nothing_over_its_successor() {
    let _machine = quiet_machine().await;
    let receiver = Receiver::start().await;
    let mut nodes = Nodes::start(&Deployment::on_postgres(Database::new()), 2).await;
    let tenant = nodes.api(1).tenant("Paused").await;
    let more = json!({ "ordering": "strict", "retry": { "schedule_ms": [100, 100] } });
    // The paused node's attempt fails while it is paused; its successor's succeeds.
    receiver.script("/hook", [Reply::status(500).after(Duration::from_millis(500))]);
    let webhook = nodes.api(0).webhook(&tenant, &receiver.url("/hook"), more).await;
    nodes.api(0).publish(&tenant, "first.one", json!({ "serial": 0 })).await;
    receiver.wait("/hook", 1).await;
    nodes.node(0).pause();
    receiver.wait_within("/hook", 2, TAKEOVER).await;
    let query = format!("webhook_id={}&type=first.one", webhook.id);
    let done = nodes.api(1).delivery_once(&query, "the successor has recorded it", |it| it["status"] == "succeeded");
    let done = done.await;

    nodes.node(0).resume();
    until("the resumed node accepts again", SOON, async || {
        let body = json!({ "tenant_id": tenant, "type": "later.one", "data": { "serial": 1 } });
        let answer = nodes.api(0).try_post("/v1/events", &body).await?;
        (answer.status == 202).then_some(())
    })
    .await;
    receiver.wait("/hook", 3).await;
    nodes.api(1).drained(&tenant, SOON).await;
    nodes.assert_run();
    let after = nodes.api(0).delivery(&done["id"]).await;
    assert_eq!(after, done, "the failure that the paused node saw was recorded");
    assert_eq!(after["attempt_count"], 1, "{after:#}");
    let serials: Vec<u64> = receiver.requests("/hook").iter().map(serial).collect();
    assert_eq!(serials, [0, 0, 1], "in flight at the pause, its successor's, and the later one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_paused_under_load_and_resumed_sends_nothing_of_what_was_taken_over() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("paused under load");
    let deployment = Deployment::on_postgres(Database::new());
    let mut nodes = Nodes::start(&deployment, 2).await;
    let stage = Stage::on(deployment, nodes.api(0)).await;
    // Slow enough that much waits in the memory of the node that is going to be paused.
    for event_type in TYPES {
        let reply = Reply::status(200).after(Duration::from_millis(20));
        stage.receiver.always(&format!("/{event_type}"), reply);
    }
    let load = stage.load(nodes.api(0), 1500, &mut chance).await;
    nodes.node(0).pause();
    nodes.api(1).drained(&stage.tenant, Duration::from_secs(90)).await;
    nodes.node(0).resume();
    let resumed = Instant::now();
    load.ended().await;
    until("the resumed node is ready", SOON, async || {
        let answer = nodes.api(0).try_get("/readyz").await?;
        (answer.status == 200).then_some(())
    })
    .await;
    let recovery = resumed.elapsed();
    // It sends and records again, so whatever it may have kept in its memory has had its time.
    let enough = stage.ledger.count() + 200;
    let api = nodes.api(0).as_key(&stage.key);
    let load = Load::enduring(&api, &TYPES, 4, &stage.ledger, Chance::from(chance.next()));
    until("it accepts again", SOON, async || (stage.ledger.count() >= enough).then_some(())).await;
    load.ended().await;
    nodes.assert_run();
    stage.assert_kept("a node stopped", nodes.api(1), [REPEATED_MAX, 1, 8], Some(recovery)).await;
}

// ---- changes behind each other's back ----------------------------------------------------------------------------------

/// Tries until what another node has changed shows, for as long as a change may take.
async fn shows<T>(what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    until(what, PROPAGATION, check).await
}

/// Publishes at node `n`; whether it was delivered to `path` before the time for a change is up.
async fn arrives(nodes: &Nodes, n: usize, tenant: &str, receiver: &Receiver, path: &str) -> Option<Request> {
    let event = nodes.api(n).publish(tenant, "a.b", json!({ "from": n })).await;
    let deadline = Instant::now() + Duration::from_millis(250);
    loop {
        let found = receiver.requests(path).into_iter().find(|request| request.event() == event);
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_webhook_made_changed_rotated_and_deleted_on_one_node_is_so_on_all_within_a_second() {
    let _machine = quiet_machine().await;
    let receiver = Receiver::start().await;
    let nodes = Nodes::start(&Deployment::on_postgres(Database::new()), NODES).await;
    let tenant = nodes.api(0).tenant("Everywhere").await;
    let webhook = nodes.api(0).webhook(&tenant, &receiver.url("/made"), json!({})).await;
    let path = format!("/v1/webhooks/{}", webhook.id);
    let others = [1, 2];
    for n in others {
        shows("it is sent to", async || arrives(&nodes, n, &tenant, &receiver, "/made").await).await;
    }
    nodes.api(1).patch(&path, json!({ "url": receiver.url("/changed") })).await.expect(200);
    for n in [0, 2] {
        shows("its URL is changed", async || arrives(&nodes, n, &tenant, &receiver, "/changed").await).await;
    }
    let rotated =
        nodes.api(0).post(&format!("{path}/rotate-secret"), json!({ "overlap_seconds": 0 })).await.expect(200);
    let secret = rotated.body["secret"].as_str().unwrap().to_owned();
    for n in others {
        shows("it signs with the new secret", async || {
            let request = arrives(&nodes, n, &tenant, &receiver, "/changed").await?;
            request.is_signed_by(&secret).then_some(())
        })
        .await;
    }
    nodes.api(2).patch(&path, json!({ "status": "paused" })).await.expect(200);
    for n in [0, 1] {
        shows("it is paused", async || {
            arrives(&nodes, n, &tenant, &receiver, "/changed").await.is_none().then_some(())
        })
        .await;
    }
    nodes.api(0).patch(&path, json!({ "status": "active" })).await.expect(200);
    nodes.api(1).drained(&tenant, SOON).await;
    nodes.api(0).delete(&path).await;
    for n in others {
        shows("it is gone", async || {
            let event = nodes.api(n).publish(&tenant, "a.b", json!(0)).await;
            let event = nodes.api(n).get(&format!("/v1/events/{event}")).await.expect(200).body;
            event["deliveries"].as_array().is_none_or(Vec::is_empty).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_key_made_or_revoked_on_one_node_is_so_on_all_within_a_second() {
    let _machine = quiet_machine().await;
    let nodes = Nodes::start(&Deployment::on_postgres(Database::new()), NODES).await;
    let tenant = nodes.api(1).tenant("Keys").await;
    let made = json!({ "tenant_id": tenant, "name": "k", "role": "owner" });
    let made = nodes.api(0).post("/v1/api-keys", made).await.expect(201).body;
    let key = made["key"].as_str().unwrap();
    for n in [1, 2] {
        let api = nodes.api(n).as_key(key);
        shows("it opens", async || (api.get("/v1/webhooks").await.status == 200).then_some(())).await;
    }
    nodes.api(2).delete(&format!("/v1/api-keys/{}", made["id"].as_str().unwrap())).await;
    for n in [0, 1] {
        let api = nodes.api(n).as_key(key);
        shows("it opens nothing", async || (api.get("/v1/webhooks").await.status == 401).then_some(())).await;
    }
}

/// Publishes `count` events to all nodes at once, each node its share in one request.
async fn publish_everywhere(nodes: &Nodes, tenant: &str, event_type: &str, count: usize) {
    let share = |n: usize| {
        let serials = (n..count).step_by(NODES);
        let events: Vec<Value> = serials
            .map(|serial| json!({ "tenant_id": tenant, "type": event_type, "data": { "serial": serial } }))
            .collect();
        let api = nodes.api(n).clone();
        async move { api.post("/v1/events", json!({ "events": events })).await.expect(202) }
    };
    join_all((0..NODES).map(share)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_rate_limit_is_one_for_all_nodes() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let nodes = Nodes::start(&Deployment::on_postgres(Database::new()), NODES).await;
    let tenant = nodes.api(0).tenant("Limited").await;
    let more = json!({ "rate_limit": { "per_second": 20 } });
    nodes.api(0).webhook(&tenant, &receiver.url("/limited"), more).await;
    nodes.agree().await;
    publish_everywhere(&nodes, &tenant, "limited", 120).await;
    let requests = receiver.wait("/limited", 120).await;
    let span = |requests: &[Request]| requests[requests.len() - 1].at - requests[0].at;
    assert!(span(&requests) >= Duration::from_millis(4500), "120 at 20/s took only {:?}", span(&requests));
    assert!(span(&requests) < Duration::from_secs(15), "120 at 20/s took {:?}", span(&requests));
    for window in requests.windows(46) {
        assert!(span(window) >= Duration::from_millis(950), "46 requests within {:?}", span(window));
    }
    assert_eq!(duplicates(&requests), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn strict_order_is_one_order_whichever_nodes_accept() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let nodes = Nodes::start(&Deployment::on_postgres(Database::new()), NODES).await;
    let tenant = nodes.api(0).tenant("Strict").await;
    receiver.script("/hook", [Reply::status(200), Reply::status(500), Reply::status(500)]);
    let more = json!({ "ordering": "strict", "retry": { "schedule_ms": [50, 50, 50] } });
    nodes.api(1).webhook(&tenant, &receiver.url("/hook"), more).await;
    nodes.agree().await;
    // One publisher that goes from node to node: the order is that of its requests.
    for serial in 0..90 {
        let data = json!({ "serial": serial });
        nodes.api(serial % NODES).publish(&tenant, "a.b", data).await;
    }
    let requests = receiver.wait("/hook", 92).await;
    let serials: Vec<u64> = requests.iter().map(serial).collect();
    let expected: Vec<u64> = [0, 1, 1].into_iter().chain(1..90).collect();
    assert_eq!(serials, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_breaker_that_one_node_opens_holds_on_the_others() {
    let _machine = quiet_machine().await;
    let receiver = Receiver::start().await;
    let nodes = Nodes::start(&Deployment::on_postgres(Database::new()), NODES).await;
    let tenant = nodes.api(0).tenant("Breaker").await;
    receiver.always("/hook", Reply::status(500));
    let more = json!({ "retry": { "schedule_ms": vec![100; 20] } });
    nodes.api(0).webhook(&tenant, &receiver.url("/hook"), more).await;
    for n in 0..NODES {
        shows("every node sends to it", async || arrives(&nodes, n, &tenant, &receiver, "/hook").await).await;
    }
    publish_everywhere(&nodes, &tenant, "a.b", 300).await;
    // What was in flight on each node when the first of them opened it, and a few probes: far from what 300 events would
    // make with a retry every 100 ms.
    let opened = NODES * (limits::LANE_IN_FLIGHT_START + usize::try_from(limits::BREAKER_FAILURES).unwrap());
    until("the endpoint has failed often", SOON, async || {
        (receiver.count("/hook") > usize::try_from(limits::BREAKER_FAILURES).unwrap()).then_some(())
    })
    .await;
    // The breaker has to hold for some time; that is the point.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let requests = receiver.count("/hook");
    let probes = NODES * 8;
    println!("{requests} requests to an endpoint that only fails, by {NODES} nodes");
    assert!(requests <= opened + probes, "{requests} requests; {opened} until it is open, {probes} probes at most");
    receiver.always("/hook", Reply::status(200));
    nodes.api(1).drained(&tenant, Duration::from_secs(90)).await;
}
