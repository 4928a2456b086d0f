//! The data gateway beside the bare drivers of its databases: what an operation over HTTP costs more than the statement
//! itself, and that a call that is refused costs the client's database nothing at all.
//!
//! The client's PostgreSQL is a cluster of its own; the server's store is the embedded one and takes no part in an
//! operation. Nothing waits for a webhook.

mod bare;
mod load;
mod untouched;
mod world;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use self::load::{Call, Load, Seen};
use self::untouched::Watch;
use self::world::World;
use crate::latency::Summary;
use crate::progress::Progress;
use crate::server::Deployment;

/// Rows of the table.
pub(crate) const ROWS: u64 = 100_000;
/// What the server makes for a client, unless it is told otherwise (`POSTRIDER_GATEWAY_CONNECTIONS`).
const DATABASE_CONNECTIONS: usize = 5;
const REFUSED_PER_SECOND: f64 = 10_000.0;

/// How the scenario is run.
pub(crate) struct Bench<'a> {
    pub(crate) deployment: Deployment<'a>,
    pub(crate) progress: &'a Progress,
    /// Connections of callers over HTTP.
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What the scenario showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Gateway {
    pub(crate) callers: usize,
    /// Of the server to the client's PostgreSQL, at most.
    pub(crate) database_connections: usize,
    pub(crate) operations: Vec<Operation>,
    pub(crate) refused: Refused,
}

/// One operation at its peak.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) what: String,
    pub(crate) per_second: f64,
    pub(crate) answer: Summary,
    /// CPU of the server and of the database, microseconds each.
    pub(crate) server_cpu_us: f64,
    pub(crate) database_cpu_us: Option<f64>,
    /// The bare driver over as many connections as the server has, and over as many as there are callers.
    pub(crate) bare: Bare,
    pub(crate) bare_most: Option<Bare>,
    pub(crate) wrong: Wrong,
}

/// The same statement over the bare driver.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Bare {
    pub(crate) connections: usize,
    pub(crate) per_second: f64,
    pub(crate) answer: Summary,
}

/// Answers that were not the expected ones.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Wrong {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

/// Calls of public routes that were all to be refused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refused {
    pub(crate) asked_per_second: f64,
    pub(crate) per_second: f64,
    pub(crate) answer: Summary,
    pub(crate) server_cpu_us: f64,
    /// By what was wrong with them.
    pub(crate) kinds: Vec<(&'static str, u64)>,
    pub(crate) wrong: Wrong,
    /// At the client's database meanwhile.
    pub(crate) statements: usize,
    pub(crate) connections: usize,
}

impl Gateway {
    /// Everything for which the run fails.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let asked = self.operations.iter().map(|one| (one.what.as_str(), &one.wrong));
        let wrong = asked.chain([("refused calls", &self.refused.wrong)]).filter(|(_, wrong)| wrong.count > 0);
        let mut troubles: Vec<String> = wrong
            .map(|(what, wrong)| {
                let first = wrong.first.as_deref().unwrap_or_default();
                format!("gateway, {what}: {} answers were others than expected (first: {first})", wrong.count)
            })
            .collect();
        let Refused { statements, connections, .. } = self.refused;
        if statements + connections > 0 {
            troubles.push(format!(
                "gateway: refused calls made {connections} connections and {statements} statements at the client's \
                 database"
            ));
        }
        troubles
    }
}

impl Bench<'_> {
    pub(crate) async fn run(&self) -> Result<Gateway> {
        let world = World::make(&self.deployment, self.progress).await?;
        let fetch = self.bare_twice("fetch", |connections| bare::fetch(&world.database, connections, self)).await?;
        let insert = self.bare_twice("insert", |connections| bare::insert(&world.database, connections, self)).await?;
        let mut operations = vec![
            self.operation("PostgreSQL: fetch by key", &world, world.fetch(), fetch).await?,
            self.operation("PostgreSQL: anonymous fetch, contract", &world, world.anonymous_fetch(), fetch).await?,
            self.operation("PostgreSQL: insert", &world, world.insert(), insert).await?,
        ];
        let refused = self.refused(&world).await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let file = world.file();
        let fetch = (bare::fetch_from_file(&file, cores, self.measured).await?, None);
        let insert = (bare::insert_into_file(&file, self.measured).await?, None);
        operations.extend([
            self.operation("SQLite: fetch by key", &world, world.fetch_from_file(), fetch).await?,
            self.operation("SQLite: insert", &world, world.insert_into_file(), insert).await?,
        ]);
        let (callers, database_connections) = (self.callers, DATABASE_CONNECTIONS);
        world.stop().await?;
        Ok(Gateway { callers, database_connections, operations, refused })
    }

    /// Over the connections that the server has, and over those of its callers.
    async fn bare_twice<F: Future<Output = Result<Bare>>>(
        &self,
        what: &str,
        bare: impl Fn(usize) -> F,
    ) -> Result<(Bare, Option<Bare>)> {
        let few = bare(DATABASE_CONNECTIONS).await?;
        let most = bare(self.callers).await?;
        for one in [few, most] {
            let Bare { connections, per_second, .. } = one;
            self.progress.say(&format!("bare driver, {what}, {connections} connections: {per_second:.0}/s"));
        }
        Ok((few, Some(most)))
    }

    async fn operation(
        &self,
        what: &str,
        world: &World,
        call: Call,
        (bare, bare_most): (Bare, Option<Bare>),
    ) -> Result<Operation> {
        let load = Load::new(world.address()?, vec![call]);
        let sample = || Ok((world.server.cpu_seconds()?, world.database.cpu_seconds()?));
        let (seen, first, last) = load.run(self, what, None, sample).await?;
        let each = |seconds: f64| seconds * 1e6 / seen.answered.max(1) as f64;
        let on_server = what.starts_with("PostgreSQL");
        let operation = Operation {
            what: what.to_owned(),
            per_second: seen.per_second(),
            answer: seen.answer,
            server_cpu_us: each(last.0 - first.0),
            database_cpu_us: on_server.then(|| each(last.1 - first.1)),
            bare,
            bare_most,
            wrong: seen.wrong,
        };
        self.progress.say(&format!(
            "{what}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.0} % of the bare driver, {} wrong",
            operation.per_second,
            operation.answer.p50_ms,
            operation.answer.p99_ms,
            operation.per_second / bare.per_second * 100.0,
            operation.wrong.count
        ));
        Ok(operation)
    }

    async fn refused(&self, world: &World) -> Result<Refused> {
        let load = Load::new(world.address()?, world.refused());
        let watch = Watch::begin(&world.database).await?;
        let sample = || world.server.cpu_seconds();
        let (seen, first, last) = load.run(self, "refused calls", Some(REFUSED_PER_SECOND), sample).await?;
        let (connections, statements) = watch.end().await?;
        let refused = Refused {
            asked_per_second: REFUSED_PER_SECOND,
            per_second: seen.per_second(),
            answer: seen.answer,
            server_cpu_us: (last - first) * 1e6 / seen.answered.max(1) as f64,
            kinds: seen.kinds.clone(),
            wrong: seen.wrong,
            statements,
            connections,
        };
        self.progress.say(&format!(
            "refused calls: {:.0}/s of {REFUSED_PER_SECOND:.0}/s, p50 {:.2} ms, p99 {:.2} ms; {connections} connections, \
             {statements} statements; {} wrong",
            refused.per_second, refused.answer.p50_ms, refused.answer.p99_ms, refused.wrong.count
        ));
        Ok(refused)
    }
}

impl Seen {
    fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }
}
