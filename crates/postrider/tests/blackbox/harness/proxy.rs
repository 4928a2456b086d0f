//! The network between a deployment and its database, as far as a story wants to spoil it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

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
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    listening: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(target: (String, u16)) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, state) = watch::channel(Network::Through);
        let connections = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let shared = connections.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if *state.borrow() == Network::Refusing {
                    continue;
                }
                let connection = tokio::spawn(forward(stream, target.clone(), state.clone()));
                let mut connections = shared.lock().unwrap();
                connections.retain(|connection| !connection.is_finished());
                connections.push(connection.abort_handle());
            }
        });
        Proxy { port, network, connections, listening: listening.abort_handle() }
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

async fn forward(client: TcpStream, target: (String, u16), network: watch::Receiver<Network>) {
    let mut passes = network.clone();
    if passes.wait_for(|state| *state == Network::Through).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, network.clone()) => {}
        () = copy(from_server, to_client, network) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut chunk).await else { return };
        if network.wait_for(|state| *state == Network::Through).await.is_err() {
            return;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}
