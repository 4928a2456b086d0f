//! What is moved: for each table, by day where it has days, the rows of the source in the form they have here.

use rusqlite::Connection;
use uuid::Uuid;

use super::value::{Kind, Kind::*};
use crate::store::Result;
use crate::store::day::Day;

/// The columns of a table, with what they hold.
pub(super) type Columns = &'static [(&'static str, Kind)];

/// A table, or a day of one.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) table: &'static str,
    pub(super) day: Option<Day>,
    pub(super) columns: Columns,
    /// Gives the columns in their order, and the rows in one order.
    pub(super) source: String,
}

impl Part {
    /// Such as `events 20260304`.
    pub(super) fn name(&self) -> String {
        match self.day {
            Some(day) => format!("{} {}", self.table, day.suffix()),
            None => self.table.to_owned(),
        }
    }

    /// Where its rows are here.
    pub(super) fn relation(&self) -> String {
        match self.day {
            Some(day) => format!("{}_{}", self.table, day.suffix()),
            None => self.table.to_owned(),
        }
    }
}

const SETTINGS: Columns = &[("name", Text), ("value", Bytes)];
const PARTNERS: Columns = &[("number", Int), ("id", Id), ("name", Text), ("created_at", Int)];
const TENANTS: Columns = &[
    ("id", Id),
    ("name", Text),
    ("partner", Id),
    ("external_id", Text),
    ("dialect", Text),
    ("created_at", Int),
    ("updated_at", Int),
    ("settings", Text),
];
const KEYS_OF_API: Columns = &[
    ("id", Id),
    ("tenant", Id),
    ("name", Text),
    ("role", Text),
    ("scopes", Json),
    ("hash", Bytes),
    ("shown_prefix", Text),
    ("expires_at", Int),
    ("created_at", Int),
];
const EVENT_TYPES: Columns = &[("tenant", Id), ("name", Text), ("body", Text)];
const WEBHOOKS: Columns = &[
    ("id", Id),
    ("tenant", Id),
    ("spec", Text),
    ("status", Text),
    ("disabled_reason", Text),
    ("sealed_secrets", Bytes),
    ("temporary", Bool),
    ("created_at", Int),
    ("updated_at", Int),
    ("sealed_receiver", Bytes),
];
const AUDIT_LOG: Columns = &[
    ("number", Int),
    ("id", Id),
    ("at", Int),
    ("tenant", Id),
    ("actor", Text),
    ("address", Text),
    ("request_id", Text),
    ("action", Text),
    ("target", Text),
    ("before", Text),
    ("after", Text),
    ("hash", Bytes),
];
const REPLIES: Columns = &[
    ("caller", Text),
    ("route", Text),
    ("key", Text),
    ("fingerprint", Bytes),
    ("at", Int),
    ("session", Int),
    ("status", Int),
    ("sealed_body", Bytes),
];
const REPLAYS: Columns = &[
    ("number", Int),
    ("id", Id),
    ("tenant", Id),
    ("owner", Int),
    ("selection", Json),
    ("rate_per_second", Real),
    ("status", Int),
    ("matched", Int),
    ("done", Int),
    ("queued", Int),
    ("cursor", Int),
    ("created_at", Int),
    ("finished_at", Int),
];
const OBJECTS: Columns = &[("kind", Text), ("id", Id), ("tenant", Id), ("name", Text), ("body", Text)];
const FIRES: Columns =
    &[("webhook", Id), ("state_key", Bytes), ("delivery", Int), ("at", Int), ("until", Int), ("allowed", Bool)];
const SESSIONS: Columns =
    &[("hash", Bytes), ("id", Id), ("owner", Id), ("created_at", Int), ("expires_at", Int), ("body", Text)];
const LINKS: Columns = &[("hash", Bytes), ("kind", Text), ("owner", Id), ("expires_at", Int), ("body", Text)];
const GATEWAY_USAGE: Columns = &[("key", Id), ("count", Int), ("last_used_at", Int)];
const ROUTE_LOG: Columns = &[("tenant", Id), ("n", Int), ("route", Text), ("failed", Bool), ("body", Text)];
const EVENTS: Columns = &[
    ("tenant", Id),
    ("n", Int),
    ("entropy", Int),
    ("type", Text),
    ("fanout", Int),
    ("source", Int),
    ("occurred_at", Int),
    ("external_id", Text),
    ("idempotency_key", Text),
    ("ordering_key", Text),
    ("trace_parent", Text),
    ("data", Text),
    ("content_type", Text),
    ("raw", Bytes),
];
const RECEIVED: Columns = &[
    ("tenant", Id),
    ("n", Int),
    ("entropy", Int),
    ("webhook", Id),
    ("type", Text),
    ("source", Text),
    ("method", Text),
    ("target", Text),
    ("headers", Text),
    ("address", Text),
    ("verdict", Int),
    ("reason", Text),
    ("provider_event_id", Text),
    ("test", Bool),
    ("event", Int),
    ("event_entropy", Int),
    ("repeat", Bool),
    ("released_at", Int),
    ("content_type", Text),
    ("body", Bytes),
];
const DELIVERIES: Columns = &[
    ("tenant", Id),
    ("n", Int),
    ("event", Int),
    ("entropy", Int),
    ("webhook", Id),
    ("type", Text),
    ("status", Int),
    ("trigger", Int),
    ("replay", Id),
    ("attempts", Int),
    ("finished_at", Int),
    ("attempt", Int),
    ("attempt_at", Int),
    ("duration_ms", Twin),
    ("http_status", Int),
    ("error_class", Int),
    ("error_detail", Text),
    ("address", Text),
    ("response_headers", Text),
    ("response_body", Bytes),
];
const ATTEMPTS: Columns = &[
    ("tenant", Id),
    ("delivery", Int),
    ("attempt", Int),
    ("attempt_at", Int),
    ("duration_ms", Twin),
    ("http_status", Int),
    ("error_class", Int),
    ("error_detail", Text),
    ("address", Text),
    ("response_headers", Text),
    ("response_body", Bytes),
];
const ROLLUPS: Columns = &[
    ("tenant", Id),
    ("subject", Id),
    ("bucket", Int),
    ("slot", Int),
    ("succeeded", Int),
    ("failed", Int),
    ("canceled", Int),
    ("codes", Json),
    ("latency", Bytes),
];
const HEALTH: Columns = &[
    ("tenant", Id),
    ("webhook", Id),
    ("slot", Int),
    ("recorded_at", Int),
    ("last_delivery_at", Int),
    ("last_success_at", Int),
    ("last_failure_at", Int),
    ("last_succeeded", Bool),
    ("failing_since", Int),
    ("consecutive_failures", Int),
    ("failing", Bool),
];
const KEYS: Columns = &[("day", Int), ("tenant", Id), ("kind", Int), ("key", Text), ("event", Int)];
const PENDING: Columns = &[
    ("tenant", Id),
    ("webhook", Id),
    ("n", Int),
    ("event", Int),
    ("owner", Int),
    ("due_at", Int),
    ("attempts", Int),
    ("step", Int),
    ("resume_at", Int),
    ("trigger", Int),
    ("replay", Id),
    ("ordering_key", Text),
];

/// Tables without days: `$` stands for the columns, read as they are.
const WHOLE: &[(&str, Columns, &str)] = &[
    ("settings", SETTINGS, "SELECT $ FROM settings ORDER BY name"),
    ("partners", PARTNERS, "SELECT $ FROM partners ORDER BY number"),
    ("tenants", TENANTS, "SELECT $ FROM tenants ORDER BY id"),
    ("api_keys", KEYS_OF_API, "SELECT $ FROM api_keys ORDER BY id"),
    ("event_types", EVENT_TYPES, "SELECT $ FROM event_types ORDER BY tenant, name"),
    ("webhooks", WEBHOOKS, "SELECT $ FROM webhooks ORDER BY id"),
    ("objects", OBJECTS, "SELECT $ FROM objects ORDER BY kind, id"),
    ("fires", FIRES, "SELECT $ FROM fires ORDER BY webhook, state_key, delivery"),
    ("gateway_usage", GATEWAY_USAGE, "SELECT $ FROM gateway_usage ORDER BY key"),
    ("sessions", SESSIONS, "SELECT $ FROM sessions ORDER BY hash"),
    ("links", LINKS, "SELECT $ FROM links ORDER BY hash"),
    ("audit_log", AUDIT_LOG, "SELECT $ FROM audit_log ORDER BY number"),
    // What nobody has answered yet nobody will.
    (
        "replies",
        REPLIES,
        "SELECT caller, route, key, fingerprint, at, 0, status, sealed_body FROM replies \
                          WHERE status IS NOT NULL ORDER BY caller, route, key",
    ),
    (
        "replays",
        REPLAYS,
        "SELECT number, id, tenant, 0, selection, rate_per_second, status, matched, done, queued, \
                          cursor, created_at, finished_at FROM replays ORDER BY number",
    ),
    (
        "webhook_health",
        HEALTH,
        "SELECT tenant, webhook, 0, recorded_at, last_delivery_at, last_success_at, \
                                last_failure_at, last_succeeded, failing_since, consecutive_failures, failing \
                                FROM webhook_health ORDER BY webhook",
    ),
];

fn with_columns(sql: &str, columns: Columns) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.0).collect();
    sql.replace('$', &names.join(", "))
}

fn days(source: &Connection, kind: &str) -> Result<Vec<Day>> {
    let mut select = source.prepare("SELECT day FROM days WHERE kind = ? ORDER BY day")?;
    let days = select.query_map([kind], |row| row.get(0).map(Day))?;
    Ok(days.collect::<rusqlite::Result<_>>()?)
}

/// Everything, in the order in which it is moved: `started_at` is when parked rows that were held are due.
pub(super) fn plan(source: &Connection, started_at: i64) -> Result<Vec<Part>> {
    let whole = |(table, columns, sql): &(&'static str, Columns, &str)| Part {
        table,
        day: None,
        columns,
        source: with_columns(sql, columns),
    };
    let mut parts: Vec<Part> = WHOLE.iter().map(whole).collect();
    let history = days(source, "history")?;
    for day in &history {
        parts.extend(history_of(*day));
    }
    for day in days(source, "rollups")? {
        parts.push(rollups_of(day));
    }
    let known = days(source, "keys")?;
    let today = Day::of(postrider_core::time::UnixMs(started_at));
    for day in [today, today.next()] {
        parts.extend(keys_of(day, &known, &history));
    }
    let source = format!(
        "SELECT tenant, webhook, n, event, 0, coalesce(due_at, {started_at}), attempts, step, resume_at, trigger, replay, \
         ordering_key FROM pending ORDER BY n"
    );
    parts.push(Part { table: "pending", day: None, columns: PENDING, source });
    Ok(parts)
}

fn history_of(day: Day) -> [Part; 5] {
    let suffix = day.suffix();
    let part = |table, columns, source| Part { table, day: Some(day), columns, source };
    let of = |table: &str, columns| with_columns(&format!("SELECT $ FROM {table}_{suffix} ORDER BY n"), columns);
    // An attempt does not name its tenant in the source; a deleted tenant's is of no use.
    let attempts = format!(
        "SELECT coalesce(d.tenant, p.tenant) AS tenant, a.delivery, a.attempt, a.attempt_at, a.duration_ms, \
         a.http_status, a.error_class, a.error_detail, a.address, a.response_headers, a.response_body \
         FROM attempts_{suffix} AS a LEFT JOIN deliveries_{suffix} AS d ON d.n = a.delivery \
         LEFT JOIN pending AS p ON p.n = a.delivery WHERE coalesce(d.tenant, p.tenant) IS NOT NULL ORDER BY a.n"
    );
    [
        part("events", EVENTS, of("events", EVENTS)),
        part("received", RECEIVED, of("received", RECEIVED)),
        part("deliveries", DELIVERIES, of("deliveries", DELIVERIES)),
        part("attempts", ATTEMPTS, attempts),
        part("route_log", ROUTE_LOG, of("route_log", ROUTE_LOG)),
    ]
}

/// A rollup does not name its tenant in the source.
fn rollups_of(day: Day) -> Part {
    let source = format!(
        "SELECT CASE WHEN length(subject) = 0 THEN subject ELSE coalesce( \
           (SELECT tenant FROM webhooks WHERE id = subject), \
           (SELECT tenant FROM webhook_health WHERE webhook = subject), subject) END, \
         subject, bucket, 0, succeeded, failed, canceled, codes, latency FROM rollups_{} ORDER BY subject, bucket",
        day.suffix()
    );
    Part { table: "rollups", day: Some(day), columns: ROLLUPS, source }
}

/// What counts on `day`: keys and external ids of it and of the day before.
fn keys_of(day: Day, keys: &[Day], history: &[Day]) -> Option<Part> {
    let mut sources = Vec::new();
    for of in [day.minus(1), day] {
        let suffix = of.suffix();
        if keys.contains(&of) {
            sources.push(format!("SELECT tenant, 0 AS kind, key, event FROM keys_{suffix}"));
        }
        if history.contains(&of) {
            sources
                .push(format!("SELECT tenant, 1, external_id, n FROM events_{suffix} WHERE external_id IS NOT NULL"));
        }
    }
    let source = format!(
        "SELECT {}, tenant, kind, key, max(event) FROM (SELECT NULL AS tenant, NULL AS kind, NULL AS key, NULL AS event \
         WHERE false UNION ALL {}) GROUP BY tenant, kind, key ORDER BY tenant, kind, key",
        day.0,
        sources.join(" UNION ALL ")
    );
    (!sources.is_empty()).then_some(Part { table: "keys", day: Some(day), columns: KEYS, source })
}

fn one(source: &Connection, sql: &str) -> Result<i64> {
    Ok(source.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0))
}

/// The greatest number that was ever handed out, of what is left.
pub(super) fn greatest_number(source: &Connection) -> Result<i64> {
    let mut greatest = one(source, "SELECT max(n) FROM pending")?;
    for day in days(source, "history")? {
        greatest = greatest.max(one(source, &format!("SELECT max(n + fanout) FROM events_{}", day.suffix()))?);
        for table in ["deliveries", "received", "route_log"] {
            greatest = greatest.max(one(source, &format!("SELECT max(n) FROM {table}_{}", day.suffix()))?);
        }
    }
    Ok(greatest)
}

/// What tells whether the source is as it was.
pub(super) fn fingerprint(source: &Connection) -> Result<String> {
    let pending = one(source, "SELECT count(*) FROM pending")?;
    let audited = one(source, "SELECT max(number) FROM audit_log")?;
    Ok(format!("{} {pending} {audited}", greatest_number(source)?))
}

/// The webhooks that need a home, with their tenants.
pub(super) fn homed(source: &Connection) -> Result<Vec<(Uuid, Uuid)>> {
    let mut select = source.prepare("SELECT id, tenant, spec FROM webhooks")?;
    let rows = select
        .query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, [u8; 16]>(1)?, row.get::<_, String>(2)?)))?;
    let mut homed = Vec::new();
    for row in rows {
        let (id, tenant, spec) = row?;
        let spec: postrider_core::webhook::WebhookSpec = serde_json::from_str(&spec)
            .map_err(|error| anyhow::Error::new(error).context("a webhook of the source"))?;
        if spec.is_homed() {
            homed.push((Uuid::from_bytes(id), Uuid::from_bytes(tenant)));
        }
    }
    Ok(homed)
}
