//! The catalogue of event types: the tenant's, the platform's, and those that come with Postrider.

mod edit;

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Html, Mood};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::catalogues::{self, Catalogue};
use crate::store::EventTypeRecord;

const PATH: &str = "/settings/event-types";
/// How many are shown; more are found by their name.
const SHOWN_MAX: usize = 75;
/// A page stays small; the API has all of it.
const CODE_CHARS: usize = 20_000;
const ROW_CHARS: usize = 120;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = reading();
    routes.extend(edit::routes());
    routes
}

/// What the portal has, too.
pub(super) fn reading() -> Vec<Route> {
    let read = Access::Needs(Permission::EventTypesRead);
    vec![Route::get(PATH, read, list), Route::get("/settings/event-types/type", read, show)]
}

/// A type as it is shown, wherever it is described.
struct Type {
    name: String,
    group: Option<String>,
    description: Option<String>,
    schema: Option<Value>,
    example: Option<Value>,
    is_deprecated: bool,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Tenant,
    Platform,
    /// It comes with Postrider.
    Published(&'static str),
}

impl From<&EventTypeRecord> for Type {
    fn from(record: &EventTypeRecord) -> Type {
        Type {
            name: record.name.clone(),
            group: record.group.clone(),
            description: record.description.clone(),
            schema: record.schema.clone(),
            example: record.example.clone(),
            is_deprecated: record.deprecated,
            origin: if record.tenant_id.is_some() { Origin::Tenant } else { Origin::Platform },
        }
    }
}

fn published(catalogue: &'static Catalogue) -> impl Iterator<Item = Type> {
    catalogue.types.iter().map(|one| Type {
        name: one.name.clone(),
        group: Some(one.group.clone()),
        description: Some(one.description.clone()),
        schema: Some(one.schema.clone()),
        example: Some(one.example.clone()),
        is_deprecated: false,
        origin: Origin::Published(&catalogue.name),
    })
}

/// What the tenant sees. Customers see what their webhooks' dialect publishes in the same list.
fn seen(visit: &Visit) -> Result<Vec<Type>, Fault> {
    let tenant = visit.tenant()?;
    let known = visit.app().catalog.event_types(Some(tenant.record.id));
    let mut types: Vec<_> = known.iter().map(|record| Type::from(&**record)).collect();
    if visit.is_portal()
        && let Some(catalogue) = catalogues::find(tenant.record.dialect.name())
    {
        types.extend(published(catalogue).filter(|one| !known.iter().any(|known| known.name == one.name)));
    }
    Ok(types)
}

fn catalogue_of(visit: &Visit, name: &str) -> Result<&'static Catalogue, Fault> {
    let is_shown = !visit.is_portal() || visit.tenant()?.record.dialect.name() == name;
    catalogues::find(name).filter(|_| is_shown).ok_or(Fault::NotFound)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    /// Of one type.
    name: String,
    /// Words to look for.
    q: String,
    /// One of those that come with Postrider.
    catalogue: String,
}

struct Row {
    name: String,
    address: String,
    description: String,
    pills: Vec<Html>,
}

struct Group {
    label: String,
    rows: Vec<Row>,
}

struct Link {
    label: &'static str,
    address: String,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "event_types.html")]
struct Page {
    chrome: Chrome,
    title: &'static str,
    q: String,
    catalogue: String,
    may_write: bool,
    groups: Vec<Group>,
    more: usize,
    catalogues: Vec<Link>,
}

fn address(visit: &Visit, page: &str, one: &Type) -> String {
    let mut pairs = vec![("name", one.name.as_str())];
    if let Origin::Published(catalogue) = one.origin {
        pairs.push(("catalogue", catalogue));
    }
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    format!("{}{page}?{query}", visit.at("/event-types"))
}

fn pills(visit: &Visit, one: &Type) -> Vec<Html> {
    let mut pills = Vec::new();
    if one.is_deprecated {
        pills.push(kit::pill(Mood::Warning, "Deprecated"));
    }
    if one.origin == Origin::Platform && !visit.is_portal() {
        pills.push(kit::pill(Mood::Neutral, "Of the platform"));
    }
    pills
}

fn row(visit: &Visit, one: &Type) -> Row {
    let text = one.description.as_deref().unwrap_or_default();
    let cut: String = text.chars().take(ROW_CHARS).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    Row {
        address: address(visit, "/type", one),
        name: one.name.clone(),
        description: format!("{cut}{dots}"),
        pills: pills(visit, one),
    }
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let all = match query.catalogue.as_str() {
        "" => seen(&visit)?,
        name => published(catalogue_of(&visit, name)?).collect(),
    };
    let wanted = query.q.trim().to_lowercase();
    let has = |text: &Option<String>| text.as_ref().is_some_and(|text| text.to_lowercase().contains(&wanted));
    let is_wanted = |one: &Type| one.name.to_lowercase().contains(&wanted) || has(&one.group) || has(&one.description);
    let mut found = all.iter().filter(|one| is_wanted(one));
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for one in found.by_ref().take(SHOWN_MAX) {
        let group = one.group.clone().unwrap_or_else(|| "Other".to_owned());
        groups.entry(group).or_default().push(row(&visit, one));
    }
    let more = found.count();
    let catalogues = if visit.is_portal() { Vec::new() } else { links(&query.catalogue) };
    let title = catalogues::find(&query.catalogue).map_or("Event types", |catalogue| &catalogue.title);
    Answer::page(&Page {
        title,
        may_write: visit.may(Permission::EventTypesWrite) && query.catalogue.is_empty(),
        groups: groups.into_iter().map(|(label, rows)| Group { label, rows }).collect(),
        more,
        catalogues,
        q: query.q,
        catalogue: query.catalogue,
        chrome: Chrome::of(&visit, title),
    })
}

/// What a catalogue is called where there is little room.
fn short(catalogue: &'static Catalogue) -> &'static str {
    catalogue.title.split([':', '\'']).next().unwrap_or(&catalogue.name)
}

/// Ours and those that come with Postrider.
fn links(current: &str) -> Vec<Link> {
    let own = Link { label: "This tenant's", address: PATH.to_owned(), is_current: current.is_empty() };
    let others = catalogues::all().iter().map(|catalogue| Link {
        label: short(catalogue),
        address: format!("{PATH}?catalogue={}", catalogue.name),
        is_current: current == catalogue.name,
    });
    std::iter::once(own).chain(others).collect()
}

#[derive(Template)]
#[template(path = "event_type.html")]
struct TypePage {
    chrome: Chrome,
    list: String,
    name: String,
    group: Option<String>,
    description: Option<String>,
    pills: Vec<Html>,
    schema: Option<Html>,
    example: Option<Html>,
    /// Addresses, where it may be changed.
    edit: Option<String>,
    delete: Option<String>,
}

/// JSON as people read it.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn shown(value: Option<&Value>, label: &str) -> Option<Html> {
    let text = pretty(value?);
    let cut: String = text.chars().take(CODE_CHARS).collect();
    let dots = if cut.len() < text.len() { "\n… The API has all of it." } else { "" };
    Some(kit::code(&format!("{cut}{dots}"), label))
}

/// The tenant's own description of the type that the query names, or else the platform's.
fn described(visit: &Visit) -> Result<Arc<EventTypeRecord>, Fault> {
    let query: Query = visit.query();
    visit.app().catalog.event_type(Some(visit.tenant()?.record.id), &query.name).ok_or(Fault::NotFound)
}

fn may_change(visit: &Visit, origin: Origin) -> bool {
    match origin {
        Origin::Tenant => visit.may(Permission::EventTypesWrite),
        Origin::Platform => visit.principal().is_platform(),
        Origin::Published(_) => false,
    }
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let one = match query.catalogue.as_str() {
        "" => Type::from(&*described(&visit)?),
        name => {
            let mut types = published(catalogue_of(&visit, name)?);
            types.find(|one| one.name == query.name).ok_or(Fault::NotFound)?
        }
    };
    let may_change = may_change(&visit, one.origin);
    let list = match one.origin {
        Origin::Published(name) if !visit.is_portal() => format!("{PATH}?catalogue={name}"),
        _ => visit.at("/event-types"),
    };
    Answer::page(&TypePage {
        list,
        edit: may_change.then(|| address(&visit, "/edit", &one)),
        delete: may_change.then(|| address(&visit, "/delete", &one)),
        pills: pills(&visit, &one),
        schema: shown(one.schema.as_ref(), "JSON Schema of the data"),
        example: shown(one.example.as_ref(), "Example"),
        chrome: Chrome::of(&visit, &*one.name),
        name: one.name,
        group: one.group,
        description: one.description,
    })
}
