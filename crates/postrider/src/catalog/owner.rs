//! A tenant in the catalog, with its webhooks in one of two forms: ready for use, or text that takes a third of the
//! memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;

use super::{Tenant, Webhook};
use crate::store::{StoredWebhook, TenantRecord, WebhookRecord};

#[derive(Debug)]
pub(super) struct Owner {
    record: Arc<TenantRecord>,
    webhooks: Webhooks,
    /// Its webhooks were asked for since [`Owner::was_unused`] was asked.
    used: AtomicBool,
}

#[derive(Debug)]
enum Webhooks {
    Asleep(Box<[StoredWebhook]>),
    Awake(Arc<[Webhook]>),
}

impl Owner {
    pub(super) fn asleep(record: TenantRecord, webhooks: Vec<StoredWebhook>) -> Owner {
        let webhooks = Webhooks::Asleep(webhooks.into());
        Owner { record: Arc::new(record), webhooks, used: AtomicBool::new(false) }
    }

    pub(super) fn record(&self) -> &Arc<TenantRecord> {
        &self.record
    }

    pub(super) fn set_record(&mut self, record: TenantRecord) {
        self.record = Arc::new(record);
    }

    pub(super) fn set_webhooks(&mut self, webhooks: Vec<Webhook>) {
        self.webhooks = Webhooks::Awake(webhooks.into());
    }

    /// The tenant, if its webhooks are ready for use.
    pub(super) fn awake(&self) -> Option<Tenant> {
        let Webhooks::Awake(webhooks) = &self.webhooks else { return None };
        // Written once in a while only, so that the threads do not take the line from each other.
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
        Some(Tenant { record: self.record.clone(), webhooks: webhooks.clone() })
    }

    /// The tenant, after its webhooks were made ready if they were not.
    pub(super) fn wake(&mut self) -> Tenant {
        if let Webhooks::Asleep(stored) = &self.webhooks {
            let ready = |one: &StoredWebhook| Webhook { record: Arc::new(one.record()), gauge: Arc::default() };
            self.webhooks = Webhooks::Awake(stored.iter().map(ready).collect());
        }
        self.awake().expect("made ready above")
    }

    /// Whether nobody has asked for its webhooks since the last time that this was asked.
    pub(super) fn was_unused(&self) -> bool {
        !self.used.swap(false, Relaxed)
    }

    /// Makes text of its webhooks, unless one of them is in use: somebody holds it, it has a lane, or there are deliveries
    /// of it in memory. All these go by one gauge, which must stay the same for as long. Whether it is text now.
    pub(super) fn sleep(&mut self) -> bool {
        let Webhooks::Awake(webhooks) = &mut self.webhooks else { return true };
        let is_free = |one: &mut Webhook| Arc::get_mut(&mut one.gauge).is_some_and(|gauge| *gauge.held.get_mut() == 0);
        let are_free = Arc::get_mut(webhooks).is_some_and(|all| all.iter_mut().all(is_free));
        if !are_free {
            return false;
        }
        self.webhooks = Webhooks::Asleep(webhooks.iter().map(|one| StoredWebhook::from(&*one.record)).collect());
        true
    }

    pub(super) fn disabled(&self) -> impl Iterator<Item = WebhookId> {
        self.seen().filter(|seen| seen.status == WebhookStatus::Disabled).map(|seen| seen.id)
    }

    pub(super) fn created(&self) -> impl Iterator<Item = (UnixMs, WebhookId)> {
        self.seen().map(|seen| (seen.created_at, seen.id))
    }

    /// One of its webhooks, which stays in the form that it has.
    pub(super) fn webhook(&self, id: WebhookId) -> Option<Arc<WebhookRecord>> {
        match &self.webhooks {
            Webhooks::Asleep(all) => all.iter().find(|one| one.id == id).map(|one| Arc::new(one.record())),
            Webhooks::Awake(all) => all.iter().find(|one| one.record.id == id).map(|one| one.record.clone()),
        }
    }

    /// All of them, which stay in the form that they have.
    pub(super) fn webhooks(&self) -> impl Iterator<Item = Arc<WebhookRecord>> {
        self.seen().filter_map(|seen| self.webhook(seen.id))
    }

    fn seen(&self) -> impl Iterator<Item = Seen> {
        let (asleep, awake) = match &self.webhooks {
            Webhooks::Asleep(all) => (&**all, [].as_slice()),
            Webhooks::Awake(all) => ([].as_slice(), &**all),
        };
        let asleep = asleep.iter().map(|one| Seen { id: one.id, status: one.status, created_at: one.created_at });
        let awake = awake.iter().map(|Webhook { record, .. }| Seen {
            id: record.id,
            status: record.status,
            created_at: record.created_at,
        });
        asleep.chain(awake)
    }
}

/// What can be told of a webhook in either form.
struct Seen {
    id: WebhookId,
    status: WebhookStatus,
    created_at: UnixMs,
}
