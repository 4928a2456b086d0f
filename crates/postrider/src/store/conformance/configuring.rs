//! Configuration, the audit log, idempotent replies and settings.

use postrider_core::dialect::Dialect;
use postrider_core::ids::{KeyId, PartnerId};
use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::webhook::{Ordering, WebhookSpec, WebhookStatus};
use serde_json::json;

use super::world::*;
use crate::store::*;

fn partner_record(world: &World, number: u8) -> PartnerRecord {
    PartnerRecord { id: PartnerId::from_random([200 + number; 16]), name: format!("P{number}"), created_at: world.now }
}

fn tenant_record(world: &World, number: u8) -> TenantRecord {
    TenantRecord {
        id: tenant(number),
        name: format!("T{number}"),
        partner_id: Some(PartnerId::from_random([201; 16])),
        external_id: Some(format!("ext-{number}")),
        dialect: Dialect::Athenty,
        settings: TenantSettings { events_per_day: Some(number.into()), ..TenantSettings::default() },
        created_at: world.now,
        updated_at: world.now,
    }
}

fn key_record(world: &World, owner: u8) -> KeyRecord {
    KeyRecord {
        id: KeyId::from_random([owner; 16]),
        tenant_id: tenant(owner),
        name: "ci".into(),
        role: Role::Member,
        scopes: vec!["events:write".into()],
        hash: [owner; 32],
        shown_prefix: "sk_live_ab".into(),
        expires_at: Some(world.now + DAY),
        created_at: world.now,
    }
}

fn event_type_record(world: &World, owner: Option<u8>) -> EventTypeRecord {
    EventTypeRecord {
        tenant_id: owner.map(tenant),
        name: "user.created".into(),
        group: Some("user".into()),
        description: None,
        schema: Some(json!({"type": "object"})),
        example: Some(json!({"a": [1, 2.5, null]})),
        deprecated: true,
        created_at: world.now,
        updated_at: world.now,
    }
}

fn webhook_record(world: &World, owner: u8, number: u8) -> WebhookRecord {
    let spec = json!({
        "name": "Orders", "url": "https://example.com/hook", "events": ["user.*"], "dialect": "scaikey",
        "headers": {"x-a": "1"}, "timeout_ms": 900, "retry": {"max_attempts": 3}, "rate_limit": {"per_second": 0.5},
        "concurrency": {"max": 2}, "ordering": "by_key", "metadata": {"k": {"deep": true}},
        "filter": {"all": [{"path": "data.amount", "op": "gte", "value": 100}]},
    });
    let spec: WebhookSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(spec.ordering, Ordering::ByKey);
    WebhookRecord {
        id: webhook(number),
        tenant_id: tenant(owner),
        spec,
        status: WebhookStatus::Paused,
        disabled_reason: Some("by hand".into()),
        sealed_secrets: vec![0, 1, 2, 255],
        sealed_receiver: (owner == 1).then(|| vec![255, 0, 7]),
        temporary: false,
        created_at: world.now,
        updated_at: world.now,
    }
}

/// One of everything, for two tenants.
async fn fill(world: &World) {
    let store = world.store();
    let entry = |action: &str| world.audit(Some(tenant(1)), action);
    store.put_partner(partner_record(world, 1), entry("partner.created")).await.unwrap();
    for number in [1, 2] {
        store.put_tenant(tenant_record(world, number), entry("tenant.created")).await.unwrap();
        store.put_key(key_record(world, number), entry("key.created")).await.unwrap();
        let event_type = event_type_record(world, Some(number));
        store.put_event_type(event_type, entry("event_type.put")).await.unwrap();
        let webhook = webhook_record(world, number, number);
        store.put_webhook(webhook, entry("webhook.created")).await.unwrap();
    }
    store.put_event_type(event_type_record(world, None), entry("event_type.put")).await.unwrap();
}

pub(crate) async fn what_was_put_is_the_configuration_after_a_restart(mut world: World) {
    fill(&world).await;
    world.crash().await;
    let mut found = world.store().configuration().await.unwrap();
    found.tenants.sort_by_key(|tenant| tenant.name.clone());
    found.keys.sort_by_key(|key| key.hash);
    found.event_types.sort_by_key(|event_type| event_type.tenant_id);
    found.webhooks.sort_by_key(|webhook| webhook.id);
    assert_eq!(found.partners, [partner_record(&world, 1)]);
    let stream = TenantRecord::stream_of(&partner_record(&world, 1));
    assert_eq!(found.tenants, [stream, tenant_record(&world, 1), tenant_record(&world, 2)]);
    assert_eq!(found.keys, [1, 2].map(|number| key_record(&world, number)));
    assert_eq!(found.event_types, [None, Some(1), Some(2)].map(|owner| event_type_record(&world, owner)));
    let webhooks: Vec<_> = found.webhooks.iter().map(StoredWebhook::record).collect();
    assert_eq!(webhooks, [1, 2].map(|number| webhook_record(&world, number, number)));
}

pub(crate) async fn putting_again_replaces(mut world: World) {
    fill(&world).await;
    world.pass(MINUTE);
    let entry = || world.audit(None, "changed");
    let store = world.store();
    let partner = PartnerRecord { name: "New".into(), ..store.configuration().await.unwrap().partners.remove(0) };
    let before = store.configuration().await.unwrap();
    let of = |number| before.tenants.iter().find(|record| record.id == tenant(number)).unwrap().clone();
    let changed = TenantRecord {
        name: "New".into(),
        external_id: None,
        partner_id: None,
        dialect: Dialect::Standard,
        updated_at: world.now,
        ..of(1)
    };
    let hook = before.webhooks.iter().find(|stored| stored.id == webhook(1)).unwrap().record();
    let hook = WebhookRecord {
        status: WebhookStatus::Disabled,
        disabled_reason: None,
        sealed_secrets: vec![9],
        sealed_receiver: None,
        updated_at: world.now,
        ..hook
    };
    let key = KeyRecord { role: Role::Owner, expires_at: None, scopes: Vec::new(), ..key_record(&world, 1) };
    let event_type = EventTypeRecord { deprecated: false, schema: None, ..event_type_record(&world, Some(1)) };
    store.put_partner(partner.clone(), entry()).await.unwrap();
    store.put_tenant(changed.clone(), entry()).await.unwrap();
    store.put_webhook(hook.clone(), entry()).await.unwrap();
    store.put_key(key.clone(), entry()).await.unwrap();
    store.put_event_type(event_type.clone(), entry()).await.unwrap();
    // Its own external id is free for another now.
    let freed = TenantRecord { external_id: Some("ext-1".into()), ..of(2) };
    store.put_tenant(freed.clone(), entry()).await.unwrap();

    let found = store.configuration().await.unwrap();
    let stream = found.tenants.iter().find(|tenant| tenant.is_stream()).unwrap();
    assert_eq!((stream.id.0, stream.name.as_str()), (partner.id.0, "New"));
    assert_eq!(found.partners, [partner]);
    assert!(found.tenants.contains(&changed) && found.tenants.contains(&freed) && found.tenants.len() == 3);
    assert!(found.webhooks.iter().any(|stored| stored.record() == hook) && found.webhooks.len() == 2);
    assert!(found.keys.iter().any(|found| found.id == key.id && found.role == Role::Owner && found.scopes.is_empty()));
    assert!(found.event_types.contains(&event_type) && found.event_types.len() == 3);
}

pub(crate) async fn an_external_id_of_another_tenant_is_a_conflict(world: World) {
    fill(&world).await;
    let taken = TenantRecord { external_id: Some("ext-1".into()), ..tenant_record(&world, 2) };
    let before = world.store().configuration().await.unwrap().tenants;
    let error = world.store().put_tenant(taken, world.audit(None, "tenant.updated")).await.unwrap_err();
    assert!(matches!(error, Error::Conflict("external_id")), "{error:?}");
    assert_eq!(world.store().configuration().await.unwrap().tenants, before);
    let again = KeyRecord { id: KeyId::from_random([9; 16]), ..key_record(&world, 1) };
    assert!(matches!(
        world.store().put_key(again, world.audit(None, "key.created")).await,
        Err(Error::Conflict("key"))
    ));
    let log = world.store().audit_log(all_audit(Scope::Platform)).await.unwrap().items;
    assert!(log.iter().all(|record| record.entry.action != "tenant.updated"), "what failed is not audited");
}

pub(crate) async fn a_deleted_tenant_takes_its_own_with_it(mut world: World) {
    fill(&world).await;
    let gone = world.park(tenant(1), &[webhook(1)]).await;
    let done = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&done).await;
    let stays = world.park(tenant(2), &[webhook(2)]).await;
    assert!(world.store().delete_tenant(tenant(1), world.audit(None, "tenant.deleted")).await.unwrap());
    let found = world.store().configuration().await.unwrap();
    let left: Vec<_> = found.tenants.iter().filter(|tenant| !tenant.is_stream()).map(|tenant| tenant.id).collect();
    assert_eq!(left, [tenant(2)]);
    assert_eq!(found.keys.iter().map(|key| key.tenant_id).collect::<Vec<_>>(), [tenant(2)]);
    assert_eq!(found.webhooks.iter().map(|webhook| webhook.tenant_id).collect::<Vec<_>>(), [tenant(2)]);
    assert!(found.event_types.iter().all(|event_type| event_type.tenant_id != Some(tenant(1))));
    assert_eq!(found.event_types.len(), 2);
    let store = world.store();
    assert!(store.delivery(Scope::Platform, gone.delivery(0)).await.unwrap().is_none());
    assert!(store.delivery(Scope::Platform, done.delivery(0)).await.unwrap().is_some(), "history stays");
    assert!(store.delivery(Scope::Platform, stays.delivery(0)).await.unwrap().is_some());
    assert_eq!(store.gauges(world.now).await.unwrap().pending, 1);
}

pub(crate) async fn deleting_what_is_not_there_says_so_and_is_not_audited(world: World) {
    fill(&world).await;
    let store = world.store();
    let entry = || world.audit(None, "deleted");
    for expected in [true, false] {
        assert_eq!(store.delete_key(KeyId::from_random([1; 16]), entry()).await.unwrap(), expected);
        assert_eq!(store.delete_event_type(Some(tenant(1)), "user.created", entry()).await.unwrap(), expected);
        assert_eq!(store.delete_event_type(None, "user.created", entry()).await.unwrap(), expected);
        assert_eq!(store.delete_webhook(webhook(1), entry()).await.unwrap(), expected);
        assert_eq!(store.delete_tenant(tenant(1), entry()).await.unwrap(), expected);
    }
    let log = store.audit_log(all_audit(Scope::Platform)).await.unwrap().items;
    assert_eq!(log.iter().filter(|record| record.entry.action == "deleted").count(), 5);
    assert_eq!(store.configuration().await.unwrap().event_types.len(), 1, "the other tenant's is untouched");
}

fn all_audit(scope: Scope) -> AuditQuery {
    AuditQuery { scope, actor: None, action: None, since: None, page: page(100) }
}

pub(crate) async fn every_change_is_audited_in_order(mut world: World) {
    fill(&world).await;
    let entry = world.audit(Some(tenant(2)), "delivery.retried");
    world.store().audit(entry.clone()).await.unwrap();
    world.crash().await;
    let log = world.store().audit_log(all_audit(Scope::Platform)).await.unwrap().items;
    assert_eq!(log[0].entry, entry);
    let actions: Vec<_> = log.iter().rev().map(|record| record.entry.action.as_str()).collect();
    let of_tenant = ["tenant.created", "key.created", "event_type.put", "webhook.created"];
    let expected = [&["partner.created"][..], &of_tenant, &of_tenant, &["event_type.put", "delivery.retried"]].concat();
    assert_eq!(actions, expected);
    assert!(log.windows(2).all(|pair| pair[0].number > pair[1].number));
}

pub(crate) async fn each_entry_of_the_audit_log_is_linked_to_the_one_before(mut world: World) {
    fill(&world).await;
    let mut odd = world.audit(Some(tenant(2)), "odd\u{7f}");
    odd.actor.address = Some("2001:db8::1".parse().unwrap());
    odd.actor.request_id = Some("\"\\".into());
    odd.before = Some(serde_json::json!({ "b": 1.5e300, "a": [null, -0.0, 9_007_199_254_740_993_u64, "ü\u{1f600}"] }));
    // Numbers that a quick way of reading them gets wrong by the last digit, which would look like tampering.
    let numbers: Vec<f64> = (1..500).map(|n| f64::from(n) / 7.0 * 1e-5).chain([f64::MAX, f64::MIN_POSITIVE]).collect();
    odd.after = Some(serde_json::json!(numbers));
    world.store().audit(odd.clone()).await.unwrap();
    world.crash().await;
    world.store().audit(world.audit(None, "after the restart")).await.unwrap();

    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, |record: &AuditRecord| record.number);
        let more = world.store().audit_chain(after, 4).await.unwrap();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    let mut listed = world.store().audit_log(all_audit(Scope::Platform)).await.unwrap().items;
    listed.reverse();
    assert_eq!(all, listed);
    assert_eq!(all[all.len() - 2].entry, odd);
    let mut last = chain::START;
    for record in &all {
        last = chain::link(&last, &record.entry);
        assert_eq!(record.hash, Some(last), "{record:?}");
    }
}

pub(crate) async fn entries_that_are_appended_at_once_make_one_chain(world: World) {
    let append = (0..40).map(|number| world.store().audit(world.audit(None, &format!("entry {number}"))));
    for appended in futures_util::future::join_all(append).await {
        appended.unwrap();
    }
    let all = world.store().audit_chain(0, 1_000).await.unwrap();
    assert_eq!(all.iter().filter(|record| record.entry.action.starts_with("entry ")).count(), 40);
    let mut last = chain::START;
    for record in &all {
        last = chain::link(&last, &record.entry);
        assert_eq!(record.hash, Some(last), "{}", record.entry.action);
    }
}

pub(crate) async fn the_audit_log_is_filtered_and_paged(mut world: World) {
    let mut all = Vec::new();
    for number in 0..30 {
        let owner = [None, Some(tenant(1)), Some(tenant(2))][number % 3];
        let mut entry = world.audit(owner, ["a", "b"][number % 2]);
        entry.actor.id = ["admin", "key_1"][number / 15].into();
        world.store().audit(entry.clone()).await.unwrap();
        all.push(entry);
        world.pass(MINUTE);
    }
    let middle = all[10].at;
    for scope in [Scope::Platform, Scope::Tenant(tenant(1))] {
        for actor in [None, Some("key_1")] {
            for action in [None, Some("b"), Some("c")] {
                for since in [None, Some(middle)] {
                    let mut query = AuditQuery {
                        actor: actor.map(str::to_owned),
                        action: action.map(str::to_owned),
                        since,
                        page: page(4),
                        ..all_audit(scope)
                    };
                    let mut found = Vec::new();
                    loop {
                        let listed = world.store().audit_log(query.clone()).await.unwrap();
                        found.extend(listed.items.into_iter().map(|record| record.entry));
                        query.page.before = listed.next;
                        if listed.next.is_none() {
                            break;
                        }
                    }
                    let wanted = |entry: &&AuditEntry| {
                        (scope == Scope::Platform || entry.tenant_id == Some(tenant(1)))
                            && actor.is_none_or(|actor| actor == entry.actor.id)
                            && action.is_none_or(|action| action == entry.action)
                            && since.is_none_or(|since| entry.at >= since)
                    };
                    let expected: Vec<_> = all.iter().rev().filter(wanted).cloned().collect();
                    assert_eq!(found, expected);
                }
            }
        }
    }
}

pub(crate) async fn partners_are_paged(world: World) {
    for number in 1..=5 {
        world.store().put_partner(partner_record(&world, number), world.audit(None, "partner.created")).await.unwrap();
    }
    let first = world.store().partners(page(3)).await.unwrap();
    assert_eq!(first.items, [5, 4, 3].map(|number| partner_record(&world, number)));
    let rest = world.store().partners(Page { before: first.next, limit: 3 }).await.unwrap();
    assert_eq!(rest.items, [2, 1].map(|number| partner_record(&world, number)));
    assert_eq!(rest.next, None);
    let one = world.store().partner(partner_record(&world, 2).id).await.unwrap();
    assert_eq!(one, Some(partner_record(&world, 2)));
    assert_eq!(world.store().partner(PartnerId::from_random([77; 16])).await.unwrap(), None);
}

fn reply_key(key: &str) -> ReplyKey {
    ReplyKey { caller: "key_1".into(), route: "POST /v1/webhooks".into(), key: key.into() }
}

pub(crate) async fn an_idempotent_reply_is_claimed_once_and_told_again(world: World) {
    let (store, key) = (world.store(), reply_key("k"));
    let claim = async |key: &ReplyKey, body| store.idempotency_claim(key, [body; 32], world.now).await.unwrap();
    assert_eq!(claim(&key, 1).await, Claim::Fresh);
    assert_eq!(claim(&key, 1).await, Claim::InProgress);
    assert_eq!(claim(&key, 2).await, Claim::Mismatch);
    let reply = StoredReply { status: 201, sealed_body: vec![1, 2, 3] };
    store.idempotency_finish(&key, Some(reply.clone()), world.now).await.unwrap();
    assert_eq!(claim(&key, 1).await, Claim::Done(reply));
    assert_eq!(claim(&key, 2).await, Claim::Mismatch);
    let elsewhere = ReplyKey { route: "POST /v1/tenants".into(), ..key.clone() };
    let another = ReplyKey { caller: "key_2".into(), ..key };
    assert_eq!(claim(&elsewhere, 2).await, Claim::Fresh);
    assert_eq!(claim(&another, 2).await, Claim::Fresh);
}

pub(crate) async fn a_claim_of_a_dead_process_is_forgotten(mut world: World) {
    let done = StoredReply { status: 200, sealed_body: Vec::new() };
    for key in ["dead", "done"] {
        world.store().idempotency_claim(&reply_key(key), [1; 32], world.now).await.unwrap();
    }
    world.store().idempotency_finish(&reply_key("done"), Some(done.clone()), world.now).await.unwrap();
    world.crash().await;
    let claim = async |key| world.store().idempotency_claim(&reply_key(key), [1; 32], world.now).await.unwrap();
    assert_eq!(claim("dead").await, Claim::Fresh);
    assert_eq!(claim("done").await, Claim::Done(done));
}

pub(crate) async fn a_claim_given_up_or_past_its_span_is_fresh_again(mut world: World) {
    let key = reply_key("k");
    world.store().idempotency_claim(&key, [1; 32], world.now).await.unwrap();
    world.store().idempotency_finish(&key, None, world.now).await.unwrap();
    assert_eq!(world.store().idempotency_claim(&key, [2; 32], world.now).await.unwrap(), Claim::Fresh);
    let reply = StoredReply { status: 200, sealed_body: vec![7] };
    world.store().idempotency_finish(&key, Some(reply.clone()), world.now).await.unwrap();
    world.pass(IDEMPOTENCY_SPAN);
    let claim = world.store().idempotency_claim(&key, [2; 32], world.now).await.unwrap();
    assert_eq!(claim, Claim::Done(reply));
    world.pass(MINUTE);
    let claim = world.store().idempotency_claim(&key, [3; 32], world.now).await.unwrap();
    assert_eq!(claim, Claim::Fresh);
}

pub(crate) async fn settings_are_kept(mut world: World) {
    assert_eq!(world.store().get_setting("data-key").await.unwrap(), None);
    for value in [vec![1], vec![0, 255]] {
        world.store().put_setting("data-key", value.clone()).await.unwrap();
        world.reopen().await;
        assert_eq!(world.store().get_setting("data-key").await.unwrap(), Some(value));
    }
}

pub(crate) async fn a_setting_is_replaced_only_if_it_is_as_thought(mut world: World) {
    let store = world.store();
    assert!(!store.replace_setting("key", vec![1], vec![2]).await.unwrap(), "there is none");
    assert_eq!(store.get_setting("key").await.unwrap(), None);
    store.put_setting("key", vec![1, 0]).await.unwrap();
    store.put_setting("other", vec![1, 0]).await.unwrap();
    assert!(!store.replace_setting("key", vec![1], vec![2]).await.unwrap());
    let replacing = (2..10).map(|value| store.replace_setting("key", vec![1, 0], vec![value]));
    let replaced = futures_util::future::join_all(replacing).await;
    assert_eq!(replaced.iter().filter(|replaced| *replaced.as_ref().unwrap()).count(), 1, "one of several");
    let place = replaced.iter().position(|replaced| *replaced.as_ref().unwrap()).unwrap();
    world.reopen().await;
    assert_eq!(world.store().get_setting("key").await.unwrap(), Some(vec![u8::try_from(place).unwrap() + 2]));
    assert_eq!(world.store().get_setting("other").await.unwrap(), Some(vec![1, 0]));
}

pub(crate) async fn a_closed_store_says_so(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    world.store().ping().await.unwrap();
    let outcome = sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded);
    let (store, now) = (world.shared(), world.now);
    let last = tokio::spawn(async move { store.record(vec![outcome], now).await });
    // What was handed over before is done or refused, never lost without a word.
    world.store().close().await.unwrap();
    let recorded = match last.await.unwrap() {
        Ok(done) => done[0],
        Err(error) => {
            assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
            false
        }
    };
    let event = world.event(tenant(1), &[webhook(1)]);
    assert!(matches!(world.store().ping().await, Err(Error::Unavailable(_))));
    assert!(matches!(world.store().accept(vec![event], world.now).await, Err(Error::Unavailable(_))));
    assert!(matches!(world.store().configuration().await, Err(Error::Unavailable(_))));
    world.store().close().await.unwrap();
    assert_eq!(world.crash().await.is_empty(), recorded);
}
