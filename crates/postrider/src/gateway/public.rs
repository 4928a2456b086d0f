//! Public routes as they are called: their contracts, read once, and how often they may be called.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use postrider_core::time::UnixMs;
use postrider_gateway::contract::{Contract, Flaw};
use postrider_gateway::operation::Kind;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::store::PublicRouteRecord;

/// Addresses remembered by a route before those that are quiet again are looked for, to be forgotten.
const ADDRESSES_MAX: usize = 10_000;
/// Where the contract stands in a route's metadata.
pub const CONTRACT: &str = "contract";
/// Where its origins stand.
pub const CORS: &str = "cors";
/// Seconds for which a browser may remember what it was allowed.
const CORS_SECONDS: u64 = 600;

/// A route, ready to be called.
#[derive(Debug)]
pub struct Opened {
    /// `None`: it has none, and gateway keys alone decide. `Some(Err)`: it cannot be read, and nothing is allowed.
    pub contract: Option<Result<Contract, Flaw>>,
    /// Origins whose pages may call it.
    origins: Vec<String>,
    limits: HashMap<Kind, Limits>,
}

#[derive(Debug)]
struct Limits {
    per_route: Option<DefaultDirectRateLimiter>,
    per_ip: Option<PerIp>,
}

#[derive(Debug)]
struct PerIp {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    /// How many addresses it may remember until then: twice those that were left the last time, so that a flood of
    /// addresses does not have each call look through all.
    until: AtomicUsize,
}

impl PerIp {
    fn new(quota: Quota) -> PerIp {
        PerIp { limiter: RateLimiter::keyed(quota), until: AtomicUsize::new(ADDRESSES_MAX) }
    }

    /// Forgets addresses that are quiet again, when there are many. Whether it has looked.
    fn tidy(&self) -> bool {
        let is_due = self.limiter.len() > self.until.load(Relaxed);
        if is_due {
            self.limiter.retain_recent();
            self.until.store(ADDRESSES_MAX.max(self.limiter.len() * 2), Relaxed);
        }
        is_due
    }
}

/// Routes that have been called.
#[derive(Debug, Default)]
pub struct OpenedRoutes {
    known: Mutex<HashMap<Uuid, (UnixMs, Arc<Opened>)>>,
}

impl OpenedRoutes {
    /// The route as it is now. Its rates begin anew when it is changed.
    pub fn of(&self, route: &PublicRouteRecord) -> Arc<Opened> {
        let mut known = self.known.lock();
        if let Some((at, opened)) = known.get(&route.id)
            && *at == route.updated_at
        {
            return opened.clone();
        }
        let opened = Arc::new(Opened::of(&route.metadata));
        known.insert(route.id, (route.updated_at, opened.clone()));
        opened
    }
}

/// The contract of a route's metadata, if it has one.
///
/// # Errors
/// Its first flaw.
pub fn contract(metadata: &Map<String, Value>) -> Result<Option<Contract>, Flaw> {
    metadata.get(CONTRACT).filter(|it| !it.is_null()).map(|it| Contract::parse(&it.to_string())).transpose()
}

/// The origins of a route's metadata.
///
/// # Errors
/// What is wrong with them.
pub fn origins(metadata: &Map<String, Value>) -> Result<Vec<String>, &'static str> {
    let Some(cors) = metadata.get(CORS).filter(|it| !it.is_null()) else { return Ok(Vec::new()) };
    let listed = cors.get("origins").and_then(Value::as_array).ok_or("must be {\"origins\": […]}")?;
    let origin = |it: &Value| {
        let text = it.as_str().filter(|text| *text == "*" || is_origin(text));
        text.map(str::to_owned).ok_or("holds an origin that is none; one is https://host, or *")
    };
    listed.iter().map(origin).collect()
}

fn is_origin(text: &str) -> bool {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.is_some_and(|url| url.origin().ascii_serialization() == text)
}

impl Opened {
    fn of(metadata: &Map<String, Value>) -> Opened {
        let contract = contract(metadata).transpose();
        let mut limits = HashMap::new();
        if let Some(Ok(contract)) = &contract {
            for kind in Kind::ALL {
                let Some(rate) = contract.access(kind).map(|access| access.rate) else { continue };
                let quota = |rate: Option<u32>| rate.and_then(NonZeroU32::new).map(Quota::per_second);
                let per_route = quota(rate.per_route_per_second).map(RateLimiter::direct);
                let per_ip = quota(rate.per_ip_per_second).map(PerIp::new);
                limits.insert(kind, Limits { per_route, per_ip });
            }
        }
        Opened { contract, origins: origins(metadata).unwrap_or_default(), limits }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// It is one too many; how long to wait.
    pub fn count(&self, kind: Kind, address: Option<IpAddr>) -> Result<(), Duration> {
        let Some(limits) = self.limits.get(&kind) else { return Ok(()) };
        if let (Some(per_ip), Some(address)) = (&limits.per_ip, address) {
            per_ip.tidy();
            per_ip.limiter.check_key(&address).map_err(|until| until.wait_time_from(per_ip.limiter.clock().now()))?;
        }
        // Last, so that one address that is too fast does not use up what is everybody's.
        match &limits.per_route {
            Some(limiter) => limiter.check().map_err(|until| until.wait_time_from(limiter.clock().now())),
            None => Ok(()),
        }
    }

    /// What a browser is told whose page has this origin; empty: nothing, so that it keeps the reply from the page.
    pub fn cors(&self, origin: &str) -> Vec<(&'static str, String)> {
        let Some(allowed) = self.origins.iter().find(|allowed| *allowed == "*" || *allowed == origin) else {
            return Vec::new();
        };
        vec![
            ("access-control-allow-origin", allowed.clone()),
            ("access-control-expose-headers", "x-athena-request-id, x-athena-time, retry-after".to_owned()),
            ("vary", "origin".to_owned()),
        ]
    }

    /// The answer to a browser that asks before it calls.
    pub fn preflight(&self, origin: &str) -> Vec<(&'static str, String)> {
        let mut told = self.cors(origin);
        if !told.is_empty() {
            told.push(("access-control-allow-methods", "POST".to_owned()));
            let headers = "content-type, authorization, x-athena-key, x-api-key, x-strip-nulls";
            told.push(("access-control-allow-headers", headers.to_owned()));
            told.push(("access-control-max-age", CORS_SECONDS.to_string()));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn opened(metadata: Value) -> Opened {
        Opened::of(metadata.as_object().unwrap())
    }

    #[test]
    fn an_address_that_is_too_fast_is_told_to_wait_and_uses_up_nobody_elses_share() {
        let rate = json!({ "per_ip_per_second": 2, "per_route_per_second": 3 });
        let route = opened(json!({ "contract": { "fetch": { "tables": ["t"], "rate": rate } } }));
        let [one, other, third] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|it| Some(it.parse().unwrap()));
        let told: Vec<_> = (0..4).map(|_| route.count(Kind::Fetch, one).is_ok()).collect();
        assert_eq!(told, [true, true, false, false]);
        assert!(route.count(Kind::Fetch, other).is_ok(), "the third call of the route");
        let wait = route.count(Kind::Fetch, third).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(route.count(Kind::Insert, one).is_ok(), "which has no rate");
    }

    #[test]
    fn a_flood_of_addresses_is_looked_through_seldom() {
        let per_ip = PerIp::new(Quota::per_second(NonZeroU32::MIN));
        // None of them is quiet again within a second of its call, so nothing can be forgotten.
        let looked = (0..30_000_u32).filter(|number| {
            let _ = per_ip.limiter.check_key(&IpAddr::from(number.to_be_bytes()));
            per_ip.tidy()
        });
        assert!((1..=3).contains(&looked.count()));
    }

    #[test]
    fn pages_of_other_origins_are_told_nothing() {
        let route = opened(json!({ "cors": { "origins": ["https://app.example"] } }));
        assert!(route.cors("https://evil.example").is_empty() && route.preflight("null").is_empty());
        assert_eq!(route.cors("https://app.example")[0].1, "https://app.example");
        assert!(route.preflight("https://app.example").contains(&("access-control-allow-methods", "POST".to_owned())));
        assert!(opened(json!({})).cors("https://app.example").is_empty());
        for wrong in [json!([]), json!({ "origins": ["app.example"] }), json!({ "origins": ["https://a.example/"] })] {
            assert!(origins(json!({ "cors": wrong }).as_object().unwrap()).is_err());
        }
    }

    #[test]
    fn a_contract_that_cannot_be_read_allows_nothing() {
        let route = opened(json!({ "contract": { "fetch": { "tables": 1 } } }));
        assert!(matches!(route.contract, Some(Err(_))));
        assert!(opened(json!({ "contract": null })).contract.is_none());
    }
}
