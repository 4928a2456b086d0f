//! What is written in the background.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use postrider_core::time::UnixMs;
use uuid::Uuid;

use super::*;
use crate::ambient::System;
use crate::catalog::Catalog;
use crate::config::GatewayOptions;
use crate::egress::Forwarded;
use crate::sealing::Sealer;
use crate::store::conformance::chosen;
use crate::store::{KeyUse, Page, RouteCall, RouteLogQuery, Scope};
use postrider_core::limits;

/// Passes nothing on.
#[derive(Debug)]
struct Nowhere;

impl Forward for Nowhere {
    fn forward<'a>(
        &'a self,
        _: &'a url::Url,
        _: http::HeaderMap,
        _: bytes::Bytes,
        _: usize,
        _: std::time::Duration,
    ) -> futures_util::future::BoxFuture<'a, Result<Forwarded, postrider_core::delivery::AttemptError>> {
        unreachable!("nothing is passed on here")
    }
}

async fn gateway() -> (Gateway, Arc<dyn Store>, Box<dyn crate::store::conformance::Backend>) {
    let backend = chosen();
    let store = backend.open().await;
    let ambient: Arc<dyn Ambient> = Arc::new(System);
    store.begin(ambient.now()).await.unwrap();
    let catalog = Arc::new(Catalog::new(store.configuration().await.unwrap()));
    let sealer = Arc::new(Sealer::with_data_key([7; 32], ambient.clone()));
    let databases = Databases::new(&GatewayOptions::default(), &catalog, &sealer);
    (
        Gateway::start(&store, &ambient, databases, Arc::new(Nowhere), Arc::new(crate::egress::SystemResolver::new())),
        store,
        backend,
    )
}

fn call(number: usize) -> RouteCall {
    RouteCall {
        at: UnixMs(1_772_618_400_000),
        route_key: "shop".into(),
        tenant_id: None,
        client_name: None,
        op: "fetch".into(),
        status: 404,
        code: Some("route_not_found".into()),
        duration_ms: 1,
        request_id: number.to_string(),
        address: None,
        key_id: None,
    }
}

#[tokio::test]
async fn uses_of_keys_are_written_together_and_once() {
    let (gateway, store, _backend) = gateway().await;
    let (one, other) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
    for (key, at) in [(one, 5), (other, 1), (one, 3)] {
        gateway.usage.note(key, UnixMs(at));
    }
    gateway.shutdown().await;
    gateway.usage.note(other, UnixMs(9));
    gateway.shutdown().await;
    gateway.shutdown().await;
    let used = |key_id, count, at| KeyUse { key_id, count, last_used_at: UnixMs(at) };
    assert_eq!(store.gateway_usage().await.unwrap(), [used(one, 2, 5), used(other, 2, 9)]);
}

#[tokio::test]
async fn uses_that_could_not_be_written_are_still_noted() {
    let (gateway, store, backend) = gateway().await;
    let key = Uuid::from_bytes([1; 16]);
    gateway.usage.note(key, UnixMs(1));
    store.close().await.unwrap();
    assert!(gateway.usage.flush().await.is_err());
    gateway.usage.note(key, UnixMs(2));
    drop(store);
    let counts = gateway.usage.clone();
    drop(gateway);
    let _ = backend;
    assert_eq!(counts.noted(), [KeyUse { key_id: key, count: 2, last_used_at: UnixMs(2) }]);
}

#[tokio::test]
async fn calls_are_logged_in_order_and_none_waits() {
    let (gateway, store, _backend) = gateway().await;
    for number in 0..1_500 {
        gateway.route_log.append(call(number));
    }
    gateway.shutdown().await;
    let query = RouteLogQuery {
        scope: Scope::Platform,
        route_key: None,
        succeeded: None,
        since: None,
        until: None,
        page: Page { before: None, limit: 2_000 },
    };
    let logged = store.route_log(query).await.unwrap().items;
    let ids: Vec<_> = logged.iter().rev().map(|record| record.call.request_id.parse::<usize>().unwrap()).collect();
    assert_eq!(ids, (0..1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_queue_loses_what_comes_and_holds_up_nobody() {
    let backend = chosen();
    let store = backend.open().await;
    let (log, mut writer) = route_log::channel(store, Arc::new(System));
    // Nobody writes yet.
    for number in 0..route_log::QUEUE_MAX + 10 {
        log.append(call(number));
    }
    assert_eq!(writer.waiting(), route_log::QUEUE_MAX);
}

#[tokio::test]
async fn refused_calls_beyond_a_rate_are_counted_and_not_logged() {
    let (gateway, store, _backend) = gateway().await;
    let most = usize::try_from(limits::ROUTE_LOG_REFUSED_BURST).unwrap();
    for number in 0..most + 3_000 {
        gateway.route_log.append(call(number));
        if number % 5_000 == 0 {
            gateway.route_log.flush().await;
        }
    }
    gateway.route_log.append(RouteCall { code: None, ..call(1_000_000) });
    gateway.shutdown().await;
    let mut logged = Vec::new();
    let mut page = Page { before: None, limit: 5_000 };
    loop {
        let (succeeded, since, until) = (None, None, None);
        let all = RouteLogQuery { scope: Scope::Platform, route_key: None, succeeded, since, until, page };
        let listed = store.route_log(all).await.unwrap();
        logged.extend(listed.items);
        page.before = listed.next;
        if page.before.is_none() {
            break;
        }
    }
    assert_eq!(logged[0].call.request_id, "1000000", "what succeeds is always logged");
    // Some are allowed again while the others come.
    assert!((most..most + 3_000).contains(&(logged.len() - 1)), "{}", logged.len());
}
