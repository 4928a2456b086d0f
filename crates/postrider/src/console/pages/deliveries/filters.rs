//! What a list of deliveries is narrowed to.

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::WebhookId;
use serde::Deserialize;

use crate::catalog::Tenant;
use crate::console::answer::Fault;
use crate::console::errors::Errors;
use crate::console::kit::{Choice, Field};
use crate::console::pages::webhooks::name_of;
use crate::console::visit::Visit;
use crate::console::{payload, span};
use crate::store::{DeliveryQuery, Page as ListPage};

/// As they stand in the address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::console) struct Filters {
    pub status: String,
    pub webhook: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub from: String,
    pub to: String,
    pub event: String,
}

const STATUSES: [(DeliveryStatus, &str, &str); 5] = [
    (DeliveryStatus::Pending, "pending", "Waiting"),
    (DeliveryStatus::Delivering, "delivering", "Sending"),
    (DeliveryStatus::Succeeded, "succeeded", "Delivered"),
    (DeliveryStatus::Failed, "failed", "Failed"),
    (DeliveryStatus::Canceled, "canceled", "Canceled"),
];

/// More would not fit on a page: then a webhook is named by its id.
const CHOICES_MAX: usize = 60;
const CHOICE_CHARS: usize = 48;

/// The webhooks of a tenant to choose from, after `all`; `None`: there are too many.
pub(in crate::console) fn webhook_choices(tenant: &Tenant, chosen: &str, all: &str) -> Option<Vec<Choice>> {
    if tenant.webhooks.len() > CHOICES_MAX {
        return None;
    }
    let choice = |value: String, label: String| {
        let chosen = value == chosen;
        Choice { value, label, hint: String::new(), chosen }
    };
    let mut named: Vec<_> =
        tenant.webhooks.iter().map(|webhook| (name_of(&webhook.record), webhook.record.id)).collect();
    named.sort();
    let named = named.into_iter().map(|(name, id)| choice(id.to_string(), payload::cut(&name, CHOICE_CHARS).text));
    Some(std::iter::once(choice(String::new(), all.to_owned())).chain(named).collect())
}

impl Filters {
    pub(in crate::console) fn pairs(&self) -> [(&'static str, &str); 6] {
        [
            ("status", &self.status),
            ("webhook", self.webhook.trim()),
            ("type", self.event_type.trim()),
            ("from", self.from.trim()),
            ("to", self.to.trim()),
            ("event", self.event.trim()),
        ]
    }

    pub(in crate::console) fn is_any(&self) -> bool {
        self.pairs().iter().any(|(_, value)| !value.is_empty())
    }

    /// As a query; what is empty is left out.
    pub(in crate::console) fn encoded(&self) -> String {
        let given: Vec<_> = self.pairs().into_iter().filter(|(_, value)| !value.is_empty()).collect();
        serde_urlencoded::to_string(given).unwrap_or_default()
    }

    /// `None`, too, for a status that there is not.
    pub(in crate::console) fn status(&self) -> Option<DeliveryStatus> {
        STATUSES.iter().find(|(_, name, _)| *name == self.status).map(|(status, ..)| *status)
    }

    pub(in crate::console) fn status_label(&self) -> Option<&'static str> {
        STATUSES.iter().find(|(_, name, _)| *name == self.status).map(|(.., label)| *label)
    }

    /// The webhook, once the choices are in order.
    pub(in crate::console) fn webhook(&self) -> Result<Option<WebhookId>, Errors> {
        if !self.status.is_empty() && self.status().is_none() {
            return Err(Errors::one("status", "Choose one of these."));
        }
        match self.webhook.trim() {
            "" => Ok(None),
            id => id.parse().map(Some).map_err(|_| Errors::one("webhook", "This is no id of a webhook.")),
        }
    }

    /// What they ask the store for, or what is wrong with them.
    pub(super) async fn query(&self, visit: &Visit, page: ListPage) -> Result<Result<DeliveryQuery, Errors>, Fault> {
        let read = self.webhook().and_then(|webhook| Ok((webhook, span::span(&self.from, &self.to)?)));
        let (webhook_id, (since, until)) = match read {
            Ok(read) => read,
            Err(errors) => return Ok(Err(errors)),
        };
        let event_id = match self.event.trim() {
            "" => None,
            name => match visit.app().engine.find_event(visit.scope(), name).await? {
                Some(record) => Some(record.event.id),
                None => return Ok(Err(Errors::one("event", "There is no event of that id."))),
            },
        };
        let event_type = Some(self.event_type.trim().to_owned()).filter(|name| !name.is_empty());
        let scope = visit.scope();
        let status = self.status();
        Ok(Ok(DeliveryQuery { scope, webhook_id, event_id, event_type, status, since, until, page }))
    }

    pub(super) fn fields(&self, tenant: &Tenant, errors: &Errors) -> Vec<Field> {
        let choice = |value: &str, label: &str| Choice {
            value: value.to_owned(),
            label: label.to_owned(),
            hint: String::new(),
            chosen: self.status == value,
        };
        let statuses = STATUSES.iter().map(|(_, name, label)| choice(name, label));
        let webhook = match webhook_choices(tenant, self.webhook.trim(), "Any") {
            Some(choices) => Field::select("webhook", "Webhook", choices),
            None => Field::line("webhook", "Webhook").value(self.webhook.trim()).placeholder("Its id"),
        };
        vec![
            Field::select("status", "Status", std::iter::once(choice("", "Any")).chain(statuses).collect())
                .error(errors.at("status")),
            webhook.error(errors.at("webhook")),
            Field::line("type", "Event type").value(self.event_type.trim()).placeholder("order.paid"),
            Field::line("event", "Event id").value(self.event.trim()).error(errors.at("event")),
            Field::moment("from", "From (UTC)").value(span::kept(&self.from)).error(errors.at("from")),
            Field::moment("to", "To (UTC)").value(span::kept(&self.to)).error(errors.at("to")),
        ]
    }
}
