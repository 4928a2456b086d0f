//! The log of changes of configuration, by which nodes follow each other, and the turn to change something.
//!
//! Whoever changes something first takes the lock on the one row of `configuration_state` and keeps it until commit. So
//! versions are consecutive, in the order of commit, and no two changes wait for each other's rows.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use deadpool_postgres::Transaction;
use postrider_core::ids::{KeyId, PartnerId, TenantId, WebhookId};
use tokio::time::Instant;
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::PgStore;
use super::config;
use super::gateway;
use super::row::count_at;
use crate::store::{Change, Changed, Changes, Error, ObjectKind, Result};

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Partner = 0,
    Tenant = 1,
    Key = 2,
    EventType = 3,
    Webhook = 4,
}

/// One object that has changed. Event types: `id` of the owner (all zeros: the platform) and the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub(super) kind: Kind,
    pub(super) id: Uuid,
    pub(super) name: &'a str,
}

impl Object<'_> {
    pub(super) fn of(kind: Kind, id: Uuid) -> Object<'static> {
        Object { kind, id, name: "" }
    }

    /// One that is kept whole. It is told as a key with the name of its kind: keys have no names here, and nodes of
    /// version 3 take it for a key that they do not have, where a kind of its own would stop them.
    pub(super) fn whole(kind: ObjectKind, id: Uuid) -> Object<'static> {
        Object { kind: Kind::Key, id, name: kind.name() }
    }
}

/// Takes the next version for changes of `objects` in this transaction, and its order among others. To be called first.
///
/// # Errors
/// Also if the turn of this node has gone to another one: what the change builds on may be outdated.
pub(super) async fn changed(store: &PgStore, tx: &Transaction<'_>, objects: &[Object<'_>]) -> Result<()> {
    let kinds: Vec<i16> = objects.iter().map(|object| object.kind as i16).collect();
    let ids: Vec<Uuid> = objects.iter().map(|object| object.id).collect();
    let names: Vec<&str> = objects.iter().map(|object| object.name).collect();
    let (holder, until) = store.turn.lock().unzip();
    let logged = tx
        .execute_typed(
            "WITH next AS (UPDATE configuration_state SET version = version + 1 \
                           WHERE $4::integer IS NULL OR holder = $4 AND held_until = $5 RETURNING version) \
             INSERT INTO changes (version, kind, id, name) \
             SELECT next.version, object.* FROM next, UNNEST($1::smallint[], $2::uuid[], $3::text[]) AS object",
            &[
                (&kinds, Type::INT2_ARRAY),
                (&ids, Type::UUID_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&holder, Type::INT4),
                (&until, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    if logged == 0 {
        return Err(Error::Unavailable("another node has taken the turn to change the configuration".into()));
    }
    Ok(())
}

// ---- following ---------------------------------------------------------------------------------------------------------

/// More changed objects than this are told by the whole configuration.
const CHANGED_MAX: i64 = 1_000;

pub(super) async fn changes(store: &PgStore, version: u64) -> Result<Changes> {
    let mut client = store.reader().await?;
    let known = i64::try_from(version).context("a version")?;
    let row = client.query_typed_one("SELECT version FROM configuration_state", &[]).await?;
    if row.try_get::<_, i64>(0)? == known {
        return Ok(Changes { version, change: Change::Some(Vec::new()) });
    }
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let tx = transaction.start().await?;
    let changes = read_changes(&tx, known).await?;
    tx.commit().await?;
    Ok(changes)
}

async fn read_changes(tx: &Transaction<'_>, known: i64) -> Result<Changes> {
    let row = tx.query_typed_one("SELECT version FROM configuration_state", &[]).await?;
    let version = count_at(&row, 0)?;
    let rows = tx
        .query_typed(
            "SELECT kind, id, name, min(version) FROM changes WHERE version > $1 GROUP BY kind, id, name \
             ORDER BY max(version) LIMIT $2",
            &[(&known, Type::INT8), (&(CHANGED_MAX + 1), Type::INT8)],
        )
        .await?;
    // Every version has a row, so the log reaches back if it has the next one.
    let reaches = "SELECT EXISTS (SELECT 1 FROM changes WHERE version = $1)";
    let reaches = tx.query_typed_one(reaches, &[(&(known + 1), Type::INT8)]).await?;
    if !reaches.try_get::<_, bool>(0)? || rows.len() as i64 > CHANGED_MAX {
        let configuration = config::read_all(tx).await?;
        return Ok(Changes { version, change: Change::All(Box::new(configuration)) });
    }
    let mut objects = Vec::with_capacity(rows.len());
    for row in &rows {
        objects.push((row.try_get::<_, i16>(0)?, row.try_get::<_, Uuid>(1)?, row.try_get::<_, String>(2)?));
    }
    Ok(Changes { version, change: Change::Some(load(tx, &objects).await?) })
}

/// The objects as they are now, in the order of their last change.
async fn load(tx: &Transaction<'_>, objects: &[(i16, Uuid, String)]) -> Result<Vec<Changed>> {
    let of = |kind: Kind| objects.iter().filter(move |object| object.0 == kind as i16);
    let ids = |kind: Kind| of(kind).map(|object| object.1).collect::<Vec<_>>();
    let names: Vec<&str> = of(Kind::EventType).map(|object| object.2.as_str()).collect();
    let mut partners = keyed(config::partners_of(tx, &ids(Kind::Partner)).await?, |record| record.id.0);
    let mut tenants = keyed(config::tenants_of(tx, &ids(Kind::Tenant)).await?, |record| record.id.0);
    let mut whole = keyed(gateway::objects_of(tx, &ids(Kind::Key)).await?, |object| (object.kind(), object.id()));
    let mut keys = keyed(config::keys_of(tx, &ids(Kind::Key)).await?, |record| record.id.0);
    let mut webhooks = keyed(config::webhooks_of(tx, &ids(Kind::Webhook)).await?, |record| record.id.0);
    let event_types = config::event_types_of(tx, &ids(Kind::EventType), &names).await?;
    let mut event_types = keyed(event_types, |record| (record.tenant_id, record.name.clone()));
    let mut changed = Vec::with_capacity(objects.len());
    for (kind, id, name) in objects {
        changed.push(match *kind {
            0 => Changed::Partner(PartnerId(*id), partners.remove(id)),
            1 => Changed::Tenant(TenantId(*id), tenants.remove(id)),
            2 if name.is_empty() => Changed::Key(KeyId(*id), keys.remove(id)),
            2 => match ObjectKind::from_name(name) {
                Some(kind) => Changed::Object(kind, *id, whole.remove(&(kind, *id)).map(Box::new)),
                // Of a later version.
                None => continue,
            },
            3 => {
                let owner = (!id.is_nil()).then_some(TenantId(*id));
                let record = event_types.remove(&(owner, name.clone()));
                Changed::EventType(owner, name.clone(), record)
            }
            4 => Changed::Webhook(WebhookId(*id), webhooks.remove(id).map(Box::new)),
            other => return Err(anyhow::anyhow!("{other} is no kind of configuration").into()),
        });
    }
    Ok(changed)
}

fn keyed<K: Eq + Hash, T>(records: Vec<T>, key: fn(&T) -> K) -> HashMap<K, T> {
    records.into_iter().map(|record| (key(&record), record)).collect()
}

// ---- the turn ------------------------------------------------------------------------------------------------------------

/// The turn of a node: its session and when it ends, which together no other turn has.
pub(super) type Turn = (i32, SystemTime);

/// How long a turn lasts at most: its holder may be dead, and nobody know it yet.
const TURN: &str = "5 seconds";
/// Longer than a turn: a node that dies in its own delays others' changes, and has none refused.
const WAIT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn lock_configuration(store: &PgStore) -> Result<()> {
    let started = Instant::now();
    let sql = format!(
        "UPDATE configuration_state SET holder = $1, held_until = clock_timestamp() + interval '{TURN}' \
         WHERE holder IS NULL OR holder = $1 OR held_until < clock_timestamp() \
            OR EXISTS (SELECT FROM nodes WHERE session = holder AND dead) \
         RETURNING held_until"
    );
    loop {
        let client = store.reader().await?;
        let session = store.session();
        let rows = client.query_typed(&sql, &[(&session, Type::INT4)]).await?;
        drop(client);
        if let [row] = &rows[..] {
            *store.turn.lock() = Some((session, row.try_get(0)?));
            return Ok(());
        }
        if started.elapsed() > WAIT_MAX {
            return Err(Error::Unavailable("other nodes are changing the configuration".into()));
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(super) async fn unlock_configuration(store: &PgStore) {
    let Some((holder, until)) = store.turn.lock().take() else { return };
    let sql = "UPDATE configuration_state SET holder = NULL, held_until = NULL WHERE holder = $1 AND held_until = $2";
    let unlocked = async || -> Result<u64> {
        let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&holder, Type::INT4), (&until, Type::TIMESTAMPTZ)];
        Ok(store.reader().await?.execute_typed(sql, parameters).await?)
    };
    if let Err(error) = unlocked().await {
        tracing::debug!(%error, "store: the turn to change the configuration ends by itself");
    }
}
