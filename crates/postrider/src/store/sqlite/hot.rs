//! The statements of the hot path, one set per day, so that their text is made once a day and not once a row.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use rusqlite::Connection;

use super::partition::{self, Kind};
use super::row::ATTEMPT_COLUMNS;
use crate::store::Result;
use crate::store::day::Day;

/// SQL over the tables of one day of history.
#[derive(Debug)]
pub(super) struct HotSql {
    pub(super) insert_event: String,
    pub(super) insert_delivery: String,
    pub(super) insert_attempt: String,
    pub(super) insert_received: String,
}

impl HotSql {
    fn new(day: Day) -> HotSql {
        let day = day.suffix();
        HotSql {
            insert_event: format!(
                "INSERT INTO events_{day} (n, entropy, tenant, type, fanout, source, occurred_at, external_id, \
                 idempotency_key, ordering_key, trace_parent, data, content_type, raw) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ),
            insert_delivery: format!(
                "INSERT INTO deliveries_{day} (n, event, entropy, tenant, webhook, type, status, trigger, replay, \
                 attempts, finished_at, {ATTEMPT_COLUMNS}) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ),
            insert_attempt: format!(
                "INSERT OR REPLACE INTO attempts_{day} (delivery, {ATTEMPT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ),
            insert_received: format!(
                "INSERT INTO received_{day} (n, entropy, tenant, webhook, type, source, method, target, headers, \
                 address, verdict, reason, provider_event_id, test, event, event_entropy, repeat, content_type, body) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ),
        }
    }
}

/// SQL over the idempotency keys of one day.
#[derive(Debug)]
pub(super) struct KeysSql {
    pub(super) day: Day,
    pub(super) find: String,
    pub(super) insert: String,
}

impl KeysSql {
    fn new(day: Day) -> KeysSql {
        let table = format!("keys_{}", day.suffix());
        KeysSql {
            day,
            find: format!("SELECT event FROM {table} WHERE tenant = ? AND key = ?"),
            insert: format!("INSERT OR REPLACE INTO {table} (tenant, key, event) VALUES (?, ?, ?)"),
        }
    }
}

/// The days the writer has used, whose tables are known to exist.
#[derive(Debug, Default)]
pub(super) struct HotDays {
    history: HashMap<Day, Arc<HotSql>>,
    others: std::collections::HashSet<(Kind, Day)>,
    /// Of every day of keys, newest first; empty: to be looked up.
    keys: Vec<KeysSql>,
}

/// Days in use at a time are two or three; replays and late retries add old ones.
const DAYS_MAX: usize = 64;

impl HotDays {
    pub(super) fn clear(&mut self) {
        self.history.clear();
        self.others.clear();
        self.keys.clear();
    }

    /// The statements over idempotency keys, those of the newest day first.
    pub(super) fn keys(&mut self, conn: &Connection) -> Result<&[KeysSql]> {
        if self.keys.is_empty() {
            self.keys = partition::days(conn, Kind::Keys)?.into_iter().rev().map(KeysSql::new).collect();
        }
        Ok(&self.keys)
    }

    /// How a key of `day` is kept, whose table is created if it is not there.
    pub(super) fn insert_key(&mut self, conn: &Connection, day: Day) -> Result<&str> {
        if self.keys(conn)?.iter().all(|known| known.day != day) {
            partition::create(conn, Kind::Keys, day)?;
            self.keys.clear();
        }
        let made = self.keys(conn)?.iter().find(|known| known.day == day);
        Ok(&made.context("the day was made just now")?.insert)
    }

    /// The statements of `day`, whose tables are created if they are not there.
    pub(super) fn history(&mut self, conn: &Connection, day: Day) -> Result<Arc<HotSql>> {
        if let Some(sql) = self.history.get(&day) {
            return Ok(sql.clone());
        }
        if self.history.len() >= DAYS_MAX {
            self.history.clear();
        }
        partition::create(conn, Kind::History, day)?;
        let sql = Arc::new(HotSql::new(day));
        self.history.insert(day, sql.clone());
        Ok(sql)
    }

    /// Makes sure that the tables of another kind exist.
    pub(super) fn ensure(&mut self, conn: &Connection, kind: Kind, day: Day) -> Result<()> {
        if self.others.contains(&(kind, day)) {
            return Ok(());
        }
        if self.others.len() >= DAYS_MAX {
            self.others.clear();
        }
        partition::create(conn, kind, day)?;
        self.others.insert((kind, day));
        Ok(())
    }
}
