//! Accepting events: the half of the hot path that callers wait for.
//!
//! A call without idempotency keys, external ids and homes is one statement, and so one round trip. What has them takes a
//! transaction: homes are locked, numbers taken, keys claimed, rows inserted. Received requests go the same ways.

mod doubt;
mod keys;
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use bytes::BytesMut;
use deadpool_postgres::ClientWrapper;
use postrider_core::ids::{DeliveryId, EventId, Sequence, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use tokio_postgres::GenericClient;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

pub(super) use self::doubt::{Doubts, settle_doubts};
use self::keys::Known;
use self::requests::Requests;
use super::connection::{Bound, query_prepared};
use super::failure::retried;
use super::homes::{self, Home};
use super::{Node, PgStore};
use crate::store::codes::{source_code, trigger_code};
use crate::store::day::FIRST_SPAN;
use crate::store::{Accepted, Error, NewEvent, Place, Placed, Result};

pub(super) async fn accept(store: &PgStore, events: Vec<NewEvent>, now: UnixMs) -> Result<Vec<Accepted>> {
    let node = &store.node;
    node.living_session()?;
    for event in &events {
        ensure_sound(event)?;
    }
    node.ensure_days(now).await?;
    let simple = events.iter().all(is_simple);
    retried!(node, async {
        let mut client = node.writer().await?;
        let doubt = node.doubts.begin(&events);
        let accepted = if simple {
            at_once(&client, node, &events, now).await
        } else {
            in_steps(&mut client, node, &events, now).await
        };
        doubt.end(&accepted);
        accepted
    })
}

fn ensure_sound(event: &NewEvent) -> anyhow::Result<()> {
    let fanout = event.deliveries.len();
    ensure!(fanout as u64 <= FIRST_SPAN.unsigned_abs(), "an event has more than {FIRST_SPAN} deliveries");
    ensure!(fanout == 0 || enters(event), "a request that does not enter the stream has deliveries");
    Ok(())
}

/// Whether it becomes an event, and is not only a request to be kept.
fn enters(event: &NewEvent) -> bool {
    event.received.as_ref().is_none_or(|request| request.enters)
}

/// Whether nothing has to be looked up for it.
fn is_simple(event: &NewEvent) -> bool {
    keys::keys_of(event).next().is_none()
        && event.releases.is_none()
        && event.deliveries.iter().all(|delivery| !delivery.homed)
}

impl Node {
    /// This node's session, if it has one that is not known to be dead.
    pub(super) fn living_session(&self) -> Result<i32> {
        let session = self.session();
        if session == 0 || session == self.lost.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Unavailable("this node has no session".into()));
        }
        Ok(session)
    }
}

async fn at_once(client: &ClientWrapper, node: &Node, events: &[NewEvent], now: UnixMs) -> Result<Vec<Accepted>> {
    let mut rows = Rows::default();
    let mut next = 0;
    let starts: Vec<i64> =
        events.iter().map(|event| rows.add(node, event, &mut next, &BTreeMap::new(), now).0).collect();
    let least = Sequence::floor(now);
    let (sql, parameters) = rows.inserted(TAKEN_HERE, &next, &least);
    let first: i64 = query_prepared(node, client, &sql, &parameters).await?[0].try_get(0)?;
    let accepted = |(event, start): (&NewEvent, i64)| accepted(event, first + start, Placed::AsAsked);
    Ok(events.iter().zip(starts).map(accepted).collect())
}

fn accepted(event: &NewEvent, n: i64, placed: Placed) -> Accepted {
    Accepted::New { id: EventId::from_sequence(n, event.entropy), first_delivery: DeliveryId(n + 1), placed }
}

async fn in_steps(
    client: &mut deadpool_postgres::Object,
    node: &Node,
    events: &[NewEvent],
    now: UnixMs,
) -> Result<Vec<Accepted>> {
    let tx = client.transaction().await?;
    let homes = homes::lock(&*tx, node, &homed(events)).await?;
    let total: usize = events.iter().map(|event| 1 + event.deliveries.len()).sum();
    let released = requests::lock_released(&*tx, events).await?;
    let first = take_numbers(&*tx, total, now).await?;
    let numbers = numbered(events, first);
    let known = keys::claim(&*tx, events, &numbers, released, now).await?;
    let mut rows = Rows::default();
    let mut answers = Vec::with_capacity(events.len());
    for (index, (event, n)) in events.iter().zip(&numbers).enumerate() {
        let answer = match &known[index] {
            Known::Not => {
                let mut at = *n;
                let (_, placed) = rows.add(node, event, &mut at, &homes, now);
                accepted(event, *n, placed)
            }
            Known::Before { id, external_id } => Accepted::Repeat { id: *id, external_id: external_id.clone() },
            Known::Within(earlier) => repeat_of(&answers[*earlier], &events[*earlier]),
        };
        if let Accepted::Repeat { id, .. } = &answer {
            rows.requests.add_repeat(event, *n, *id);
        }
        answers.push(answer);
    }
    let (sql, parameters) = rows.inserted(GIVEN, &0, &0);
    tx.query_typed(&sql, &parameters).await?;
    requests::release(&*tx, events, &answers, now).await?;
    homes::note_parked(&*tx, &rows.elsewhere).await?;
    tx.commit().await?;
    rows.tell(node, &homes);
    Ok(answers)
}

/// A repetition within one call is answered as the first one was.
fn repeat_of(first: &Accepted, event: &NewEvent) -> Accepted {
    match first {
        Accepted::New { id, .. } => {
            let shown = event.external_id.as_deref().filter(|_| !event.source.hides_external_id());
            Accepted::Repeat { id: *id, external_id: shown.map(str::to_owned) }
        }
        repeat @ Accepted::Repeat { .. } => repeat.clone(),
    }
}

/// Webhooks of the call that have a home, with their tenants.
fn homed(events: &[NewEvent]) -> BTreeMap<WebhookId, TenantId> {
    let of = |event: &NewEvent| {
        let tenant = event.tenant_id;
        let homed = event.deliveries.iter().filter(|delivery| delivery.homed);
        homed.map(|delivery| (delivery.webhook_id, tenant)).collect::<Vec<_>>()
    };
    events.iter().flat_map(of).collect()
}

/// The number of each event, if the first one has `first`.
fn numbered(events: &[NewEvent], first: i64) -> Vec<i64> {
    let mut next = first;
    let number = |event: &NewEvent| {
        let n = next;
        next += 1 + event.deliveries.len() as i64;
        n
    };
    events.iter().map(number).collect()
}

/// The first of `count` consecutive numbers.
pub(super) async fn take_numbers(client: &impl GenericClient, count: usize, now: UnixMs) -> Result<i64> {
    let (count, least) = (count as i64, Sequence::floor(now));
    let row =
        client.query_typed_one("SELECT take_numbers($1, $2)", &[(&count, Type::INT8), (&least, Type::INT8)]).await?;
    Ok(row.try_get(0)?)
}

/// Numbers are counted from one that the statement takes itself.
const TAKEN_HERE: &str = "SELECT take_numbers($1, $2)";
/// Numbers are given as they are.
const GIVEN: &str = "SELECT $1 + $2";

/// What the times in numbers count from.
static EPOCH: i64 = Sequence::time(0).0;

/// Rows to insert, by column.
#[derive(Debug, Default)]
struct Rows<'a> {
    event: Events<'a>,
    delivery: Deliveries<'a>,
    requests: Requests<'a>,
    /// What other nodes are to send, by webhook: the greatest number.
    elsewhere: BTreeMap<WebhookId, i64>,
    /// Webhooks with a home here of which something was parked.
    parked: BTreeSet<WebhookId>,
}

#[derive(Debug, Default)]
struct Events<'a> {
    tenant: Vec<Uuid>,
    at: Vec<i64>,
    entropy: Vec<i64>,
    r#type: Vec<&'a str>,
    fanout: Vec<i32>,
    source: Vec<i16>,
    occurred_at: Vec<i64>,
    external_id: Vec<Option<&'a str>>,
    idempotency_key: Vec<Option<&'a str>>,
    ordering_key: Vec<Option<&'a str>>,
    trace_parent: Vec<Option<&'a str>>,
    data: Vec<Text<'a>>,
    content_type: Vec<Option<&'a str>>,
    raw: Vec<Option<&'a [u8]>>,
    /// Whether any was received.
    received: bool,
}

#[derive(Debug, Default)]
struct Deliveries<'a> {
    tenant: Vec<Uuid>,
    webhook: Vec<Uuid>,
    at: Vec<i64>,
    event_at: Vec<i64>,
    owner: Vec<i32>,
    due_at: Vec<Option<i64>>,
    trigger: Vec<i16>,
    ordering_key: Vec<Option<&'a str>>,
}

impl<'a> Rows<'a> {
    /// Adds an event with its deliveries from `next` on; tells its own place and where its deliveries are.
    fn add(
        &mut self,
        node: &Node,
        event: &'a NewEvent,
        next: &mut i64,
        homes: &BTreeMap<WebhookId, Home>,
        now: UnixMs,
    ) -> (i64, Placed) {
        let at = *next;
        if enters(event) {
            self.event.add(event, at, now);
        }
        self.requests.add_new(event, at);
        let mut places = Vec::with_capacity(event.deliveries.len());
        for (index, delivery) in event.deliveries.iter().enumerate() {
            let number = at + 1 + index as i64;
            let webhook = delivery.webhook_id;
            let home = homes.get(&webhook).filter(|_| delivery.homed);
            let as_asked = if delivery.held { Place::Held } else { Place::Parked };
            let place = home.map_or(as_asked, |home| home.place(node, webhook, delivery.held));
            match (place, home) {
                (Place::Elsewhere, _) => drop(self.elsewhere.insert(webhook, number)),
                (Place::Parked, Some(_)) => drop(self.parked.insert(webhook)),
                _ => {}
            }
            places.push(place);
            let owner = home.map_or(node.session(), |home| home.owner);
            let due_at = (place != Place::Held).then_some(now.0);
            self.delivery.add(event, (webhook, number, at), (owner, due_at), trigger_code(delivery.trigger));
        }
        *next += 1 + places.len() as i64;
        let as_asked = event
            .deliveries
            .iter()
            .zip(&places)
            .all(|(delivery, place)| *place == if delivery.held { Place::Held } else { Place::Parked });
        (at, if as_asked { Placed::AsAsked } else { Placed::Otherwise(places.into()) })
    }

    /// A statement that inserts all and returns the number that all places count from, which `numbers` gives out of `count`
    /// and `least`; with its parameters. What is only of received events is said only where there are any.
    fn inserted<'s>(&'s self, numbers: &str, count: &'s i64, least: &'s i64) -> (String, Vec<Bound<'s>>) {
        let (event, delivery) = (&self.event, &self.delivery);
        let received = event.received || !self.requests.is_empty();
        let (raw, raw_arrays, kept) = match received {
            true => (", content_type, raw", ", $24::text[], $25::bytea[]", requests::INSERT),
            false => ("", "", ""),
        };
        let sql = format!(
            "WITH base AS MATERIALIZED (SELECT ({numbers}) AS n), \
             accepted AS ( \
                 INSERT INTO events (tenant, n, entropy, type, fanout, source, occurred_at, external_id, \
                                     idempotency_key, ordering_key, trace_parent, data{raw}) \
                 SELECT tenant, base.n + at, entropy, type, fanout, source, \
                        nullif(occurred_at, ((base.n + at) >> 12) + $3), external_id, idempotency_key, \
                        ordering_key, trace_parent, data{raw} \
                 FROM base, unnest($4::uuid[], $5::bigint[], $6::bigint[], $7::text[], $8::integer[], $9::smallint[], \
                                   $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[], \
                                   $15::text[]{raw_arrays}) \
                      AS new (tenant, at, entropy, type, fanout, source, occurred_at, external_id, \
                              idempotency_key, ordering_key, trace_parent, data{raw})), \
             {kept} \
             queued AS ( \
                 INSERT INTO pending (tenant, webhook, n, event, owner, due_at, trigger, ordering_key) \
                 SELECT tenant, webhook, base.n + at, base.n + event_at, owner, due_at, trigger, ordering_key \
                 FROM base, unnest($16::uuid[], $17::uuid[], $18::bigint[], $19::bigint[], $20::integer[], \
                                   $21::bigint[], $22::smallint[], $23::text[]) \
                      AS new (tenant, webhook, at, event_at, owner, due_at, trigger, ordering_key)) \
             SELECT n FROM base"
        );
        let mut parameters: Vec<Bound<'_>> = Vec::with_capacity(44);
        parameters.extend([(count as _, Type::INT8), (least as _, Type::INT8), (&EPOCH as _, Type::INT8)]);
        parameters.extend(event.bound());
        parameters.extend(delivery.bound());
        if received {
            parameters.extend(event.bound_raw());
            parameters.extend(self.requests.bound());
        }
        (sql, parameters)
    }

    /// After the commit: other nodes hear of their rows, and this node's pipeline is about to.
    fn tell(&self, node: &Node, homes: &BTreeMap<WebhookId, Home>) {
        for (webhook, home) in homes {
            if self.parked.contains(webhook) {
                home.tell(node, *webhook);
            }
            if self.elsewhere.contains_key(webhook) {
                match home.owner {
                    // Nobody's: it is time that somebody takes it.
                    0 => node.tick.notify_one(),
                    owner => node.wake(owner, [*webhook]),
                }
            }
        }
    }
}

impl<'a> Events<'a> {
    fn add(&mut self, event: &'a NewEvent, at: i64, now: UnixMs) {
        self.tenant.push(event.tenant_id.0);
        self.at.push(at);
        self.entropy.push(EventId::from_sequence(0, event.entropy).entropy().cast_signed());
        self.r#type.push(&event.event_type);
        self.fanout.push(i32::try_from(event.deliveries.len()).unwrap_or(i32::MAX));
        self.source.push(source_code(event.source));
        self.occurred_at.push(event.occurred_at.unwrap_or(now).0);
        self.external_id.push(event.external_id.as_deref());
        self.idempotency_key.push(event.idempotency_key.as_deref());
        self.ordering_key.push(event.ordering_key.as_deref());
        self.trace_parent.push(event.trace_parent.as_deref());
        self.data.push(Text(&event.data));
        let raw = event.raw.as_ref();
        self.content_type.push(raw.and_then(|raw| raw.content_type.as_deref()));
        self.raw.push(raw.and_then(|raw| raw.body.as_deref()));
        self.received |= raw.is_some();
    }

    fn bound(&self) -> [Bound<'_>; 12] {
        [
            (&self.tenant, Type::UUID_ARRAY),
            (&self.at, Type::INT8_ARRAY),
            (&self.entropy, Type::INT8_ARRAY),
            (&self.r#type, Type::TEXT_ARRAY),
            (&self.fanout, Type::INT4_ARRAY),
            (&self.source, Type::INT2_ARRAY),
            (&self.occurred_at, Type::INT8_ARRAY),
            (&self.external_id, Type::TEXT_ARRAY),
            (&self.idempotency_key, Type::TEXT_ARRAY),
            (&self.ordering_key, Type::TEXT_ARRAY),
            (&self.trace_parent, Type::TEXT_ARRAY),
            (&self.data, Type::TEXT_ARRAY),
        ]
    }

    fn bound_raw(&self) -> [Bound<'_>; 2] {
        [(&self.content_type, Type::TEXT_ARRAY), (&self.raw, Type::BYTEA_ARRAY)]
    }
}

impl<'a> Deliveries<'a> {
    fn add(
        &mut self,
        event: &'a NewEvent,
        (webhook, at, event_at): (WebhookId, i64, i64),
        (owner, due_at): (i32, Option<i64>),
        trigger: i16,
    ) {
        self.tenant.push(event.tenant_id.0);
        self.webhook.push(webhook.0);
        self.at.push(at);
        self.event_at.push(event_at);
        self.owner.push(owner);
        self.due_at.push(due_at);
        self.trigger.push(trigger);
        self.ordering_key.push(event.ordering_key.as_deref());
    }

    fn bound(&self) -> [Bound<'_>; 8] {
        [
            (&self.tenant, Type::UUID_ARRAY),
            (&self.webhook, Type::UUID_ARRAY),
            (&self.at, Type::INT8_ARRAY),
            (&self.event_at, Type::INT8_ARRAY),
            (&self.owner, Type::INT4_ARRAY),
            (&self.due_at, Type::INT8_ARRAY),
            (&self.trigger, Type::INT2_ARRAY),
            (&self.ordering_key, Type::TEXT_ARRAY),
        ]
    }
}

/// Bytes that are known to be UTF-8, bound as text without checking them again; the server does.
#[derive(Debug)]
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(TEXT);

    to_sql_checked!();
}
