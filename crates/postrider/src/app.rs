//! Puts the parts together: the only place that names the concrete store, clock and client.

use std::sync::Arc;

use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::listeners::Listeners;
use crate::pipeline::Engine;
use crate::sealing::Sealer;
use crate::store::Store;

/// All that a surface needs.
#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub ambient: Arc<dyn Ambient>,
    pub store: Arc<dyn Store>,
    pub catalog: Arc<Catalog>,
    pub sealer: Arc<Sealer>,
    pub engine: Arc<Engine>,
    pub listeners: Arc<Listeners>,
}
