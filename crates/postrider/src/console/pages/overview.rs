//! How deliveries go: over time, how fast, what waits, and which webhooks need a look.

use askama::Template;
use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use serde::Deserialize;

use super::webhooks::{name_of, standing};
use crate::auth::Permission;
use crate::catalog::Tenant;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::chart::{About, Chart, Series};
use crate::console::kit::{self, Html};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::store::{Latency, ROLLUP_MS, Scope, Stats, StatsQuery, WebhookHealth, WebhookTotals};

const PATH: &str = "/settings/overview";

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get(PATH, Access::Needs(Permission::StatsRead), show)]
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A span to look at, and the width of what a chart shows as one.
struct Period {
    name: &'static str,
    label: &'static str,
    /// As it stands in a sentence.
    told: &'static str,
    length_ms: i64,
    step_ms: i64,
}

const PERIODS: [Period; 4] = [
    Period { name: "hour", label: "Hour", told: "the last hour", length_ms: HOUR_MS, step_ms: 5 * MINUTE_MS },
    Period { name: "day", label: "Day", told: "the last 24 hours", length_ms: 24 * HOUR_MS, step_ms: 30 * MINUTE_MS },
    Period { name: "week", label: "Week", told: "the last 7 days", length_ms: 7 * 24 * HOUR_MS, step_ms: 3 * HOUR_MS },
    Period {
        name: "month",
        label: "Month",
        told: "the last 30 days",
        length_ms: 30 * 24 * HOUR_MS,
        step_ms: 12 * HOUR_MS,
    },
];

/// Webhooks are ranked by what they did in a day at most, and only so many of them: each has rollups of its own.
const RANKED_MS: i64 = 24 * HOUR_MS;
const RANKED_MAX: usize = 40;
const SHOWN: usize = 5;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    period: String,
}

struct Tab {
    label: &'static str,
    address: String,
    is_current: bool,
}

struct Tile {
    label: &'static str,
    value: String,
    note: String,
    link: Option<(&'static str, String)>,
}

struct Ranked {
    id: WebhookId,
    name: String,
    pill: Html,
    since: Html,
    in_a_row: String,
    failed: String,
    delivered: String,
    p50: String,
    p95: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    chrome: Chrome,
    tabs: Vec<Tab>,
    period: &'static str,
    ranked_period: &'static str,
    tiles: Vec<Tile>,
    has_webhooks: bool,
    may_write: bool,
    is_quiet: bool,
    sent: Chart,
    latency: Chart,
    has_latency: bool,
    failing: Vec<Ranked>,
    slowest: Vec<Ranked>,
    codes: Vec<(String, String)>,
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let asked: Query = visit.query();
    let tenant = visit.tenant()?;
    let period = PERIODS.iter().find(|period| period.name == asked.period).unwrap_or(&PERIODS[1]);
    let until = visit.app().ambient.now();
    let since = UnixMs((until.0 - period.length_ms).div_euclid(ROLLUP_MS) * ROLLUP_MS);
    let scope = Scope::Tenant(tenant.record.id);
    let query = StatsQuery { scope, webhook_id: None, since, until, bucket_ms: period.step_ms };
    let stats = visit.app().store.stats(query).await?;
    let ranked_since = since.max(UnixMs(until.0 - RANKED_MS));
    let ranked = ranked(&visit, &tenant, ranked_since, until).await?;
    let tab = |one: &Period| Tab {
        label: one.label,
        address: format!("{PATH}?period={}", one.name),
        is_current: one.name == period.name,
    };
    Answer::page(&Page {
        tabs: PERIODS.iter().map(tab).collect(),
        period: period.told,
        ranked_period: if period.length_ms > RANKED_MS { PERIODS[1].told } else { period.told },
        tiles: tiles(&stats),
        has_webhooks: !tenant.webhooks.is_empty(),
        may_write: visit.may(Permission::WebhooksWrite),
        is_quiet: stats.succeeded + stats.failed + stats.attempts == 0,
        sent: sent(&stats, until, period),
        latency: latency(&stats, until, period),
        has_latency: stats.latency.is_some(),
        failing: failing(&tenant, &ranked),
        slowest: slowest(&tenant, &ranked),
        codes: stats.by_status_code.iter().map(code).collect(),
        chrome: Chrome::of(&visit, "Overview"),
    })
}

fn code((code, count): (&u16, &u64)) -> (String, String) {
    let code = if *code == 0 { "No answer".to_owned() } else { code.to_string() };
    (code, kit::grouped(*count))
}

/// In tenths of a percent, never rounded up to all or down to nothing.
fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 / whole as f64 * 100.0;
    match part {
        part if part == whole => "100 %".to_owned(),
        0 => "0 %".to_owned(),
        _ => format!("{:.1} %", share.clamp(0.1, 99.9)),
    }
}

fn tiles(stats: &Stats) -> Vec<Tile> {
    let judged = stats.succeeded + stats.failed;
    let to = |text, status: &str| Some((text, format!("/settings/deliveries?status={status}")));
    let latency = |of: fn(&Latency) -> u32| stats.latency.as_ref().map(of);
    let ms = |value: Option<u32>| value.map_or_else(|| "–".to_owned(), |ms| format!("{} ms", kit::grouped(ms.into())));
    vec![
        Tile {
            label: "Delivered",
            value: kit::grouped(stats.succeeded),
            note: format!("in {} attempts", kit::grouped(stats.attempts)),
            link: None,
        },
        Tile {
            label: "Failed",
            value: kit::grouped(stats.failed),
            note: if stats.canceled > 0 {
                format!("and {} canceled", kit::grouped(stats.canceled))
            } else {
                String::new()
            },
            link: to("See them", "failed").filter(|_| stats.failed > 0),
        },
        Tile {
            label: "Success rate",
            value: if judged == 0 { "–".to_owned() } else { percent(stats.succeeded, judged) },
            note: "of what has ended".to_owned(),
            link: None,
        },
        Tile {
            label: "Latency, p95",
            value: ms(latency(|latency| latency.p95_ms)),
            note: format!("p50 {}, p99 {}", ms(latency(|it| it.p50_ms)), ms(latency(|it| it.p99_ms))),
            link: None,
        },
        Tile {
            label: "Waiting now",
            value: kit::grouped(stats.pending),
            note: "to be sent, or tried again".to_owned(),
            link: to("See them", "pending").filter(|_| stats.pending > 0),
        },
    ]
}

fn sent(stats: &Stats, until: UnixMs, period: &Period) -> Chart {
    let times: Vec<_> = stats.series.iter().map(|point| point.at).collect();
    let values = |of: fn(&crate::store::StatsPoint) -> u64| stats.series.iter().map(|point| Some(of(point))).collect();
    let series = [
        Series { label: "Delivered", class: "good", values: values(|point| point.succeeded) },
        Series { label: "Failed", class: "bad", values: values(|point| point.failed) },
    ];
    let (succeeded, failed) = (kit::grouped(stats.succeeded), kit::grouped(stats.failed));
    let summary = format!("Deliveries that ended in {}: {succeeded} delivered, {failed} failed.", period.told);
    Chart::columns(About { id: "sent", title: "Deliveries", summary, unit: "" }, &times, until, &series)
}

fn latency(stats: &Stats, until: UnixMs, period: &Period) -> Chart {
    let times: Vec<_> = stats.series.iter().map(|point| point.at).collect();
    let values = |of: fn(&Latency) -> u32| {
        stats.series.iter().map(|point| point.latency.as_ref().map(|latency| u64::from(of(latency)))).collect()
    };
    let series = [
        Series { label: "p50", class: "low", values: values(|latency| latency.p50_ms) },
        Series { label: "p95", class: "mid", values: values(|latency| latency.p95_ms) },
        Series { label: "p99", class: "high", values: values(|latency| latency.p99_ms) },
    ];
    let told = stats.latency.map(|it| format!("p50 {} ms, p95 {} ms, p99 {} ms", it.p50_ms, it.p95_ms, it.p99_ms));
    let told = told.unwrap_or_else(|| "no endpoint answered".to_owned());
    let summary = format!("Time until endpoints answered in {}: {told}.", period.told);
    Chart::lines(About { id: "latency", title: "Latency", summary, unit: "ms" }, &times, until, &series)
}

/// The webhooks that fail or were busy last, with what they did.
async fn ranked(
    visit: &Visit,
    tenant: &Tenant,
    since: UnixMs,
    until: UnixMs,
) -> Result<Vec<(WebhookHealth, WebhookTotals)>, Fault> {
    let store = &visit.app().store;
    let ids: Vec<_> = tenant.webhooks.iter().map(|webhook| webhook.record.id).collect();
    let mut health = store.health(&ids).await?;
    health.retain(|health| health.last_delivery_at.is_some());
    health.sort_by_key(|health| {
        let last = std::cmp::Reverse(health.last_delivery_at);
        (!health.failing, health.consecutive_failures == 0, last, health.webhook_id)
    });
    health.truncate(RANKED_MAX);
    let ids: Vec<_> = health.iter().map(|health| health.webhook_id).collect();
    let totals = store.webhook_totals(tenant.record.id, &ids, since, until).await?;
    Ok(health.into_iter().zip(totals).collect())
}

fn failing(tenant: &Tenant, all: &[(WebhookHealth, WebhookTotals)]) -> Vec<Ranked> {
    let failing = all.iter().filter(|(health, _)| health.failing || health.consecutive_failures > 0);
    failing.take(SHOWN).filter_map(|(health, totals)| ranked_row(tenant, health, totals)).collect()
}

fn slowest(tenant: &Tenant, all: &[(WebhookHealth, WebhookTotals)]) -> Vec<Ranked> {
    let mut answering: Vec<_> = all.iter().filter(|(_, totals)| totals.latency.is_some()).collect();
    answering.sort_by_key(|(_, totals)| std::cmp::Reverse(totals.latency.map(|latency| latency.p95_ms)));
    answering.into_iter().take(SHOWN).filter_map(|(health, totals)| ranked_row(tenant, health, totals)).collect()
}

fn ranked_row(tenant: &Tenant, health: &WebhookHealth, totals: &WebhookTotals) -> Option<Ranked> {
    let webhook = tenant.webhooks.iter().find(|webhook| webhook.record.id == health.webhook_id)?;
    let ms = |of: fn(&Latency) -> u32| {
        let value = totals.latency.as_ref().map(of);
        value.map_or_else(|| "–".to_owned(), |ms| format!("{} ms", kit::grouped(ms.into())))
    };
    Some(Ranked {
        id: health.webhook_id,
        name: name_of(&webhook.record),
        pill: standing(Some(health)),
        since: kit::maybe_time(health.failing_since, "–"),
        in_a_row: kit::grouped(health.consecutive_failures.into()),
        failed: kit::grouped(totals.failed),
        delivered: kit::grouped(totals.succeeded),
        p50: ms(|latency| latency.p50_ms),
        p95: ms(|latency| latency.p95_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_better_or_worse_than_it_is() {
        let told = [(0, 5), (5, 5), (1, 3), (99_999, 100_000), (1, 100_000)].map(|(part, whole)| percent(part, whole));
        assert_eq!(told, ["0 %", "100 %", "33.3 %", "99.9 %", "0.1 %"]);
    }

    #[test]
    fn a_chart_has_few_points_of_whole_rollups() {
        for period in &PERIODS {
            assert!(period.length_ms / period.step_ms <= 60 && period.step_ms % ROLLUP_MS == 0, "{}", period.name);
        }
    }
}
