//! Changes that programs commit in a client's database arrive, all of them and no others, whatever happens to Postrider.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::harness::{
    Api, Chance, Database, Deployment, Nodes, Receiver, Request, SOON, Server, shared_machine, until,
};
use crate::nodes::REPEATED_MAX;

const ACCOUNTS: u64 = 8;
const ROWS_EACH: u64 = 10;
const WRITERS: u64 = 4;
/// Of each writer in each life of the server; all in all 10,000 rows.
const TRANSACTIONS_EACH: u64 = 50;
const LIVES: u64 = 5;

/// A program that knows nothing of Postrider, PostgreSQL's own: rows are inserted, an account counts its transactions, and
/// each tenth transaction is rolled back.
fn writer(database: &Database, mut chance: Chance) -> JoinHandle<()> {
    let mut script = String::new();
    for turn in 0..TRANSACTIONS_EACH {
        let account = chance.below(ACCOUNTS);
        let end = if turn % 10 == 9 { "ROLLBACK" } else { "COMMIT" };
        let insert = format!("INSERT INTO entries (account) VALUES ({account});\n").repeat(ROWS_EACH as usize);
        let update = format!("UPDATE accounts SET n = n + 1 WHERE id = {account};");
        script.push_str(&format!("BEGIN;\n{insert}{update}\n{end};\n"));
    }
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", database.url.as_str()]).kill_on_drop(true);
    let mut psql =
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("there is psql");
    tokio::spawn(async move {
        psql.stdin.take().unwrap().write_all(script.as_bytes()).await.unwrap();
        let output = psql.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
}

/// One server, or several on one database.
#[expect(clippy::large_enum_variant, reason = "a story has one")]
enum Fleet {
    One(Deployment, Option<Server>),
    Many(Nodes),
}

impl Fleet {
    fn any(&self) -> &Server {
        match self {
            Fleet::One(_, server) => server.as_ref().unwrap(),
            Fleet::Many(nodes) => nodes.node(0),
        }
    }

    /// `kill -9`, of any of them, and starts it again.
    async fn crash(&mut self, chance: &mut Chance, receiver: &Receiver) {
        match self {
            Fleet::One(deployment, server) => {
                server.take().unwrap().kill().await;
                receiver.next_life();
                *server = Some(deployment.start().await);
            }
            Fleet::Many(nodes) => {
                let n = usize::try_from(chance.below(NODES as u64)).unwrap();
                nodes.kill(n).await;
                receiver.next_life();
                nodes.start_again(n).await;
            }
        }
    }
}

const NODES: usize = 3;

struct Scene {
    deployment: Deployment,
    database: Database,
    receiver: Receiver,
    tenant: String,
}

impl Scene {
    /// A client `shop` whose tables have an outbox, and a webhook by key for what comes of it.
    async fn set(deployment: Deployment, fleet: &Fleet) -> Scene {
        let (database, receiver) = (Database::new(), Receiver::start().await);
        let tables = format!(
            "CREATE TABLE accounts (id bigint PRIMARY KEY, n bigint NOT NULL);
             CREATE TABLE entries (id bigserial PRIMARY KEY, account bigint NOT NULL);
             INSERT INTO accounts SELECT g, 0 FROM generate_series(0, {ACCOUNTS} - 1) g"
        );
        database.connect().await.batch_execute(&tables).await.unwrap();
        let server = fleet.any();
        let wanted = json!({ "client_name": "shop", "pg_uri": database.url.as_str() });
        let key = [("x-athena-admin-key", deployment.admin_key())];
        let made = server.api.try_call(Method::POST, "/admin/clients", Some(&wanted), &key).await.unwrap().expect(201);
        let tenant = made.body["data"]["client"]["tenant_id"].as_str().unwrap().to_owned();
        let more = json!({ "ordering": "by_key", "retry": { "schedule_ms": vec![200; 20] } });
        server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
        let scene = Scene { deployment, database, receiver, tenant };
        let told = scene.command(server, &["install", "--client", "shop", "--table", "accounts", "entries"]).await;
        assert_eq!(told, "public.accounts\npublic.entries\n0 changes waiting\n");
        scene
    }

    /// Runs `postrider outbox …`; what it said.
    async fn command(&self, server: &Server, arguments: &[&str]) -> String {
        let deployment = self.deployment.clone().with("POSTRIDER_API_KEY", self.deployment.admin_key());
        let all = [&["outbox"], arguments, &["--url", &server.url]].concat();
        let output = tokio::time::timeout(SOON, deployment.command(&all).output()).await.expect("it ends").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn waiting(&self) -> i64 {
        let client = self.database.connect().await;
        client.query_one("SELECT count(*) FROM postrider_outbox", &[]).await.unwrap().get(0)
    }

    /// Of the table's rows: key and value.
    async fn truth(&self, sql: &str) -> BTreeMap<i64, i64> {
        let rows = self.database.connect().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// How many events of each type the stream has; fails if one is there twice.
    async fn stream(&self, api: &Api) -> BTreeMap<String, usize> {
        let (mut types, mut ids) = (BTreeMap::new(), HashSet::new());
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("/v1/events?limit=200&tenant_id={}{cursor}", self.tenant)).await.expect(200);
            for event in page.body["items"].as_array().unwrap() {
                assert!(ids.insert(event["id"].as_str().unwrap().to_owned()), "twice: {event:#}");
                *types.entry(event["type"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            let Some(next) = page.body["next_cursor"].as_str() else { return types };
            cursor = format!("&cursor={next}");
        }
    }
}

/// What was asked for happened: each committed change is one event, and each event arrives, in the order of its key.
async fn assert_all_arrived(scene: &Scene, api: &Api) {
    let entries = scene.truth("SELECT id, account FROM entries").await;
    let accounts = scene.truth("SELECT id, n FROM accounts WHERE n > 0").await;
    let transactions = usize::try_from(LIVES * WRITERS * TRANSACTIONS_EACH * 9 / 10).unwrap();
    assert_eq!(entries.len(), transactions * usize::try_from(ROWS_EACH).unwrap());
    let expected =
        BTreeMap::from([("accounts.updated".to_owned(), transactions), ("entries.inserted".to_owned(), entries.len())]);
    assert_eq!(scene.stream(api).await, expected, "each committed change is one event");

    let requests = scene.receiver.requests("/hook");
    let mut inserted = BTreeSet::new();
    let mut counted: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for request in &requests {
        let body = request.json();
        let (row, number) = (&body["data"]["row"], |value: &Value| value.as_i64().unwrap());
        match body["data"]["table"].as_str().unwrap() {
            // One that is sent again is no other.
            "entries" => inserted.extend([number(&row["id"])]),
            _ => counted.entry(number(&row["id"])).or_default().push(number(&row["n"])),
        }
    }
    assert_eq!(inserted, entries.keys().copied().collect(), "exactly the committed rows have arrived");
    for (account, seen) in &mut counted {
        // What was in flight when the server was killed may come again, but nothing comes late.
        assert!(seen.is_sorted(), "account {account} was told out of order: {seen:?}");
        seen.dedup();
        assert_eq!(*seen, (1..=accounts[account]).collect::<Vec<_>>(), "account {account}");
    }
    assert_eq!(counted.len(), accounts.len());
    let repeated = repeated(&requests);
    println!("{} events, {} requests, {repeated} sent again", transactions + entries.len(), requests.len());
}

/// How many requests repeat another one. Nothing is sent twice in one life of the servers; a crash repeats one change of a
/// key at most, and in all no more than was in flight, or answered and not yet recorded.
fn repeated(requests: &[Request]) -> usize {
    let mut lives: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for request in requests {
        lives.entry(request.event()).or_default().push(request.life);
    }
    let (mut by_life, mut of_accounts) = (BTreeMap::new(), 0);
    for (event, lives) in &lives {
        assert!(lives.windows(2).all(|pair| pair[0] < pair[1]), "{event} came twice in one life: {lives:?}");
        for life in &lives[1..] {
            *by_life.entry(*life).or_insert(0) += 1;
        }
    }
    let mut seen = HashSet::new();
    for request in requests.iter().filter(|request| request.json()["data"]["table"] == "accounts") {
        of_accounts += u64::from(!seen.insert(request.event()));
    }
    assert!(of_accounts <= LIVES * ACCOUNTS, "{of_accounts} changes of accounts were sent again");
    assert!(by_life.values().all(|repeated| *repeated <= REPEATED_MAX), "sent again: {by_life:?}");
    println!("sent again, by life: {by_life:?}; of accounts: {of_accounts}");
    requests.len() - lives.len()
}

async fn story(deployment: Deployment, mut fleet: Fleet) {
    let mut chance = Chance::new("outbox");
    let scene = Scene::set(deployment, &fleet).await;
    for _ in 0..LIVES {
        let writers: Vec<_> = (0..WRITERS).map(|_| writer(&scene.database, Chance::from(chance.next()))).collect();
        // Somewhere in the middle of what is being written, read and sent.
        let enough = scene.receiver.count("/hook") + 1 + usize::try_from(chance.below(1200)).unwrap();
        scene.receiver.wait("/hook", enough).await;
        fleet.crash(&mut chance, &scene.receiver).await;
        try_join_all(writers).await.unwrap();
    }
    let long = Duration::from_secs(120);
    until("the outbox is empty", long, async || (scene.waiting().await == 0).then_some(())).await;
    let server = fleet.any();
    server.api.drained(&scene.tenant, long).await;
    assert_all_arrived(&scene, &server.api).await;
    assert_eq!(
        scene.command(server, &["status", "--client", "shop"]).await,
        "public.accounts\npublic.entries\n0 changes waiting\n"
    );
    scene.command(server, &["uninstall", "--client", "shop"]).await;
    let client = scene.database.connect().await;
    client.batch_execute("INSERT INTO entries (account) VALUES (1)").await.unwrap();
    let left = "SELECT to_regclass('public.postrider_outbox') IS NULL";
    assert!(client.query_one(left, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_is_committed_arrives_once_in_the_stream_and_in_order_by_key_through_kill_9() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    story(deployment.clone(), Fleet::One(deployment, Some(server))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nodes_that_are_killed_in_turn_drain_one_outbox_between_them() {
    let _machine = shared_machine().await;
    let deployment = Deployment::on_postgres(Database::new());
    let nodes = Nodes::start(&deployment, NODES).await;
    story(deployment, Fleet::Many(nodes)).await;
}
