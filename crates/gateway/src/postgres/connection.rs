//! One connection to a client's PostgreSQL: how it is made and what is kept with it.
//!
//! Settings of the session travel with the login, and statements are prepared: a pooler between has to pool sessions, not
//! transactions, and to let the settings through.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{AsyncMessage, CancelToken, Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure;
use crate::Fault;
use crate::uri::Server;

/// Prepared statements kept with one connection.
const STATEMENTS_MAX: usize = 64;
/// A connection whose other end says nothing for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Told of each notification, and of the connection's end.
    pub(crate) notified: Arc<Notify>,
    driver: AbortHandle,
    tls: Option<MakeRustlsConnect>,
    statements: Mutex<HashMap<String, Prepared>>,
    /// What the session's `statement_timeout` is now.
    pub(super) timeout: Duration,
    pub(super) idle_since: Instant,
}

/// A statement that the server keeps for this session.
struct Prepared {
    statement: tokio_postgres::Statement,
    /// Its rows had what may be binary values.
    binary: bool,
}

impl Connection {
    pub(crate) async fn open(server: &Server, limit: Duration, timeout: Duration) -> Result<Connection, Fault> {
        let opened = tokio::time::timeout(limit, Connection::dial(server, limit, timeout)).await;
        opened.unwrap_or_else(|_| Err(failure::unavailable("The database does not answer.")))
    }

    async fn dial(server: &Server, limit: Duration, timeout: Duration) -> Result<Connection, Fault> {
        let mut config = server.config.clone();
        let options = format!(
            "{} -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c standard_conforming_strings=on \
             -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=60s",
            server.config.get_options().unwrap_or_default(),
            timeout.as_millis(),
            timeout.as_millis(),
        );
        config.options(options.trim_start()).application_name("postrider-gateway").connect_timeout(limit);
        config.tcp_user_timeout(SILENCE_MAX).keepalives_idle(SILENCE_MAX / 2).keepalives_interval(SILENCE_MAX / 5);
        config.target_session_attrs(TargetSessionAttrs::Any);
        let tls = match server.encrypted() {
            true => Some(MakeRustlsConnect::new(tls(server)?)),
            false => None,
        };
        let refused = |error: tokio_postgres::Error| failure::refused(&error);
        let notified = Arc::new(Notify::new());
        let (client, driver) = match &tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(refused)?;
                (client, tokio::spawn(driven(connection, notified.clone())).abort_handle())
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
                (client, tokio::spawn(driven(connection, notified.clone())).abort_handle())
            }
        };
        let statements = Mutex::default();
        Ok(Connection { client, notified, driver, tls, statements, timeout, idle_since: Instant::now() })
    }

    /// The prepared statement of `sql`, and whether it was prepared before.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<(tokio_postgres::Statement, bool), tokio_postgres::Error> {
        if let Some(known) = self.statements.lock().get(sql) {
            return Ok((known.statement.clone(), true));
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock();
        if statements.len() >= STATEMENTS_MAX {
            // Which one goes hardly matters: clients use few shapes of statements.
            if let Some(name) = statements.keys().next().cloned() {
                statements.remove(&name);
            }
        }
        statements.insert(sql.to_owned(), Prepared { statement: statement.clone(), binary: false });
        Ok((statement, false))
    }

    /// Whether rows of this statement have had what may be binary values.
    pub(super) fn is_binary(&self, sql: &str) -> bool {
        self.statements.lock().get(sql).is_some_and(|known| known.binary)
    }

    pub(super) fn note_binary(&self, sql: &str) {
        if let Some(known) = self.statements.lock().get_mut(sql) {
            known.binary = true;
        }
    }

    /// Forgets every prepared statement, and the types that were looked up for them.
    pub(super) fn forget(&self) {
        self.statements.lock().clear();
        self.client.clear_type_cache();
    }

    /// Ends what it is doing, here and at the server.
    pub(super) fn kill(self) {
        let (token, tls) = (self.client.cancel_token(), self.tls.clone());
        tokio::spawn(tokio::time::timeout(Duration::from_secs(5), cancel(token, tls)));
        self.driver.abort();
    }
}

async fn cancel(token: CancelToken, tls: Option<MakeRustlsConnect>) {
    let done = match tls {
        Some(tls) => token.cancel_query(tls).await,
        None => token.cancel_query(NoTls).await,
    };
    if done.is_err() {
        tracing::debug!("gateway: a statement could not be canceled; its timeout will end it");
    }
}

/// Drives a connection until it ends, and passes on that there were notifications.
async fn driven<S, T>(mut connection: tokio_postgres::Connection<S, T>, notified: Arc<Notify>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notification(_)) => notified.notify_one(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    tracing::debug!("gateway: a connection to a client's database has ended");
    // Whoever waits for a notification learns that none will come.
    notified.notify_one();
}

// ---- encryption ------------------------------------------------------------------------------------------------------

/// What is encrypted is always verified, as everywhere in Postrider.
fn tls(server: &Server) -> Result<ClientConfig, Fault> {
    static KNOWN: Mutex<Vec<(Option<std::path::PathBuf>, bool, ClientConfig)>> = Mutex::new(Vec::new());
    let key = (server.root_cert.clone(), server.any_name);
    let found = |known: &&(Option<std::path::PathBuf>, bool, ClientConfig)| known.0 == key.0 && known.1 == key.1;
    if let Some((_, _, config)) = KNOWN.lock().iter().find(found) {
        return Ok(config.clone());
    }
    let config = configured(server).ok_or_else(|| failure::unavailable("The database's CA file cannot be used."))?;
    let mut known = KNOWN.lock();
    // Reading the system's authorities takes milliseconds; files named in addresses are few.
    known.truncate(31);
    known.push((key.0, key.1, config.clone()));
    Ok(config)
}

fn configured(server: &Server) -> Option<ClientConfig> {
    let roots = Arc::new(roots(server.root_cert.as_deref())?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().ok()?;
    if !server.any_name {
        return Some(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok()?;
    Some(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(verifier))).with_no_client_auth())
}

fn roots(authorities: Option<&Path>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = authorities else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Some(roots);
    };
    for certificate in CertificateDer::pem_file_iter(path).ok()? {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
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
