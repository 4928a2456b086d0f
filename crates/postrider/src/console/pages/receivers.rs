//! Settings ▸ Receivers: URLs that third parties send their webhooks to, and what has come in there.

mod actions;
mod edit;
mod request;
mod setup;
mod show;

use std::sync::Arc;

use askama::Template;
use postrider_core::ids::WebhookId;
use postrider_core::inbound::{PROVIDERS, Provider, VerdictKind};
use postrider_core::webhook::{ReceiverSpec, WebhookStatus};
use serde::Deserialize;

use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Html, Mood, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks;
use crate::store::WebhookRecord;

const PATH: &str = "/settings/receivers";
const PER_PAGE: usize = 20;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![Route::get(PATH, Access::Needs(Permission::WebhooksRead), list)];
    routes.extend(edit::routes());
    routes.extend(show::routes());
    routes.extend(request::routes());
    routes.extend(actions::routes());
    routes
}

/// The receiver that the path names, if it exists for this visitor. A webhook that only sends is none.
fn found(visit: &Visit) -> Result<Arc<WebhookRecord>, Fault> {
    let record = webhooks::get(visit.app(), visit.scope(), visit.id::<WebhookId>("receiver")?)?;
    if record.spec.receiver.is_some() { Ok(record) } else { Err(Fault::NotFound) }
}

fn spec(record: &WebhookRecord) -> Result<&ReceiverSpec, Fault> {
    record.spec.receiver.as_ref().ok_or(Fault::NotFound)
}

fn address(id: WebhookId) -> String {
    format!("{PATH}/{id}")
}

/// What a receiver is called.
fn name_of(record: &WebhookRecord) -> String {
    let source = || record.spec.receiver.as_ref().map(|spec| setup::label(Provider::find(&spec.source)));
    record.spec.name.clone().or_else(source).unwrap_or_else(|| "Receiver".to_owned())
}

fn state(record: &WebhookRecord) -> Html {
    match record.status {
        WebhookStatus::Active => kit::pill(Mood::Good, "Active"),
        WebhookStatus::Paused => kit::pill(Mood::Warning, "Paused"),
        WebhookStatus::Disabled => kit::pill(Mood::Neutral, "Off"),
    }
}

fn verdict_pill(verdict: VerdictKind) -> Html {
    match verdict {
        VerdictKind::Verified => kit::pill(Mood::Good, "Verified"),
        VerdictKind::Authenticated => kit::pill(Mood::Good, "Authenticated"),
        VerdictKind::Failed => kit::pill(Mood::Bad, "Refused"),
        VerdictKind::Unattempted => kit::pill(Mood::Warning, "Not verified"),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    page: usize,
}

struct Row {
    id: WebhookId,
    name: String,
    description: String,
    provider: String,
    receive_url: Html,
    forwards_to: String,
    state: Html,
}

#[derive(Template)]
#[template(path = "receivers.html")]
struct Page {
    chrome: Chrome,
    may_write: bool,
    /// Beside the three that the page names.
    more_providers: usize,
    rows: Vec<Row>,
    pager: Pager,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let tenant = visit.tenant()?;
    let all = tenant.webhooks.iter().map(|webhook| webhook.record.clone());
    let mut records: Vec<_> = all.filter(|record| record.spec.receiver.is_some()).collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
    let total = records.len();
    let origin = visit.origin();
    let shown = records.iter().skip(query.page.saturating_mul(PER_PAGE)).take(PER_PAGE);
    let rows = shown.map(|record| row(record, &origin)).collect::<Result<_, _>>()?;
    let pager = Pager {
        next: (query.page.saturating_add(1).saturating_mul(PER_PAGE) < total)
            .then(|| format!("{PATH}?page={}", query.page + 1)),
        first: (query.page > 0).then(|| PATH.to_owned()),
    };
    let may_write = visit.may(Permission::WebhooksWrite);
    let more_providers = PROVIDERS.len() - 3;
    Answer::page(&Page { chrome: Chrome::of(&visit, "Receivers"), may_write, more_providers, rows, pager })
}

fn row(record: &WebhookRecord, origin: &str) -> Result<Row, Fault> {
    let spec = spec(record)?;
    Ok(Row {
        id: record.id,
        name: name_of(record),
        description: kit::short(record.spec.description.as_deref().unwrap_or_default(), 160),
        provider: setup::source_label(&spec.source),
        receive_url: kit::copyable(&webhooks::receive_url(origin, record.id), "the receive URL"),
        forwards_to: kit::short(&record.spec.url, 60),
        state: state(record),
    })
}
