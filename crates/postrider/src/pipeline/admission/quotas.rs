//! Quotas of tenants: events a second, and events a UTC day.
//!
//! **A second** is a token bucket on each node that holds one second's worth. Each of the living nodes has an equal share
//! of the tenant's rate, so behind a load balancer that spreads requests evenly a tenant gets its rate, and never more.
//!
//! **A day** is a number in the store, of which nodes take steps of a hundredth of the limit before they spend them; so
//! all nodes together never accept more than the limit, and the store is asked some hundred times a day and tenant. What
//! a node has not spent it gives back when it stops; a node that dies takes it to the grave, at most a hundredth.
//! Taking a step takes turns with changes of configuration, which are rare and quick.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postrider_core::ids::TenantId;
use postrider_core::limits::QUOTA_STEPS_PER_DAY;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};

use super::PublishError;
use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::store::{self, Store, TenantSettings};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Giving back what was not spent may take so long when the process stops.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What the events of one request cost one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pipeline) struct Charge {
    pub(in crate::pipeline) tenant_id: TenantId,
    pub(in crate::pipeline) events: u64,
    pub(in crate::pipeline) per_second: Option<u32>,
    pub(in crate::pipeline) per_day: Option<u64>,
}

/// Counts one more event of a tenant that is limited.
pub(super) fn add(charges: &mut Vec<Charge>, tenant_id: TenantId, settings: &TenantSettings) {
    match charges.iter_mut().find(|charge| charge.tenant_id == tenant_id) {
        Some(charge) => charge.events += 1,
        None => charges.push(Charge {
            tenant_id,
            events: 1,
            per_second: settings.events_per_second,
            per_day: settings.events_per_day,
        }),
    }
}

#[derive(Debug)]
pub(super) struct Quotas {
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    ambient: Arc<dyn Ambient>,
    accounts: Mutex<HashMap<TenantId, Arc<Account>>>,
}

/// One tenant's on this node. There are at most as many as there are tenants with a quota.
#[derive(Debug, Default)]
struct Account {
    state: Mutex<State>,
    /// The turn of whoever takes a step for the tenant.
    stepping: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    bucket: Option<Bucket>,
    day: Allowance,
}

/// What may still be spent of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowance {
    /// Days since 1970.
    day: i64,
    /// Without asking the store.
    left: u64,
    /// What the store had left of which limit, when it had too little.
    rest: Option<(u64, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Spent {
    Done,
    /// There is not enough left of the day.
    TooFew,
    /// The store has to be asked for so many at least.
    Ask(u64),
}

impl Allowance {
    fn spend(&mut self, events: u64, limit: u64, today: i64) -> Spent {
        if self.day != today {
            *self = Allowance { day: today, ..Allowance::default() };
        }
        if self.left >= events {
            self.left -= events;
            return Spent::Done;
        }
        match self.rest {
            Some((of, rest)) if of == limit && self.left + rest < events => Spent::TooFew,
            _ => Spent::Ask(events - self.left),
        }
    }
}

/// What the store keeps of a tenant's day.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Taken {
    day: i64,
    taken: u64,
}

/// Holds one second's worth.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: UnixMs,
}

impl Bucket {
    fn level(&self, now: UnixMs) -> f64 {
        let grown = self.tokens + now.since(self.filled_at).as_secs_f64() * self.per_second;
        grown.min(self.per_second)
    }

    /// Takes `events`, or tells how long to wait. More than the bucket holds are let through when it is full, and keep
    /// it empty for longer.
    fn take(&mut self, events: f64, now: UnixMs) -> Result<(), Duration> {
        let level = self.level(now);
        let missing = events.min(self.per_second) - level;
        // A thousandth is what times in milliseconds cannot tell.
        if missing > 0.001 {
            return Err(Duration::from_secs_f64(missing / self.per_second));
        }
        (self.tokens, self.filled_at) = (level - events, now);
        Ok(())
    }

    fn give_back(&mut self, events: f64) {
        self.tokens = (self.tokens + events).min(self.per_second);
    }
}

impl Quotas {
    pub(super) fn new(store: Arc<dyn Store>, catalog: Arc<Catalog>, ambient: Arc<dyn Ambient>) -> Quotas {
        Quotas { store, catalog, ambient, accounts: Mutex::default() }
    }

    fn account(&self, tenant: TenantId) -> Arc<Account> {
        self.accounts.lock().entry(tenant).or_default().clone()
    }

    /// Takes all charges, or none.
    pub(super) async fn take(&self, charges: Vec<Charge>) -> Result<Vec<Charge>, PublishError> {
        for (at, charge) in charges.iter().enumerate() {
            if let Err(error) = self.take_one(charge).await {
                self.give_back(&charges[..at]);
                return Err(error);
            }
        }
        Ok(charges)
    }

    async fn take_one(&self, charge: &Charge) -> Result<(), PublishError> {
        let account = self.account(charge.tenant_id);
        if let Some(limit) = charge.per_second {
            account.state.lock().take_rate(charge.events, limit, self.store.nodes(), self.ambient.now())?;
        }
        let Some(limit) = charge.per_day else { return Ok(()) };
        let taken = self.take_of_day(&account, charge, limit).await;
        if taken.is_err() {
            account.state.lock().give_back_rate(charge.events);
        }
        taken
    }

    async fn take_of_day(&self, account: &Account, charge: &Charge, limit: u64) -> Result<(), PublishError> {
        let spend = || {
            let now = self.ambient.now();
            match account.state.lock().day.spend(charge.events, limit, day_of(now)) {
                Spent::TooFew => Err(over_day(limit, now)),
                other => Ok(other),
            }
        };
        if spend()? == Spent::Done {
            return Ok(());
        }
        // One at a time asks; whoever has waited finds what the one before was given.
        let _stepping = account.stepping.lock().await;
        while let Spent::Ask(missing) = spend()? {
            let today = day_of(self.ambient.now());
            let step = self.step(charge.tenant_id, today, limit, missing).await?;
            let mut state = account.state.lock();
            if state.day.day == today {
                state.day.left += step.given;
                state.day.rest = (step.given == 0).then_some((limit, step.rest));
            }
        }
        Ok(())
    }

    /// Takes `missing` events of the tenant's day, and more if there are; nothing, if there are not so many.
    async fn step(&self, tenant: TenantId, today: i64, limit: u64, missing: u64) -> store::Result<Step> {
        let _turn = self.catalog.changing(&self.store).await?;
        let mut taken = self.taken(tenant, today).await?;
        let rest = limit.saturating_sub(taken.taken);
        if rest < missing {
            return Ok(Step { given: 0, rest });
        }
        let given = missing.max(limit / QUOTA_STEPS_PER_DAY).min(rest);
        taken.taken += given;
        self.keep(tenant, taken).await?;
        Ok(Step { given, rest: rest - given })
    }

    async fn taken(&self, tenant: TenantId, today: i64) -> store::Result<Taken> {
        let kept = self.store.get_setting(&setting(tenant)).await?;
        let kept: Option<Taken> = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
        Ok(kept.filter(|kept| kept.day >= today).unwrap_or(Taken { day: today, taken: 0 }))
    }

    async fn keep(&self, tenant: TenantId, taken: Taken) -> store::Result<()> {
        let value = serde_json::to_vec(&taken).map_err(anyhow::Error::from)?;
        self.store.put_setting(&setting(tenant), value).await
    }

    /// Gives back what was taken for events that were not accepted.
    pub(super) fn give_back(&self, charges: &[Charge]) {
        let today = day_of(self.ambient.now());
        for charge in charges {
            let account = self.account(charge.tenant_id);
            let mut state = account.state.lock();
            state.give_back_rate(charge.events);
            if charge.per_day.is_some() && state.day.day == today {
                state.day.left += charge.events;
            }
        }
    }

    /// Gives what is left of the day back to the store.
    pub(super) async fn end(&self) {
        let accounts: Vec<_> = self.accounts.lock().iter().map(|(id, account)| (*id, account.clone())).collect();
        let giving = async {
            for (tenant, account) in accounts {
                let day = std::mem::take(&mut account.state.lock().day);
                if day.left > 0 {
                    self.end_one(tenant, day).await?;
                }
            }
            Ok::<(), store::Error>(())
        };
        match tokio::time::timeout(END_TIMEOUT, giving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what is left of the tenants' quotas could not be given back"),
            Err(_) => tracing::warn!("what is left of the tenants' quotas could not be given back in time"),
        }
    }

    async fn end_one(&self, tenant: TenantId, day: Allowance) -> store::Result<()> {
        let _turn = self.catalog.changing(&self.store).await?;
        let mut taken = self.taken(tenant, day.day).await?;
        if taken.day == day.day {
            taken.taken = taken.taken.saturating_sub(day.left);
            self.keep(tenant, taken).await?;
        }
        Ok(())
    }
}

struct Step {
    given: u64,
    /// What the store has left.
    rest: u64,
}

impl State {
    fn take_rate(&mut self, events: u64, limit: u32, nodes: usize, now: UnixMs) -> Result<(), PublishError> {
        let over = |message: String, retry_after| {
            metrics::counter!("postrider_events_refused_total", "reason" => "rate").increment(1);
            Err(PublishError::OverQuota { message, retry_after })
        };
        if events > u64::from(limit) {
            let message =
                format!("{events} events at once are more than the {limit} a second that the tenant may publish");
            return over(message, Duration::from_secs(1));
        }
        let share = f64::from(limit) / nodes.max(1) as f64;
        let bucket = self.bucket.get_or_insert(Bucket { per_second: share, tokens: share, filled_at: now });
        if bucket.per_second != share {
            *bucket = Bucket { per_second: share, tokens: bucket.level(now).min(share), filled_at: now };
        }
        bucket
            .take(events as f64, now)
            .or_else(|wait| over(format!("the tenant may publish {limit} events a second"), wait))
    }

    fn give_back_rate(&mut self, events: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.give_back(events as f64);
        }
    }
}

fn over_day(limit: u64, now: UnixMs) -> PublishError {
    metrics::counter!("postrider_events_refused_total", "reason" => "day").increment(1);
    let tomorrow = UnixMs((day_of(now) + 1) * DAY_MS);
    let message = format!("the tenant may publish {limit} events a day (UTC), and has too few left");
    PublishError::OverQuota { message, retry_after: tomorrow.since(now) }
}

fn day_of(now: UnixMs) -> i64 {
    now.0.div_euclid(DAY_MS)
}

fn setting(tenant: TenantId) -> String {
    format!("events-of-day:{}", tenant.0.simple())
}

#[cfg(test)]
mod tests;
