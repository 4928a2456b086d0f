//! What `postrider doctor` looks at in a database that nodes share.

use std::time::Duration;

use deadpool_postgres::Object;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Row};

use super::connection::FURTHER_CONNECTIONS;
use super::nodes::machine_ms;
use super::partition::{self, Kind};
use super::{Node, PgStore, Settings, gateway, migrate, replies};
use crate::store::day::Day;
use crate::store::{Error, Result, Unopened};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Good,
    Warning,
    Bad,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub what: &'static str,
    pub weight: Weight,
    pub text: String,
}

fn good(what: &'static str, text: impl Into<String>) -> Observation {
    Observation { what, weight: Weight::Good, text: text.into() }
}

fn warning(what: &'static str, text: impl Into<String>) -> Observation {
    Observation { what, weight: Weight::Warning, text: text.into() }
}

fn bad(what: &'static str, text: impl Into<String>) -> Observation {
    Observation { what, weight: Weight::Bad, text: text.into() }
}

/// The warnings, or that all is well.
fn or_good(what: &'static str, found: Vec<Observation>, text: impl Into<String>) -> Vec<Observation> {
    if found.is_empty() { vec![good(what, text)] } else { found }
}

/// A machine's clock may differ from the database's by so much before it is worth a word; deliveries are timed by the
/// latter all the same.
const CLOCK_WARNING_MS: i64 = 5_000;
const LAG_WARNING_MS: i64 = 60_000;
/// A transaction that keeps the queue from being cleaned up.
const TRANSACTION_WARNING: &str = "5 minutes";
/// Rows of the queue that are deleted and not yet cleaned up: from here on they slow it down.
const DEAD_ROWS_WARNING: i64 = 500_000;
/// A notification that is not there after so long does not come.
const NOTIFICATION_MAX: Duration = Duration::from_secs(3);

impl PgStore {
    /// Looks at everything that commonly goes wrong, changing nothing.
    pub async fn inspect(settings: Settings) -> Vec<Observation> {
        const WHAT: &str = "store";
        let shown = settings.shown().to_owned();
        let store = match PgStore::connect(settings) {
            Ok(store) => store,
            Err(error) => return vec![bad(WHAT, format!("{shown}: {}", said(error)))],
        };
        let client = match store.reader().await {
            Ok(client) => client,
            Err(error) => return vec![bad(WHAT, format!("{shown}: {}", said(error)))],
        };
        let mut all = vec![good(WHAT, format!("{shown} answers"))];
        let schema = schema(&client).await;
        let usable = !schema.iter().any(|observation| observation.weight == Weight::Bad);
        all.extend(schema);
        all.extend(told("encryption", encryption(&client).await));
        all.extend(told("settings", server_settings(&store, &client).await));
        all.extend(told("clock", clock(&client).await));
        all.extend(told("standbys", standbys(&client).await));
        all.extend(told("transactions", transactions(&client).await));
        all.extend(told("notifications", notifications(&store).await));
        if usable {
            all.extend(told("connections", connections(&store, &client).await));
            all.extend(told("nodes", nodes(&client).await));
            all.extend(told("days", days(&client).await));
            all.extend(told("indexes", indexes(&client).await));
            all.extend(told("queue", queue(&client).await));
        }
        all
    }

    /// What the store has of the gateway.
    ///
    /// # Errors
    /// It cannot be reached, or is older than the gateway.
    pub async fn unopened(settings: Settings) -> Result<Unopened> {
        let store = PgStore::connect(settings)?;
        let client = store.reader().await?;
        let data_key = replies::get_setting(&store, crate::sealing::DATA_KEY).await?;
        Ok(Unopened { objects: gateway::objects(&**client).await?, data_key })
    }
}

fn said(error: Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// What could not be looked at is a finding too.
fn told(what: &'static str, found: Result<Vec<Observation>>) -> Vec<Observation> {
    found.unwrap_or_else(|error| vec![warning(what, format!("could not be looked at: {}", said(error)))])
}

async fn schema(client: &Object) -> Vec<Observation> {
    const WHAT: &str = "schema";
    let server = match migrate::check_server(client).await {
        Ok(server) => server,
        Err(error) => return vec![bad(WHAT, said(error))],
    };
    let found = match migrate::version(client).await {
        Ok(found) => found,
        Err(error) => return vec![bad(WHAT, said(error))],
    };
    let known = migrate::KNOWN;
    vec![match found {
        None => bad(WHAT, format!("{server}; there is no schema yet: `postrider migrate` or `serve` makes it")),
        Some((version, min)) if min > known => {
            bad(WHAT, format!("schema {version} needs a newer Postrider (this one knows {known})"))
        }
        Some((version, _)) if version < known => {
            bad(WHAT, format!("{server}; schema {version} is older than this version's: `postrider migrate`"))
        }
        Some((version, _)) if version > known => warning(
            WHAT,
            format!("{server}; schema {version} is newer than this version's ({known}): finish the upgrade"),
        ),
        Some((version, _)) => good(WHAT, format!("{server}; schema {version}")),
    }]
}

async fn encryption(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "encryption";
    let row = client
        .query_typed_opt(
            "SELECT coalesce(ssl, false), version, \
                    coalesce(inet_client_addr() <<= '127.0.0.0/8' OR inet_client_addr() = '::1', true) \
             FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            &[],
        )
        .await?;
    let Some(row) = row else { return Ok(vec![warning(WHAT, "unknown: a pooler stands between")]) };
    let version: Option<String> = row.try_get(1)?;
    Ok(vec![match (row.try_get(0)?, row.try_get(2)?) {
        (true, _) => good(WHAT, format!("encrypted and verified ({})", version.unwrap_or_default())),
        (false, true) => good(WHAT, "not encrypted, on the same machine"),
        (false, false) => warning(WHAT, "not encrypted: use sslmode=verify-full in the URL"),
    }])
}

async fn server_settings(node: &Node, client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "settings";
    let mut found = Vec::new();
    for (name, trouble) in [
        ("synchronous_commit", "what was accepted may be lost when the server crashes"),
        ("fsync", "the database may be destroyed when the machine crashes"),
        ("full_page_writes", "the database may be damaged when the machine crashes"),
    ] {
        let row = client.query_typed_one("SELECT current_setting($1)", &[(&name, Type::TEXT)]).await?;
        if row.try_get::<_, String>(0)? == "off" {
            found.push(bad(WHAT, format!("{name} is off: {trouble}")));
        }
    }
    let timeout = client.query_typed_one("SELECT current_setting('statement_timeout')", &[]).await?;
    let timeout: String = timeout.try_get(0)?;
    if timeout == "0" {
        found.push(warning(WHAT, "statement_timeout is 0: set it for Postrider's role, such as 30s"));
    }
    if !node.pools.dialer.passes_options() {
        found
            .push(warning(WHAT, "a pooler takes no session settings: set them for Postrider's role (docs/scaling.md)"));
    }
    Ok(or_good(WHAT, found, format!("commits are durable; statement_timeout is {timeout}")))
}

async fn connections(node: &Node, client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "connections";
    let row = client
        .query_typed_one(
            "SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint, \
                    (SELECT count(*) FROM nodes WHERE NOT dead)",
            &[],
        )
        .await?;
    let (room, living): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let each = i64::try_from(node.settings.connections + FURTHER_CONNECTIONS).unwrap_or(i64::MAX);
    let nodes = living.max(1);
    let need = nodes.saturating_mul(each);
    let text = format!("{nodes} × {each} needed at most, the server has {room}");
    Ok(vec![match need {
        need if need > room => {
            bad(WHAT, format!("{text}: raise max_connections, lower store_connections, or use a pooler"))
        }
        need if need * 10 > room * 8 => warning(WHAT, format!("{text}: one more node may not fit")),
        _ => good(WHAT, text),
    }])
}

async fn clock(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "clock";
    let sent = machine_ms();
    let row = client.query_typed_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await?;
    let ahead = i64::midpoint(sent, machine_ms()) - row.try_get::<_, i64>(0)?;
    let text =
        format!("this machine is {} ms {} the database", ahead.abs(), if ahead < 0 { "behind" } else { "ahead of" });
    Ok(vec![match ahead.abs() {
        CLOCK_WARNING_MS.. => {
            warning(WHAT, format!("{text}; deliveries go by the database's clock: see that it is right"))
        }
        _ => good(WHAT, text),
    }])
}

async fn standbys(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "standbys";
    let rows = client
        .query_typed(
            "SELECT coalesce(application_name, ''), coalesce(state, 'hidden'), coalesce(sync_state, ''), \
                    (extract(epoch FROM coalesce(replay_lag, interval '0')) * 1000)::bigint FROM pg_stat_replication",
            &[],
        )
        .await?;
    let describe = |row: &Row| -> Result<Observation> {
        let (name, state, sync): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let lag: i64 = row.try_get(3)?;
        let text = format!("{name} ({sync}, {state}) is {lag} ms behind");
        Ok(if lag > LAG_WARNING_MS { warning(WHAT, text) } else { good(WHAT, text) })
    };
    let found: Vec<Observation> = rows.iter().map(describe).collect::<Result<_>>()?;
    Ok(or_good(WHAT, found, "none is connected to this server"))
}

async fn transactions(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "transactions";
    let rows = client
        .query_typed(
            &format!(
                "SELECT pid, coalesce(application_name, ''), (extract(epoch FROM clock_timestamp() - xact_start) / 60)::bigint \
                 FROM pg_stat_activity WHERE xact_start < clock_timestamp() - interval '{TRANSACTION_WARNING}' \
                   AND backend_type = 'client backend' ORDER BY xact_start LIMIT 5"
            ),
            &[],
        )
        .await?;
    let describe = |row: &Row| -> Result<Observation> {
        let (pid, name, minutes): (i32, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let text = format!("process {pid} ({name}) has one open for {minutes} min: the queue cannot be cleaned up");
        Ok(warning(WHAT, text))
    };
    let found: Vec<Observation> = rows.iter().map(describe).collect::<Result<_>>()?;
    Ok(or_good(WHAT, found, format!("none is open for {TRANSACTION_WARNING}")))
}

async fn nodes(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "nodes";
    let rows = client
        .query_typed(
            "SELECT name, slot, version, \
                    heartbeat_at < clock_timestamp() - ttl_ms * interval '1 millisecond' FROM nodes WHERE NOT dead ORDER BY slot",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    let mut living = Vec::new();
    for row in &rows {
        let (name, slot, version): (String, i16, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        match row.try_get(3)? {
            true => found.push(warning(WHAT, format!("{name} gives no sign of life"))),
            false => living.push(format!("{name} (slot {slot}, version {version})")),
        }
    }
    let left = client
        .query_typed_one(
            "SELECT count(*) FROM nodes d WHERE dead AND ( \
                 EXISTS (SELECT FROM pending WHERE owner = d.session AND due_at IS NULL) \
                 OR EXISTS (SELECT FROM pending WHERE owner = d.session AND due_at IS NOT NULL) \
                 OR EXISTS (SELECT FROM homes WHERE owner = d.session))",
            &[],
        )
        .await?;
    let left: i64 = left.try_get(0)?;
    if left > 0 {
        found.push(warning(WHAT, format!("{left} dead ones have deliveries that nobody has taken over yet")));
    }
    let text = if living.is_empty() { "none is running".to_owned() } else { living.join(", ") };
    found.push(good(WHAT, text));
    Ok(found)
}

async fn days(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "days";
    let row = client.query_typed_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await?;
    let today = Day::of(UnixMs(row.try_get(0)?));
    let mut missing = Vec::new();
    let mut kept = 0;
    for kind in Kind::ALL {
        let days = partition::whole_days(client, kind).await?;
        kept = kept.max(days.len());
        for (day, name) in [(today, "today's"), (today.next(), "tomorrow's")] {
            if !days.contains(&day) {
                missing.push(format!("{name} {}", kind.tables().join(" and ")));
            }
        }
    }
    Ok(vec![if missing.is_empty() {
        good(WHAT, format!("today and tomorrow have their tables; {kept} days are kept"))
    } else {
        warning(WHAT, format!("missing until a node runs: {}", missing.join(", ")))
    }])
}

async fn indexes(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "indexes";
    let rows = client
        .query_typed(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE NOT (i.indisvalid AND i.indisready) \
               AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('pending'))",
            &[],
        )
        .await?;
    let describe = |row: &Row| -> Result<Observation> {
        let name: String = row.try_get(0)?;
        Ok(bad(WHAT, format!("{name} is invalid and not used: REINDEX INDEX {name}")))
    };
    let found: Vec<Observation> = rows.iter().map(describe).collect::<Result<_>>()?;
    Ok(or_good(WHAT, found, "all are valid"))
}

async fn queue(client: &Object) -> Result<Vec<Observation>> {
    const WHAT: &str = "queue";
    let row = client
        .query_typed_one(
            "SELECT n_live_tup, n_dead_tup, pg_total_relation_size(relid) FROM pg_stat_user_tables \
             WHERE relid = to_regclass('pending')",
            &[],
        )
        .await?;
    let (live, dead, bytes): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let text = format!("about {live} rows and {dead} dead ones in {} MiB", bytes >> 20);
    Ok(vec![if dead > DEAD_ROWS_WARNING && dead > live {
        warning(WHAT, format!("{text}: autovacuum does not keep up, or a long transaction holds it back"))
    } else {
        good(WHAT, text)
    }])
}

/// Whether what one connection tells reaches another.
async fn notifications(node: &Node) -> Result<Vec<Observation>> {
    const WHAT: &str = "notifications";
    let channel = format!("postrider_doctor_{}", std::process::id());
    let (client, mut connection) = node.pools.dialer.dial().await?;
    let speaker = node.reader().await?;
    let asked = async {
        client.batch_execute(&format!("LISTEN {channel}")).await?;
        speaker.query_typed("SELECT pg_notify($1, '')", &[(&channel, Type::TEXT)]).await?;
        std::future::pending::<Result<bool, Error>>().await
    };
    let heard = async {
        loop {
            match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(_))) => return Ok(true),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Error::from(error)),
                None => return Ok(false),
            }
        }
    };
    let arrived = tokio::time::timeout(NOTIFICATION_MAX, async {
        tokio::select! { heard = heard => heard, failed = asked => failed }
    });
    Ok(vec![match arrived.await {
        Ok(Ok(true)) => good(WHAT, "arrive"),
        _ => warning(WHAT, "do not arrive, as with a pooler in transaction mode: nodes look every 0.5 to 2 s instead"),
    }])
}
