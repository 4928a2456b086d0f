//! One server from start to stop, and the measurements taken of it in between.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::clock;
use crate::database::Database;
use crate::disk;
use crate::driver::{Driver, Pace, Plan, Running};
use crate::latency::Summary;
use crate::process;
use crate::progress::Progress;
use crate::server::{Deployment, Server, Shape, Store};
use crate::sink::{Report, Sink, Window};
use crate::soak::Watch;

/// Undelivered events are given up as lost when nothing has arrived for this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest a fill may take.
const FILL_MAX: Duration = Duration::from_secs(180);
/// Deliveries that may be outstanding during a fill.
const FILL_OUTSTANDING: u64 = 1_000;
const FILL_BATCH: usize = 100;
const FILL_CONNECTIONS: usize = 8;

/// How to load the server for one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub(crate) title: String,
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
    pub(crate) batch: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) verify_one_in: u64,
}

/// One row of the result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) title: String,
    pub(crate) store: Store,
    pub(crate) nodes: usize,
    pub(crate) fan_out: usize,
    pub(crate) batch: usize,
    /// Events due per second, where that was fixed.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    /// Deliveries in the store when the measurement began.
    pub(crate) history: u64,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) accepted_per_second: f64,
    pub(crate) delivered_per_second: f64,
    /// Due instant → arrival at the sink.
    pub(crate) latency: Summary,
    /// Due instant → 202.
    pub(crate) answer: Summary,
    /// Due instant → request written: the driver's own share of both.
    pub(crate) driver_lateness: Summary,
    pub(crate) server_cpu_seconds: f64,
    pub(crate) server_cpu_seconds_per_10k: f64,
    /// Of all processes of PostgreSQL.
    pub(crate) database_cpu_seconds_per_10k: Option<f64>,
    pub(crate) driver_cpu_us_per_event: f64,
    pub(crate) sink_cpu_us_per_delivery: f64,
    /// Cores kept busy by anything else meanwhile: the machine's noise.
    pub(crate) cores_of_others: f64,
    /// Of the server's whole life so far.
    pub(crate) peak_memory_bytes: u64,
    /// Data directory with its logs, or tables and indexes of the database, ÷ everything delivered so far.
    pub(crate) disk_bytes_per_delivery: f64,
    /// What PostgreSQL has written to its log ÷ everything delivered so far.
    pub(crate) wal_bytes_per_delivery: Option<f64>,
    /// The same after a clean stop and a checkpoint (or a vacuum); of the last measurement of a server only.
    pub(crate) settled_bytes_per_delivery: Option<f64>,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<String>,
    pub(crate) duplicates: u64,
    pub(crate) losses: u64,
    pub(crate) bad_signatures: u64,
    pub(crate) verified: u64,
}

/// A server under load.
pub(crate) struct Session<'a> {
    server: Server,
    driver: Driver,
    key: String,
    sink: &'a mut Sink,
    progress: &'a Progress,
    store: Store,
    nodes: usize,
    shape: Shape,
    /// Totals when the last measurement ended.
    before: Report,
    losses_before: u64,
    refused_before: u64,
}

/// Counters at one instant.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    accepted: u64,
    delivered: u64,
    server_cpu: f64,
    database_cpu: f64,
    driver_cpu: f64,
    sink_cpu: f64,
    machine_busy: f64,
}

/// What passed between two samples.
#[derive(Clone, Copy, Debug)]
struct Spent {
    seconds: f64,
    accepted: u64,
    delivered: u64,
    server_cpu: f64,
    database_cpu: f64,
    driver_cpu: f64,
    sink_cpu: f64,
    others_cpu: f64,
}

impl Sample {
    fn until(&self, later: &Sample) -> Spent {
        let server_cpu = later.server_cpu - self.server_cpu;
        let database_cpu = later.database_cpu - self.database_cpu;
        let driver_cpu = later.driver_cpu - self.driver_cpu;
        let sink_cpu = later.sink_cpu - self.sink_cpu;
        let busy = later.machine_busy - self.machine_busy;
        Spent {
            seconds: (later.at - self.at).as_secs_f64(),
            accepted: later.accepted - self.accepted,
            delivered: later.delivered - self.delivered,
            server_cpu,
            database_cpu,
            driver_cpu,
            sink_cpu,
            others_cpu: (busy - server_cpu - database_cpu - driver_cpu - sink_cpu).max(0.0),
        }
    }
}

impl<'a> Session<'a> {
    /// Starts `deployment` with a fresh store and sets `shape` up in it.
    pub(crate) async fn start(
        deployment: &Deployment<'_>,
        shape: Shape,
        sink: &'a mut Sink,
        progress: &'a Progress,
    ) -> Result<Session<'a>> {
        let server = Server::start(deployment).await?;
        let tenants = server.set_up(&shape, sink).await.with_context(|| server.log_tail())?;
        let key = tenants.first().context("there is a tenant")?.key.clone();
        let driver = Driver::new(server.addresses(), tenants);
        let (before, store, nodes) = (Report::default(), deployment.store, deployment.nodes);
        Ok(Session {
            server,
            driver,
            key,
            sink,
            progress,
            store,
            nodes,
            shape,
            before,
            losses_before: 0,
            refused_before: 0,
        })
    }

    /// Loads the server, waits until everything accepted has arrived, and reports.
    pub(crate) async fn measure(&mut self, stretch: &Stretch) -> Result<Measurement> {
        Ok(self.measure_while(stretch, async { Ok(()) }).await?.0)
    }

    /// The same, and what `meanwhile` comes to, which runs in the measured time and may make it longer.
    pub(crate) async fn measure_while<T>(
        &mut self,
        stretch: &Stretch,
        meanwhile: impl Future<Output = Result<T>>,
    ) -> Result<(Measurement, T)> {
        let measured = self.load(stretch, meanwhile).await;
        measured.with_context(|| format!("while measuring {}\n{}", stretch.title, self.server.log_tail()))
    }

    async fn load<T>(
        &mut self,
        stretch: &Stretch,
        meanwhile: impl Future<Output = Result<T>>,
    ) -> Result<(Measurement, T)> {
        let history = self.before.delivered;
        let plan =
            Plan { connections: stretch.connections, batch: stretch.batch, pace: stretch.pace, events_max: u64::MAX };
        let never = Window { from_ns: 0, until_ns: 0, verify_one_in: stretch.verify_one_in };
        self.sink.window(&never).await?;
        let running = self.driver.start(&plan, Some(self.sink)).await?;
        self.progress.wait(&format!("{}: warming up", stretch.title), stretch.warm_up).await;
        let from_ns = clock::now_ns();
        let until_ns = from_ns + u64::try_from(stretch.measured.as_nanos())?;
        let window = Window { from_ns, until_ns, verify_one_in: stretch.verify_one_in };
        self.sink.window(&window).await?;
        self.driver.window(&window);
        let first = self.sample()?;
        let waiting = async {
            self.progress.wait(&stretch.title, stretch.measured).await;
            Ok(())
        };
        let ((), found) = tokio::try_join!(waiting, meanwhile)?;
        let last = self.sample()?;
        self.settle(running).await?;
        Ok((self.report(stretch, history, &first.until(&last)).await?, found))
    }

    /// Follows the server from now on.
    pub(crate) async fn watch(&self) -> Result<Watch> {
        Watch::over(&self.server, self.sink).await
    }

    /// Publishes `events` in batches, without measuring.
    pub(crate) async fn fill(&mut self, events: u64) -> Result<()> {
        let plan = Plan {
            connections: FILL_CONNECTIONS,
            batch: FILL_BATCH,
            pace: Pace::Closed { outstanding_max: FILL_OUTSTANDING },
            events_max: events,
        };
        let already = self.driver.accepted();
        self.sink.window(&Window { from_ns: 0, until_ns: 0, verify_one_in: 16 }).await?;
        let running = self.driver.start(&plan, Some(self.sink)).await?;
        let bar = self.progress.count("filling the history", events);
        let deadline = Instant::now() + FILL_MAX;
        while !running.finished() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            bar.set_position(self.driver.accepted() - already);
        }
        bar.finish_and_clear();
        self.settle(running).await?;
        self.before = self.sink.report().await?;
        Ok(())
    }

    /// Stops the server and completes the last of its measurements.
    pub(crate) async fn finish(mut self, last: &mut Measurement) -> Result<()> {
        let kept = self.kept(&self.before);
        self.server.stop().await?;
        let bytes = match self.server.database() {
            None => {
                disk::checkpoint_below(&self.server.data())?;
                disk::bytes_below(&self.server.data())?
            }
            Some(database) => {
                database.connect().await?.batch_execute("VACUUM").await?;
                database.weight().await?.stored_bytes
            }
        };
        last.settled_bytes_per_delivery = Some(bytes as f64 / kept as f64);
        Ok(())
    }

    /// What the store holds: deliveries, or what was only received.
    fn kept(&self, report: &Report) -> u64 {
        if self.shape.owed() == 0 { self.driver.accepted() } else { report.delivered }
    }

    pub(crate) fn database(&self) -> Result<&Database> {
        self.server.database().context("this scenario is for PostgreSQL")
    }

    /// For scenarios that look into the database or restart the server.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The server was started again: the load goes to where it is now.
    pub(crate) fn follow_server(&mut self) {
        self.driver.follow(self.server.addresses());
    }

    /// Of the first tenant.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    async fn settle(&self, running: Running) -> Result<()> {
        running.stop(PATIENCE).await?;
        self.driver.drain(self.sink, PATIENCE).await
    }

    fn sample(&self) -> Result<Sample> {
        Ok(Sample {
            at: Instant::now(),
            accepted: self.driver.accepted(),
            delivered: self.driver.delivered(),
            server_cpu: self.server.cpu_seconds()?,
            database_cpu: self.server.database().map_or(Ok(0.0), Database::cpu_seconds)?,
            driver_cpu: process::cpu_seconds(std::process::id())?,
            sink_cpu: process::cpu_seconds(self.sink.pid())?,
            machine_busy: process::machine_busy_seconds()?,
        })
    }

    async fn report(&mut self, stretch: &Stretch, history: u64, spent: &Spent) -> Result<Measurement> {
        let report = self.sink.report().await?;
        let losses = self.driver.losses(self.sink).await?;
        let (refused, first_refusal) = self.driver.refused();
        let seen = self.driver.seen();
        let malformed = report.malformed - self.before.malformed;
        let (stored_bytes, wal_bytes) = match self.server.database() {
            None => (disk::bytes_below(&self.server.data())?, None),
            Some(database) => {
                let weight = database.weight().await?;
                (weight.stored_bytes, Some(weight.wal_bytes))
            }
        };
        // What is only kept reaches nobody: then an accepted event is the unit.
        let done = if self.shape.owed() == 0 { spent.accepted } else { spent.delivered };
        let kept = self.kept(&report);
        let measurement = Measurement {
            title: stretch.title.clone(),
            store: self.store,
            nodes: self.nodes,
            fan_out: self.shape.owed(),
            batch: stretch.batch,
            rate: match stretch.pace {
                Pace::Fixed { per_second } => Some(per_second),
                Pace::Closed { .. } => None,
            },
            seconds: spent.seconds,
            history,
            accepted: spent.accepted,
            delivered: spent.delivered,
            accepted_per_second: spent.accepted as f64 / spent.seconds,
            delivered_per_second: spent.delivered as f64 / spent.seconds,
            latency: report.latency,
            answer: seen.answers,
            driver_lateness: seen.lateness,
            server_cpu_seconds: spent.server_cpu,
            server_cpu_seconds_per_10k: each(spent.server_cpu * 10_000.0, done),
            database_cpu_seconds_per_10k: (self.store == Store::Postgres)
                .then(|| each(spent.database_cpu * 10_000.0, done)),
            driver_cpu_us_per_event: each(spent.driver_cpu * 1e6, spent.accepted),
            sink_cpu_us_per_delivery: each(spent.sink_cpu * 1e6, spent.delivered),
            cores_of_others: spent.others_cpu / spent.seconds,
            peak_memory_bytes: self.server.peak_memory_bytes()?,
            disk_bytes_per_delivery: each(stored_bytes as f64, kept),
            wal_bytes_per_delivery: wal_bytes.map(|bytes| each(bytes as f64, kept)),
            settled_bytes_per_delivery: None,
            refused: refused - self.refused_before,
            first_refusal,
            duplicates: report.duplicates - self.before.duplicates,
            losses: losses.saturating_sub(self.losses_before),
            bad_signatures: report.bad_signatures - self.before.bad_signatures + malformed,
            verified: report.verified - self.before.verified,
        };
        (self.before, self.losses_before, self.refused_before) = (report, losses, refused);
        Ok(measurement)
    }
}

/// `amount` divided among `count`; nothing among none.
fn each(amount: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { amount / count as f64 }
}
