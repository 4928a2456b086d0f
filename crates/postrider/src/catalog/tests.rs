#![allow(clippy::unwrap_used)]

use postrider_core::dialect::Dialect;
use serde_json::json;

use super::*;

const NOW: UnixMs = UnixMs(1_790_000_000_000);

fn tenant(number: u8) -> TenantRecord {
    TenantRecord {
        id: TenantId::from_random([number; 16]),
        name: format!("Tenant {number}"),
        partner_id: None,
        external_id: None,
        dialect: Dialect::default(),
        settings: Default::default(),
        created_at: NOW,
        updated_at: NOW,
    }
}

fn webhook(owner: u8, number: u8) -> WebhookRecord {
    let spec =
        json!({ "name": "Orders", "url": "https://example.com/hook", "events": ["order.*"], "metadata": {"k": [1]} });
    WebhookRecord {
        id: WebhookId::from_random([number; 16]),
        tenant_id: tenant(owner).id,
        spec: serde_json::from_value(spec).unwrap(),
        status: WebhookStatus::Active,
        disabled_reason: None,
        sealed_secrets: vec![number; 3],
        sealed_receiver: None,
        temporary: false,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn catalog(webhooks: &[WebhookRecord]) -> Catalog {
    let tenants = vec![tenant(1), tenant(2)];
    let webhooks = webhooks.iter().map(StoredWebhook::from).collect();
    Catalog::new(Configuration { tenants, webhooks, ..Configuration::default() })
}

/// The tenants whose webhooks are ready for use.
fn awake(catalog: &Catalog) -> Vec<TenantId> {
    catalog.maps.read().awake.iter().copied().collect()
}

/// Twice: the first time, they were wanted since the last.
fn rest(catalog: &Catalog) {
    catalog.unused();
    catalog.rest(&catalog.unused());
}

#[test]
fn a_webhook_is_the_same_after_it_was_text() {
    let mut full = webhook(1, 1);
    full.status = WebhookStatus::Disabled;
    full.disabled_reason = Some("by hand".to_owned());
    full.sealed_receiver = Some(vec![7]);
    full.temporary = true;
    for record in [webhook(1, 1), full] {
        assert_eq!(StoredWebhook::from(&record).record(), record);
    }
}

#[test]
fn what_is_not_a_spec_is_refused_where_it_is_read() {
    let row = |spec| crate::store::WebhookRow {
        id: WebhookId::from_random([1; 16]),
        tenant_id: tenant(1).id,
        spec,
        status: WebhookStatus::Active,
        disabled_reason: None,
        sealed_secrets: &[],
        sealed_receiver: None,
        temporary: false,
        created_at: NOW,
        updated_at: NOW,
    };
    assert!(StoredWebhook::read(row(r#"{"url": "https://example.com"}"#)).is_ok());
    assert!(StoredWebhook::read(row(r#"{"url": 1}"#)).is_err());
}

#[test]
fn webhooks_are_made_ready_for_the_tenant_that_is_asked_for_and_rest_when_nobody_asks() {
    let catalog = catalog(&[webhook(1, 1), webhook(1, 2), webhook(2, 3)]);
    assert!(awake(&catalog).is_empty());
    let found = catalog.tenant(tenant(1).id).unwrap();
    assert_eq!(
        found.webhooks.iter().map(|webhook| (*webhook.record).clone()).collect::<Vec<_>>(),
        [webhook(1, 1), webhook(1, 2)]
    );
    drop(found);
    assert_eq!(awake(&catalog), [tenant(1).id]);
    assert!(catalog.unused().is_empty(), "it was asked for a moment ago");
    catalog.rest(&catalog.unused());
    assert!(awake(&catalog).is_empty());
    assert_eq!(*catalog.webhook(webhook(1, 2).id).unwrap().record, webhook(1, 2));
}

#[test]
fn whoever_only_looks_makes_nothing_ready() {
    let mut disabled = webhook(2, 3);
    disabled.status = WebhookStatus::Disabled;
    let catalog = catalog(&[webhook(1, 1), webhook(1, 2), disabled.clone()]);
    assert_eq!(*catalog.record(webhook(1, 2).id).unwrap(), webhook(1, 2));
    assert_eq!(catalog.record(WebhookId::from_random([9; 16])), None);
    assert_eq!((catalog.webhook_count(), catalog.created(None).len()), (3, 3));
    assert_eq!(catalog.created(Some(tenant(2).id)), [(NOW, disabled.id)]);
    assert_eq!(catalog.disabled(), HashSet::from([disabled.id]));
    assert!(catalog.knows(disabled.id) && !catalog.knows(WebhookId::from_random([9; 16])));
    let of_two = catalog.records_of(|record| record.id == tenant(2).id);
    assert_eq!(of_two.iter().map(|record| record.id).collect::<Vec<_>>(), [disabled.id]);
    assert!(awake(&catalog).is_empty());
}

#[test]
fn a_webhook_in_use_keeps_its_gauge() {
    let catalog = catalog(&[webhook(1, 1), webhook(2, 2)]);
    let id = webhook(1, 1).id;
    // The committer holds deliveries, of which no dispatcher knows yet.
    catalog.webhook(id).unwrap().gauge.held.fetch_add(2, Relaxed);
    rest(&catalog);
    assert_eq!(catalog.held(), [(id, 2)]);
    // A lane has the gauge.
    let lane = catalog.webhook(id).unwrap().gauge;
    lane.held.store(0, Relaxed);
    rest(&catalog);
    assert!(Arc::ptr_eq(&lane, &catalog.webhook(id).unwrap().gauge));
    drop(lane);
    // Somebody fans an event out.
    let fanning = catalog.tenant(tenant(1).id).unwrap();
    rest(&catalog);
    assert_eq!(awake(&catalog), [tenant(1).id]);
    drop(fanning);
    rest(&catalog);
    assert!(awake(&catalog).is_empty());
}

#[test]
fn changes_reach_webhooks_that_rest() {
    let catalog = catalog(&[webhook(1, 1), webhook(1, 2)]);
    let changed = WebhookRecord { status: WebhookStatus::Paused, ..webhook(1, 2) };
    catalog.put_webhook(changed.clone());
    catalog.put_tenant(TenantRecord { name: "Renamed".to_owned(), ..tenant(1) });
    rest(&catalog);
    let found = catalog.tenant(tenant(1).id).unwrap();
    assert_eq!(found.record.name, "Renamed");
    assert_eq!(
        found.webhooks.iter().map(|webhook| webhook.record.status).collect::<Vec<_>>(),
        [WebhookStatus::Active, WebhookStatus::Paused]
    );
    drop(found);
    rest(&catalog);
    catalog.remove_webhook(changed.id);
    assert!(!catalog.knows(changed.id));
    rest(&catalog);
    assert_eq!(catalog.remove_tenant(tenant(1).id).len(), 1);
    assert_eq!(catalog.webhook_count(), 0);
    assert!(awake(&catalog).is_empty() && catalog.tenant(tenant(1).id).is_none());
}

#[test]
fn a_receiver_is_found_while_it_rests() {
    let mut record = webhook(1, 1);
    record.spec.receiver =
        Some(serde_json::from_value(json!({ "source": "linear", "url": "https://x.example" })).unwrap());
    let catalog = catalog(&[record.clone(), webhook(1, 2)]);
    assert_eq!(*catalog.receiving("linear", 10)[0], record);
    assert!(awake(&catalog).is_empty());
    assert!(catalog.receiving("slack", 10).is_empty());
}
