//! An issuer's keys against a scripted fetch, and against the real client.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use postrider_core::egress_policy::EgressPolicy;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use url::Url;

use super::*;
use crate::auth::tests::signer::{Signer, key_set};
use crate::egress::{Client, Settings, SystemResolver, client_config};

const NOW: UnixMs = UnixMs(1_790_000_000_000);

fn later(span: Duration) -> UnixMs {
    NOW + span
}

/// Gives out a key set when it is open, or none while it is down.
#[derive(Debug)]
struct Place {
    keys: parking_lot::Mutex<Option<Bytes>>,
    asked: AtomicUsize,
    open: watch::Sender<bool>,
}

impl Fetch for Place {
    fn fetch<'a>(&'a self, _: &'a Url, bytes_max: usize, _: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        assert_eq!(bytes_max, JWKS_BYTES_MAX);
        async move {
            self.asked.fetch_add(1, SeqCst);
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            self.keys.lock().clone().ok_or_else(|| "no answer".to_owned())
        }
        .boxed()
    }
}

impl Place {
    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    fn gives(&self, signers: &[&Signer]) {
        *self.keys.lock() = Some(key_set(signers));
    }

    fn is_down(&self) {
        *self.keys.lock() = None;
    }
}

fn issuer_with(fetch: Arc<dyn Fetch>, keys: KeySource) -> anyhow::Result<Arc<Issuer>> {
    let options = JwtIssuer { issuer: "https://id.example".to_owned(), audiences: Vec::new(), keys };
    Issuer::new(&options, "hooks", fetch).map(Arc::new)
}

fn issuer(signers: &[&Signer]) -> (Arc<Place>, Arc<Issuer>) {
    let keys = parking_lot::Mutex::new(Some(key_set(signers)));
    let place = Arc::new(Place { keys, asked: AtomicUsize::new(0), open: watch::Sender::new(true) });
    let url = KeySource::Url("https://id.example/jwks".parse().unwrap());
    (place.clone(), issuer_with(place, url).unwrap())
}

async fn believe(issuer: &Arc<Issuer>, signer: &Signer, now: UnixMs) -> Result<(), Fault> {
    let token = signer.token(&json!({ "sub": "a" }));
    issuer.believe(Unverified::parse(&token).unwrap(), now).await.map(drop)
}

/// Waits until what goes on in the background has ended.
async fn settled(issuer: &Issuer) {
    drop(issuer.turn.lock().await);
}

#[tokio::test]
async fn requests_at_once_share_one_fetch_and_later_ones_what_it_brought() {
    let one = Signer::ed25519("one");
    let (place, issuer) = issuer(&[&one]);
    place.open.send_replace(false);
    let requests = join_all((0..100).map(|_| believe(&issuer, &one, NOW)));
    let opened = async {
        while place.asked() == 0 {
            tokio::task::yield_now().await;
        }
        place.open.send_replace(true);
    };
    let (results, ()) = tokio::join!(requests, opened);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(place.asked(), 1);
    assert_eq!(believe(&issuer, &one, later(JWKS_FRESH - Duration::from_millis(1))).await, Ok(()));
    settled(&issuer).await;
    assert_eq!(place.asked(), 1);
}

#[tokio::test]
async fn a_thousand_tokens_with_unknown_keys_are_one_fetch() {
    let (one, stranger) = (Signer::ed25519("one"), Signer::ed25519("stranger"));
    let (place, issuer) = issuer(&[&one]);
    let results = join_all((0..1000).map(|_| believe(&issuer, &stranger, NOW))).await;
    assert!(results.iter().all(|result| *result == Err(Fault::UnknownKey)));
    for _ in 0..1000 {
        let just_before = later(JWKS_REFETCH_MIN - Duration::from_millis(1));
        assert_eq!(believe(&issuer, &stranger, just_before).await, Err(Fault::UnknownKey));
    }
    assert_eq!(place.asked(), 1);
    assert_eq!(believe(&issuer, &one, NOW).await, Ok(()));
    assert_eq!(believe(&issuer, &stranger, later(JWKS_REFETCH_MIN)).await, Err(Fault::UnknownKey));
    assert_eq!(place.asked(), 2);
}

#[tokio::test]
async fn a_new_key_is_found_and_one_that_was_taken_out_is_refused() {
    let (old, new) = (Signer::ed25519("old"), Signer::rs256("new"));
    let (place, issuer) = issuer(&[&old]);
    assert_eq!(believe(&issuer, &old, NOW).await, Ok(()));
    place.gives(&[&old, &new]);
    let then = later(JWKS_REFETCH_MIN);
    assert_eq!(believe(&issuer, &new, then).await, Ok(()));
    assert_eq!(believe(&issuer, &old, then).await, Ok(()));
    assert_eq!(place.asked(), 2);

    place.gives(&[&new]);
    let much_later = then + JWKS_FRESH;
    // Who comes first goes on with what is known, and has it fetched anew.
    assert_eq!(believe(&issuer, &old, much_later).await, Ok(()));
    settled(&issuer).await;
    assert_eq!(believe(&issuer, &old, much_later).await, Err(Fault::UnknownKey));
    assert_eq!(believe(&issuer, &new, much_later).await, Ok(()));
    assert_eq!(place.asked(), 3);
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_its_keys_is_heard() {
    let one = Signer::ed25519("one");
    let (place, issuer) = issuer(&[&one]);
    assert_eq!(believe(&issuer, &one, NOW).await, Ok(()));
    place.gives(&[]);
    assert_eq!(believe(&issuer, &one, later(JWKS_FRESH)).await, Ok(()));
    settled(&issuer).await;
    assert_eq!(believe(&issuer, &one, later(JWKS_FRESH)).await, Err(Fault::UnknownKey));
}

#[tokio::test]
async fn very_old_keys_are_fetched_before_anybody_goes_by_them() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let (place, issuer) = issuer(&[&old]);
    assert_eq!(believe(&issuer, &old, NOW).await, Ok(()));
    place.gives(&[&new]);
    assert_eq!(believe(&issuer, &old, later(JWKS_STALE)).await, Err(Fault::UnknownKey));
    assert_eq!(place.asked(), 2);
    // If they cannot be had, it is found out once.
    place.is_down();
    let then = later(JWKS_STALE * 2);
    for _ in 0..100 {
        assert_eq!(believe(&issuer, &new, then).await, Ok(()));
    }
    assert_eq!(place.asked(), 3);
}

#[tokio::test]
async fn known_keys_outlast_an_outage_up_to_a_day() {
    let one = Signer::ed25519("one");
    let (place, issuer) = issuer(&[&one]);
    assert_eq!(believe(&issuer, &one, NOW).await, Ok(()));
    place.is_down();
    for minutes in (10..24 * 60).step_by(10) {
        let at = later(Duration::from_secs(minutes * 60));
        assert_eq!(believe(&issuer, &one, at).await, Ok(()), "{minutes} min");
        settled(&issuer).await;
    }
    let tries = place.asked();
    assert!(tries > 100, "{tries}");
    assert_eq!(believe(&issuer, &one, later(JWKS_KEPT_MAX - Duration::from_millis(1))).await, Ok(()));
    settled(&issuer).await;
    let over = later(JWKS_KEPT_MAX + JWKS_RETRY_MIN);
    assert_eq!(believe(&issuer, &one, over).await, Err(Fault::UnknownKey));
    place.gives(&[&one]);
    assert_eq!(believe(&issuer, &one, over).await, Err(Fault::UnknownKey), "not asked again at once");
    assert_eq!(believe(&issuer, &one, over + JWKS_RETRY_MIN).await, Ok(()));
}

#[tokio::test]
async fn an_outage_is_waited_out_and_not_knocked_at() {
    let one = Signer::ed25519("one");
    let (place, issuer) = issuer(&[&one]);
    place.is_down();
    for _ in 0..1000 {
        assert_eq!(believe(&issuer, &one, NOW).await, Err(Fault::UnknownKey));
    }
    let just_before = later(JWKS_RETRY_MIN - Duration::from_millis(1));
    assert_eq!(believe(&issuer, &one, just_before).await, Err(Fault::UnknownKey));
    assert_eq!(place.asked(), 1);
    place.gives(&[&one]);
    assert_eq!(believe(&issuer, &one, later(JWKS_RETRY_MIN)).await, Ok(()));
    assert_eq!(place.asked(), 2);
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_fetch() {
    let one = Signer::ed25519("one");
    let (place, issuer) = issuer(&[&one]);
    place.open.send_replace(false);
    let mut impatient = Box::pin(believe(&issuer, &one, NOW));
    while place.asked() == 0 {
        assert!((&mut impatient).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(impatient);
    place.open.send_replace(true);
    assert_eq!(believe(&issuer, &one, NOW).await, Ok(()));
    assert_eq!(place.asked(), 1);
}

#[tokio::test]
async fn a_key_for_another_algorithm_is_no_reason_to_fetch() {
    let (one, forger) = (Signer::rs256("one"), Signer { kid: "one", ..Signer::ed25519("forger") });
    let (place, issuer) = issuer(&[&one]);
    assert_eq!(believe(&issuer, &one, NOW).await, Ok(()));
    assert_eq!(believe(&issuer, &forger, later(JWKS_REFETCH_MIN)).await, Err(Fault::Algorithm));
    assert_eq!(place.asked(), 1);
}

/// No fetch is made.
#[derive(Debug)]
struct Nowhere;

impl Fetch for Nowhere {
    fn fetch<'a>(&'a self, _: &'a Url, _: usize, _: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        panic!("nothing is to be fetched")
    }
}

#[tokio::test]
async fn a_file_is_read_again_when_a_key_is_not_in_it_and_must_be_good_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let open = |path: PathBuf| issuer_with(Arc::new(Nowhere), KeySource::File(path));
    assert!(format!("{:#}", open(path.clone()).unwrap_err()).contains("keys.json"));
    std::fs::write(&path, "nonsense").unwrap();
    assert!(open(path.clone()).is_err());
    std::fs::write(&path, key_set(&[])).unwrap();
    assert!(open(path.clone()).unwrap_err().to_string().contains("no key that can be used"));

    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    std::fs::write(&path, key_set(&[&old])).unwrap();
    let issuer = open(path.clone()).unwrap();
    assert_eq!(issuer.audiences, ["hooks"]);
    assert_eq!(believe(&issuer, &old, NOW).await, Ok(()));
    std::fs::write(&path, key_set(&[&new])).unwrap();
    assert_eq!(believe(&issuer, &new, later(JWKS_REFETCH_MIN)).await, Ok(()));
    assert_eq!(believe(&issuer, &old, later(JWKS_REFETCH_MIN)).await, Err(Fault::UnknownKey));
}

/// Answers every connection with `reply`; where it is, and how many came.
async fn server(reply: String) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}/jwks", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    (place, connections)
}

fn ok(body: &[u8]) -> String {
    let body = std::str::from_utf8(body).unwrap();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn client(policy: EgressPolicy) -> Arc<dyn Fetch> {
    let tls = Arc::new(client_config(&[]).unwrap());
    Arc::new(Client::new(Arc::new(Settings::new(policy, Arc::new(SystemResolver::new()), tls))))
}

fn local() -> EgressPolicy {
    EgressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..EgressPolicy::default() }
}

#[tokio::test]
async fn keys_are_fetched_from_where_deliveries_may_go_and_redirects_are_not_followed() {
    let one = Signer::ed25519("one");
    let (there, visits) = server(ok(&key_set(&[&one]))).await;
    let at =
        |url: &str, policy: EgressPolicy| issuer_with(client(policy), KeySource::Url(url.parse().unwrap())).unwrap();
    assert_eq!(believe(&at(&there, local()), &one, NOW).await, Ok(()));
    assert_eq!(visits.load(SeqCst), 1);

    // The private address is not even dialled: by number, by a name that means it, in plain and with TLS.
    let port = Url::parse(&there).unwrap().port().unwrap();
    let open = EgressPolicy { allow_http: true, ports: vec![port], ..EgressPolicy::default() };
    for host in ["http://127.0.0.1", "http://localhost", "http://[::ffff:127.0.0.1]", "https://127.0.0.1"] {
        let issuer = at(&format!("{host}:{port}/jwks"), open.clone());
        assert_eq!(believe(&issuer, &one, NOW).await, Err(Fault::UnknownKey), "{host}");
    }
    assert_eq!(visits.load(SeqCst), 1);

    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let redirect =
            format!("HTTP/1.1 {status}\r\nlocation: {there}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let (elsewhere, redirected) = server(redirect).await;
        assert_eq!(believe(&at(&elsewhere, local()), &one, NOW).await, Err(Fault::UnknownKey), "{status}");
        assert_eq!((redirected.load(SeqCst), visits.load(SeqCst)), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn a_document_that_is_no_key_set_or_too_large_is_no_keys() {
    let one = Signer::ed25519("one");
    let keys = key_set(&[&one]);
    let padded = |length: usize| [&keys[..], &vec![b' '; length - keys.len()]].concat();
    let cases = [
        (ok(&padded(JWKS_BYTES_MAX)), Ok(())),
        (ok(&padded(JWKS_BYTES_MAX + 1)), Err(Fault::UnknownKey)),
        (ok(b"<html>"), Err(Fault::UnknownKey)),
        (ok(&keys).replace("200 OK", "500 Oh"), Err(Fault::UnknownKey)),
        ("nonsense".to_owned(), Err(Fault::UnknownKey)),
    ];
    for (reply, expected) in cases {
        let (place, _) = server(reply.clone()).await;
        let issuer = issuer_with(client(local()), KeySource::Url(place.parse().unwrap())).unwrap();
        assert_eq!(believe(&issuer, &one, NOW).await, expected, "{}", &reply[..40.min(reply.len())]);
    }
}
