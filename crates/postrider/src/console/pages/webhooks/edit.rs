//! Adding and editing a webhook.

use std::collections::BTreeMap;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use postrider_core::dialect::Dialect;
use postrider_core::limits::DESCRIPTION_CHARS_MAX;

use super::{dialect_label, found, name_of, path, row_of, secret};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault, retry_after, too_many};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{Choice, Field};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks::{self, WebhookChange};
use crate::registry::{Patch, catalogues};
use crate::store::WebhookRecord;

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::WebhooksWrite);
    vec![
        Route::get("/settings/webhooks/new", write, new),
        Route::post("/settings/webhooks/new", write, create),
        Route::get("/settings/webhooks/{webhook}/edit", write, edit),
        Route::post("/settings/webhooks/{webhook}/edit", write, change),
    ]
}

/// Event types that stand together.
struct Group {
    label: String,
    choices: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "webhook_edit.html")]
struct Page {
    chrome: Chrome,
    title: String,
    action: String,
    is_new: bool,
    problem: Option<String>,
    url: Field,
    name: Field,
    description: Field,
    /// In the portal it is not the customer's to choose.
    dialect: Option<Field>,
    groups: Vec<Group>,
    patterns: Field,
    events_error: Option<String>,
}

/// What is in the form: what was sent, or else what there is.
struct Filled {
    url: String,
    name: String,
    description: String,
    dialect: Dialect,
    events: Vec<String>,
}

impl Filled {
    fn of(record: &WebhookRecord) -> Filled {
        let spec = &record.spec;
        Filled {
            url: spec.url.clone(),
            name: spec.name.clone().unwrap_or_default(),
            description: spec.description.clone().unwrap_or_default(),
            dialect: spec.dialect,
            events: spec.events.0.clone(),
        }
    }

    fn sent(visit: &Visit, default: Dialect) -> Filled {
        let text = |name: &str| visit.form.text(name).trim().to_owned();
        let mut events = visit.form.all("events");
        let written = visit.form.text("patterns").split([',', '\n', ' ']).map(str::trim);
        events.extend(written.filter(|pattern| !pattern.is_empty()).map(str::to_owned));
        Filled {
            url: text("url"),
            name: text("name"),
            description: text("description"),
            dialect: visit.form.text("dialect").parse().ok().filter(|_| !visit.is_portal()).unwrap_or(default),
            events,
        }
    }

    fn into_change(self, visit: &Visit) -> WebhookChange {
        let maybe = |text: String| if text.is_empty() { Patch::Null } else { Patch::Set(text) };
        WebhookChange {
            name: maybe(self.name),
            url: Patch::Set(self.url),
            description: maybe(self.description),
            dialect: Patch::Set(self.dialect),
            events: Patch::Set(self.events),
            origin: visit.origin(),
            ..WebhookChange::default()
        }
    }
}

/// The tenant's catalogue with that of the dialect, by group, and the patterns that are in neither.
fn events(visit: &Visit, dialect: Dialect, chosen: &[String]) -> Result<(Vec<Group>, String), Fault> {
    let tenant = visit.tenant()?.record.id;
    let mut groups: BTreeMap<String, Vec<Choice>> = BTreeMap::new();
    let known = visit.app().catalog.event_types(Some(tenant));
    for event_type in known.iter().filter(|one| !one.deprecated || chosen.contains(&one.name)) {
        let group = event_type.group.clone().unwrap_or_else(|| "Other".to_owned());
        groups.entry(group).or_default().push(Choice {
            value: event_type.name.clone(),
            label: event_type.name.clone(),
            hint: event_type.description.clone().unwrap_or_default(),
            chosen: chosen.contains(&event_type.name),
        });
    }
    let is_known = |name: &str| known.iter().any(|one| one.name == name);
    let published = catalogues::find(dialect.name()).map_or(&[][..], |catalogue| &catalogue.types);
    for one in published.iter().filter(|one| !is_known(&one.name)) {
        groups.entry(one.group.clone()).or_default().push(Choice {
            value: one.name.clone(),
            label: one.name.clone(),
            hint: one.description.clone(),
            chosen: chosen.contains(&one.name),
        });
    }
    let is_listed = |name: &str| is_known(name) || published.iter().any(|one| one.name == name);
    let others = chosen.iter().filter(|pattern| !is_listed(pattern));
    let others: Vec<_> = others.map(String::as_str).collect();
    Ok((groups.into_iter().map(|(label, choices)| Group { label, choices }).collect(), others.join(", ")))
}

fn page(visit: &Visit, record: Option<&WebhookRecord>, filled: &Filled, errors: &Errors) -> Result<Page, Fault> {
    let title = record.map_or_else(|| "Add a webhook".to_owned(), |record| format!("Edit {}", name_of(record)));
    let dialects = Dialect::ALL.map(|dialect| Choice {
        value: dialect.name().to_owned(),
        label: dialect_label(dialect).to_owned(),
        hint: String::new(),
        chosen: dialect == filled.dialect,
    });
    let (groups, patterns) = events(visit, filled.dialect, &filled.events)?;
    let url = Field::url("url", "Endpoint URL")
        .value(&*filled.url)
        .placeholder("https://example.com/webhooks")
        .hint("Where events are POSTed. HTTPS, and reachable from the internet.")
        .error(errors.at("url"));
    let receives = record.is_some_and(|record| record.spec.receiver.is_some());
    let url = if receives { url } else { url.required() };
    // The focus of a page that the portal is framed by is not ours to take; browsers refuse it anyway.
    let is_begun_here = record.is_none() && !visit.is_portal();
    Ok(Page {
        action: record
            .map_or_else(|| format!("{}/new", path(visit)), |record| format!("{}/{}/edit", path(visit), record.id)),
        is_new: record.is_none(),
        problem: errors.beside(&["url", "name", "description", "dialect", "events"]).map(str::to_owned),
        url: if is_begun_here { url.focused() } else { url },
        name: Field::line("name", "Name").value(&*filled.name).error(errors.at("name")),
        description: Field::text("description", "Description")
            .value(&*filled.description)
            .error(errors.at("description"))
            .longest(DESCRIPTION_CHARS_MAX),
        dialect: (!visit.is_portal()).then(|| {
            Field::select("dialect", "Dialect", dialects.into())
                .hint("How events look and are signed. Changing it changes what your endpoint gets.")
                .error(errors.at("dialect"))
        }),
        groups,
        patterns: Field::line("patterns", "Other event types")
            .value(patterns)
            .placeholder("order.*, invoice.paid")
            .hint("Names or patterns, separated by commas."),
        events_error: errors.at("events").map(str::to_owned),
        chrome: Chrome::of(visit, &*title),
        title,
    })
}

async fn new(visit: Visit) -> Result<Answer, Fault> {
    let default = visit.tenant()?.record.dialect;
    Answer::page(&page(&visit, None, &Filled::sent(&visit, default), &Errors::none())?)
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?;
    let filled = Filled::sent(&visit, tenant.record.dialect);
    // It is pinged at once. What was filled in stays.
    if let Err(fault) = visit.send_by_hand() {
        let Fault::TooMany(wait) = fault else { return Err(fault) };
        let page = page(&visit, None, &filled, &Errors::one("", too_many(wait)))?;
        let answer = Answer::page_as(StatusCode::TOO_MANY_REQUESTS, &page)?;
        return Ok(answer.header(header::RETRY_AFTER, HeaderValue::from(retry_after(wait))));
    }
    let change = Filled::sent(&visit, tenant.record.dialect).into_change(&visit);
    match webhooks::create(visit.app(), tenant.record.id, change, None, &visit.actor()).await {
        Ok((record, made)) => {
            webhooks::ping(visit.app().clone(), record.id);
            secret::revealed(&visit, record.id, "The webhook is added.", made.reveal())
        }
        Err(rejection) => Answer::unfit(&page(&visit, None, &filled, &Errors::of(rejection)?)?),
    }
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    Answer::page(&page(&visit, Some(&record), &Filled::of(&record), &Errors::none())?)
}

async fn change(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let filled = Filled::sent(&visit, record.spec.dialect);
    let change = Filled::sent(&visit, record.spec.dialect).into_change(&visit);
    match webhooks::change(visit.app(), visit.scope(), record.id, change, &visit.actor()).await {
        Ok(record) => {
            let flash = Flash::good(format!("{} is saved.", name_of(&record)));
            Ok(Answer::to(&row_of(&visit, record.id))?.saying(flash))
        }
        Err(rejection) => Answer::unfit(&page(&visit, Some(&record), &filled, &Errors::of(rejection)?)?),
    }
}
