//! Our own keys over time, among nodes, and while the store is away.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::ambient::System;
use crate::store::conformance::{self, Backend};

const NOW: UnixMs = UnixMs(1_790_000_000_000);

struct Deployment {
    store: Arc<dyn Store>,
    sealer: Sealer,
    _backend: Box<dyn Backend>,
}

impl Deployment {
    async fn new() -> Deployment {
        let backend = conformance::chosen();
        let sealer = Sealer::with_data_key([7; 32], Arc::new(System));
        Deployment { store: backend.open().await, sealer, _backend: backend }
    }

    async fn ring(&self, node: &OwnKeys, now: UnixMs) -> Result<Arc<Ring>> {
        node.ring(&*self.store, &self.sealer, now).await
    }
}

fn kids(ring: &Ring) -> BTreeSet<String> {
    let keys: Value = serde_json::from_slice(&ring.jwks).unwrap();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn believes(ring: &Ring, token: &str) -> Result<(), Fault> {
    ring.believe(Unverified::parse(token).unwrap()).map(drop)
}

fn signed(ring: &Ring) -> String {
    ring.sign(&json!({ "sub": "a" })).unwrap()
}

#[tokio::test]
async fn keys_change_by_the_clock_and_are_known_before_and_after() {
    let deployment = Deployment::new().await;
    let node = OwnKeys::default();
    let first = deployment.ring(&node, NOW).await.unwrap();
    assert_eq!(kids(&first).len(), 2, "the one that signs and the next");
    let token = signed(&first);
    assert_eq!(believes(&first, &token), Ok(()));

    let second = deployment.ring(&node, NOW + TOKEN_KEY_SPAN).await.unwrap();
    assert_ne!(second.signing.kid, first.signing.kid);
    assert!(kids(&first).contains(&second.signing.kid), "published a span ahead");
    assert_eq!(kids(&second).len(), 3);
    assert_eq!(believes(&second, &token), Ok(()), "the former key still counts");

    let third = deployment.ring(&node, NOW + TOKEN_KEY_SPAN * 2).await.unwrap();
    assert_eq!(believes(&third, &token), Err(Fault::UnknownKey));
    assert_eq!(believes(&third, &signed(&second)), Ok(()));
    assert_eq!(first.bound_to(&[1; 32]), third.bound_to(&[1; 32]));
    assert_ne!(first.bound_to(&[1; 32]), first.bound_to(&[2; 32]));
}

#[tokio::test]
async fn a_span_ends_to_the_millisecond() {
    let deployment = Deployment::new().await;
    let node = OwnKeys::default();
    let length = i64::try_from(TOKEN_KEY_SPAN.as_millis()).unwrap();
    let begins = UnixMs(NOW.0.div_euclid(length) * length);
    let at = async |ms: i64| deployment.ring(&node, UnixMs(begins.0 + ms)).await.unwrap().signing.kid.clone();
    let (first, last, next) = (at(0).await, at(length - 1).await, at(length).await);
    assert_eq!(first, last);
    assert_ne!(last, next);
}

#[tokio::test]
async fn all_nodes_have_the_same_keys_also_when_they_start_at_once() {
    let deployment = Deployment::new().await;
    let nodes: Vec<OwnKeys> = (0..8).map(|_| OwnKeys::default()).collect();
    let rings = futures_util::future::join_all(nodes.iter().map(|node| deployment.ring(node, NOW))).await;
    let rings: Vec<Arc<Ring>> = rings.into_iter().map(Result::unwrap).collect();
    for ring in &rings {
        assert_eq!((ring.signing.kid.as_str(), &ring.jwks), (rings[0].signing.kid.as_str(), &rings[0].jwks));
        assert_eq!(believes(&rings[0], &signed(ring)), Ok(()));
        assert_eq!(ring.bound_to(&[1; 32]), rings[0].bound_to(&[1; 32]));
    }
}

#[tokio::test]
async fn keys_are_sealed_in_the_store_and_published_without_their_secret_half() {
    let deployment = Deployment::new().await;
    let ring = deployment.ring(&OwnKeys::default(), NOW).await.unwrap();
    let name = format!("token_key:{}", ring.span);
    let kept = deployment.store.get_setting(&name).await.unwrap().unwrap();
    let plain = deployment.sealer.open(&name, &kept).unwrap();
    assert!(!kept.windows(16).any(|window| plain.windows(16).any(|secret| secret == window)));
    // A key copied over another does not open.
    assert!(deployment.sealer.open(&format!("token_key:{}", ring.span + 1), &kept).is_err());
    let published: Value = serde_json::from_slice(&ring.jwks).unwrap();
    for key in published["keys"].as_array().unwrap() {
        let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(["alg", "crv", "kid", "kty", "use", "x", "y"]));
    }
    assert!(!format!("{ring:?}").contains(&BASE64URL.encode(&plain[36..68])));
}

#[tokio::test]
async fn a_store_that_is_away_when_a_span_begins_stops_nothing() {
    let deployment = Deployment::new().await;
    let node = OwnKeys::default();
    let before = deployment.ring(&node, NOW).await.unwrap();
    deployment.store.close().await.unwrap();
    let then = NOW + TOKEN_KEY_SPAN;
    let ring = deployment.ring(&node, then).await.unwrap();
    assert_eq!(ring.signing.kid, before.signing.kid);
    assert_eq!(*node.turn.lock().await, Some(then));
    // The store is not asked again at once.
    let soon = then + Duration::from_millis(RETRY_MS - 1);
    deployment.ring(&node, soon).await.unwrap();
    assert_eq!(*node.turn.lock().await, Some(then));
    let later = then + Duration::from_millis(RETRY_MS);
    deployment.ring(&node, later).await.unwrap();
    assert_eq!(*node.turn.lock().await, Some(later));
    assert!(
        deployment.ring(&OwnKeys::default(), NOW).await.is_err(),
        "without any keys there is nothing to go on with"
    );
}
