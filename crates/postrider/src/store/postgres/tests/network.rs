//! What becomes of a node whose way to the database is cut, or silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Database;
use super::nodes::{LONG, now, until};
use crate::store::conformance::world::{tenant, webhook};
use crate::store::postgres::{PgStore, Settings};
use crate::store::{Error, Store};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Open,
    /// Connections stand, nothing passes.
    Silent,
    /// Connections are closed, new ones too.
    Cut,
}

/// A way to the server that can be closed.
struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    async fn to(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, told) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pass(near_read, far_write, told.clone()));
                tokio::spawn(pass(far_read, near_write, told.clone()));
            }
        });
        Proxy { address, way }
    }

    fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

/// Passes bytes on while the way is open, until it is cut.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            cut = way.wait_for(|way| *way == Way::Cut) => { drop(cut); return }
            read = from.read(&mut bytes) => read,
        };
        let Ok(count @ 1..) = read else { return };
        if way.wait_for(|way| *way != Way::Silent).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// A node that reaches its database through a proxy.
async fn behind_proxy(database: &Database) -> (Proxy, Arc<PgStore>) {
    let url = database.url().await;
    let (credentials, rest) = url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let proxy = Proxy::to(server.parse().unwrap()).await;
    let mut settings = Settings::new(&format!("{credentials}@{}/{name}", proxy.address)).unwrap();
    settings.connections = 6;
    settings.ttl = Duration::from_secs(3);
    settings.hot_call_max = Duration::from_secs(1);
    let node = Arc::new(PgStore::open(settings).await.unwrap());
    node.begin(now()).await.unwrap();
    (proxy, node)
}

async fn goes_away_and_comes_back(way: Way) {
    let database = Database::new();
    let (proxy, node) = behind_proxy(&database).await;
    let (lease, session) = (node.lease(), node.session());
    assert!(lease.is_valid());
    proxy.set(way);
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = node.release(Vec::new(), now()).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(3), "a caller is not kept waiting");
    }
    until("the end of the lease", async || !lease.is_valid()).await;
    proxy.set(Way::Open);
    until("calls", async || node.release(Vec::new(), now()).await.is_ok()).await;
    until("a new lease", async || lease.is_valid()).await;
    assert_eq!(node.session(), session, "nobody has taken it for dead");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_silent_network_makes_calls_unavailable_and_heals() {
    goes_away_and_comes_back(Way::Silent).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_cut_network_makes_calls_unavailable_and_heals() {
    goes_away_and_comes_back(Way::Cut).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_node_that_is_cut_off_loses_its_rows_and_cannot_touch_them_afterwards() {
    let database = Database::new();
    let client = database.client().await;
    let other = database.node("other", LONG).await;
    other.begin(now()).await.unwrap();
    let (proxy, node) = behind_proxy(&database).await;
    let mut signals = node.signals().unwrap();
    let held = "INSERT INTO pending (tenant, webhook, n, event, owner, trigger) VALUES ($1, $2, 7, 6, $3, 0)";
    client.execute(held, &[&tenant(1).0, &webhook(1).0, &node.session()]).await.unwrap();
    proxy.set(Way::Silent);
    // Its time to live is short and the other's long, so nobody waits for the other's tick.
    let sql = "UPDATE nodes SET dead = true WHERE session = $1";
    client.execute(sql, &[&node.session()]).await.unwrap();
    other.tick.notify_one();
    let owner = async || -> (i32, bool) {
        let row = client.query_one("SELECT owner, due_at IS NULL FROM pending WHERE n = 7", &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    until("the takeover", async || owner().await == (other.session(), false)).await;
    let lost_session = node.session();
    proxy.set(Way::Open);
    until("calls", async || node.release(vec![postrider_core::ids::DeliveryId(7)], now()).await.is_ok()).await;
    let lost = async { while signals.recv().await.unwrap() != crate::store::Signal::Lost {} };
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("it hears of it");
    assert_eq!(owner().await.0, other.session());
    node.begin(now()).await.unwrap();
    assert!(node.session() > lost_session && node.lease().is_valid());
}
