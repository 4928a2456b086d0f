//! Half an hour of load with receivers that fail now and then: does anything grow that should not?
//!
//! The server is looked at from outside, every few seconds: `/proc`, its metrics, its data directory, and what the sink
//! has got meanwhile. Whether something grows is computed ([`trend`]) and not seen; [`chart`] is for seeing it as well.

pub(crate) mod chart;
pub(crate) mod trend;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use crate::disk;
use crate::latency::Summary;
use crate::machine;
use crate::process;
use crate::server::{ADMIN_KEY, Server};
use crate::session::Measurement;
use crate::sink::{self, Interval, Sink};
use crate::wire::Connection;
use trend::{Held, Trend};

/// How long the load lasts if nothing else is asked for.
pub(crate) const SECONDS: u64 = 1_800;
/// How long the peak is looked for before.
pub(crate) const PEAK: Duration = Duration::from_secs(60);
/// Waits before the retries: short, so that what failed comes again within the interval, and more than a delivery needs
/// (it fails at most three times).
pub(crate) const SCHEDULE_MS: [u64; 5] = [500, 1_000, 2_000, 4_000, 8_000];
/// Nobody can tell more points than this apart on the chart.
const POINTS_MAX: u32 = 360;
const EVERY_MIN: Duration = Duration::from_secs(1);

/// What the scenario showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Soak {
    pub(crate) peak_per_second: f64,
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) webhooks: usize,
    /// Requests that the sink failed in the measured time, and all it got.
    pub(crate) failed: u64,
    pub(crate) requests: u64,
    pub(crate) trends: Vec<Trend>,
    pub(crate) held: Vec<Held>,
    pub(crate) points: Vec<Point>,
}

/// What was seen at one look, and since the one before.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Point {
    /// Since the measured time began.
    pub(crate) seconds: f64,
    pub(crate) delivered_per_second: f64,
    /// Since the server started.
    pub(crate) delivered: u64,
    /// Due instant → arrival, of what arrived since the last look at its first attempt, and of what had failed before.
    pub(crate) first: Summary,
    pub(crate) retried: Summary,
    pub(crate) failed: u64,
    pub(crate) failed_in_a_row_max: u32,
    pub(crate) silence_max_ms: f64,
    pub(crate) memory_bytes: u64,
    pub(crate) descriptors: u64,
    /// Deliveries still to do, those that wait for a retry included, as the server counts them.
    pub(crate) pending: f64,
    pub(crate) in_flight: f64,
    pub(crate) oldest_due_seconds: f64,
    pub(crate) database_bytes: u64,
    pub(crate) log_bytes: u64,
    /// Cores the server kept busy.
    pub(crate) server_cores: f64,
    /// What a piece of work that is always the same took the machine ([`machine::pace_ms`]).
    pub(crate) pace_ms: f64,
    /// How much later than it should have the look began: for so long the machine, or this program, stood still.
    pub(crate) late_ms: f64,
    /// Webhooks that are not active, or of which a delivery has failed for good.
    pub(crate) unwell: u64,
}

/// What is not a number was not to be seen at that point: nothing had come.
impl Point {
    pub(crate) fn first_p50_ms(&self) -> f64 {
        if self.first.count == 0 { f64::NAN } else { self.first.p50_ms }
    }

    pub(crate) fn first_p99_ms(&self) -> f64 {
        if self.first.count == 0 { f64::NAN } else { self.first.p99_ms }
    }

    pub(crate) fn retried_p50_ms(&self) -> f64 {
        if self.retried.count == 0 { f64::NAN } else { self.retried.p50_ms }
    }

    pub(crate) fn database_bytes_per_delivery(&self) -> f64 {
        if self.delivered == 0 { f64::NAN } else { self.database_bytes as f64 / self.delivered as f64 }
    }

    pub(crate) fn cpu_seconds_per_10k(&self) -> f64 {
        if self.delivered_per_second == 0.0 {
            f64::NAN
        } else {
            self.server_cores / self.delivered_per_second * 10_000.0
        }
    }
}

impl Soak {
    pub(crate) fn of(peak: &Measurement, busy: &Measurement, webhooks: usize, points: Vec<Point>) -> Soak {
        let failed = points.iter().map(|point| point.failed).sum();
        let taken: u64 = points.iter().map(|point| point.first.count + point.retried.count).sum();
        Soak {
            peak_per_second: peak.accepted_per_second,
            rate: busy.rate.unwrap_or_default(),
            seconds: busy.seconds,
            webhooks,
            failed,
            requests: failed + taken,
            trends: trend::trends(&points),
            held: trend::held(&points, busy),
            points,
        }
    }

    /// Too short to tell growth from noise: what is looked at is meant for a quarter of half an hour.
    pub(crate) fn is_short(&self) -> bool {
        self.seconds < SECONDS as f64 * 0.99
    }
}

/// Looks at one server and at the sink.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: u32,
    data: PathBuf,
    address: SocketAddr,
    sink: Connection,
}

/// What the next look is compared with.
#[derive(Clone, Copy, Debug)]
struct Before {
    at: Instant,
    delivered: u64,
    cpu_seconds: f64,
}

#[derive(Deserialize)]
struct Listed {
    items: Vec<Webhook>,
}

#[derive(Deserialize)]
struct Webhook {
    status: String,
    failing: bool,
}

impl Watch {
    pub(crate) async fn over(server: &Server, sink: &Sink) -> Result<Watch> {
        let address = *server.addresses().first().context("there is a node")?;
        Ok(Watch { pid: server.pid()?, data: server.data(), address, sink: sink.counter().await? })
    }

    /// Looks again and again for so long.
    pub(crate) async fn follow(mut self, duration: Duration) -> Result<Vec<Point>> {
        let every = (duration / POINTS_MAX).max(EVERY_MIN);
        // What came until now is not part of it.
        let Interval { delivered, .. } = sink::interval(&mut self.sink).await?;
        let started = Instant::now();
        let mut before = Before { at: started, delivered, cpu_seconds: process::cpu_seconds(self.pid)? };
        let mut points = Vec::new();
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        while started.elapsed() + every / 2 < duration {
            let late = ticks.tick().await.elapsed();
            let point = self.look(started, &mut before).await.context("while looking at the server")?;
            points.push(Point { late_ms: late.as_secs_f64() * 1_000.0, ..point });
        }
        Ok(points)
    }

    async fn look(&mut self, started: Instant, before: &mut Before) -> Result<Point> {
        let came = sink::interval(&mut self.sink).await?;
        let now =
            Before { at: Instant::now(), delivered: came.delivered, cpu_seconds: process::cpu_seconds(self.pid)? };
        let seconds = (now.at - before.at).as_secs_f64();
        // Each time a new one: the server closes those that are silent for ten seconds, and a look may be late.
        let mut api = Connection::open(self.address).await?;
        let metrics = String::from_utf8_lossy(api.call_raw("GET", "/metrics", ADMIN_KEY, b"").await?).into_owned();
        let disk = disk::weight_below(&self.data)?;
        let point = Point {
            seconds: (now.at - started).as_secs_f64(),
            delivered_per_second: (now.delivered - before.delivered) as f64 / seconds,
            delivered: now.delivered,
            first: came.first,
            retried: came.retried,
            failed: came.failed,
            failed_in_a_row_max: came.in_a_row_max,
            silence_max_ms: came.silence_max_ms,
            memory_bytes: process::memory_bytes(self.pid)?,
            descriptors: process::descriptors(self.pid)?,
            pending: gauge(&metrics, "postrider_pending")?,
            in_flight: gauge(&metrics, "postrider_in_flight")?,
            oldest_due_seconds: gauge(&metrics, "postrider_oldest_due_seconds")?,
            database_bytes: disk.database_bytes,
            log_bytes: disk.log_bytes,
            server_cores: (now.cpu_seconds - before.cpu_seconds) / seconds,
            // On a thread of its own, so that the load does not wait for it.
            pace_ms: tokio::task::spawn_blocking(machine::pace_ms).await?,
            late_ms: 0.0,
            unwell: unwell(&mut api).await?,
        };
        *before = now;
        Ok(point)
    }
}

/// How many webhooks are disabled or failing.
async fn unwell(api: &mut Connection) -> Result<u64> {
    let webhooks: Listed = api.call("GET", "/v1/webhooks?limit=200", ADMIN_KEY, &Value::Null).await?;
    let unwell = |webhook: &&Webhook| webhook.status != "active" || webhook.failing;
    Ok(webhooks.items.iter().filter(unwell).count() as u64)
}

/// The sum of a gauge over all its labels.
fn gauge(metrics: &str, name: &str) -> Result<f64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        value.trim().parse::<f64>().ok()
    });
    values.reduce(|sum, value| sum + value).with_context(|| format!("the server has no metric {name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_gauge_is_summed_over_its_labels_and_not_taken_for_one_with_a_longer_name() {
        let metrics = "# HELP postrider_pending Deliveries still to do.\n# TYPE postrider_pending gauge\n\
            postrider_pending 155\npostrider_pending_else 7\npostrider_in_flight{thread=\"0\"} 3\n\
            postrider_in_flight{thread=\"1\"} 4.5\n";
        assert_eq!(gauge(metrics, "postrider_pending").unwrap(), 155.0);
        assert_eq!(gauge(metrics, "postrider_in_flight").unwrap(), 7.5);
        assert!(gauge(metrics, "postrider_lanes").is_err());
    }
}
