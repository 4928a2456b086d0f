//! The audit log: who changed what, when, from where.

use askama::Template;
use futures_util::stream;
use postrider_core::limits::AUDIT_EXPORT_STEP;
use postrider_core::time::UnixMs;
use serde::Deserialize;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Field, Html, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::store::{AuditQuery, AuditRecord, Page as ListPage, Scope};

const PATH: &str = "/settings/audit-log";
const PER_PAGE: usize = 25;

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::AuditRead);
    vec![Route::get(PATH, read, list), Route::get("/settings/audit-log/export", read, export)]
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct Query {
    actor: String,
    action: String,
    since: String,
    cursor: Option<String>,
}

struct Row {
    at: Html,
    actor: String,
    address: String,
    action: Html,
    target: String,
    /// What is different, as JSON.
    before: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "audit_log.html")]
struct Page {
    chrome: Chrome,
    actor: Field,
    action: Field,
    since: Field,
    is_filtered: bool,
    rows: Vec<Row>,
    pager: Pager,
    export: String,
}

/// The query, or what is wrong with the date in it.
fn asked(visit: &Visit, query: &Query) -> (AuditQuery, Option<&'static str>) {
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let day = given(&query.since).map(|day| day.parse::<jiff::civil::Date>());
    let since = day.as_ref().and_then(|day| day.as_ref().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let problem = matches!(day, Some(Err(_))).then_some("Give a date such as 2026-12-31.");
    let asked = AuditQuery {
        scope: visit.scope(),
        actor: given(&query.actor).map(|actor| actor_of(visit.app(), actor)),
        action: given(&query.action),
        since: since.map(|since| UnixMs(since.timestamp().as_millisecond())),
        page: ListPage { before: query.cursor.as_ref().and_then(|cursor| cursor.parse().ok()), limit: PER_PAGE },
    };
    (asked, problem)
}

/// Somebody's id, from his e-mail if that is what was given.
fn actor_of(app: &App, given: String) -> String {
    match app.catalog.user_by_email(&given) {
        Some(user) => crate::registry::users::actor_id(user.id),
        None => given,
    }
}

/// Who it was, as people know him.
pub(super) fn shown_actor(app: &App, id: &str) -> String {
    let user = id.strip_prefix("user:").and_then(|id| app.catalog.user(id.parse::<Uuid>().ok()?));
    match (user, id) {
        (Some(user), _) => user.email.clone(),
        (None, "admin") => "platform admin key".to_owned(),
        (None, "nobody") => "not logged in".to_owned(),
        (None, id) => id.to_owned(),
    }
}

fn row(app: &App, record: AuditRecord) -> Row {
    let entry = record.entry;
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap_or_default();
    Row {
        at: kit::time(entry.at),
        actor: shown_actor(app, &entry.actor.id),
        address: entry.actor.address.map(|address| address.to_string()).unwrap_or_default(),
        action: kit::badge(&entry.action),
        target: shown_actor(app, &entry.target),
        before: entry.before.as_ref().map(pretty).map(cut),
        after: entry.after.as_ref().map(pretty).map(cut),
    }
}

/// A page is not to grow by what one entry holds; the export has all of it.
fn cut(text: String) -> String {
    const SHOWN_CHARS: usize = 600;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let (asked, problem) = asked(&visit, &query);
    let listed = visit.app().store.audit_log(asked).await?;
    let pairs = [("actor", query.actor.as_str()), ("action", &query.action), ("since", &query.since)];
    let is_filtered = pairs.iter().any(|(_, value)| !value.is_empty());
    let export = serde_urlencoded::to_string(pairs).unwrap_or_default();
    let page = Page {
        chrome: Chrome::of(&visit, "Audit log"),
        actor: Field::line("actor", "Who").value(&*query.actor).placeholder("E-mail or id"),
        action: Field::line("action", "Action").value(&*query.action).placeholder("webhook.created"),
        since: Field::date("since", "Since").value(&*query.since).error(problem),
        is_filtered,
        rows: listed.items.into_iter().map(|record| row(visit.app(), record)).collect(),
        pager: Pager::of(PATH, &pairs, query.cursor.as_deref(), listed.next),
        export: format!("{PATH}/export?{export}"),
    };
    Answer::page(&page)
}

/// All of it as lines of JSON, newest first.
async fn export(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let (mut asked, _) = asked(&visit, &query);
    debug_assert!(matches!(asked.scope, Scope::Tenant(_) | Scope::Platform));
    asked.page = ListPage { before: None, limit: AUDIT_EXPORT_STEP };
    let store = visit.app().store.clone();
    let pieces = stream::try_unfold(Some(asked), move |next| {
        let store = store.clone();
        async move {
            let Some(asked) = next else { return Ok::<_, std::io::Error>(None) };
            let listed = store.audit_log(asked.clone()).await.map_err(std::io::Error::other)?;
            let mut lines = Vec::new();
            for record in listed.items {
                serde_json::to_writer(&mut lines, &exported(record)).map_err(std::io::Error::other)?;
                lines.push(b'\n');
            }
            let page = |before| ListPage { before: Some(before), limit: AUDIT_EXPORT_STEP };
            let next = listed.next.map(|before| AuditQuery { page: page(before), ..asked });
            Ok(Some((lines, next)))
        }
    });
    let answer = Answer::document("application/x-ndjson", axum::body::Body::from_stream(pieces));
    let name = axum::http::HeaderValue::from_static("attachment; filename=\"audit-log.jsonl\"");
    Ok(answer.header(axum::http::header::CONTENT_DISPOSITION, name))
}

fn exported(record: AuditRecord) -> serde_json::Value {
    let entry = record.entry;
    serde_json::json!({
        "id": entry.id, "at": entry.at, "tenant_id": entry.tenant_id,
        "actor": { "id": entry.actor.id, "address": entry.actor.address, "request_id": entry.actor.request_id },
        "action": entry.action, "target": entry.target, "before": entry.before, "after": entry.after,
    })
}
