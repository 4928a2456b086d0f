//! Received requests: the rows that keep them, and kept ones that become events after all.

use std::borrow::Cow;
use std::collections::HashMap;

use postrider_core::ids::{EventId, TenantId};
use postrider_core::inbound::{Verdict, VerdictKind};
use postrider_core::time::UnixMs;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Bound;
use super::keys::Known;
use crate::store::codes::verdict_code;
use crate::store::postgres::row::{clean, event_id, tenant_at};
use crate::store::{Accepted, NewEvent, NewReceived, Release, Result};

/// Requests to keep, by column.
#[derive(Debug, Default)]
pub(super) struct Requests<'a> {
    tenant: Vec<Uuid>,
    at: Vec<i64>,
    entropy: Vec<i64>,
    webhook: Vec<Uuid>,
    r#type: Vec<&'a str>,
    source: Vec<Cow<'a, str>>,
    method: Vec<&'a str>,
    target: Vec<Cow<'a, str>>,
    headers: Vec<&'a str>,
    content_type: Vec<Option<&'a str>>,
    body: Vec<Option<&'a [u8]>>,
    address: Vec<Option<String>>,
    verdict: Vec<i16>,
    reason: Vec<Option<&'static str>>,
    provider_event_id: Vec<Option<Cow<'a, str>>>,
    test: Vec<bool>,
    /// Counted as `at` is.
    event_at: Vec<Option<i64>>,
    event_entropy: Vec<Option<i64>>,
    repeat: Vec<bool>,
}

/// The part of the statement that inserts them: `base.n` is what places count from.
pub(super) const INSERT: &str = "kept AS ( \
    INSERT INTO received (tenant, n, entropy, webhook, type, source, method, target, headers, content_type, body, \
                          address, verdict, reason, provider_event_id, test, event, event_entropy, repeat) \
    SELECT tenant, base.n + at, entropy, webhook, type, source, method, target, headers, content_type, body, \
           address, verdict, reason, provider_event_id, test, base.n + event_at, event_entropy, repeat \
    FROM base, unnest($26::uuid[], $27::bigint[], $28::bigint[], $29::uuid[], $30::text[], $31::text[], $32::text[], \
                      $33::text[], $34::text[], $35::text[], $36::bytea[], $37::text[], $38::smallint[], $39::text[], \
                      $40::text[], $41::boolean[], $42::bigint[], $43::bigint[], $44::boolean[]) \
         AS new (tenant, at, entropy, webhook, type, source, method, target, headers, content_type, body, \
                 address, verdict, reason, provider_event_id, test, event_at, event_entropy, repeat)),";

impl<'a> Requests<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.tenant.is_empty()
    }

    /// The request, if it is one, that the new event at `at` came as.
    pub(super) fn add_new(&mut self, event: &'a NewEvent, at: i64) {
        let Some(request) = &event.received else { return };
        let entropy = EventId::from_sequence(0, event.entropy).entropy().cast_signed();
        self.event_at.push(request.enters.then_some(at));
        self.event_entropy.push(request.enters.then_some(entropy));
        self.repeat.push(false);
        // What enters is in its event.
        let raw = event.raw.as_ref().and_then(|raw| raw.body.as_ref());
        self.body.push((!request.enters).then_some(raw.unwrap_or(&event.data)));
        self.content_type.push(content_type_of(event).filter(|_| !request.enters));
        self.add(event, request, at);
    }

    /// The request, if it is one, that repeats the event `first`. It gets the number `n`, and places count from 0.
    pub(super) fn add_repeat(&mut self, event: &'a NewEvent, n: i64, first: EventId) {
        let Some(request) = &event.received else { return };
        self.event_at.push(first.sequence());
        self.event_entropy.push(Some(first.entropy().cast_signed()));
        self.repeat.push(true);
        let raw = event.raw.as_ref().and_then(|raw| raw.body.as_ref());
        self.body.push(Some(raw.unwrap_or(&event.data)));
        self.content_type.push(content_type_of(event));
        self.add(event, request, n);
    }

    fn add(&mut self, event: &'a NewEvent, request: &'a NewReceived, at: i64) {
        self.tenant.push(event.tenant_id.0);
        self.at.push(at);
        self.entropy.push(EventId::from_sequence(0, event.entropy).entropy().cast_signed());
        self.webhook.push(request.webhook_id.0);
        self.r#type.push(&event.event_type);
        self.source.push(clean(&request.source));
        self.method.push(&request.method);
        self.target.push(clean(&request.target));
        self.headers.push(request.headers.get());
        self.address.push(request.remote_address.map(|address| address.to_string()));
        self.verdict.push(verdict_code(request.verdict.into()));
        self.reason.push(reason_of(request.verdict));
        self.provider_event_id.push(request.provider_event_id.as_deref().map(clean));
        self.test.push(request.test);
    }

    /// The parameters of [`INSERT`].
    pub(super) fn bound(&self) -> [Bound<'_>; 19] {
        [
            (&self.tenant, Type::UUID_ARRAY),
            (&self.at, Type::INT8_ARRAY),
            (&self.entropy, Type::INT8_ARRAY),
            (&self.webhook, Type::UUID_ARRAY),
            (&self.r#type, Type::TEXT_ARRAY),
            (&self.source, Type::TEXT_ARRAY),
            (&self.method, Type::TEXT_ARRAY),
            (&self.target, Type::TEXT_ARRAY),
            (&self.headers, Type::TEXT_ARRAY),
            (&self.content_type, Type::TEXT_ARRAY),
            (&self.body, Type::BYTEA_ARRAY),
            (&self.address, Type::TEXT_ARRAY),
            (&self.verdict, Type::INT2_ARRAY),
            (&self.reason, Type::TEXT_ARRAY),
            (&self.provider_event_id, Type::TEXT_ARRAY),
            (&self.test, Type::BOOL_ARRAY),
            (&self.event_at, Type::INT8_ARRAY),
            (&self.event_entropy, Type::INT8_ARRAY),
            (&self.repeat, Type::BOOL_ARRAY),
        ]
    }
}

fn content_type_of(event: &NewEvent) -> Option<&str> {
    event.raw.as_ref().and_then(|raw| raw.content_type.as_deref())
}

fn reason_of(verdict: Verdict) -> Option<&'static str> {
    verdict.reason().map(|reason| reason.as_str())
}

// ---- releases ----------------------------------------------------------------------------------------------------------

/// The releases of a call, each with its event's place.
fn releases(events: &[NewEvent]) -> impl Iterator<Item = (usize, TenantId, Release)> {
    let of = |(index, event): (usize, &NewEvent)| event.releases.map(|release| (index, event.tenant_id, release));
    events.iter().enumerate().filter_map(of)
}

/// Locks the kept requests that `events` release, in one order, and tells for every event whether its request is one
/// already. A request that is gone with its day lets its event be.
pub(super) async fn lock_released(client: &impl GenericClient, events: &[NewEvent]) -> Result<Vec<Known>> {
    let mut known = vec![Known::Not; events.len()];
    let (tenants, numbers): (Vec<Uuid>, Vec<i64>) =
        releases(events).filter_map(|(_, tenant, release)| Some((tenant.0, release.received.sequence()?))).unzip();
    if numbers.is_empty() {
        return Ok(known);
    }
    let rows = client
        .query_typed(
            "SELECT r.tenant, r.n, r.entropy, r.event, r.event_entropy FROM received r \
             WHERE (r.tenant, r.n) IN (SELECT * FROM unnest($1::uuid[], $2::bigint[])) AND r.n = ANY($2) \
             ORDER BY r.tenant, r.n FOR UPDATE",
            &[(&tenants, Type::UUID_ARRAY), (&numbers, Type::INT8_ARRAY)],
        )
        .await?;
    let mut kept: HashMap<(TenantId, EventId), Option<EventId>> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let became = row.try_get::<_, Option<i64>>(3)?.zip(row.try_get::<_, Option<i64>>(4)?);
        let request = (tenant_at(row, 0)?, event_id(row.try_get(1)?, row.try_get(2)?));
        kept.insert(request, became.map(|(n, entropy)| event_id(n, entropy)));
    }
    let mut first: HashMap<(TenantId, EventId), usize> = HashMap::new();
    for (index, tenant, release) in releases(events) {
        let request = (tenant, release.received);
        known[index] = match (kept.get(&request), first.get(&request)) {
            (Some(Some(id)), _) => Known::Before { id: *id, external_id: None },
            (_, Some(earlier)) => Known::Within(*earlier),
            _ => Known::Not,
        };
        first.entry(request).or_insert(index);
    }
    Ok(known)
}

/// Notes in the requests that `events` release what they have become.
pub(super) async fn release(
    client: &impl GenericClient,
    events: &[NewEvent],
    answers: &[Accepted],
    now: UnixMs,
) -> Result<()> {
    let mut columns = Released::default();
    for (index, tenant, release) in releases(events) {
        columns.add(tenant, release, &answers[index]);
    }
    if columns.n.is_empty() {
        return Ok(());
    }
    client
        .execute_typed(
            "UPDATE received r SET event = new.event, event_entropy = new.event_entropy, repeat = new.repeat, \
                 released_at = $1, verdict = coalesce(new.verdict, r.verdict), \
                 reason = CASE WHEN new.verdict IS NULL THEN r.reason ELSE new.reason END \
             FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[], \
                         $8::smallint[], $9::text[]) \
                  AS new (tenant, n, entropy, event, event_entropy, repeat, verdict, reason) \
             WHERE r.tenant = new.tenant AND r.n = new.n AND r.entropy = new.entropy AND r.n = ANY($3) \
               AND r.event IS NULL",
            &[
                (&now.0, Type::INT8),
                (&columns.tenant, Type::UUID_ARRAY),
                (&columns.n, Type::INT8_ARRAY),
                (&columns.entropy, Type::INT8_ARRAY),
                (&columns.event, Type::INT8_ARRAY),
                (&columns.event_entropy, Type::INT8_ARRAY),
                (&columns.repeat, Type::BOOL_ARRAY),
                (&columns.verdict, Type::INT2_ARRAY),
                (&columns.reason, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

#[derive(Debug, Default)]
struct Released {
    tenant: Vec<Uuid>,
    n: Vec<i64>,
    entropy: Vec<i64>,
    event: Vec<Option<i64>>,
    event_entropy: Vec<i64>,
    repeat: Vec<bool>,
    verdict: Vec<Option<i16>>,
    reason: Vec<Option<&'static str>>,
}

impl Released {
    fn add(&mut self, tenant: TenantId, release: Release, answer: &Accepted) {
        let Some(n) = release.received.sequence() else { return };
        // The first release within a call counts.
        if self.n.iter().zip(&self.tenant).any(|(known, of)| *known == n && *of == tenant.0) {
            return;
        }
        let (id, repeat) = match answer {
            Accepted::New { id, .. } => (*id, false),
            Accepted::Repeat { id, .. } => (*id, true),
        };
        self.tenant.push(tenant.0);
        self.n.push(n);
        self.entropy.push(release.received.entropy().cast_signed());
        self.event.push(id.sequence());
        self.event_entropy.push(id.entropy().cast_signed());
        self.repeat.push(repeat);
        self.verdict.push(release.verdict.map(|verdict| verdict_code(VerdictKind::from(verdict))));
        self.reason.push(release.verdict.and_then(reason_of));
    }
}
