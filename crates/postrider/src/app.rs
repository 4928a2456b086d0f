//! Puts the parts together: the only place that names the concrete store, clock and client.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::ambient::{Ambient, SharedClock, System};
use crate::auth::Tokens;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::egress::{self, Client, Fetch, Forward, Transport};
use crate::gateway::{Databases, Gateway};
use crate::inbound::Inbound;
use crate::listeners::Listeners;
use crate::pipeline::{Dispatch, Engine, Options, Parts};
use crate::sealing::Sealer;
use crate::store::Store;
use crate::store::postgres::PgStore;
use crate::store::sqlite::SqliteStore;

/// All that a surface needs.
#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub ambient: Arc<dyn Ambient>,
    pub store: Arc<dyn Store>,
    pub catalog: Arc<Catalog>,
    pub sealer: Arc<Sealer>,
    pub engine: Arc<Engine>,
    pub inbound: Inbound,
    pub gateway: Gateway,
    pub tokens: Tokens,
    pub accounts: Accounts,
    pub listeners: Arc<Listeners>,
    /// Canceled when the process begins to stop: `/readyz` fails from then on, and streams end by themselves.
    pub stopping: CancellationToken,
}

impl App {
    /// Opens the store of `config`, unlocks its secrets and starts the pipeline.
    ///
    /// # Errors
    /// The store cannot be opened or is in use, the master key is not its own, or a CA file cannot be read.
    pub async fn start(config: Config) -> Result<Arc<App>> {
        let store = open_store(&config).await?;
        let ambient: Arc<dyn Ambient> = match store.clock_offset() {
            Some(offset) => Arc::new(SharedClock { offset }),
            None => Arc::new(System),
        };
        match App::assemble(config, ambient, store.clone()).await {
            Ok(app) => Ok(app),
            Err(error) => {
                // A half-started process leaves the store as if it had never been.
                let _ = store.close().await;
                Err(error)
            }
        }
    }

    async fn assemble(config: Config, ambient: Arc<dyn Ambient>, store: Arc<dyn Store>) -> Result<Arc<App>> {
        let sealer = Arc::new(unlock(&config, &*store, ambient.clone()).await?);
        let configuration = store.configuration().await.context("cannot read the configuration in the store")?;
        let catalog = Arc::new(Catalog::new(configuration));
        let listeners = Arc::new(Listeners::default());
        let (connected, webhooks) = (listeners.clone(), Arc::downgrade(&catalog));
        catalog.watch(move |webhook| {
            if webhooks.upgrade().is_some_and(|catalog| catalog.webhook(webhook).is_none()) {
                connected.disconnect(webhook);
            }
        });
        let settings =
            egress::Settings::from_parts(config.egress.clone(), &config.egress_ca_files, config.egress_proxy.as_ref())
                .context("cannot set up deliveries")?;
        let settings = Arc::new(settings);
        let documents = Arc::new(Client::new(settings.clone()));
        let forward: Arc<dyn Forward> = documents.clone();
        let fetch: Arc<dyn Fetch> = documents;
        let databases = Databases::new(&config.gateway, &catalog, &sealer);
        let tokens = Tokens::new(&config, &fetch).context("POSTRIDER_JWT_ISSUERS")?;
        let accounts = Accounts::new(&ambient, config.oidc.as_ref(), fetch.clone(), forward.clone());
        let inbound = Inbound::new(fetch);
        let engine = Engine::start(Parts {
            store: store.clone(),
            catalog: catalog.clone(),
            ambient: ambient.clone(),
            sealer: sealer.clone(),
            listeners: listeners.clone() as Arc<dyn Transport>,
            client: Box::new(move || Arc::new(Client::new(settings.clone()))),
            policy: config.egress.clone(),
            lookups: databases.clone(),
            options: Options {
                dispatch: Dispatch::Threads(config.dispatch_threads),
                keep_days: config.retention_days,
                auto_disable_after: config.auto_disable_after,
            },
        })
        .await
        .context("cannot start the pipeline")?;
        let resolver = Arc::new(egress::SystemResolver::new());
        let gateway = Gateway::start(&store, &ambient, databases, forward, resolver);
        gateway.drain_outboxes(&engine, &catalog);
        let stopping = CancellationToken::new();
        Ok(Arc::new(App {
            config,
            ambient,
            store,
            catalog,
            sealer,
            engine,
            inbound,
            gateway,
            tokens,
            accounts,
            listeners,
            stopping,
        }))
    }
}

/// Opens the secrets of the store. A rotation of the master key that was cut short after the store had gone over to the new
/// one is brought to its end.
///
/// # Errors
/// The store's, or a master key that is not its own.
pub(crate) async fn unlock(config: &Config, store: &dyn Store, ambient: Arc<dyn Ambient>) -> Result<Sealer> {
    let refused = match Sealer::load_or_create(store, &config.master_key, ambient.clone()).await {
        Ok(sealer) => return Ok(sealer),
        Err(refused) => refused,
    };
    if !crate::config::is_in_file(&config.data, &config.master_key) {
        return Err(refused);
    }
    let Some(next) = crate::config::next_master_key(&config.data)? else { return Err(refused) };
    let Ok((sealer, _)) = Sealer::load(store, &next, ambient).await else { return Err(refused) };
    crate::config::replace_master_key(&config.data)?;
    tracing::warn!("a rotation of the master key had been cut short; it is finished");
    Ok(sealer)
}

/// Opens the store that `config` names.
///
/// # Errors
/// It cannot be reached, or not used by this version.
pub(crate) async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    if let Some(settings) = &config.store {
        let opened = PgStore::open(settings.clone()).await;
        return Ok(Arc::new(opened.with_context(|| format!("cannot open the store {}", settings.shown()))?));
    }
    let data = config.data.clone();
    // Migrations may take a while; they must not hold up the runtime.
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&data)).await?;
    Ok(Arc::new(opened.context("cannot open the store")?))
}
