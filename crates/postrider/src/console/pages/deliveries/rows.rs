//! A delivery as lists show it.

use askama::Template;
use askama::filters::HtmlSafe;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{DeliveryId, EventId, WebhookId};

use crate::app::App;
use crate::auth::Permission;
use crate::console::kit::{self, Html};
use crate::console::pages::webhooks::{name_of, status_pill};
use crate::console::payload;
use crate::console::visit::Visit;
use crate::store::DeliveryRecord;

/// A table of deliveries.
#[derive(Template)]
#[template(path = "delivery_rows.html")]
pub(in crate::console) struct Rows {
    pub rows: Vec<Row>,
    pub csrf: Html,
    pub may_retry: bool,
    /// Whether each row says which event it is of.
    pub names_event: bool,
    /// What a retry comes back to.
    pub back: String,
}

impl HtmlSafe for Rows {}

impl Rows {
    /// Of deliveries as the engine tells them.
    pub(in crate::console) fn of(visit: &Visit, records: &[DeliveryRecord], back: String) -> Rows {
        Rows {
            rows: records.iter().map(|record| Row::of(visit.app(), record)).collect(),
            csrf: visit.csrf(),
            may_retry: visit.may(Permission::DeliveriesWrite),
            names_event: true,
            back,
        }
    }

    pub(in crate::console) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// One of them.
pub(in crate::console) struct Row {
    pub id: DeliveryId,
    pub event: EventId,
    pub webhook: WebhookId,
    pub webhook_name: String,
    /// The page of a delivery goes with its webhook.
    pub has_page: bool,
    pub event_type: Html,
    pub at: Html,
    pub pill: Html,
    pub code: String,
    pub attempts: u32,
    /// What the endpoint said, or what went wrong.
    pub note: String,
    pub may_retry: bool,
}

const NOTE_CHARS: usize = 120;
const NAME_CHARS: usize = 80;

impl Row {
    fn of(app: &App, record: &DeliveryRecord) -> Row {
        let webhook = app.catalog.webhook(record.webhook_id);
        let has_page = webhook.is_some();
        let last = record.last_attempt.as_ref();
        let response = last.and_then(|attempt| attempt.response.as_ref());
        let problem = last.and_then(|attempt| attempt.error.as_ref()).or(record.ended.as_ref());
        let body = response.map(|response| response.body.trim()).filter(|body| !body.is_empty());
        let note = body.or_else(|| problem.map(|problem| problem.detail.as_ref())).unwrap_or_default();
        Row {
            id: record.id,
            event: record.event_id,
            webhook: record.webhook_id,
            has_page,
            webhook_name: webhook.map_or_else(
                || "Deleted".to_owned(),
                |webhook| payload::cut(&name_of(&webhook.record), NAME_CHARS).text,
            ),
            event_type: kit::badge(&record.event_type),
            at: kit::time(record.created_at),
            pill: status_pill(record.status),
            code: response.map_or_else(|| "–".to_owned(), |response| response.status.to_string()),
            attempts: record.attempt_count,
            note: payload::cut(note, NOTE_CHARS).text,
            may_retry: has_page && record.status != DeliveryStatus::Delivering,
        }
    }
}
