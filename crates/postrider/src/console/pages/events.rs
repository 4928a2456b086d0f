//! Events: searched by type, id, time and what is in them.

mod one;

use askama::Template;
use postrider_core::ids::EventId;
use postrider_core::limits::{EVENTS_SEARCHED_BYTES_MAX, EVENTS_SEARCHED_MAX};
use serde::Deserialize;

use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::kit::{self, Choice, Field, Html, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::console::{payload, span};
use crate::store::{self, EventQuery, EventRecord, Page as ListPage, Source};

const PATH: &str = "/settings/events";
const PER_PAGE: usize = 25;
/// Events read at a time, so that a list of the largest ones stays within bounds in memory.
const READ_MAX: usize = 25;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![Route::get(PATH, Access::Needs(Permission::EventsRead), list)];
    routes.extend(one::routes());
    routes
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct Query {
    #[serde(rename = "type")]
    event_type: String,
    id: String,
    text: String,
    source: String,
    from: String,
    to: String,
    cursor: Option<String>,
}

impl Query {
    fn pairs(&self) -> [(&'static str, &str); 5] {
        [
            ("type", self.event_type.trim()),
            ("text", &self.text),
            ("source", &self.source),
            ("from", self.from.trim()),
            ("to", self.to.trim()),
        ]
    }
}

struct Row {
    id: EventId,
    event_type: Html,
    at: Html,
    name: String,
    source: &'static str,
    excerpt: Excerpt,
}

/// Some of a payload, with what was searched in the middle.
#[derive(Debug, Default, PartialEq, Eq)]
struct Excerpt {
    before: String,
    found: String,
    after: String,
}

#[derive(Template)]
#[template(path = "events.html")]
struct Page {
    chrome: Chrome,
    fields: Vec<Field>,
    is_filtered: bool,
    rows: Vec<Row>,
    pager: Pager,
    /// What is said of a search that has not looked at everything.
    partial: Option<String>,
    problem: bool,
}

const SOURCES: [(Source, &str, &str); 6] = [
    (Source::Api, "api", "Published"),
    (Source::Received, "received", "Received"),
    (Source::Gateway, "gateway", "Data gateway"),
    (Source::Test, "test", "Test"),
    (Source::System, "system", "Postrider itself"),
    (Source::Partner, "partner", "A partner's tenant"),
];

fn source_label(source: Source) -> &'static str {
    SOURCES.iter().find(|(one, ..)| *one == source).map_or("", |(.., label)| label)
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    if !query.id.trim().is_empty() {
        return by_id(&visit, &query).await;
    }
    match wanted(&visit, &query) {
        Ok(wanted) => {
            let found = search(&visit, wanted, query.text.trim()).await?;
            Answer::page(&page(&visit, &query, found, &Errors::none()))
        }
        Err(errors) => Answer::unfit(&page(&visit, &query, Found::default(), &errors)),
    }
}

/// To the event of that id.
async fn by_id(visit: &Visit, query: &Query) -> Result<Answer, Fault> {
    match visit.app().engine.find_event(visit.scope(), query.id.trim()).await? {
        Some(record) => Answer::to(&format!("{PATH}/{}", record.event.id)),
        None => {
            let errors = Errors::one("id", "There is no event of that id. Events are kept for some days.");
            Answer::unfit(&page(visit, query, Found::default(), &errors))
        }
    }
}

fn wanted(visit: &Visit, query: &Query) -> Result<EventQuery, Errors> {
    let (since, until) = span::span(&query.from, &query.to)?;
    let event_type = Some(query.event_type.trim().to_owned()).filter(|name| !name.is_empty());
    let source = SOURCES.iter().find(|(_, name, _)| *name == query.source).map(|(source, ..)| *source);
    let before = query.cursor.as_ref().and_then(|cursor| cursor.parse().ok());
    Ok(EventQuery {
        scope: visit.scope(),
        event_type,
        source,
        since,
        until,
        page: ListPage { before, limit: READ_MAX },
    })
}

#[derive(Default)]
struct Found {
    records: Vec<EventRecord>,
    next: Option<i64>,
    /// How many were looked at.
    looked: usize,
}

/// One page of what matches. It looks at so many events only; `next` goes on where it stopped.
async fn search(visit: &Visit, mut wanted: EventQuery, text: &str) -> Result<Found, Fault> {
    let mut found = Found::default();
    let text = text.to_ascii_lowercase();
    let mut bytes = 0;
    loop {
        let listed = visit.app().store.events(wanted.clone()).await?;
        let is_last = listed.next.is_none();
        let count = listed.items.len();
        for (at, record) in listed.items.into_iter().enumerate() {
            let number = record.event.id.sequence();
            found.looked += 1;
            bytes += record.event.data.len();
            if place(&record, &text).is_some() {
                found.records.push(record);
            }
            let is_enough = found.records.len() >= PER_PAGE
                || found.looked >= EVENTS_SEARCHED_MAX
                || (bytes >= EVENTS_SEARCHED_BYTES_MAX && !text.is_empty());
            if is_enough {
                found.next = number.filter(|_| !is_last || at + 1 < count);
                return Ok(found);
            }
        }
        wanted.page.before = listed.next;
        // A page that ended early has looked at thousands of other types already.
        if is_last || count < READ_MAX {
            found.next = listed.next;
            return Ok(found);
        }
    }
}

/// Where `text`, in small letters, is in the payload; everything has nothing in it.
fn place(record: &EventRecord, text: &str) -> Option<usize> {
    let data = std::str::from_utf8(&record.event.data).ok()?;
    if text.is_empty() { Some(0) } else { data.to_ascii_lowercase().find(text) }
}

/// Characters before and after what was found.
const AROUND: usize = 60;

fn excerpt(record: &EventRecord, text: &str) -> Excerpt {
    let data = std::str::from_utf8(&record.event.data).unwrap_or_default();
    let at = place(record, &text.to_ascii_lowercase()).unwrap_or_default();
    let (before, rest) = data.split_at_checked(at).unwrap_or(("", data));
    let (found, after) = rest.split_at_checked(text.len()).unwrap_or(("", rest));
    let start = before.char_indices().rev().nth(AROUND).map_or(0, |(at, _)| at);
    let mark = if start > 0 { "…" } else { "" };
    Excerpt {
        before: format!("{mark}{}", &before[start..]),
        found: payload::cut(found, 2 * AROUND).text,
        after: payload::cut(after, 2 * AROUND).text,
    }
}

fn row(record: &EventRecord, text: &str) -> Row {
    let event = &record.event;
    Row {
        id: event.id,
        event_type: kit::badge(&event.event_type),
        at: kit::time(record.accepted_at),
        name: store::outer_id(event.id, event.external_id.as_deref()),
        source: source_label(event.source),
        excerpt: excerpt(record, text),
    }
}

fn page(visit: &Visit, query: &Query, found: Found, errors: &Errors) -> Page {
    let text = query.text.trim();
    let pairs = query.pairs();
    let choice = |value: &str, label: &str| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: query.source == value,
    };
    let sources = std::iter::once(choice("", "Any")).chain(SOURCES.iter().map(|(_, name, label)| choice(name, label)));
    let is_filtered = pairs.iter().any(|(_, value)| !value.is_empty()) || !query.id.trim().is_empty();
    let is_partial = found.next.is_some() && found.records.len() < PER_PAGE;
    let partial = is_partial.then(|| match text {
        "" => "About 10,000 events were looked through.".to_owned(),
        _ => format!("The payloads of {} events were searched.", kit::grouped(found.looked as u64)),
    });
    Page {
        chrome: Chrome::of(visit, "Events"),
        fields: vec![
            Field::line("type", "Type").value(query.event_type.trim()).placeholder("order.paid"),
            Field::line("id", "Id").value(query.id.trim()).placeholder("Ours or yours").error(errors.at("id")),
            Field::line("text", "In the payload").value(&*query.text).placeholder("Any text"),
            Field::select("source", "Source", sources.collect()),
            Field::moment("from", "From (UTC)").value(span::kept(&query.from)).error(errors.at("from")),
            Field::moment("to", "To (UTC)").value(span::kept(&query.to)).error(errors.at("to")),
        ],
        is_filtered,
        rows: found.records.iter().map(|record| row(record, text)).collect(),
        pager: Pager::of(PATH, &pairs, query.cursor.as_deref(), found.next),
        partial,
        problem: *errors != Errors::none(),
    }
}
