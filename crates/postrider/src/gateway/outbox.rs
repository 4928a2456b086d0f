//! Changes that any program makes in a client's PostgreSQL become events of its tenant: the drainers of the outboxes.
//!
//! Every node has one drainer for each client that can be used and has an outbox; those of one database compete for its
//! lock, so one of them works. A batch is one acceptance, and the next one is read when it is on disk: what a key has gone
//! through stands in the stream in the order in which it was committed. A batch that was accepted and could not be
//! deleted comes again; its events have the ids that they had, and are dropped as repeats. What cannot be accepted now stays
//! in the client's database and is tried again, after pauses that grow.
//!
//! A change is refused for nothing that is its own: a schema that it does not fit is told in the log, a key that is too long
//! is left out, and everything else was made to fit before. What can go wrong with an acceptance passes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::ids::TenantId;
use postrider_core::limits::{EVENT_TYPE_BYTES_MAX, ORDERING_KEY_BYTES_MAX};
use postrider_core::subscription::{check_event_type, is_reserved};
use postrider_gateway::outbox::{self, Change, Op};
use postrider_gateway::{Backend, Settings, Uri};
use ring::digest;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Databases;
use crate::catalog::Catalog;
use crate::pipeline::{Engine, Publish, PublishError};
use crate::store::ClientRecord;

/// How often the configuration is looked at: that is a walk over the clients in memory.
const LOOK: Duration = Duration::from_millis(500);
/// What stands before the type of an event whose table's name gives none that may be published.
const PREFIX: &str = "db";
/// A key in the data of an event, bytes: a longer one takes part in the ordering key alone.
const KEY_BYTES_MAX: usize = 8 * 1024;

/// The drainers of this node.
#[derive(Debug)]
pub(super) struct Drainers {
    engine: Arc<Engine>,
    catalog: Arc<Catalog>,
    databases: Arc<Databases>,
    running: HashMap<Uuid, Drainer>,
}

#[derive(Debug)]
struct Drainer {
    of: Origin,
    /// `None`: its address cannot be used, which does not change before the record does.
    task: Option<AbortOnDropHandle<()>>,
}

/// What a drainer depends on: when it changes, another one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    tenant_id: TenantId,
    sealed_uri: Option<Vec<u8>>,
    uri_env_var: Option<String>,
}

impl Origin {
    fn of(client: &ClientRecord) -> Origin {
        Origin {
            tenant_id: client.tenant_id,
            sealed_uri: client.sealed_uri.clone(),
            uri_env_var: client.uri_env_var.clone(),
        }
    }
}

impl Drainers {
    pub(super) fn new(engine: Arc<Engine>, catalog: Arc<Catalog>, databases: Arc<Databases>) -> Drainers {
        Drainers { engine, catalog, databases, running: HashMap::new() }
    }

    /// Until it is stopped; the drainers end with it.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => self.look(),
            }
        }
    }

    /// Ends drainers that are no longer wanted, and starts those that are missing.
    fn look(&mut self) {
        let mut wanted = self.catalog.clients();
        wanted.retain(|client| client.is_usable() && !client.outbox_tables.is_empty());
        self.running.retain(|id, drainer| {
            let client = wanted.iter().find(|client| client.id == *id);
            // One that has ended by itself has panicked.
            let is_alive = drainer.task.as_ref().is_none_or(|task| !task.is_finished());
            is_alive && client.is_some_and(|client| Origin::of(client) == drainer.of)
        });
        for client in wanted {
            if !self.running.contains_key(&client.id) {
                let task = self.start(&client).map(AbortOnDropHandle::new);
                self.running.insert(client.id, Drainer { of: Origin::of(&client), task });
            }
        }
    }

    fn start(&self, client: &ClientRecord) -> Option<tokio::task::JoinHandle<()>> {
        let uri = match self.databases.uri(client) {
            Ok(uri) if uri.backend() == Backend::Postgres => uri,
            Ok(_) => {
                tracing::warn!(client = client.name, "an outbox is not drained: its client is no longer on PostgreSQL");
                return None;
            }
            // That is in the log already.
            Err(_) => return None,
        };
        let stream = Stream { tenant_id: client.tenant_id, client: client.id };
        let (engine, settings) = (self.engine.clone(), self.databases.settings().clone());
        Some(tokio::spawn(drain(engine, stream, client.name.clone(), uri, settings)))
    }
}

async fn drain(engine: Arc<Engine>, stream: Stream, name: String, uri: Uri, settings: Settings) {
    let hand_over = |batch: Vec<Change>| {
        let engine = engine.clone();
        async move {
            let events = batch.iter().map(|change| stream.event(change)).collect();
            accept(&engine, events, stream.client).await
        }
    };
    outbox::drain(&name, &uri, &settings, hand_over).await;
}

/// How many are on disk, from the first on. More than a tenant's quota allows at a time is taken in pieces, in the same
/// order.
async fn accept(engine: &Engine, events: Vec<Publish>, client: Uuid) -> usize {
    let (mut done, mut piece) = (0, events.len().max(1));
    while done < events.len() {
        let end = (done + piece).min(events.len());
        match engine.record(events[done..end].to_vec()).await {
            Ok(recorded) => {
                let new = recorded.iter().filter(|one| !one.repeat).count();
                metrics::counter!("postrider_outbox_changes_total").increment(new as u64);
                let misfits = recorded.iter().filter(|one| one.misfit.is_some()).count();
                if misfits > 0 {
                    tracing::warn!(%client, misfits, "changes do not fit the schema of their type; they are accepted");
                }
                done = end;
            }
            Err(PublishError::OverQuota { .. }) if end - done > 1 => piece = (end - done) / 2,
            Err(PublishError::ShuttingDown) => break,
            Err(error) => {
                metrics::counter!("postrider_outbox_deferred_total").increment(1);
                tracing::warn!(%client, %error, "changes of an outbox cannot be accepted yet, and stay there");
                break;
            }
        }
    }
    done
}

/// The stream that a client's changes enter.
#[derive(Clone, Copy, Debug)]
struct Stream {
    tenant_id: TenantId,
    client: Uuid,
}

/// The data of an event.
#[derive(Serialize)]
struct Data<'a> {
    table: &'a str,
    schema: &'a str,
    op: &'static str,
    key: Option<&'a str>,
    row: Option<&'a RawValue>,
    changed_at: &'a str,
}

impl Stream {
    fn event(&self, change: &Change) -> Publish {
        let data = Data {
            table: &change.table,
            schema: &change.schema,
            op: change.op.as_str(),
            key: change.key.as_deref().filter(|key| key.len() <= KEY_BYTES_MAX),
            row: change.row.as_deref(),
            changed_at: &change.created_at,
        };
        Publish {
            tenant_id: self.tenant_id,
            event_type: event_type(change).into(),
            occurred_at: change.created_at.parse().ok(),
            external_id: Some(self.external_id(change).into()),
            idempotency_key: None,
            ordering_key: Some(ordering_key(change).into()),
            trace_parent: None,
            data: Bytes::from(serde_json::to_vec(&data).expect("texts and JSON are JSON")),
        }
    }

    /// The same whenever the change is handed over, and no other's: a database that was put back to an earlier state, or
    /// is another one now, gives the same numbers to other changes, but not at the same microsecond.
    fn external_id(&self, change: &Change) -> String {
        let client = self.client.simple().to_string();
        let digits: String = change.created_at.chars().filter(char::is_ascii_digit).collect();
        format!("outbox-{}-{}-{digits}", &client[..12], change.id)
    }
}

/// The table's name, with its schema's unless that is `public`.
fn full_name(change: &Change) -> String {
    match change.schema.as_str() {
        "public" => change.table.clone(),
        schema => format!("{schema}.{}", change.table),
    }
}

/// `<table>.inserted` and so on. What may not stand in a type becomes `_`; `db.` comes before a name that a type cannot
/// begin with, or that is for Postrider's own; and a name that is too long is cut.
fn event_type(change: &Change) -> String {
    let done = match change.op {
        Op::Insert => "inserted",
        Op::Update => "updated",
        Op::Delete => "deleted",
        Op::Truncate => "truncated",
    };
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut name: String = full_name(change).chars().map(fits).collect();
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) || is_reserved(&format!("{name}.")) {
        name.insert_str(0, &format!("{PREFIX}."));
    }
    // Characters are bytes by now.
    name.truncate(EVENT_TYPE_BYTES_MAX - 1 - done.len());
    let whole = format!("{name}.{done}");
    debug_assert!(check_event_type(&whole).is_ok(), "{whole}");
    whole
}

/// Table and primary key; of a truncation, which has no key, the table. One that is too long or holds control characters
/// is told by its hash.
fn ordering_key(change: &Change) -> String {
    let table = full_name(change);
    let Some(key) = &change.key else { return table };
    let whole = format!("{table}/{key}");
    if whole.len() <= ORDERING_KEY_BYTES_MAX && !whole.contains(char::is_control) {
        return whole;
    }
    let hash = digest::digest(&digest::SHA256, whole.as_bytes());
    format!("sha256/{}", hex::encode(hash))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use postrider_core::limits::EXTERNAL_ID_BYTES_MAX;
    use serde_json::{Value, json};

    use super::*;

    fn change(schema: &str, table: &str, op: Op, key: Option<&str>) -> Change {
        Change {
            id: 42,
            schema: schema.into(),
            table: table.into(),
            op,
            key: key.map(Into::into),
            row: Some(RawValue::from_string(r#"{"n": 12345678901234567890.10, "id": 7}"#.into()).unwrap()),
            created_at: "2026-03-04T10:00:00.123456Z".into(),
        }
    }

    fn stream() -> Stream {
        Stream { tenant_id: TenantId::from_random([3; 16]), client: Uuid::from_bytes([0xab; 16]) }
    }

    #[test]
    fn a_change_becomes_an_event_that_says_everything_of_it() {
        let event = stream().event(&change("public", "orders", Op::Update, Some("7")));
        assert_eq!(&*event.event_type, "orders.updated");
        assert_eq!(event.ordering_key.as_deref(), Some("orders/7"));
        assert_eq!(event.external_id.as_deref(), Some("outbox-abababababab-42-20260304100000123456"));
        assert_eq!(event.occurred_at.unwrap().to_string(), "2026-03-04T10:00:00.123Z");
        assert_eq!(event.tenant_id, TenantId::from_random([3; 16]));
        let text = std::str::from_utf8(&event.data).unwrap();
        assert!(text.contains("12345678901234567890.10"), "numbers come as they are: {text}");
        let mut data: Value = serde_json::from_str(text).unwrap();
        data["row"] = json!("shown above");
        let expected = json!({
            "table": "orders", "schema": "public", "op": "update", "key": "7", "row": "shown above",
            "changed_at": "2026-03-04T10:00:00.123456Z",
        });
        assert_eq!(data, expected);
    }

    #[test]
    fn a_truncation_has_neither_key_nor_row() {
        let event = stream().event(&Change { row: None, ..change("sales", "orders", Op::Truncate, None) });
        assert_eq!(
            (&*event.event_type, event.ordering_key.as_deref()),
            ("sales.orders.truncated", Some("sales.orders"))
        );
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!((&data["key"], &data["row"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn every_table_has_a_type_that_may_be_published() {
        let long = "x".repeat(63);
        for (schema, table, op, expected) in [
            ("public", "Order Items", Op::Insert, "Order_Items.inserted"),
            ("public", "größe", Op::Delete, "gr__e.deleted"),
            ("public", "_hidden", Op::Insert, "db._hidden.inserted"),
            ("public", "注文", Op::Insert, "db.__.inserted"),
            ("public", "postrider", Op::Insert, "db.postrider.inserted"),
            ("postrider", "a", Op::Insert, "db.postrider.a.inserted"),
            ("public", "postrider_a", Op::Insert, "postrider_a.inserted"),
            ("public", "a/b$c", Op::Update, "a_b_c.updated"),
        ] {
            let told = event_type(&change(schema, table, op, None));
            assert_eq!(told, expected);
            check_event_type(&told).unwrap();
            assert!(!is_reserved(&told));
        }
        let told = event_type(&change(&long, &long, Op::Truncate, None));
        assert_eq!(told.len(), EVENT_TYPE_BYTES_MAX);
        assert!(told.ends_with("x.truncated"));
        check_event_type(&told).unwrap();
    }

    #[test]
    fn an_ordering_key_is_one_keys_own_and_fits() {
        let key = |table: &str, key: &str| ordering_key(&change("public", table, Op::Insert, Some(key)));
        let longest = "k".repeat(ORDERING_KEY_BYTES_MAX - "t/".len());
        assert_eq!(key("t", &longest), format!("t/{longest}"));
        let longer = key("t", &format!("{longest}k"));
        assert_eq!(longer.len(), "sha256/".len() + 64);
        assert_ne!(longer, key("t", &format!("{longest}l")));
        assert!(key("t", "a\nb").starts_with("sha256/"));
        assert_eq!(key("t", r#"["a", "1"]"#), r#"t/["a", "1"]"#);
    }

    #[test]
    fn a_key_beyond_the_bound_is_no_part_of_the_data() {
        for (length, comes) in [(KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
            let event = stream().event(&change("public", "t", Op::Delete, Some(&"k".repeat(length))));
            let data: Value = serde_json::from_slice(&event.data).unwrap();
            assert_eq!(data["key"].is_string(), comes, "{length}");
            assert!(event.ordering_key.unwrap().starts_with("sha256/"));
        }
    }

    #[test]
    fn an_id_fits_whatever_the_number_is_and_tells_changes_apart() {
        let with = |id, created_at: &str| {
            let change = Change { id, created_at: created_at.into(), ..change("public", "t", Op::Insert, None) };
            stream().external_id(&change)
        };
        let longest = with(i64::MAX, "2026-03-04T10:00:00.123456Z");
        assert!(longest.len() <= EXTERNAL_ID_BYTES_MAX, "{longest}");
        assert!(longest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{longest}");
        assert_ne!(with(1, "2026-03-04T10:00:00.123456Z"), with(1, "2026-03-04T10:00:00.123457Z"));
    }
}
