//! The network between a deployment and its database, as far as a story wants to spoil it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Chance;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    /// They pass.
    Through,
    /// They are held, in both directions, and pass when the network is back: a cable pulled out, not a reset.
    Hole,
    /// Connections are refused.
    Refusing,
}

/// Listens on a port of its own and forwards to one address.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    network: watch::Sender<Network>,
    /// How long bytes travel, one way.
    distance: watch::Sender<Duration>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    listening: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(target: (String, u16)) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, state) = watch::channel(Network::Through);
        let (distance, away) = watch::channel(Duration::ZERO);
        let connections = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let shared = connections.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if *state.borrow() == Network::Refusing {
                    continue;
                }
                let connection = tokio::spawn(forward(stream, target.clone(), state.clone(), away.clone()));
                let mut connections = shared.lock().unwrap();
                connections.retain(|connection| !connection.is_finished());
                connections.push(connection.abort_handle());
            }
        });
        Proxy { port, network, distance, connections, listening: listening.abort_handle() }
    }

    /// Bytes stop passing; nobody is told.
    pub(crate) fn black_hole(&self) {
        self.network.send_replace(Network::Hole);
    }

    /// All connections end at once, and no new one is let in.
    pub(crate) fn refuse(&self) {
        self.network.send_replace(Network::Refusing);
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    /// Bytes that come from now on take half of this each way; they never overtake others.
    pub(crate) fn is_away_by(&self, round_trip: Duration) {
        self.distance.send_replace(round_trip / 2);
    }

    pub(crate) fn let_through(&self) {
        self.network.send_replace(Network::Through);
    }

    /// Ends one connection, wherever in the middle of whatever it is; whether there was one.
    pub(crate) fn cut_one(&self, chance: &mut Chance) -> bool {
        let mut connections = self.connections.lock().unwrap();
        connections.retain(|connection| !connection.is_finished());
        if connections.is_empty() {
            return false;
        }
        let chosen = usize::try_from(chance.below(connections.len() as u64)).unwrap();
        connections.swap_remove(chosen).abort();
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.refuse();
    }
}

async fn forward(
    client: TcpStream,
    target: (String, u16),
    network: watch::Receiver<Network>,
    distance: watch::Receiver<Duration>,
) {
    let mut passes = network.clone();
    if passes.wait_for(|state| *state == Network::Through).await.is_err() {
        return;
    }
    let round_trip = 2 * *distance.borrow();
    // Who connects waits for the first answer of the other side; here it would come from this machine.
    tokio::time::sleep(round_trip).await;
    let Ok(server) = TcpStream::connect(target).await else { return };
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, network.clone(), distance.clone()) => {}
        () = copy(from_server, to_client, network, distance) => {}
    }
}

/// Chunks that may be on their way at once: far more than a store's connection has.
const TRAVELLING_MAX: usize = 1024;

async fn copy(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    network: watch::Receiver<Network>,
    distance: watch::Receiver<Duration>,
) {
    let (travelling, arriving) = mpsc::channel(TRAVELLING_MAX);
    let departing = async {
        depart(from, travelling, distance).await;
        // What has departed still arrives.
        std::future::pending().await
    };
    tokio::select! {
        () = arrive(to, arriving, network) => {}
        () = departing => {}
    }
}

async fn depart(
    mut from: impl AsyncRead + Unpin,
    travelling: mpsc::Sender<(Instant, Vec<u8>)>,
    distance: watch::Receiver<Duration>,
) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let arrives = Instant::now() + *distance.borrow();
        if travelling.send((arrives, chunk[..read].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn arrive(
    mut to: impl AsyncWrite + Unpin,
    mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut network: watch::Receiver<Network>,
) {
    while let Some((arrives, chunk)) = arriving.recv().await {
        tokio::time::sleep_until(arrives).await;
        let passes = network.wait_for(|state| *state == Network::Through).await.is_ok();
        if !passes || to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}
