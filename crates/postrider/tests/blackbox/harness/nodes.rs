//! Several servers on one database.

use futures_util::future::join_all;

use super::{Api, Deployment, Server};

/// Nodes by number. A node that was killed has its place kept.
#[derive(Debug)]
pub(crate) struct Nodes {
    deployments: Vec<Deployment>,
    servers: Vec<Option<Server>>,
}

impl Nodes {
    /// Starts them all at once, on a database that may be empty.
    pub(crate) async fn start(deployment: &Deployment, count: usize) -> Nodes {
        let deployments: Vec<Deployment> = (0..count).map(|n| deployment.node(n)).collect();
        let servers = join_all(deployments.iter().map(Deployment::start)).await;
        Nodes { deployments, servers: servers.into_iter().map(Some).collect() }
    }

    pub(crate) fn node(&self, n: usize) -> &Server {
        self.servers[n].as_ref().expect("the node runs")
    }

    /// With the admin key.
    pub(crate) fn api(&self, n: usize) -> &Api {
        &self.node(n).api
    }

    /// Has every node know what was configured so far: a management call reads what others have changed, publishing may go
    /// by what was known up to a second ago.
    pub(crate) async fn agree(&self) {
        for server in self.servers.iter().flatten() {
            server.api.get("/v1/webhooks").await.expect(200);
        }
    }

    /// Fails if one of them has ended by itself.
    #[track_caller]
    pub(crate) fn assert_run(&mut self) {
        self.servers.iter_mut().flatten().for_each(Server::assert_runs);
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self, n: usize) {
        self.servers[n].take().expect("the node runs").kill().await;
    }

    pub(crate) fn take(&mut self, n: usize) -> Server {
        self.servers[n].take().expect("the node runs")
    }

    pub(crate) async fn start_again(&mut self, n: usize) {
        self.servers[n] = Some(self.deployments[n].start().await);
    }

    /// As another build of Postrider.
    pub(crate) async fn start_as(&mut self, n: usize, binary: &std::path::Path) {
        self.deployments[n] = self.deployments[n].clone().with_binary(binary);
        self.start_again(n).await;
    }
}
