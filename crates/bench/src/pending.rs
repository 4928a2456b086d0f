//! Millions of deliveries that wait: what the statements over the queue cost beside them, and how long a node's death
//! takes to be made good.
//!
//! The server is measured as it is: PostgreSQL itself keeps the books on its statements (`pg_stat_statements`) and shows
//! the plans it took (`auto_explain`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio_postgres::Client;

use crate::database::Database;
use crate::progress::Progress;

/// What the cluster of this scenario is started with. Plans are logged once they are asked for.
pub(crate) const SETTINGS: [(&str, &str); 6] = [
    ("shared_preload_libraries", "pg_stat_statements,auto_explain"),
    ("auto_explain.log_min_duration", "0"),
    ("auto_explain.sample_rate", "0"),
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_buffers", "on"),
    ("compute_query_id", "on"),
];

/// Webhooks that the waiting deliveries belong to.
pub(crate) const IDLE_TENANTS: usize = 20;
pub(crate) const IDLE_WEBHOOKS: usize = 50;
/// What the names of their tenants start with.
pub(crate) const IDLE: &str = "Idle ";

/// The longest that a takeover may take.
const TAKEOVER_MAX: Duration = Duration::from_secs(1800);
/// Lines of one plan, and plans, that are worth showing.
const PLAN_LINES: usize = 30;
const PLANS: usize = 12;
const TEXT_CHARS: usize = 90;

/// What the scenario showed beside its measurements.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pending {
    pub(crate) rows: u64,
    pub(crate) webhooks: usize,
    /// Peak memory of the node with few and with many waiting, and after it has taken all of them over.
    pub(crate) memory_bytes: [u64; 3],
    /// From `kill -9` until the last row is the successor's, its time to live included.
    pub(crate) takeover_seconds: f64,
    pub(crate) statements: Vec<Statement>,
    pub(crate) plans: Vec<String>,
}

/// One statement over the queue.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) few: Usage,
    pub(crate) many: Usage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    pub(crate) calls: i64,
    pub(crate) mean_ms: f64,
    pub(crate) rows_per_call: f64,
    /// Shared buffers touched by one call.
    pub(crate) buffers_per_call: f64,
}

/// PostgreSQL's books on the statements over the queue, by text.
pub(crate) type Books = BTreeMap<String, Usage>;

pub(crate) async fn open_books(client: &Client) -> Result<()> {
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.context("postgresql-contrib is needed")?;
    reset_books(client).await
}

pub(crate) async fn reset_books(client: &Client) -> Result<()> {
    Ok(client.batch_execute("SELECT pg_stat_statements_reset()").await?)
}

pub(crate) async fn read_books(client: &Client) -> Result<Books> {
    let question = "SELECT regexp_replace(query, '\\s+', ' ', 'g'), sum(calls)::bigint, \
                    sum(total_exec_time) / sum(calls), sum(rows)::float8 / sum(calls)::float8, \
                    sum(shared_blks_hit + shared_blks_read)::float8 / sum(calls)::float8 FROM pg_stat_statements \
                    WHERE query LIKE '%pending%' AND query NOT LIKE '%generate_series%' GROUP BY 1";
    let rows = client.query(question, &[]).await?;
    let usage = |row: &tokio_postgres::Row| Usage {
        calls: row.get(1),
        mean_ms: row.get(2),
        rows_per_call: row.get(3),
        buffers_per_call: row.get(4),
    };
    Ok(rows.iter().map(|row| (row.get(0), usage(row))).collect())
}

/// What both books have, the busiest first.
pub(crate) fn compare(few: &Books, many: &Books) -> Vec<Statement> {
    let shortened = |text: &str| text.trim().chars().take(TEXT_CHARS).collect();
    let both = many.iter().filter_map(|(text, many)| {
        few.get(text).map(|few| Statement { text: shortened(text), few: *few, many: *many })
    });
    let mut statements: Vec<Statement> = both.collect();
    let total = |statement: &Statement| statement.many.mean_ms * statement.many.calls as f64;
    statements.sort_by(|one, other| total(other).total_cmp(&total(one)));
    statements
}

/// Adds `count` deliveries of the idle webhooks, parked for the living node, due within the day after the next hour.
pub(crate) async fn load(client: &Client, count: u64) -> Result<()> {
    let count = i64::try_from(count)?;
    let first: i64 = client.query_one("SELECT take_numbers($1, 0)", &[&(count + 1)]).await?.get(0);
    let fill = format!(
        "WITH idle AS (SELECT array_agg(w.id ORDER BY w.id) AS webhooks, array_agg(w.tenant ORDER BY w.id) AS tenants \
                       FROM webhooks w JOIN tenants t ON t.id = w.tenant WHERE t.name LIKE '{IDLE}%'), \
              me AS (SELECT max(session) AS session FROM nodes WHERE NOT dead) \
         INSERT INTO pending (tenant, webhook, n, event, owner, due_at, attempts, step, trigger) \
         SELECT tenants[1 + g % {all}], webhooks[1 + g % {all}], $1 + g, $1 + g - 1, session, \
                (extract(epoch FROM now()) * 1000)::bigint + 3600000 + (g * 7919) % 86400000, 1, 1, 0 \
         FROM idle, me, generate_series(1, $2::bigint) AS g",
        all = IDLE_TENANTS * IDLE_WEBHOOKS
    );
    client.execute(&fill, &[&first, &count]).await.context("cannot load the waiting deliveries")?;
    // What autovacuum would have done by now.
    client.batch_execute("VACUUM ANALYZE pending").await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// From now on the server logs the plan of every statement.
pub(crate) async fn show_plans(client: &Client) -> Result<()> {
    client.batch_execute("ALTER SYSTEM SET auto_explain.sample_rate = 1").await?;
    Ok(client.batch_execute("SELECT pg_reload_conf()").await?)
}

/// Waits until nothing belongs to another session than the only living one.
pub(crate) async fn taken_over(database: &Database, progress: &Progress) -> Result<()> {
    let client = database.connect().await?;
    let question = "SELECT count(*) = 1 AND NOT EXISTS (SELECT FROM pending WHERE owner < min(session)) \
                    AND NOT EXISTS (SELECT FROM pending WHERE owner > max(session)) FROM nodes WHERE NOT dead";
    let deadline = Instant::now() + TAKEOVER_MAX;
    while Instant::now() < deadline {
        if client.query_one(question, &[]).await?.get(0) {
            return Ok(());
        }
        progress.wait("takeover of what waits", Duration::from_millis(500)).await;
    }
    anyhow::bail!("not taken over within {} s", TAKEOVER_MAX.as_secs())
}

/// One plan for each statement over the queue that the log shows.
pub(crate) fn plans(log: &str) -> Vec<String> {
    let mut plans: BTreeMap<String, String> = BTreeMap::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with("plan:") {
            continue;
        }
        let mut block = Vec::new();
        while let Some(next) = lines.next_if(|next| next.starts_with('\t')) {
            block.push(next.trim_start_matches('\t'));
        }
        let tree = block.iter().position(|line| line.contains("(cost=")).unwrap_or(block.len());
        let text = block[..tree].join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.contains("pending") || text.contains("generate_series") || tree == block.len() {
            continue;
        }
        let shown: String = text.chars().take(TEXT_CHARS * 2).collect();
        let took = line.split("duration: ").nth(1).map_or("", |rest| rest.trim_end_matches(" plan:").trim());
        let tree = block[tree..].iter().take(PLAN_LINES).copied().collect::<Vec<_>>().join("\n");
        plans.entry(text).or_insert_with(|| format!("{shown}\n-- {took}\n{tree}"));
    }
    plans.into_values().take(PLANS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_over_the_queue_are_found_in_the_log_once_each() {
        let block = "2026-01-02 UTC [7] LOG:  duration: 0.07 ms  plan:\n\tQuery Text: SELECT n\n\tFROM pending\n\tIndex \
                     Scan using pending_due on pending  (cost=0.4..1.1 rows=1)\n\t  Index Cond: (owner = 1)\n";
        let other = block.replace("pending", "nodes");
        let log = format!("noise\n{block}{other}more noise\n{block}");
        let found = plans(&log);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("Query Text: SELECT n FROM pending\n-- 0.07 ms\nIndex Scan"), "{found:?}");
        assert!(found[0].ends_with("Index Cond: (owner = 1)"), "{found:?}");
    }

    #[test]
    fn only_what_ran_before_and_after_is_compared_and_the_busiest_comes_first() {
        let usage = |calls, mean_ms| Usage { calls, mean_ms, ..Usage::default() };
        let few: Books = [("a".to_owned(), usage(5, 1.0)), ("b".to_owned(), usage(5, 1.0))].into();
        let mut many = few.clone();
        many.insert("c".to_owned(), usage(100, 9.0));
        many.insert("b".to_owned(), usage(50, 1.5));
        let texts: Vec<String> = compare(&few, &many).into_iter().map(|statement| statement.text).collect();
        assert_eq!(texts, ["b", "a"]);
    }
}
