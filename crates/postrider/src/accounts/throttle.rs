//! How often somebody may try to log in, and have something sent by hand.
//!
//! Of tries to log in, three counters stand in each other's way: one of an account from an address, which stops
//! guessing; one of an account from everywhere, which stops guessing from many addresses (and is high, since whoever
//! uses it up locks the owner out); one of an address, which stops trying one password with many accounts. A try is
//! counted before it is looked at, so that many at once are no way around, and given back when it succeeds.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use postrider_core::ids::TenantId;
use postrider_core::limits::{
    LOGIN_COUNTERS_MAX, LOGIN_TRIES_PER_ACCOUNT, LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS, LOGIN_TRIES_PER_ADDRESS,
    LOGIN_WINDOW, SENDS_BY_HAND_COUNTERS_MAX, SENDS_BY_HAND_MAX, SENDS_BY_HAND_WINDOW,
};
use postrider_core::time::UnixMs;

use crate::auth::hash;
use crate::store::normalised_email;

type Counter = [u8; 32];

#[derive(Debug)]
struct Counters {
    window: Duration,
    /// How many there are in memory.
    most: usize,
    /// Tries since the window began.
    counts: HashMap<Counter, (UnixMs, u32)>,
    /// The same, oldest first.
    ages: BTreeSet<(UnixMs, Counter)>,
}

/// Counts tries to log in. Of one process: with many nodes, somebody who is spread over them has as many tries on each.
#[derive(Debug)]
pub struct Throttle(Mutex<Counters>);

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle(Mutex::new(Counters::new(LOGIN_WINDOW, LOGIN_COUNTERS_MAX)))
    }
}

/// Who has something sent by hand: each is counted apart, so that guests do not stand in the way of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    Member,
    /// Somebody in the portal.
    Guest,
}

/// Counts what people have sent by hand, by tenant. Of one process, as tries to log in are.
#[derive(Debug)]
pub struct SendsByHand(Mutex<Counters>);

impl Default for SendsByHand {
    fn default() -> SendsByHand {
        SendsByHand(Mutex::new(Counters::new(SENDS_BY_HAND_WINDOW, SENDS_BY_HAND_COUNTERS_MAX)))
    }
}

impl SendsByHand {
    /// Counts one more.
    ///
    /// # Errors
    /// There were too many; how long to wait. Then it is not counted.
    pub fn take(&self, tenant: TenantId, hand: Hand, now: UnixMs) -> Result<(), Duration> {
        let counter = hash(format!("{hand:?}\0{tenant}").as_bytes());
        let mut counters = self.0.lock();
        match counters.wait(&counter, SENDS_BY_HAND_MAX, now) {
            Some(wait) => Err(wait),
            None => {
                counters.add(counter, now);
                Ok(())
            }
        }
    }
}

/// What a try counts towards, with the bounds.
fn counters(account: &str, address: Option<IpAddr>) -> [(Counter, u32); 3] {
    let account = normalised_email(account);
    // Somebody with IPv6 has a whole /64.
    let place = match address {
        Some(IpAddr::V6(v6)) => hex::encode(&v6.octets()[..8]),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        None => String::new(),
    };
    [
        (hash(format!("both\0{place}\0{account}").as_bytes()), LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS),
        (hash(format!("account\0{account}").as_bytes()), LOGIN_TRIES_PER_ACCOUNT),
        (hash(format!("address\0{place}").as_bytes()), LOGIN_TRIES_PER_ADDRESS),
    ]
}

impl Throttle {
    /// Counts a try.
    ///
    /// # Errors
    /// There were too many; how long to wait. Then it is not counted.
    pub fn take(&self, account: &str, address: Option<IpAddr>, now: UnixMs) -> Result<(), Duration> {
        let mut counters_now = self.0.lock();
        let wanted = counters(account, address);
        let waits = wanted.iter().filter_map(|(counter, max)| counters_now.wait(counter, *max, now));
        if let Some(wait) = waits.max() {
            return Err(wait);
        }
        for (counter, _) in wanted {
            counters_now.add(counter, now);
        }
        Ok(())
    }

    /// The try succeeded: it counts for nothing, and whoever it was has not been guessing.
    pub fn give_back(&self, account: &str, address: Option<IpAddr>) {
        let mut counters_now = self.0.lock();
        let [(both, _), others @ ..] = counters(account, address);
        counters_now.forget(both);
        for (counter, _) in others {
            if let Some((_, count)) = counters_now.counts.get_mut(&counter) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

impl Counters {
    fn new(window: Duration, most: usize) -> Counters {
        Counters { window, most, counts: HashMap::new(), ages: BTreeSet::new() }
    }

    /// How long until this one may count again; `None`: it may now.
    fn wait(&self, counter: &Counter, max: u32, now: UnixMs) -> Option<Duration> {
        let (since, _) = self.counts.get(counter).filter(|(_, count)| *count >= max)?;
        Some(self.window.saturating_sub(now.since(*since))).filter(|wait| !wait.is_zero())
    }

    fn add(&mut self, counter: Counter, now: UnixMs) {
        if let Some((since, count)) = self.counts.get_mut(&counter)
            && now.since(*since) < self.window
        {
            *count += 1;
            return;
        }
        self.forget(counter);
        if self.counts.len() >= self.most
            && let Some((_, oldest)) = self.ages.first().copied()
        {
            self.forget(oldest);
        }
        self.counts.insert(counter, (now, 1));
        self.ages.insert((now, counter));
    }

    fn forget(&mut self, counter: Counter) {
        if let Some((since, _)) = self.counts.remove(&counter) {
            self.ages.remove(&(since, counter));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_772_618_400_000);

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn an_account_is_guessed_only_so_often_from_one_address() {
        let throttle = Throttle::default();
        for _ in 0..LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS {
            throttle.take("Ada@example.com", address(1), NOW).unwrap();
        }
        let wait = throttle.take("ada@EXAMPLE.com ", address(1), NOW + Duration::from_secs(60)).unwrap_err();
        assert_eq!(wait, LOGIN_WINDOW - Duration::from_secs(60));
        // From elsewhere the owner gets in.
        throttle.take("ada@example.com", address(2), NOW).unwrap();
        throttle.take("ada@example.com", address(1), NOW + LOGIN_WINDOW).unwrap();
    }

    #[test]
    fn one_address_tries_only_so_many_accounts() {
        let throttle = Throttle::default();
        for number in 0..LOGIN_TRIES_PER_ADDRESS {
            throttle.take(&format!("user{number}@example.com"), address(1), NOW).unwrap();
        }
        throttle.take("another@example.com", address(1), NOW).unwrap_err();
        throttle.take("another@example.com", address(2), NOW).unwrap();
    }

    #[test]
    fn one_account_is_tried_only_so_often_from_anywhere() {
        let throttle = Throttle::default();
        for number in 0..LOGIN_TRIES_PER_ACCOUNT {
            throttle.take("ada@example.com", address(u8::try_from(number).unwrap()), NOW).unwrap();
        }
        throttle.take("ada@example.com", address(250), NOW).unwrap_err();
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_count_together() {
        let throttle = Throttle::default();
        for number in 0..LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS {
            let address = format!("2001:db8::{number:x}").parse().ok();
            throttle.take("ada@example.com", address, NOW).unwrap();
        }
        throttle.take("ada@example.com", "2001:db8::ffff".parse().ok(), NOW).unwrap_err();
        throttle.take("ada@example.com", "2001:db8:0:1::1".parse().ok(), NOW).unwrap();
    }

    #[test]
    fn who_logs_in_has_not_been_guessing() {
        let throttle = Throttle::default();
        for _ in 0..LOGIN_TRIES_PER_ACCOUNT * 2 {
            throttle.take("ada@example.com", address(1), NOW).unwrap();
            throttle.give_back("ada@example.com", address(1));
        }
    }

    #[test]
    fn a_tenants_guests_and_its_members_have_so_much_sent_by_hand() {
        let sends = SendsByHand::default();
        let (tenant, other) = (TenantId::from_random([1; 16]), TenantId::from_random([2; 16]));
        for _ in 0..SENDS_BY_HAND_MAX {
            sends.take(tenant, Hand::Guest, NOW).unwrap();
        }
        let wait = sends.take(tenant, Hand::Guest, NOW + Duration::from_secs(1)).unwrap_err();
        assert_eq!(wait, SENDS_BY_HAND_WINDOW - Duration::from_secs(1));
        sends.take(tenant, Hand::Member, NOW).unwrap();
        sends.take(other, Hand::Guest, NOW).unwrap();
        for _ in 0..SENDS_BY_HAND_MAX {
            sends.take(tenant, Hand::Guest, NOW + SENDS_BY_HAND_WINDOW).unwrap();
        }
        sends.take(tenant, Hand::Guest, NOW + SENDS_BY_HAND_WINDOW).unwrap_err();
    }

    #[test]
    fn counters_of_sends_by_hand_are_bounded() {
        let sends = SendsByHand::default();
        for number in 0..=SENDS_BY_HAND_COUNTERS_MAX {
            let tenant = TenantId::from_random(u128::try_from(number).unwrap().to_be_bytes());
            sends.take(tenant, Hand::Member, NOW).unwrap();
        }
        assert_eq!(sends.0.lock().counts.len(), SENDS_BY_HAND_COUNTERS_MAX);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let throttle = Throttle::default();
        for _ in 0..LOGIN_TRIES_PER_ACCOUNT_AND_ADDRESS {
            throttle.take("ada@example.com", address(1), NOW).unwrap();
        }
        for number in 0..LOGIN_COUNTERS_MAX {
            let place = IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
            throttle.take(&format!("{number}@example.com"), Some(place), NOW + Duration::from_secs(1)).unwrap();
        }
        let counters = throttle.0.lock();
        assert_eq!((counters.counts.len(), counters.ages.len()), (LOGIN_COUNTERS_MAX, LOGIN_COUNTERS_MAX));
        drop(counters);
        throttle.take("ada@example.com", address(1), NOW + Duration::from_secs(2)).unwrap();
    }
}
