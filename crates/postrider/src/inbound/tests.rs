//! The cache of certificates against a scripted fetch.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use postrider_core::limits::INBOUND_CERTIFICATES_MAX;
use postrider_core::time::UnixMs;
use tokio::sync::watch;
use url::Url;

use super::certificates::CertificateCache;
use crate::egress::Fetch;

/// Has a certificate at every URL that ends in `.pem`, and gives it out when it is open.
#[derive(Debug)]
struct Vendor {
    asked: Mutex<Vec<String>>,
    open: watch::Sender<bool>,
}

impl Fetch for Vendor {
    fn fetch<'a>(&'a self, url: &'a Url, _: usize, _: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        async move {
            self.asked.lock().push(url.to_string());
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            if url.path().ends_with(".pem") { Ok(Bytes::from(url.to_string())) } else { Err("404".to_owned()) }
        }
        .boxed()
    }
}

const NOW: UnixMs = UnixMs(1_790_000_000_000);
/// How long the vendor is waited for.
const LIMIT: Duration = Duration::from_millis(50);

fn later(seconds: u64) -> UnixMs {
    NOW + Duration::from_secs(seconds)
}

fn vendor(open: bool) -> (Arc<Vendor>, CertificateCache) {
    let vendor = Arc::new(Vendor { asked: Mutex::default(), open: watch::Sender::new(open) });
    (vendor.clone(), CertificateCache::new(vendor, LIMIT))
}

impl Vendor {
    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

#[tokio::test]
async fn requests_at_once_share_one_fetch_and_later_ones_what_it_brought() {
    let (vendor, cache) = vendor(false);
    let url = "https://vendor.example/1.pem";
    let opened = async {
        tokio::task::yield_now().await;
        vendor.open.send_replace(true);
    };
    let (found, ()) = tokio::join!(join_all((0..10).map(|_| cache.get(url, NOW))), opened);
    assert!(found.iter().all(|pem| pem.as_deref() == Some(url.as_bytes())));
    assert_eq!(vendor.asked(), 1);
    let day = 24 * 60 * 60;
    assert!(cache.get(url, later(day - 1)).await.is_some());
    assert_eq!(vendor.asked(), 1);
    assert!(cache.get(url, later(day)).await.is_some());
    assert_eq!(vendor.asked(), 2, "after a day it is asked for again");
}

#[tokio::test]
async fn that_there_is_none_is_remembered_for_a_short_while() {
    let (vendor, cache) = vendor(true);
    for seconds in 0..3 {
        assert_eq!(cache.get("https://vendor.example/none", later(seconds)).await, None);
    }
    assert_eq!(vendor.asked(), 1);
    assert_eq!(cache.get("https://vendor.example/none", later(30)).await, None);
    assert_eq!(vendor.asked(), 2);
}

#[tokio::test]
async fn a_vendor_that_does_not_answer_is_not_waited_for_and_who_gives_up_holds_up_nobody() {
    let (vendor, cache) = vendor(false);
    let url = "https://vendor.example/1.pem";
    assert!(tokio::time::timeout(LIMIT / 10, cache.get(url, NOW)).await.is_err());
    assert_eq!(cache.get(url, NOW).await, None);
    assert_eq!(vendor.asked(), 2, "the one after who gave up asks himself");
    vendor.open.send_replace(true);
    assert!(cache.get(url, later(30)).await.is_some());
}

#[tokio::test]
async fn made_up_names_do_not_drive_out_certificates() {
    let (vendor, cache) = vendor(true);
    let genuine = "https://vendor.example/genuine.pem";
    cache.get(genuine, NOW).await.unwrap();
    for number in 0..2 * INBOUND_CERTIFICATES_MAX {
        cache.get(&format!("https://vendor.example/{number}"), NOW).await;
    }
    let asked = vendor.asked();
    cache.get(genuine, NOW).await.unwrap();
    assert_eq!(vendor.asked(), asked);
    // Of certificates themselves the oldest goes.
    for number in 0..INBOUND_CERTIFICATES_MAX {
        cache.get(&format!("https://vendor.example/{number}.pem"), later(1)).await.unwrap();
    }
    let asked = vendor.asked();
    cache.get(genuine, later(1)).await.unwrap();
    assert_eq!(vendor.asked(), asked + 1);
}
