//! The scenarios, in the order of a full run, and what they need of each other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::ceilings::{Ceiling, Delivered};
use crate::disk;
use crate::driver::{Driver, Pace, Plan, Tenant};
use crate::gateway::{self, Gateway};
use crate::machine::Machine;
use crate::pending::{self, Pending};
use crate::process::{self, Helper};
use crate::progress::Progress;
use crate::reads::{self, Reads};
use crate::report;
use crate::server::{Deployment, Receives, Shape, Store};
use crate::session::{Measurement, Session, Stretch};
use crate::sink::{Behaviour, Expectation, Secret, Sink, Window};
use crate::soak::{self, Soak};
use crate::wide::{self, Wide};

const TENANTS: usize = 50;
const BATCH: usize = 100;
/// Deliveries outstanding where reading parked ones back is measured.
const BACKLOG: u64 = 50_000;
/// The share of the peak at which latency under load is measured.
const BUSY: f64 = 0.7;
/// More than any sender of webhooks is known to send to one receiver.
const RECEIVED_PER_SECOND: u32 = 2_000;
/// At peak one signature in so many is checked, so that the sink does not take the server's share of the cores.
const VERIFY_AT_PEAK: u64 = 16;
/// Any key does for the deliver-only ceiling.
const CEILING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What titles of measurements on PostgreSQL start with.
pub(crate) const ON_POSTGRES: &str = "PostgreSQL: ";

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Scenario {
    /// One tenant with one webhook, as fast as it goes
    #[value(name = "fan-out-1")]
    FanOut1,
    /// The same server at 100 events a second and at 70 % of the peak
    Latency,
    /// One tenant with five webhooks
    #[value(name = "fan-out-5")]
    FanOut5,
    /// Fifty tenants with a webhook each, at peak and at 70 % of it
    Tenants,
    /// The same with one webhook that never answers
    Hanging,
    /// The same with one that never answers and one that answers 500
    HangingAndFailing,
    /// Requests of 100 events each, delivered and not
    Batch,
    /// The peak on an empty store and again after a million events
    History,
    /// Statistics and lists over ten million finished deliveries (embedded)
    Reads,
    /// Somebody else's webhooks: verified, kept and (or not) forwarded, to one receiver and to fifty
    Receive,
    /// Operations on a client's PostgreSQL and SQLite beside the bare drivers, and calls that are refused (embedded)
    Gateway,
    /// The peak of one, two and three nodes on one database (PostgreSQL)
    Nodes,
    /// The peak and a backlog beside five million pending deliveries, and their takeover (PostgreSQL)
    Pending,
    /// Half an hour at 70 % of the peak with receivers that fail 5 %: what grows? Only if named (embedded)
    Soak,
    /// The peak and the start beside a million webhooks and five million pending deliveries. Only if named (embedded)
    Wide,
}

impl Scenario {
    /// What a sick endpoint does to others is the pipeline's doing, which is the same on both stores; an operation of the
    /// gateway asks its client's database, and none of the stores.
    fn is_for(self, store: Store) -> bool {
        match self {
            Scenario::Nodes | Scenario::Pending => store == Store::Postgres,
            Scenario::Hanging
            | Scenario::HangingAndFailing
            | Scenario::Reads
            | Scenario::Gateway
            | Scenario::Soak
            | Scenario::Wide => store == Store::Embedded,
            _ => true,
        }
    }

    /// Whether a run measures it that was asked for `named`.
    fn is_chosen(self, named: &[Scenario]) -> bool {
        let takes_long = matches!(self, Scenario::Soak | Scenario::Wide);
        if named.is_empty() { !takes_long } else { named.contains(&self) }
    }
}

/// Which stores a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stores {
    Embedded,
    Postgres,
    Both,
}

impl Stores {
    fn each(self) -> &'static [Store] {
        match self {
            Stores::Embedded => &[Store::Embedded],
            Stores::Postgres => &[Store::Postgres],
            Stores::Both => &[Store::Embedded, Store::Postgres],
        }
    }
}

/// How a run was asked to be.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) seconds: Option<u64>,
    pub(crate) connections: usize,
    pub(crate) outstanding: u64,
    pub(crate) history: u64,
    pub(crate) pending: u64,
    pub(crate) wide: u64,
    pub(crate) reads: u64,
    pub(crate) stores: Stores,
}

impl Settings {
    /// For how long the disk alone is tried, before and after.
    fn disk_time(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 10 })
    }
}

/// The best this machine can do, measured in the same run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Ceilings {
    pub(crate) accept: Ceiling,
    /// Events, not requests.
    pub(crate) accept_batch: Ceiling,
    pub(crate) deliver: Ceiling,
}

/// One figure against another of the same run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) what: String,
    pub(crate) ratio: f64,
}

/// Everything a run showed.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) command: String,
    pub(crate) quick: bool,
    pub(crate) ceilings: Ceilings,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) comparisons: Vec<Comparison>,
    /// Of the scenario with many pending deliveries.
    pub(crate) pending: Option<Pending>,
    /// Of the scenario with much to be read.
    pub(crate) reads: Option<Reads>,
    /// Of the scenario with a client's databases.
    pub(crate) gateway: Option<Gateway>,
    /// Of the scenario that takes half an hour.
    pub(crate) soak: Option<Soak>,
    /// Of the scenario with a million webhooks.
    pub(crate) wide: Option<Wide>,
    /// Why scenarios ended without a figure.
    pub(crate) broken_off: Vec<String>,
}

impl Results {
    /// Whether everything accepted arrived, rightly signed, and nothing was refused but what was to be.
    pub(crate) fn sound(&self) -> bool {
        let sound = |one: &Measurement| one.losses == 0 && one.bad_signatures == 0 && one.refused == 0;
        let gateway = self.gateway.as_ref().is_none_or(|gateway| gateway.troubles().is_empty());
        self.broken_off.is_empty() && gateway && self.measurements.iter().all(sound)
    }

    fn compare(&mut self, what: &str, ratio: f64) {
        self.comparisons.push(Comparison { what: what.to_owned(), ratio });
    }
}

/// A run in the making.
pub(crate) struct Bench {
    settings: Settings,
    binary: PathBuf,
    scratch: PathBuf,
    progress: Progress,
    results: Results,
    /// The one that is measured now.
    store: Store,
    /// Peak of one tenant with one webhook, once known.
    peak: Option<Measurement>,
    /// Fifty tenants, all well: at peak and at 70 % of it, once known.
    all_well: Option<(Measurement, Measurement)>,
}

impl Bench {
    pub(crate) fn new(settings: Settings, binary: PathBuf, scratch: PathBuf, repository: &Path) -> Result<Bench> {
        let mut machine = Machine::observe(repository);
        machine.try_disk(&scratch, settings.disk_time())?;
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let command = format!("cargo run --release -p bench -- {}", arguments.join(" "));
        let results = Results {
            machine,
            command: command.trim_end_matches(" -- ").to_owned(),
            quick: settings.quick,
            ceilings: Ceilings::default(),
            measurements: Vec::new(),
            comparisons: Vec::new(),
            pending: None,
            reads: None,
            gateway: None,
            soak: None,
            wide: None,
            broken_off: Vec::new(),
        };
        let (store, progress) = (Store::Embedded, Progress::new());
        Ok(Bench { settings, binary, scratch, progress, results, store, peak: None, all_well: None })
    }

    /// The ceilings, then `scenarios` (all but the long ones if none is named).
    pub(crate) async fn run(mut self, scenarios: &[Scenario]) -> Result<Results> {
        let mut sink = Sink::start(TENANTS).await?;
        self.measure_ceilings(&mut sink).await?;
        let chosen = |store: Store, scenario: Scenario| scenario.is_for(store) && scenario.is_chosen(scenarios);
        for store in self.settings.stores.each() {
            (self.store, self.peak, self.all_well) = (*store, None, None);
            for scenario in Scenario::value_variants().iter().filter(|scenario| chosen(*store, **scenario)) {
                // One scenario that breaks off must not take the figures of the others with it.
                if let Err(error) = self.run_one(*scenario, &mut sink).await {
                    self.progress.say(&format!("{error:#}"));
                    self.results.broken_off.push(format!("{error:#}"));
                }
            }
        }
        self.results.machine.try_disk(&self.scratch, self.settings.disk_time())?;
        Ok(self.results)
    }

    async fn run_one(&mut self, scenario: Scenario, sink: &mut Sink) -> Result<()> {
        match scenario {
            Scenario::FanOut1 => self.peak_of_one(sink, 60).await.map(drop),
            Scenario::Latency => self.latency(sink).await,
            Scenario::FanOut5 => self.peak_alone("fan-out 5, peak", Shape { fan_out: 5, ..ONE }, 1, sink).await,
            Scenario::Tenants => self.all_well(sink).await.map(drop),
            Scenario::Hanging => self.beside(&[Behaviour::Hangs], "1 of 50 hangs", sink).await,
            Scenario::HangingAndFailing => {
                self.beside(&[Behaviour::Hangs, Behaviour::Fails], "1 of 50 hangs, 1 fails", sink).await
            }
            Scenario::Batch => {
                self.peak_alone("batches of 100, peak", ONE.clone(), BATCH, sink).await?;
                let unwanted = Shape { fan_out: 0, ..ONE };
                self.peak_alone("batches of 100 that no webhook wants, peak", unwanted, BATCH, sink).await
            }
            Scenario::History => self.history(sink).await,
            Scenario::Reads => self.reads(sink).await,
            Scenario::Receive => self.receive(sink).await,
            Scenario::Gateway => self.gateway().await,
            Scenario::Nodes => self.nodes(sink).await,
            Scenario::Pending => self.pending(sink).await,
            Scenario::Soak => self.soak(sink).await,
            Scenario::Wide => self.wide(sink).await,
        }
    }

    async fn peak_alone(&mut self, title: &str, shape: Shape, batch: usize, sink: &mut Sink) -> Result<()> {
        let stretch = self.at_peak(title, &shape, batch, 30);
        let mut session = Session::start(&self.deployment(1), shape, sink, &self.progress).await?;
        let mut peak = session.measure(&stretch).await?;
        session.finish(&mut peak).await?;
        self.note(peak);
        Ok(())
    }

    /// The peak at fan-out 1, measured once in a run.
    async fn peak_of_one(&mut self, sink: &mut Sink, seconds: u64) -> Result<Measurement> {
        if let Some(peak) = &self.peak {
            return Ok(peak.clone());
        }
        let stretch = self.at_peak("fan-out 1, peak", &ONE, 1, seconds);
        let mut session = Session::start(&self.deployment(1), ONE.clone(), sink, &self.progress).await?;
        let mut peak = session.measure(&stretch).await?;
        session.finish(&mut peak).await?;
        self.note(peak.clone());
        self.peak = Some(peak.clone());
        Ok(peak)
    }

    async fn latency(&mut self, sink: &mut Sink) -> Result<()> {
        let peak = self.peak_of_one(sink, 15).await?.accepted_per_second;
        let calm = self.at_rate("fan-out 1, 100/s", 100.0, 30);
        let rate = (peak * BUSY).round();
        let busy = self.at_rate(&format!("fan-out 1, {rate}/s (70 % of peak)"), rate, 30);
        let mut session = Session::start(&self.deployment(1), ONE.clone(), sink, &self.progress).await?;
        let calm = session.measure(&calm).await?;
        let mut busy = session.measure(&busy).await?;
        session.finish(&mut busy).await?;
        self.note(calm);
        self.note(busy);
        Ok(())
    }

    /// Fifty tenants whose webhooks all receive, measured once in a run.
    async fn all_well(&mut self, sink: &mut Sink) -> Result<(Measurement, Measurement)> {
        if let Some(known) = &self.all_well {
            return Ok(known.clone());
        }
        let pair = self.fifty(&[], "50 tenants × 1", None, sink).await?;
        self.all_well = Some(pair.clone());
        Ok(pair)
    }

    /// Fifty tenants of which the last are `sick`, against all fifty well.
    async fn beside(&mut self, sick: &[Behaviour], title: &str, sink: &mut Sink) -> Result<()> {
        let (well_peak, well_busy) = self.all_well(sink).await?;
        let (peak, busy) = self.fifty(sick, title, well_busy.rate, sink).await?;
        let others = (TENANTS - sick.len()) as f64 / TENANTS as f64;
        let throughput = peak.delivered_per_second / (well_peak.delivered_per_second * others);
        self.results.compare(&format!("{title}: throughput of the others at peak ÷ theirs with all well"), throughput);
        let p99 = busy.latency.p99_ms / well_busy.latency.p99_ms;
        self.results.compare(&format!("{title}: p99 of the others at the same rate ÷ theirs with all well"), p99);
        Ok(())
    }

    /// One server with fifty tenants: at peak, then at `rate` (70 % of that peak if not given).
    async fn fifty(
        &mut self,
        sick: &[Behaviour],
        title: &str,
        rate: Option<f64>,
        sink: &mut Sink,
    ) -> Result<(Measurement, Measurement)> {
        let shape = Shape { tenants: TENANTS, sick: sick.to_vec(), ..ONE };
        let stretch = self.at_peak(&format!("{title}, peak"), &shape, 1, 30);
        let mut session = Session::start(&self.deployment(1), shape, sink, &self.progress).await?;
        let peak = session.measure(&stretch).await?;
        let rate = rate.unwrap_or((peak.accepted_per_second * BUSY).round());
        let mut busy = session.measure(&self.at_rate(&format!("{title}, {rate}/s"), rate, 20)).await?;
        session.finish(&mut busy).await?;
        self.note(peak.clone());
        self.note(busy.clone());
        Ok((peak, busy))
    }

    /// GitHub's webhooks, one receiver and fifty, with and without forwarding; and at a rate that one busy receiver has.
    async fn receive(&mut self, sink: &mut Sink) -> Result<()> {
        for (tenants, whose) in [(1, "one receiver"), (TENANTS, "50 receivers")] {
            for (receives, what) in [(Receives::Keeps, "received"), (Receives::Forwards, "received and forwarded")] {
                let shape = Shape { tenants, receives: Some(receives), ..ONE };
                let stretch = self.at_peak(&format!("{what}, {whose}, peak"), &shape, 1, 20);
                let mut session = Session::start(&self.deployment(1), shape, sink, &self.progress).await?;
                let peak = session.measure(&stretch).await?;
                let title = format!("{what}, {whose}, {RECEIVED_PER_SECOND}/s");
                let mut calm = session.measure(&self.at_rate(&title, f64::from(RECEIVED_PER_SECOND), 20)).await?;
                session.finish(&mut calm).await?;
                self.note(peak);
                self.note(calm);
            }
        }
        Ok(())
    }

    /// The same load on one, two and three nodes; all share this machine with each other and with the database.
    async fn nodes(&mut self, sink: &mut Sink) -> Result<()> {
        for nodes in 1..=3 {
            let stretch = self.at_peak(&format!("{nodes} on one database, peak"), &ONE, 1, 30);
            let mut session = Session::start(&self.deployment(nodes), ONE.clone(), sink, &self.progress).await?;
            let mut peak = session.measure(&stretch).await?;
            session.finish(&mut peak).await?;
            self.note(peak);
        }
        Ok(())
    }

    /// The peak, and a backlog that is parked and read back, with few and with many deliveries waiting; then the takeover
    /// of those many.
    async fn pending(&mut self, sink: &mut Sink) -> Result<()> {
        let rows = self.settings.pending;
        let deployment = Deployment { settings: &pending::SETTINGS, ..self.deployment(1) };
        let mut session = Session::start(&deployment, ONE.clone(), sink, &self.progress).await?;
        let client = session.database()?.connect().await?;
        session.server().make_idle_webhooks().await?;
        // As many webhooks with something waiting as later: what is compared is the number of rows.
        pending::load(&client, (pending::IDLE_TENANTS * pending::IDLE_WEBHOOKS) as u64).await?;
        pending::open_books(&client).await?;
        let mut noted = Vec::new();
        noted.extend(self.peak_and_backlog("few waiting", &mut session).await?);
        let (few, few_memory) = (pending::read_books(&client).await?, session.server().peak_memory_bytes()?);

        self.progress.say(&format!("loading {rows} waiting deliveries"));
        pending::load(&client, rows).await?;
        pending::reset_books(&client).await?;
        noted.extend(self.peak_and_backlog(&format!("{rows} waiting"), &mut session).await?);
        let (many, many_memory) = (pending::read_books(&client).await?, session.server().peak_memory_bytes()?);
        let ratio = noted[2].delivered_per_second / noted[0].delivered_per_second;
        let compared = Comparison { what: format!("{ON_POSTGRES}peak beside {rows} waiting ÷ beside few"), ratio };

        pending::show_plans(&client).await?;
        session.fill(20_000).await?;
        session.server().kill();
        let killed = Instant::now();
        session.server().start_node().await?;
        pending::taken_over(session.database()?, &self.progress).await?;
        let found = Pending {
            rows,
            webhooks: pending::IDLE_TENANTS * pending::IDLE_WEBHOOKS,
            memory_bytes: [few_memory, many_memory, session.server().peak_memory_bytes()?],
            takeover_seconds: killed.elapsed().as_secs_f64(),
            statements: pending::compare(&few, &many),
            plans: pending::plans(&session.database()?.log()),
        };
        session.server().stop().await?;
        noted.into_iter().for_each(|one| self.note(one));
        self.results.comparisons.push(compared);
        self.results.pending = Some(found);
        Ok(())
    }

    async fn peak_and_backlog(&self, title: &str, session: &mut Session<'_>) -> Result<[Measurement; 2]> {
        let peak = session.measure(&self.at_peak(&format!("{title}, peak"), &ONE, 1, 20)).await?;
        // Far more than a lane keeps in memory, so that most of it is parked and read back.
        let pace = Pace::Closed { outstanding_max: BACKLOG };
        let backlog = self.stretch(&format!("{title}, backlog of {BACKLOG}"), pace, BATCH, VERIFY_AT_PEAK, 20);
        Ok([peak, session.measure(&backlog).await?])
    }

    async fn history(&mut self, sink: &mut Sink) -> Result<()> {
        let before = self.at_peak("history: empty store, peak", &ONE, 1, 20);
        let mut session = Session::start(&self.deployment(1), ONE.clone(), sink, &self.progress).await?;
        let before = session.measure(&before).await?;
        session.fill(self.settings.history.saturating_sub(before.delivered)).await?;
        let mut after = session.measure(&self.at_peak("history: filled store, peak", &ONE, 1, 30)).await?;
        session.finish(&mut after).await?;
        let ratio = after.delivered_per_second / before.delivered_per_second;
        self.results.compare(&format!("history: peak after {} events ÷ peak on the empty store", after.history), ratio);
        self.note(before);
        self.note(after);
        Ok(())
    }

    /// A week of history, and questions about it.
    async fn reads(&mut self, sink: &mut Sink) -> Result<()> {
        let mut session = Session::start(&self.deployment(1), ONE.clone(), sink, &self.progress).await?;
        session.fill(self.settings.reads / (reads::BUCKETS + 1)).await?;
        let key = session.key().to_owned();
        let server = session.server();
        server.stop().await?;
        let file = server.data().join("0/postrider.db");
        reads::multiply(&file, reads::BUCKETS, &self.progress)?;
        server.start_node().await?;
        let found = reads::ask(&mut server.connect().await?, &key, &file).await?;
        server.stop().await?;
        self.results.reads = Some(found);
        Ok(())
    }

    /// Operations of the data gateway, which sends nothing here.
    async fn gateway(&mut self) -> Result<()> {
        let seconds = self.settings.seconds.unwrap_or(if self.settings.quick { 3 } else { 20 });
        let bench = gateway::Bench {
            deployment: self.deployment(1),
            progress: &self.progress,
            callers: self.settings.connections,
            warm_up: self.warm_up(),
            measured: Duration::from_secs(seconds),
        };
        let found = bench.run().await?;
        self.results.gateway = Some(found);
        Ok(())
    }

    /// The peak of one tenant on an empty store; then beside a million webhooks of others with five million deliveries
    /// that wait, once the server has started with them, and once more after `kill -9`.
    async fn wide(&mut self, sink: &mut Sink) -> Result<()> {
        let size = wide::Size::of(self.settings.wide);
        let mut session = Session::start(&self.deployment(1), ONE.clone(), sink, &self.progress).await?;
        let before = session.measure(&self.at_peak("wide: empty store, peak", &ONE, 1, 15)).await?;
        session.server().stop().await?;
        let filled = wide::fill(&session.server().data().join("0"), size, &self.progress)?;
        let first = wide::start("stopped, filled and started", session.server(), &filled).await?;
        session.follow_server();
        let title = format!("wide: beside {} webhooks, {} pending, peak", size.webhooks(), size.pending());
        let beside = session.measure(&self.at_peak(&title, &ONE, 1, 15)).await?;
        session.server().kill();
        let second = wide::start("after `kill -9`", session.server(), &filled).await?;
        session.follow_server();
        let mut again = session.measure(&self.at_peak("wide: the same after `kill -9`, peak", &ONE, 1, 15)).await?;
        let store_bytes = disk::bytes_below(&session.server().data())?;
        session.finish(&mut again).await?;
        let peak_memory_bytes = beside.peak_memory_bytes.max(again.peak_memory_bytes);
        self.results.wide = Some(Wide { size, store_bytes, starts: vec![first, second], peak_memory_bytes });
        let ratio = beside.delivered_per_second / before.delivered_per_second;
        self.results.compare("wide: peak beside all of it ÷ peak on the empty store", ratio);
        [before, beside, again].into_iter().for_each(|one| self.note(one));
        Ok(())
    }

    /// Fifty tenants whose webhooks all fail one request in twenty: a short peak, and then 70 % of it for half an hour.
    async fn soak(&mut self, sink: &mut Sink) -> Result<()> {
        let measured =
            Duration::from_secs(self.settings.seconds.unwrap_or(if self.settings.quick { 12 } else { soak::SECONDS }));
        let sick = vec![Behaviour::Stumbles; TENANTS];
        let shape = Shape { tenants: TENANTS, sick, schedule_ms: Some(&soak::SCHEDULE_MS), ..ONE };
        let peak = Stretch { measured: measured.min(soak::PEAK), ..self.at_peak("soak, peak", &shape, 1, 0) };
        let mut session = Session::start(&self.deployment(1), shape, sink, &self.progress).await?;
        let peak = session.measure(&peak).await?;
        let rate = (peak.accepted_per_second * BUSY).round();
        let title = format!("soak, {rate}/s (70 % of peak)");
        let busy = Stretch { measured, ..self.at_rate(&title, rate, 0) };
        let watch = session.watch().await?;
        let (mut busy, points) = session.measure_while(&busy, watch.follow(measured)).await?;
        session.finish(&mut busy).await?;
        self.results.soak = Some(Soak::of(&peak, &busy, TENANTS, points));
        self.note(peak);
        self.note(busy);
        Ok(())
    }

    /// Keeps a measurement and says it.
    fn note(&mut self, measurement: Measurement) {
        self.progress.say(&format!(
            "{}: {:.0} delivered/s, p50 {:.2} ms, p99 {:.2} ms, {:.2} CPU s per 10,000, {} lost, {} refused",
            measurement.title,
            measurement.delivered_per_second,
            measurement.latency.p50_ms,
            measurement.latency.p99_ms,
            measurement.server_cpu_seconds_per_10k,
            measurement.losses,
            measurement.refused,
        ));
        self.results.measurements.push(measurement);
    }

    fn deployment(&self, nodes: usize) -> Deployment<'_> {
        Deployment { binary: &self.binary, scratch: &self.scratch, store: self.store, nodes, settings: &[] }
    }

    fn at_peak(&self, title: &str, shape: &Shape, batch: usize, seconds: u64) -> Stretch {
        let outstanding_max = self.settings.outstanding * shape.fan_out.max(1) as u64;
        self.stretch(title, Pace::Closed { outstanding_max }, batch, VERIFY_AT_PEAK, seconds)
    }

    fn at_rate(&self, title: &str, per_second: f64, seconds: u64) -> Stretch {
        self.stretch(title, Pace::Fixed { per_second }, 1, 1, seconds)
    }

    fn stretch(&self, title: &str, pace: Pace, batch: usize, verify_one_in: u64, seconds: u64) -> Stretch {
        let seconds = self.settings.seconds.unwrap_or(if self.settings.quick { 3 } else { seconds });
        let title = match self.store {
            Store::Embedded => title.to_owned(),
            Store::Postgres => format!("{ON_POSTGRES}{title}"),
        };
        Stretch {
            title,
            pace,
            connections: self.connections(batch),
            batch,
            warm_up: self.warm_up(),
            measured: Duration::from_secs(seconds),
            verify_one_in,
        }
    }

    /// Fewer connections where each carries a batch: what they have in flight together must stay below the bound on
    /// outstanding deliveries, or a peak would be a backlog.
    fn connections(&self, batch: usize) -> usize {
        if batch == 1 { self.settings.connections } else { self.settings.connections.div_ceil(8) }
    }

    fn warm_up(&self) -> Duration {
        Duration::from_secs(if self.settings.quick { 1 } else { 3 })
    }

    async fn measure_ceilings(&mut self, sink: &mut Sink) -> Result<()> {
        let seconds = Duration::from_secs(if self.settings.quick { 2 } else { 8 });
        self.results.ceilings = Ceilings {
            accept: self.accept_ceiling(1, seconds).await?,
            accept_batch: self.accept_ceiling(BATCH, seconds).await?,
            deliver: self.deliver_ceiling(sink, seconds).await?,
        };
        for line in report::ceilings(&self.results) {
            self.progress.say(&line);
        }
        Ok(())
    }

    async fn accept_ceiling(&self, batch: usize, measured: Duration) -> Result<Ceiling> {
        let mut server = Helper::start(&["accept-ceiling"])?;
        let nobody = Tenant { key: "sk_test_ceiling".to_owned(), inlet: None, webhooks: vec![], well: true };
        let driver = Driver::new(vec![server.first_line()?], vec![nobody]);
        let connections = self.connections(batch);
        let pace = Pace::Closed { outstanding_max: u64::MAX };
        let running = driver.start(&Plan { connections, batch, pace, events_max: u64::MAX }, None).await?;
        tokio::time::sleep(self.warm_up() / 2).await;
        let sample = || -> Result<(u64, f64)> {
            Ok((driver.accepted(), process::cpu_seconds(server.pid())? + process::cpu_seconds(std::process::id())?))
        };
        let first = sample()?;
        self.progress.wait(&format!("ceiling: accept only, batches of {batch}"), measured).await;
        let last = sample()?;
        running.stop(measured).await?;
        let events = (last.0 - first.0) as f64;
        Ok(Ceiling { per_second: events / measured.as_secs_f64(), cpu_us: (last.1 - first.1) * 1e6 / events })
    }

    async fn deliver_ceiling(&self, sink: &mut Sink, measured: Duration) -> Result<Ceiling> {
        sink.expect(&[Expectation {
            secret: Secret::Standard(CEILING_SECRET.to_owned()),
            behaviour: Behaviour::Receives,
        }])
        .await?;
        sink.window(&Window { from_ns: 0, until_ns: 0, verify_one_in: VERIFY_AT_PEAK }).await?;
        let before = process::cpu_seconds(sink.pid())?;
        let (target, connections) = (sink.webhooks()[0].to_string(), self.settings.connections.to_string());
        let seconds = measured.as_secs_f64().to_string();
        let told = ["--target", &target, "--secret", CEILING_SECRET, "--connections", &connections];
        let mut sender = Helper::start(&[["deliver-ceiling"].as_slice(), &told, &["--seconds", &seconds]].concat())?;
        self.progress.wait("ceiling: deliver only", measured).await;
        let done: Delivered = sender.first_line()?;
        let cpu_seconds = done.cpu_seconds + process::cpu_seconds(sink.pid())? - before;
        let arrived = sink.report().await?;
        anyhow::ensure!(
            arrived.delivered == done.deliveries && arrived.bad_signatures == 0,
            "the deliver-only ceiling sent {} and the sink has {arrived:?}",
            done.deliveries
        );
        let deliveries = done.deliveries as f64;
        Ok(Ceiling { per_second: deliveries / done.seconds, cpu_us: cpu_seconds * 1e6 / deliveries })
    }
}

/// One tenant with one webhook.
const ONE: Shape = Shape { tenants: 1, fan_out: 1, sick: Vec::new(), receives: None, schedule_ms: None };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_names_nothing_measures_everything_but_what_takes_long() {
        let left_out: Vec<&Scenario> =
            Scenario::value_variants().iter().filter(|scenario| !scenario.is_chosen(&[])).collect();
        assert_eq!(left_out, [&Scenario::Soak, &Scenario::Wide]);
        assert!(Scenario::Soak.is_chosen(&[Scenario::Batch, Scenario::Soak]));
        assert!(!Scenario::Batch.is_chosen(&[Scenario::Soak]));
    }
}
