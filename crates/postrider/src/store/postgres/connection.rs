//! Connections: how they are made, encrypted and shared out.
//!
//! Acceptances and outcomes have connections of their own, so that they never wait behind readers; so has the session,
//! and so have its heartbeats, which may wait behind nothing.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use deadpool_postgres::{ClientWrapper, Connect, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Node;
use super::settings::{Server, Settings, Verify};
use crate::store::{Error, Result};

/// How long a caller waits for a connection.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Making one, with all addresses, encryption and authentication.
const CREATE_MAX: Duration = Duration::from_secs(10);
/// For takeovers, and for notifications.
const SESSION_CONNECTIONS: usize = 2;
/// For heartbeats. The second one is made only where an answer is not there when the next heartbeat is due.
pub(super) const HEART_CONNECTIONS: usize = 2;
/// Connections of a node beside those that can be set: these, and the one that listens.
pub(super) const FURTHER_CONNECTIONS: usize = SESSION_CONNECTIONS + HEART_CONNECTIONS + 1;

/// The node's connections.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) hot: Pool,
    pub(super) general: Pool,
    pub(super) session: Pool,
    pub(super) heart: Pool,
    pub(super) dialer: Arc<Dialer>,
    /// Connections made before this moment may be dead without knowing it.
    suspect_before: Mutex<Option<Instant>>,
}

impl Pools {
    pub(super) fn new(settings: &Settings) -> Result<Pools> {
        let dialer = Arc::new(Dialer::new(settings)?);
        // The hot path's batches grow with the load; its connections need not.
        let hot = (settings.connections / 2).clamp(2, 8);
        let general = settings.connections.saturating_sub(hot).max(2);
        let pool = |size, set_up| {
            let manager = Manager::from_connect(
                dialer.with_options.clone(),
                SharedDialer { dialer: dialer.clone(), set_up },
                ManagerConfig { recycling_method: RecyclingMethod::Fast },
            );
            Pool::builder(manager)
                .max_size(size)
                .wait_timeout(Some(WAIT_MAX))
                .create_timeout(Some(CREATE_MAX))
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| Error::Other(error.into()))
        };
        Ok(Pools {
            hot: pool(hot, BY_KEY)?,
            general: pool(general, "")?,
            session: pool(SESSION_CONNECTIONS, "")?,
            heart: pool(HEART_CONNECTIONS, "")?,
            dialer,
            suspect_before: Mutex::default(),
        })
    }

    /// A connection out of `pool`.
    pub(super) async fn get(&self, pool: &Pool) -> Result<Object> {
        loop {
            let object = pool.get().await?;
            let made = Object::metrics(&object).created;
            if self.suspect_before.lock().is_none_or(|before| before < made) {
                return Ok(object);
            }
            drop(Object::take(object));
        }
    }

    /// Throws away every connection there is, those in use when they come back: one of them has not answered.
    pub(super) fn suspect(&self) {
        *self.suspect_before.lock() = Some(Instant::now());
        for pool in [&self.hot, &self.general, &self.session, &self.heart] {
            pool.retain(|_, _| false);
        }
    }

    pub(super) fn close(&self) {
        self.hot.close();
        self.general.close();
        self.session.close();
        self.heart.close();
    }
}

/// A parameter of a statement.
pub(super) type Bound<'a> = (&'a (dyn ToSql + Sync), Type);

/// The rows of a statement of the hot path. Its texts are few, so each connection has the server parse and plan them once.
pub(super) async fn query_prepared(
    node: &Node,
    client: &ClientWrapper,
    sql: &str,
    parameters: &[Bound<'_>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if !node.pools.dialer.passes_options() {
        // Behind a pooler in transaction mode a statement would have been prepared on somebody else's connection.
        return client.query_typed(sql, parameters).await;
    }
    let types: Vec<Type> = parameters.iter().map(|(_, r#type)| r#type.clone()).collect();
    let statement = client.prepare_typed_cached(sql, &types).await?;
    let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
    client.query(&statement, &values).await
}

/// Makes connections.
pub(super) struct Dialer {
    with_options: Config,
    without_options: Config,
    tls: Option<MakeRustlsConnect>,
    /// A pooler stands between that takes no settings of sessions.
    plain: AtomicBool,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("tls", &self.tls.is_some()).field("plain", &self.plain).finish_non_exhaustive()
    }
}

/// A live connection whose messages the caller drives.
pub(super) type Connection = Box<dyn Driven>;

/// The two kinds of [`tokio_postgres::Connection`] as one.
pub(super) trait Driven: Send + Unpin {
    fn poll_message(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>>;
}

impl<S, T> Driven for tokio_postgres::Connection<S, T>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    fn poll_message(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        tokio_postgres::Connection::poll_message(self, cx)
    }
}

impl Dialer {
    fn new(settings: &Settings) -> Result<Dialer> {
        let server = &settings.server;
        let tls = match server.encrypted {
            true => Some(MakeRustlsConnect::new(tls(server, settings.authorities())?)),
            false => None,
        };
        Ok(Dialer {
            with_options: server.with_options(),
            without_options: server.without_options(),
            tls,
            plain: AtomicBool::new(false),
        })
    }

    /// Whether the settings of a session reach the server.
    pub(super) fn passes_options(&self) -> bool {
        !self.plain.load(Relaxed)
    }

    /// A connection with what it says beside answers.
    pub(super) async fn dial(&self) -> Result<(Client, Connection), tokio_postgres::Error> {
        if self.passes_options() {
            match self.dial_as(&self.with_options).await {
                Err(error) if refuses_options(&error) => self.plain.store(true, Relaxed),
                dialled => return dialled,
            }
        }
        self.dial_as(&self.without_options).await
    }

    async fn dial_as(&self, config: &Config) -> Result<(Client, Connection), tokio_postgres::Error> {
        Ok(match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, Box::new(connection))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, Box::new(connection))
            }
        })
    }
}

/// PgBouncer and its like name the parameter that they do not take.
fn refuses_options(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::PROTOCOL_VIOLATION && error.message().contains("startup parameter")
    })
}

struct SharedDialer {
    dialer: Arc<Dialer>,
    /// Settings of a session of this pool.
    set_up: &'static str,
}

/// The hot path names its rows by key. The queue's table is small and changes all the time, so the planner, left alone,
/// reads all of it, dead rows included, to find a few hundred.
const BY_KEY: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
                      SET enable_mergejoin = off";

type Dialled = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for SharedDialer {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Dialled> + Send + '_>> {
        Box::pin(async move {
            let (client, mut connection) = self.dialer.dial().await?;
            let driver = tokio::spawn(async move {
                while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    if let Err(error) = message {
                        tracing::debug!(error = %super::failure::told(&error), "store: a connection has ended");
                        return;
                    }
                }
            });
            // Behind a pooler in transaction mode they would be somebody else's.
            if !self.set_up.is_empty() && self.dialer.passes_options() {
                client.batch_execute(self.set_up).await?;
            }
            Ok((client, driver))
        })
    }
}

// ---- encryption ------------------------------------------------------------------------------------------------------

fn tls(server: &Server, authorities: Option<&Path>) -> Result<ClientConfig> {
    let roots = Arc::new(roots(authorities)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("protocol versions")?;
    if server.verify == Verify::Full {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().context("no authorities")?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(verifier))).with_no_client_auth())
}

fn roots(authorities: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = authorities else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let shown = || format!("the store's CA file {}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for certificate in certificates.with_context(shown)? {
        roots.add(certificate).with_context(shown)?;
    }
    if roots.is_empty() {
        return Err(anyhow::anyhow!("{} holds no certificate", shown()).into());
    }
    Ok(roots)
}

/// Verifies everything but the name: `sslmode=verify-ca`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
