//! Bulk replays: counted first, then confirmed, then watched.

use askama::Template;
use postrider_core::ids::ReplayId;
use postrider_core::limits::REPLAY_LOOKED_AT_MAX;
use postrider_core::time::UnixMs;
use serde::Deserialize;

use super::deliveries::{Filters, PATH as DELIVERIES, webhook_choices};
use super::webhooks::name_of;
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{self, Choice, Field, Html, Mood, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::console::{payload, span};
use crate::registry::replays::{self, Wanted};
use crate::store::{Page as ListPage, ReplayRecord, ReplaySelect, ReplayStatus, ReplayTargets, SomeMatches};

const PATH: &str = "/settings/deliveries/replays";
const PER_PAGE: usize = 20;

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::DeliveriesRead), Access::Needs(Permission::ReplaysWrite));
    vec![
        Route::get(PATH, read, list),
        Route::get("/settings/deliveries/replays/new", write, ask),
        Route::post("/settings/deliveries/replays/new", write, start),
        Route::get("/settings/deliveries/replays/{replay}", read, show),
        Route::post("/settings/deliveries/replays/{replay}/cancel", write, cancel),
    ]
}

// ---- asked for -------------------------------------------------------------------------------------------------------------

/// Where it is sent and how fast, beside what is sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    targets: String,
    rate: String,
}

#[derive(Template)]
#[template(path = "replay_new.html")]
struct AskPage {
    chrome: Chrome,
    facts: Vec<(&'static str, String)>,
    /// What was counted, for both forms.
    kept: Vec<Html>,
    options: Vec<Field>,
    /// With what was counted, for the form that begins.
    chosen: Vec<Html>,
    /// `None`: it is not in order.
    matched: Option<SomeMatches>,
    count: String,
    looked_at: String,
    of: &'static str,
    problem: Option<String>,
    back: String,
}

/// A replay as the form describes it, and its filters with both ends of the time set.
fn wanted(visit: &Visit, filters: &Filters, options: &Options) -> Result<(Wanted, ReplaySelect), Fail> {
    let tenant = visit.tenant()?;
    let webhook_id = filters.webhook()?;
    let (since, until) = span::span(&filters.from, &filters.to)?;
    let rate = match options.rate.trim() {
        "" => None,
        text => {
            let rate = text.parse().map_err(|_| Errors::one("rate", "Give a number."))?;
            Some(rate)
        }
    };
    let wanted = Wanted {
        since: since.unwrap_or(UnixMs(0)),
        until,
        types: Some(filters.event_type.trim().to_owned()).filter(|name| !name.is_empty()).into_iter().collect(),
        statuses: filters.status().into_iter().collect(),
        webhook_id,
        targets: Some(options.targets.clone()).filter(|targets| !targets.is_empty()),
        rate_per_second: rate,
    };
    let select = replays::select(visit.app(), tenant.record.id, wanted.clone()).map_err(Errors::of);
    Ok((wanted, select.map_err(|errors| errors.map_or_else(Fail::Fault, Fail::Form))?))
}

/// What is wrong with the form, or why there is no page.
enum Fail {
    Form(Errors),
    Fault(Fault),
}

impl From<Errors> for Fail {
    fn from(errors: Errors) -> Fail {
        Fail::Form(errors)
    }
}

impl From<Fault> for Fail {
    fn from(fault: Fault) -> Fail {
        Fail::Fault(fault)
    }
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let (filters, options): (Filters, Options) = (visit.query(), visit.query());
    match wanted(&visit, &filters, &options) {
        Ok((_, select)) => {
            let matched = visit.app().store.replay_count_some(&select, REPLAY_LOOKED_AT_MAX).await?;
            Answer::page(&ask_page(&visit, &filters, &options, Some((&select, matched)), &Errors::none())?)
        }
        Err(Fail::Form(errors)) => Answer::unfit(&ask_page(&visit, &filters, &options, None, &errors)?),
        Err(Fail::Fault(fault)) => Err(fault),
    }
}

async fn start(visit: Visit) -> Result<Answer, Fault> {
    let text = |name: &str| visit.form.text(name).to_owned();
    let filters = Filters {
        status: text("status"),
        webhook: text("webhook"),
        event_type: text("type"),
        from: text("from"),
        to: text("to"),
        event: String::new(),
    };
    let options = Options { targets: text("targets"), rate: text("rate") };
    match wanted(&visit, &filters, &options) {
        Ok((wanted, select)) => {
            let id = ReplayId::from_random(visit.app().ambient.random());
            visit.app().engine.start_replay(id, select, wanted.rate_per_second, visit.actor()).await?;
            Ok(Answer::to(&format!("{PATH}/{id}"))?.saying(Flash::good("The replay is running.")))
        }
        Err(Fail::Form(errors)) => Answer::unfit(&ask_page(&visit, &filters, &options, None, &errors)?),
        Err(Fail::Fault(fault)) => Err(fault),
    }
}

fn ask_page(
    visit: &Visit,
    filters: &Filters,
    options: &Options,
    counted: Option<(&ReplaySelect, SomeMatches)>,
    errors: &Errors,
) -> Result<AskPage, Fault> {
    let tenant = visit.tenant()?;
    let mut filters = filters.clone();
    let back = format!("{DELIVERIES}?{}", filters.encoded());
    // What is counted is what is sent, however long the page is looked at.
    if let Some((select, _)) = counted
        && let Ok(until) = jiff::Timestamp::from_millisecond(select.until.0)
    {
        filters.to = until.to_string();
    }
    let pairs = filters.pairs();
    let kept = || pairs.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| kit::hidden(name, value));
    let choice = |value: &str, label: &str| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: options.targets == value,
    };
    let mut targets =
        vec![choice("", "Each to the webhook it went to"), choice("current", "Whoever is subscribed now")];
    let webhooks = webhook_choices(&tenant, &options.targets, "").unwrap_or_default();
    targets.extend(webhooks.into_iter().skip(1).map(|one| Choice { label: format!("Only to {}", one.label), ..one }));
    let chosen = [("targets", options.targets.as_str()), ("rate", options.rate.trim())];
    let message = |name: &str| errors.at(if name == "rate" { "rate_per_second" } else { name }).or(errors.at(name));
    let problem = errors.beside(&["targets", "rate", "rate_per_second"]).filter(|_| counted.is_none());
    Ok(AskPage {
        chrome: Chrome::of(visit, "Send again"),
        facts: facts(visit, &filters),
        kept: kept().collect(),
        options: vec![
            Field::select("targets", "Send to", targets).error(message("targets")),
            Field::line("rate", "At most a second")
                .value(options.rate.trim())
                .placeholder("As fast as they go out")
                .error(message("rate")),
        ],
        chosen: kept().chain(chosen.iter().map(|(name, value)| kit::hidden(name, value))).collect(),
        matched: counted.map(|(_, matched)| matched),
        count: counted.map(|(_, some)| count(some)).unwrap_or_default(),
        looked_at: kit::grouped(REPLAY_LOOKED_AT_MAX as u64),
        of: what(
            counted.map_or(ReplayTargets::Original, |(select, _)| select.targets),
            counted.filter(|(_, some)| some.is_all).map(|(_, some)| some.matched),
        ),
        problem: problem.map(str::to_owned),
        back,
    })
}

fn count(some: SomeMatches) -> String {
    let more = if some.is_all { "" } else { " or more" };
    format!("{}{more}", kit::grouped(some.matched))
}

/// What is counted.
fn what(targets: ReplayTargets, count: Option<u64>) -> &'static str {
    match (targets, count) {
        (ReplayTargets::Original, Some(1)) => "delivery",
        (ReplayTargets::Original, _) => "deliveries",
        (_, Some(1)) => "event",
        _ => "events",
    }
}

fn utc(at: UnixMs) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at.0);
    stamp.map(|stamp| stamp.strftime("%-d %b %Y, %H:%M:%S UTC").to_string()).unwrap_or_default()
}

fn webhook_name(visit: &Visit, id: postrider_core::ids::WebhookId) -> String {
    let webhook = visit.app().catalog.webhook(id).filter(|webhook| visit.scope().covers(webhook.record.tenant_id));
    webhook.map_or_else(|| "a deleted webhook".to_owned(), |webhook| payload::cut(&name_of(&webhook.record), 60).text)
}

fn facts(visit: &Visit, filters: &Filters) -> Vec<(&'static str, String)> {
    let any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
    let webhook = filters.webhook().ok().flatten().map(|id| webhook_name(visit, id));
    let time = |text: &str| span::moment(text).map(utc);
    vec![
        ("Status", filters.status_label().unwrap_or("Delivered, failed or canceled").to_owned()),
        ("Webhook", any(webhook)),
        ("Event type", any(Some(filters.event_type.trim().to_owned()).filter(|name| !name.is_empty()))),
        ("Accepted from", time(&filters.from).unwrap_or_else(|| "the oldest that is kept".to_owned())),
        ("Accepted before", time(&filters.to).unwrap_or_else(|| "now".to_owned())),
    ]
}

// ---- running ---------------------------------------------------------------------------------------------------------------

/// A replay as pages show it.
struct Shown {
    id: ReplayId,
    at: Html,
    pill: Html,
    is_running: bool,
    matched: u64,
    done: u64,
    percent: u64,
    figures: String,
    queued: String,
    what: String,
    targets: String,
    rate: String,
    ended: Html,
}

#[derive(Template)]
#[template(path = "replay.html")]
struct OnePage {
    chrome: Chrome,
    one: Shown,
    may_cancel: bool,
    sent: String,
}

/// What a script asks for while it runs.
#[derive(Template)]
#[template(path = "replay_progress.html")]
struct Fragment {
    one: Shown,
}

#[derive(Template)]
#[template(path = "replays.html")]
struct ListPageView {
    chrome: Chrome,
    rows: Vec<Shown>,
    pager: Pager,
}

impl Shown {
    fn of(visit: &Visit, record: &ReplayRecord) -> Shown {
        let select = &record.select;
        let is_running = record.status == ReplayStatus::Running;
        let pill = match record.status {
            ReplayStatus::Running => kit::pill(Mood::Busy, "Running"),
            ReplayStatus::Finished => kit::pill(Mood::Good, "Finished"),
            ReplayStatus::Canceled => kit::pill(Mood::Neutral, "Canceled"),
        };
        // What was counted when it began may be more or less than what is found on the way.
        let matched = record.matched.max(record.done).max(1);
        let percent = if record.status == ReplayStatus::Finished { 100 } else { record.done * 100 / matched };
        let of = what(select.targets, Some(record.matched));
        let targets = match select.targets {
            ReplayTargets::Original => "each to the webhook it went to".to_owned(),
            ReplayTargets::Current => "whoever was subscribed".to_owned(),
            ReplayTargets::Webhook(id) => webhook_name(visit, id),
        };
        Shown {
            id: record.id,
            at: kit::time(record.created_at),
            pill,
            is_running,
            matched,
            done: if record.status == ReplayStatus::Finished { matched } else { record.done },
            percent,
            figures: format!("{} of {} {of}", kit::grouped(record.done), kit::grouped(record.matched)),
            queued: kit::grouped(record.queued),
            what: selected(visit, select),
            targets,
            rate: record
                .rate_per_second
                .map_or_else(|| "as fast as they go out".to_owned(), |rate| format!("{rate} a second")),
            ended: kit::maybe_time(record.finished_at, "not yet"),
        }
    }
}

/// In a few words, what a replay takes.
fn selected(visit: &Visit, select: &ReplaySelect) -> String {
    use postrider_core::delivery::DeliveryStatus;
    let mut words: Vec<String> = select
        .statuses
        .iter()
        .map(|status| match status {
            DeliveryStatus::Succeeded => "delivered".to_owned(),
            DeliveryStatus::Failed => "failed".to_owned(),
            _ => "canceled".to_owned(),
        })
        .collect();
    words.extend(select.types.0.iter().take(3).cloned());
    words.extend(select.webhook_id.map(|id| format!("to {}", webhook_name(visit, id))));
    if select.since.0 > 0 {
        words.push(format!("from {}", utc(select.since)));
    }
    words.push(format!("before {}", utc(select.until)));
    words.join(", ")
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Place {
        cursor: Option<String>,
    }
    let place: Place = visit.query();
    let before = place.cursor.as_ref().and_then(|cursor| cursor.parse().ok());
    let page = ListPage { before, limit: PER_PAGE };
    let listed = visit.app().store.replay_list(visit.scope(), page).await?;
    Answer::page(&ListPageView {
        rows: listed.items.iter().map(|record| Shown::of(&visit, record)).collect(),
        pager: Pager::of(PATH, &[], place.cursor.as_deref(), listed.next),
        chrome: Chrome::of(&visit, "Replays"),
    })
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let id: ReplayId = visit.id("replay")?;
    let record = visit.app().store.replay_get(visit.scope(), id).await?.ok_or(Fault::NotFound)?;
    let one = Shown::of(&visit, &record);
    if visit.is_fragment() {
        return Answer::page(&Fragment { one });
    }
    let from = span::filled(UnixMs(record.created_at.0 / 1000 * 1000));
    let query = serde_urlencoded::to_string([("from", from)]).unwrap_or_default();
    Answer::page(&OnePage {
        may_cancel: one.is_running && visit.may(Permission::ReplaysWrite),
        one,
        sent: format!("{DELIVERIES}?{query}"),
        chrome: Chrome::of(&visit, "Replay"),
    })
}

async fn cancel(visit: Visit) -> Result<Answer, Fault> {
    let id: ReplayId = visit.id("replay")?;
    let replay = visit.app().engine.cancel_replay(visit.scope(), id, visit.actor()).await?.ok_or(Fault::NotFound)?;
    let flash = match replay.status {
        ReplayStatus::Finished => Flash::bad("It had ended already."),
        _ => Flash::good("The replay is canceled. What it had queued goes out."),
    };
    Ok(Answer::to(&format!("{PATH}/{id}"))?.saying(flash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_whether_there_may_be_more() {
        assert_eq!(count(SomeMatches { matched: 1234, is_all: true }), "1,234");
        assert_eq!(count(SomeMatches { matched: 10_000, is_all: false }), "10,000 or more");
    }
}
