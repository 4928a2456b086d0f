//! A database that crashes, is away, or loses connections, and one that two versions share.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use private_postgres::Stop;
use serde_json::json;
use tokio::time::Instant;

use crate::crashes::{Stage, TYPES};
use crate::harness::{
    Chance, Database, Deployment, Load, NODE_TTL, Nodes, Proxy, Receiver, SOON, own_server, quiet_machine,
    shared_machine,
};
use crate::nodes::{REPEATED_MAX, story_span};

const NODES: usize = 2;

/// Nodes under load whose publishers go on whatever they are told.
struct Scene {
    nodes: Nodes,
    stage: Stage,
    loads: Vec<Load>,
}

impl Scene {
    async fn set(deployment: Deployment, chance: &mut Chance) -> Scene {
        let nodes = Nodes::start(&deployment, NODES).await;
        let stage = Stage::on(deployment, nodes.api(0)).await;
        nodes.agree().await;
        let load = |n: usize| {
            let api = nodes.api(n).as_key(&stage.key);
            Load::enduring(&api, &TYPES, 2, &stage.ledger, Chance::from(chance.next()))
        };
        let loads = (0..NODES).map(load).collect();
        Scene { nodes, stage, loads }
    }

    /// Ends the load; everything accepted has arrived, in order, and not much of it twice after so many troubles.
    /// Prints what came of `fault`.
    async fn ends_well(mut self, fault: &str, troubles: usize, recovery: Option<Duration>) {
        join_all(std::mem::take(&mut self.loads).into_iter().map(Load::ended)).await;
        self.nodes.assert_run();
        let repeated_max = [REPEATED_MAX * NODES, 1, 8].map(|each| each * troubles);
        self.stage.assert_kept(fault, self.nodes.api(1), repeated_max, recovery).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_crashes_under_load_is_answered_with_503_and_nothing_is_lost() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("database crashes");
    let server = own_server();
    let mut scene = Scene::set(Deployment::on_postgres(Database::at(&server.url())), &mut chance).await;
    let crashes = 3;
    for crash in 0..crashes {
        scene.stage.accepts(1 + chance.below(400), SOON).await;
        server.stop(Stop::Immediate).unwrap();
        if crash > 0 {
            scene.stage.refuses(1).await;
            scene.nodes.assert_run();
            let ready = scene.nodes.api(0).get("/readyz").await;
            assert_eq!(ready.status, 503, "not ready without its database: {}", ready.text);
            assert_eq!(scene.nodes.api(0).get("/healthz").await.status, 200, "that is no reason to be restarted");
        }
        server.start_again().unwrap();
    }
    let recovery = scene.stage.recovers().await;
    scene.ends_well("PostgreSQL crashes", crashes, Some(recovery)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_cannot_be_reached_for_some_time_is_answered_with_503_and_nothing_is_lost() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("database away");
    let database = Database::new();
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_through(proxy.port);
    let deployment = Deployment::on_postgres(database).with("POSTRIDER_STORE", &url);
    let mut scene = Scene::set(deployment, &mut chance).await;
    let away = story_span(Duration::from_secs(120)) / 10;
    let ways: [fn(&Proxy); 2] = [Proxy::black_hole, Proxy::refuse];
    let mut recovery = Duration::ZERO;
    for go_away in ways {
        scene.stage.accepts(200, SOON).await;
        go_away(&proxy);
        scene.stage.refuses(1).await;
        // Longer than the nodes keep what is their own; the story is about that.
        tokio::time::sleep(away).await;
        scene.nodes.assert_run();
        proxy.let_through();
        recovery = recovery.max(scene.stage.recovers().await);
    }
    scene.ends_well("PostgreSQL cannot be reached", ways.len(), Some(recovery)).await;
}

/// Round trips to the database. The longest is a third of the nodes' time-to-live: a heartbeat's answer is old then, but
/// not too old.
const NEAR: Duration = Duration::from_millis(50);
const FAR: Duration = Duration::from_millis(300);
const VERY_FAR: Duration = NODE_TTL.checked_div(3).unwrap();
/// Round trips that an acceptance may take under load, with those that it waits for: some ten; and what a busy machine may
/// add.
const ROUND_TRIPS_MAX: u32 = 25;
const OWN_TIME_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_is_far_away_costs_round_trips_and_nothing_else() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("database far away");
    let database = Database::new();
    let proxy = Proxy::start(database.address()).await;
    proxy.is_away_by(NEAR);
    let url = database.url_through(proxy.port);
    let deployment = Deployment::on_postgres(database).with("POSTRIDER_STORE", &url);
    let mut scene = Scene::set(deployment, &mut chance).await;
    for n in 0..NODES {
        let load = scene.stage.enduring_load(scene.nodes.api(n), 10, &mut chance);
        scene.loads.push(load);
    }
    let mut recovery = Duration::ZERO;
    for (away, events) in [(NEAR, 400), (FAR, 150), (VERY_FAR, 60), (NEAR, 400)] {
        proxy.is_away_by(away);
        // What was under way had another way to go.
        recovery = scene.stage.recovers().await;
        let (accepted, refused) = (scene.stage.ledger.count(), scene.stage.ledger.refused());
        let began = Instant::now();
        scene.stage.accepts(events, Duration::from_secs(60)).await;
        let span = began.elapsed().as_secs_f64();
        let rate = (scene.stage.ledger.count() - accepted) as f64 / span;
        let waited = scene.stage.accepts_one(scene.nodes.api(0)).await;
        let trips = waited.as_secs_f64() / away.as_secs_f64();
        println!("{away:?} away: {rate:.0} events/s accepted; one took {waited:.1?}, {trips:.1} round trips");
        assert!(waited < away * ROUND_TRIPS_MAX + OWN_TIME_MAX, "{waited:?}, {trips:.1} round trips");
        if away < VERY_FAR {
            // Ten such round trips are as long as a call may take, so some may be refused then.
            assert_eq!(scene.stage.ledger.refused(), refused, "{away:?} is no reason to refuse");
        }
        scene.nodes.assert_run();
    }
    scene.ends_well("PostgreSQL is far away", 0, Some(recovery)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn connections_cut_at_random_leave_nothing_pending_for_ever() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("connections cut");
    let database = Database::new();
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_through(proxy.port);
    let deployment = Deployment::on_postgres(database).with("POSTRIDER_STORE", &url);
    let scene = Scene::set(deployment, &mut chance).await;
    let end = Instant::now() + story_span(Duration::from_secs(15));
    let mut cuts = 0;
    while Instant::now() < end {
        cuts += usize::from(proxy.cut_one(&mut chance));
        tokio::time::sleep(Duration::from_millis(20 + chance.below(300))).await;
    }
    assert!(cuts > 20, "only {cuts} connections were cut");
    let recovery = scene.stage.recovers().await;
    scene.ends_well(&format!("{cuts} connections cut"), cuts, Some(recovery)).await;
}

/// What a newer version would have done to the schema before the last old node is gone: added things.
const EXPANDED: &str = "
    ALTER TABLE events ADD COLUMN added_later text;
    ALTER TABLE pending ADD COLUMN added_later integer DEFAULT 7;
    ALTER TABLE webhooks ADD COLUMN added_later jsonb;
    CREATE TABLE added_later (n bigint PRIMARY KEY);
    CREATE INDEX added_later_due ON pending (tenant, n);
    INSERT INTO schema_versions (version, min_compatible, applied_by)
        SELECT max(version) + 1, max(version), 'a newer version' FROM schema_versions";

/// And what it may do once it is: take something away that old ones need.
const CONTRACTED: &str = "
    INSERT INTO schema_versions (version, min_compatible, applied_by)
        SELECT max(version) + 1, max(version) + 1, 'a newer version' FROM schema_versions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nodes_go_on_under_load_when_a_newer_version_expands_the_schema_and_refuse_one_they_cannot_work_with() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("two schemas");
    let mut scene = Scene::set(Deployment::on_postgres(Database::new()), &mut chance).await;
    scene.stage.accepts(200, SOON).await;
    let client = scene.stage.deployment.database().unwrap().connect().await;
    client.batch_execute(EXPANDED).await.unwrap();
    scene.stage.accepts(200, SOON).await;
    assert_eq!(scene.stage.ledger.refused(), 0, "the migration was felt");
    // An old node that comes back in the middle of the upgrade.
    let (load, late) = (scene.loads.pop().unwrap(), NODES - 1);
    load.ended().await;
    scene.nodes.kill(late).await;
    scene.nodes.start_again(late).await;
    let api = scene.nodes.api(late).as_key(&scene.stage.key);
    scene.loads.push(Load::enduring(&api, &TYPES, 2, &scene.stage.ledger, Chance::from(chance.next())));
    scene.stage.accepts(200, SOON).await;

    client.batch_execute(CONTRACTED).await.unwrap();
    let refused = scene.stage.deployment.node(7).with("POSTRIDER_LISTEN", "127.0.0.1:0").command(&["serve"]).output();
    let refused = tokio::time::timeout(SOON, refused).await.expect("it gives up").unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("newer Postrider") && !said.contains("panicked"), "unclear: {said}");
    scene.ends_well("a newer schema", 1, None).await;
}

/// Another build of Postrider, such as the former release: where it is named, the two run side by side.
const OTHER_BINARY: &str = "POSTRIDER_OTHER_BINARY";

/// This build and the other one.
fn builds() -> [std::path::PathBuf; 2] {
    let this = std::path::PathBuf::from(env!("CARGO_BIN_EXE_postrider"));
    let other = std::env::var(OTHER_BINARY).map_or_else(|_| this.clone(), Into::into);
    println!("the other build: {}", other.display());
    [this, other]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nodes_of_another_build_go_on_under_load_while_this_one_migrates_and_joins_them() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("migration under load");
    let [this, other] = builds();
    let mut scene = Scene::set(Deployment::on_postgres(Database::new()).with_binary(&other), &mut chance).await;
    scene.stage.accepts(200, SOON).await;
    let migrated = scene.stage.deployment.clone().with_binary(&this).node(7).command(&["migrate"]).output();
    let migrated = tokio::time::timeout(SOON, migrated).await.expect("it ends").unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    scene.stage.accepts(200, SOON).await;
    assert_eq!(scene.stage.ledger.refused(), 0, "the migration was felt");
    // One of them is replaced, and ends as nodes do.
    let (load, replaced) = (scene.loads.pop().unwrap(), NODES - 1);
    load.ended().await;
    let old = scene.nodes.take(replaced);
    old.terminate();
    assert_eq!(old.ended(SOON).await.code(), Some(0));
    scene.nodes.start_as(replaced, &this).await;
    let api = scene.nodes.api(replaced).as_key(&scene.stage.key);
    scene.loads.push(Load::enduring(&api, &TYPES, 2, &scene.stage.ledger, Chance::from(chance.next())));
    scene.stage.accepts(200, SOON).await;
    scene.ends_well("a migration by another build", 0, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_rolling_upgrade_from_another_build_and_back_loses_nothing() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("rolling upgrade");
    let [this, other] = builds();
    let receiver = Receiver::start().await;
    let deployment = Deployment::on_postgres(Database::new());
    let mut nodes = Nodes::start(&deployment.clone().with_binary(&other), NODES).await;
    let tenant = nodes.api(0).tenant("Upgraded").await;
    nodes.api(0).webhook(&tenant, &receiver.url("/hook"), json!({ "ordering": "strict" })).await;
    nodes.agree().await;
    let mut published = Vec::new();
    for binary in [&this, &this, &other, &other] {
        let n = published.len() / 20 % NODES;
        let old = nodes.take(n);
        old.terminate();
        assert_eq!(old.ended(SOON).await.code(), Some(0));
        nodes.start_as(n, binary).await;
        for _ in 0..20 {
            let data = json!({ "serial": published.len() });
            let node = usize::try_from(chance.below(NODES as u64)).unwrap();
            published.push(nodes.api(node).publish(&tenant, "a.b", data).await);
        }
    }
    let requests = receiver.wait("/hook", published.len()).await;
    nodes.api(1).drained(&tenant, SOON).await;
    let arrived: Vec<&str> = requests.iter().map(|request| request.event()).collect();
    assert_eq!(arrived, published, "in the order of the publisher, none twice");
    assert_eq!(published.iter().collect::<HashSet<_>>().len(), published.len());
}
