//! One receiver: how it is set up, and what has come in, with the verdicts.

use askama::Template;
use postrider_core::ids::{EventId, WebhookId};
use postrider_core::inbound::{Provider, VerdictKind};
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde::Deserialize;

use super::{address, found, name_of, setup, state, verdict_pill};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Choice, Field, Html, Mood, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks;
use crate::store::{Page as ListPage, ReceivedQuery, ReceivedRecord, WebhookRecord};

/// What a flash with a receiver's secret is called.
pub(super) const REVEAL: &str = "receiver_secret";
const PER_PAGE: usize = 25;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/settings/receivers/{receiver}", Access::Needs(Permission::EventsRead), show)]
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    verdict: String,
    cursor: Option<String>,
    /// Where verifying again is to go on.
    since: String,
}

/// A line of the setup.
struct Fact {
    name: &'static str,
    value: Html,
}

struct Row {
    id: EventId,
    at: Html,
    verdict: Html,
    reason: &'static str,
    event_type: Html,
    outcome: Html,
    from: String,
    bytes: usize,
}

#[derive(Template)]
#[template(path = "receiver.html")]
struct Page {
    chrome: Chrome,
    id: WebhookId,
    name: String,
    description: String,
    state: Html,
    is_active: bool,
    is_disabled: bool,
    told_of_state: &'static str,
    secret: Option<Html>,
    receive_url: Html,
    place: &'static str,
    provider: String,
    facts: Vec<Fact>,
    verdicts: Field,
    is_filtered: bool,
    rows: Vec<Row>,
    pager: Pager,
    may_write: bool,
    may_test: bool,
    may_release: bool,
    /// Where verifying again goes on, with how it is shown.
    goes_on: Option<(String, Html)>,
}

const VERDICTS: [(VerdictKind, &str); 4] = [
    (VerdictKind::Verified, "Verified"),
    (VerdictKind::Authenticated, "Authenticated"),
    (VerdictKind::Failed, "Refused"),
    (VerdictKind::Unattempted, "Not verified"),
];

/// What became of a request.
pub(super) fn outcome(record: &ReceivedRecord) -> Html {
    match (record.event_id, record.released_at, record.repeat) {
        (Some(_), _, true) => kit::pill(Mood::Neutral, "Repeat"),
        (Some(_), Some(_), false) => kit::pill(Mood::Good, "Released"),
        (Some(_), None, false) => kit::pill(Mood::Good, "Accepted"),
        (None, ..) => kit::pill(Mood::Neutral, "Kept only"),
    }
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let query: Query = visit.query();
    let verdict = VERDICTS.into_iter().find(|(kind, _)| kind.as_str() == query.verdict).map(|(kind, _)| kind);
    let listed = visit.app().store.received(ReceivedQuery {
        scope: visit.scope(),
        webhook_id: Some(record.id),
        verdict,
        event_type: None,
        since: None,
        until: None,
        page: ListPage { before: query.cursor.as_ref().and_then(|cursor| cursor.parse().ok()), limit: PER_PAGE },
    });
    let listed = listed.await?;
    let (own, filter) = (address(record.id), verdict.map_or("", VerdictKind::as_str));
    let pager = Pager::of(&own, &[("verdict", filter)], query.cursor.as_deref(), listed.next);
    let rows = listed.items.iter().map(row).collect();
    Answer::page(&page(&visit, &record, &query, (verdict, rows, pager))?)
}

fn page(
    visit: &Visit,
    record: &WebhookRecord,
    query: &Query,
    (verdict, rows, pager): (Option<VerdictKind>, Vec<Row>, Pager),
) -> Result<Page, Fault> {
    let id = record.id;
    let provider = Provider::find(&super::spec(record)?.source);
    let revealed = visit.revealed(REVEAL).filter(|reveal| reveal.about == id.to_string());
    let since: Option<UnixMs> = query.since.parse().ok();
    Ok(Page {
        id,
        name: name_of(record),
        description: kit::short(record.spec.description.as_deref().unwrap_or_default(), 400),
        state: state(record),
        is_active: record.status == WebhookStatus::Active,
        is_disabled: record.status == WebhookStatus::Disabled,
        told_of_state: match record.status {
            WebhookStatus::Active => "",
            WebhookStatus::Paused => {
                "Requests are verified and kept; what is to be forwarded waits until it is active."
            }
            WebhookStatus::Disabled => "Requests are kept and go nowhere, also not to other webhooks.",
        },
        secret: revealed.map(|reveal| kit::copyable(&reveal.secret, "the secret")),
        receive_url: kit::copyable(&webhooks::receive_url(&visit.origin(), id), "the receive URL"),
        place: setup::hints(provider).0,
        provider: setup::label(provider),
        facts: facts(visit, record)?,
        verdicts: verdict_field(verdict),
        is_filtered: verdict.is_some(),
        rows,
        pager,
        may_write: visit.may(Permission::WebhooksWrite),
        may_test: visit.may(Permission::WebhooksTest),
        may_release: visit.may(Permission::EventsWrite),
        goes_on: since.map(|since| (since.to_string(), kit::time(since))),
        chrome: Chrome::of(visit, name_of(record)),
    })
}

fn verdict_field(verdict: Option<VerdictKind>) -> Field {
    let choice = |value: &str, label: &str, chosen| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen,
    };
    let all = VERDICTS.iter().map(|(kind, label)| choice(kind.as_str(), label, verdict == Some(*kind)));
    let choices = std::iter::once(choice("", "All", verdict.is_none())).chain(all);
    Field::select("verdict", "Verdict", choices.collect())
}

fn facts(visit: &Visit, record: &WebhookRecord) -> Result<Vec<Fact>, Fault> {
    let receiver = super::spec(record)?;
    let fact = |name, value| Fact { name, value };
    let (url, provider) = (&record.spec.url, Provider::find(&receiver.source));
    let forwarded = if url.is_empty() { kit::quiet("nowhere: requests are kept") } else { kit::code_text(url) };
    let mut facts =
        vec![fact("Provider", kit::text(&setup::source_label(&receiver.source))), fact("Forwarded to", forwarded)];
    if !record.spec.events.0.is_empty() {
        facts.push(fact("Event types", kit::text(&record.spec.events.0.join(", "))));
    }
    if !url.is_empty() {
        facts
            .push(fact("Forwarded as", kit::text(crate::console::pages::webhooks::dialect_label(record.spec.dialect))));
    }
    if receiver.url != webhooks::receive_url(&visit.origin(), record.id) {
        facts.push(fact("URL as the provider was told it", kit::code_text(&receiver.url)));
    } else if provider.signs_url() {
        facts.push(fact("Signed URL", kit::quiet("the receive URL, character by character")));
    }
    let addresses: Vec<_> = receiver.allowed_addresses.iter().map(ToString::to_string).collect();
    facts.push(fact(
        "Allowed addresses",
        match addresses.is_empty() {
            true => kit::quiet("any"),
            false => kit::code_text(&addresses.join(", ")),
        },
    ));
    facts.push(fact(
        "Rate",
        match receiver.rate_limit {
            Some(rate) => kit::text(&format!("{} requests a second, on each node", rate.per_second)),
            None => kit::quiet("no limit"),
        },
    ));
    if let Some(answer) = &receiver.answer {
        let told = format!("{} {}", answer.status, kit::short(&answer.body, 200));
        facts.push(fact("Answer", kit::code_text(told.trim())));
    }
    Ok(facts)
}

fn row(record: &ReceivedRecord) -> Row {
    Row {
        id: record.id,
        at: kit::time(record.received_at),
        verdict: verdict_pill(record.verdict),
        reason: record.reason.map_or("", postrider_core::inbound::Reason::as_str),
        event_type: kit::badge(&record.event_type),
        outcome: outcome(record),
        from: match record.remote_address {
            Some(address) => address.to_string(),
            None if record.test => "a test of ours".to_owned(),
            None => "–".to_owned(),
        },
        bytes: record.body.len(),
    }
}
