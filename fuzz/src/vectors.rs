//! Genuine requests: the vectors that core's tests and the vendors' libraries share.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use postrider_core::inbound::{Certificates, Provider, Request, Setup, Trust, Verdict, verify};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

/// A request as its provider sends it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Vector {
    pub(crate) provider: String,
    pub(crate) secret: String,
    pub(crate) now: i64,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// Headers that nothing signs.
    pub(crate) unsigned: Vec<String>,
    pub(crate) verdict: String,
    pub(crate) certificate: Option<String>,
}

pub(crate) fn vectors() -> &'static [Vector] {
    static FILE: LazyLock<File> = LazyLock::new(|| {
        let text = include_str!("../../conformance/inbound/vectors.json");
        serde_json::from_str(text).expect("the vectors are JSON")
    });
    &FILE.vectors
}

/// The certificate that signed the vectors of this provider, or of any if it uses none.
pub(crate) fn certificate(provider: &Provider) -> Certificates<'static> {
    let of = |vector: &&Vector| vector.certificate.is_some() && vector.provider == provider.name;
    let found = vectors().iter().find(of).or_else(|| vectors().iter().find(|it| it.certificate.is_some()));
    let pem = found.and_then(|vector| vector.certificate.as_ref()).expect("PayPal's vector has one");
    Certificates { pem: pem.as_bytes(), trust: Trust::FromPinnedHost }
}

impl Vector {
    pub(crate) fn row(&self) -> &'static Provider {
        Provider::find(&self.provider)
    }

    pub(crate) fn verdict(&self, headers: &[(&str, &str)], body: &[u8]) -> Verdict {
        let secrets = [Secret::new(self.secret.clone())];
        let certificates = Some(certificate(self.row()));
        let setup = Setup { secrets: &secrets, certificates, ..Setup::default() };
        let request = Request { method: &self.method, url: &self.url, headers, body };
        verify(self.row(), &setup, &request, UnixMs(self.now))
    }
}
