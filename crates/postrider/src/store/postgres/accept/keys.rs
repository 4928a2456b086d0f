//! Idempotency keys and external ids: who was first, on whatever node.
//!
//! A key is written for its day and for the next, so that the unique index of one day catches every repetition within
//! 24 hours and two nodes never both win, also around midnight. Rows are written in one order, so that nodes wait for each
//! other and never in a circle.

use std::collections::{BTreeMap, HashMap};

use postrider_core::ids::{EventId, Sequence};
use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::store::day::Day;
use crate::store::postgres::row::SHOWN_EXTERNAL_ID;
use crate::store::{NewEvent, Result};

/// Whether an event is known already.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Not,
    /// From an earlier call.
    Before {
        id: EventId,
        external_id: Option<String>,
    },
    /// The same call has it at this place.
    Within(usize),
}

/// (tenant, kind, key)
type Key<'a> = (Uuid, i16, &'a str);

const IDEMPOTENCY: i16 = 0;
const EXTERNAL: i16 = 1;

/// What it claims. Anybody may send a request with somebody else's id, so one that does not enter claims nothing.
pub(super) fn keys_of(event: &NewEvent) -> impl Iterator<Item = Key<'_>> {
    let tenant = event.tenant_id.0;
    let idempotency = event.idempotency_key.as_deref().map(move |key| (tenant, IDEMPOTENCY, key));
    let external = event.external_id.as_deref().map(move |key| (tenant, EXTERNAL, key));
    idempotency.into_iter().chain(external).filter(|_| super::enters(event))
}

/// Claims the keys of `events`, which would have these `numbers`, but of those that are `known` already; which are then.
pub(super) async fn claim(
    client: &impl GenericClient,
    events: &[NewEvent],
    numbers: &[i64],
    mut known: Vec<Known>,
    now: UnixMs,
) -> Result<Vec<Known>> {
    let mut claims: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for (index, event) in events.iter().enumerate().filter(|(index, _)| is_new(&known[*index])).collect::<Vec<_>>() {
        match keys_of(event).find_map(|key| claims.get(&key)) {
            Some(first) => known[index] = Known::Within(*first),
            None => claims.extend(keys_of(event).map(|key| (key, index))),
        }
    }
    if claims.is_empty() {
        return Ok(known);
    }
    let call = Call { client, numbers, now };
    let today = Day::of(now);
    call.claim_on(today, &claims, &mut known).await?;
    call.find_older(&claims, &mut known).await?;
    let won: BTreeMap<Key<'_>, usize> =
        claims.iter().filter(|(_, index)| is_new(&known[**index])).map(|(key, index)| (*key, *index)).collect();
    call.claim_on(today.next(), &won, &mut known).await?;
    let rejected = claims.iter().filter(|(_, index)| !is_new(&known[**index]));
    call.give_back(today, rejected.map(|(key, index)| (*key, *index)).collect()).await?;
    Ok(known)
}

fn is_new(known: &Known) -> bool {
    matches!(known, Known::Not)
}

struct Call<'a, C> {
    client: &'a C,
    numbers: &'a [i64],
    now: UnixMs,
}

impl<C: GenericClient> Call<'_, C> {
    /// Writes the claims of one day; events whose key another event has are known.
    async fn claim_on(&self, day: Day, claims: &BTreeMap<Key<'_>, usize>, known: &mut [Known]) -> Result<()> {
        if claims.is_empty() {
            return Ok(());
        }
        let columns = Columns::of(claims.iter().map(|(key, index)| (*key, self.numbers[*index])));
        // A key that has outlived its span is free again; an external id is one for as long as history has its event.
        let rows = self
            .client
            .query_typed(
                "INSERT INTO keys AS old (day, tenant, kind, key, event) \
                 SELECT $1, tenant, kind, key, event \
                 FROM unnest($2::uuid[], $3::smallint[], $4::text[], $5::bigint[]) AS new (tenant, kind, key, event) \
                 ORDER BY tenant, kind, key \
                 ON CONFLICT (day, tenant, kind, key) DO UPDATE \
                 SET event = CASE WHEN old.kind = 0 AND old.event < $6 THEN excluded.event ELSE old.event END \
                 RETURNING tenant, kind, key, event",
                &[
                    (&i32::try_from(day.0).unwrap_or(i32::MAX), Type::INT4),
                    (&columns.tenant, Type::UUID_ARRAY),
                    (&columns.kind, Type::INT2_ARRAY),
                    (&columns.key, Type::TEXT_ARRAY),
                    (&columns.event, Type::INT8_ARRAY),
                    (&Sequence::floor(self.now - IDEMPOTENCY_SPAN), Type::INT8),
                ],
            )
            .await?;
        let mut lost: Vec<(Key<'_>, usize, i64)> = Vec::new();
        for row in &rows {
            let key: Key<'_> = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let event: i64 = row.try_get(3)?;
            if let Some((key, index)) = claims.get_key_value(&key)
                && event != self.numbers[*index]
            {
                lost.push((*key, *index, event));
            }
        }
        self.look_up(day, &lost, known).await
    }

    /// Finds the events that have the keys. One that is gone gives its key up.
    async fn look_up(&self, day: Day, lost: &[(Key<'_>, usize, i64)], known: &mut [Known]) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        let tenants: Vec<Uuid> = lost.iter().map(|(key, ..)| key.0).collect();
        let events: Vec<i64> = lost.iter().map(|(.., event)| *event).collect();
        let rows = self
            .client
            .query_typed(
                &format!(
                    "SELECT e.n, e.entropy, {SHOWN_EXTERNAL_ID} FROM events e \
                     JOIN unnest($1::uuid[], $2::bigint[]) AS k (tenant, n) ON e.tenant = k.tenant AND e.n = k.n \
                     WHERE e.n = ANY($2)"
                ),
                &[(&tenants, Type::UUID_ARRAY), (&events, Type::INT8_ARRAY)],
            )
            .await?;
        let mut found: HashMap<i64, Known> = HashMap::new();
        for row in rows {
            let n: i64 = row.try_get(0)?;
            let id = EventId::from_sequence(n, row.try_get::<_, i64>(1)?.cast_unsigned());
            found.insert(n, Known::Before { id, external_id: row.try_get(2)? });
        }
        let mut orphaned = Vec::new();
        // The idempotency key comes first and has the first word.
        for (key, index, event) in lost {
            match found.get(event) {
                Some(before) if is_new(&known[*index]) => known[*index] = before.clone(),
                Some(_) => {}
                None => orphaned.push((*key, self.numbers[*index])),
            }
        }
        self.point(day, orphaned).await
    }

    /// Points keys at other events.
    async fn point(&self, day: Day, keys: Vec<(Key<'_>, i64)>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let columns = Columns::of(keys.into_iter());
        self.client
            .execute_typed(
                "UPDATE keys SET event = new.event \
                 FROM unnest($2::uuid[], $3::smallint[], $4::text[], $5::bigint[]) AS new (tenant, kind, key, event) \
                 WHERE keys.day = $1 AND keys.tenant = new.tenant AND keys.kind = new.kind AND keys.key = new.key",
                &[
                    (&i32::try_from(day.0).unwrap_or(i32::MAX), Type::INT4),
                    (&columns.tenant, Type::UUID_ARRAY),
                    (&columns.kind, Type::INT2_ARRAY),
                    (&columns.key, Type::TEXT_ARRAY),
                    (&columns.event, Type::INT8_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }

    /// External ids that were won today may be those of older events.
    async fn find_older(&self, claims: &BTreeMap<Key<'_>, usize>, known: &mut [Known]) -> Result<()> {
        let asked: Vec<(Uuid, &str, usize)> = claims
            .iter()
            .filter(|((_, kind, _), index)| *kind == EXTERNAL && is_new(&known[**index]))
            .map(|((tenant, _, key), index)| (*tenant, *key, *index))
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let tenants: Vec<Uuid> = asked.iter().map(|(tenant, ..)| *tenant).collect();
        let ids: Vec<&str> = asked.iter().map(|(_, id, _)| *id).collect();
        let places: Vec<i64> = asked.iter().map(|(.., index)| *index as i64).collect();
        let rows = self
            .client
            .query_typed(
                &format!(
                    "SELECT k.place, e.n, e.entropy, {SHOWN_EXTERNAL_ID} \
                     FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (tenant, id, place), \
                     LATERAL (SELECT n, entropy, source, external_id FROM events \
                              WHERE tenant = k.tenant AND external_id = k.id ORDER BY n DESC LIMIT 1) AS e"
                ),
                &[(&tenants, Type::UUID_ARRAY), (&ids, Type::TEXT_ARRAY), (&places, Type::INT8_ARRAY)],
            )
            .await?;
        for row in rows {
            let place = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(usize::MAX);
            let id = EventId::from_sequence(row.try_get(1)?, row.try_get::<_, i64>(2)?.cast_unsigned());
            if let Some(known) = known.get_mut(place) {
                *known = Known::Before { id, external_id: row.try_get(3)? };
            }
        }
        Ok(())
    }

    /// Forgets the claims of events that are not accepted after all.
    async fn give_back(&self, today: Day, claims: Vec<(Key<'_>, usize)>) -> Result<()> {
        if claims.is_empty() {
            return Ok(());
        }
        let columns = Columns::of(claims.into_iter().map(|(key, index)| (key, self.numbers[index])));
        let days: Vec<i32> = [today, today.next()].map(|day| i32::try_from(day.0).unwrap_or(i32::MAX)).into();
        self.client
            .execute_typed(
                "DELETE FROM keys USING unnest($2::uuid[], $3::smallint[], $4::text[], $5::bigint[]) \
                     AS own (tenant, kind, key, event) \
                 WHERE keys.day = ANY($1) AND keys.tenant = own.tenant AND keys.kind = own.kind \
                   AND keys.key = own.key AND keys.event = own.event",
                &[
                    (&days, Type::INT4_ARRAY),
                    (&columns.tenant, Type::UUID_ARRAY),
                    (&columns.kind, Type::INT2_ARRAY),
                    (&columns.key, Type::TEXT_ARRAY),
                    (&columns.event, Type::INT8_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Columns<'a> {
    tenant: Vec<Uuid>,
    kind: Vec<i16>,
    key: Vec<&'a str>,
    event: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(rows: impl Iterator<Item = (Key<'a>, i64)>) -> Columns<'a> {
        let mut columns = Columns::default();
        for ((tenant, kind, key), event) in rows {
            columns.tenant.push(tenant);
            columns.kind.push(kind);
            columns.key.push(key);
            columns.event.push(event);
        }
        columns
    }
}
