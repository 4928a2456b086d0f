//! TLS of outbound connections: who is trusted, and what to say when somebody is not.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// Sessions kept for resumption, over all hosts: a resumed handshake costs two thirds of a full one.
const SESSIONS_MAX: usize = 1024;

/// The system's certificate authorities and those of `ca_files` (PEM); HTTP/2 where offered.
///
/// # Errors
/// When a file cannot be read or holds no certificate.
pub fn client_config(ca_files: &[PathBuf]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a system certificate authority could not be read");
    }
    roots.add_parsable_certificates(native.certs);
    for path in ca_files {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.with_context(|| format!("egress CA file {}", path.display()))?;
        ensure!(!certificates.is_empty(), "egress CA file {} holds no certificate", path.display());
        for certificate in certificates {
            roots.add(certificate).with_context(|| format!("egress CA file {}", path.display()))?;
        }
    }
    if roots.is_empty() {
        tracing::warn!("no certificate authorities found: no https endpoint will be trusted");
    }
    trusting(roots)
}

/// A configuration that trusts `roots`.
///
/// # Errors
/// Never with the protocol versions built in.
pub(super) fn trusting(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

/// What is wrong, for the endpoint's owner.
pub(super) fn describe(error: &rustls::Error) -> String {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            C::Expired | C::ExpiredContext { .. } => "the certificate has expired".to_owned(),
            C::NotValidYet | C::NotValidYetContext { .. } => "the certificate is not valid yet".to_owned(),
            C::UnknownIssuer => "the certificate's issuer is not trusted".to_owned(),
            C::NotValidForName => "the certificate is for another host".to_owned(),
            C::NotValidForNameContext { expected, .. } => {
                format!("the certificate is not valid for {}", expected.to_str())
            }
            C::Revoked => "the certificate was revoked".to_owned(),
            other => format!("the certificate is not acceptable: {other}"),
        },
        rustls::Error::InvalidMessage(_) => "the endpoint does not speak TLS on this port".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("the endpoint ended the TLS handshake: {alert:?}"),
        other => format!("TLS failed: {other}"),
    }
}
