//! What verification found.

use serde::{Deserialize, Serialize};

/// The result of verifying one received request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A signature over the request was made with this one of the active secrets (its index).
    Verified {
        secret: usize,
    },
    /// The request brought this one of the active secrets as a shared token. Its content is not signed.
    Authenticated {
        secret: usize,
    },
    Failed(Reason),
    /// There is nothing to verify with: the provider does not sign, the receiver has no secret, or the certificate has
    /// not been fetched.
    Unattempted,
}

impl Verdict {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        VerdictKind::from(self).as_str()
    }

    pub fn reason(self) -> Option<Reason> {
        match self {
            Verdict::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the request comes from somebody who knows a secret: what may be forwarded.
    pub fn is_accepted(self) -> bool {
        matches!(self, Verdict::Verified { .. } | Verdict::Authenticated { .. })
    }
}

/// A [`Verdict`] without the secret that led to it: what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    Unattempted,
    Verified,
    Authenticated,
    Failed,
}

impl From<Verdict> for VerdictKind {
    fn from(verdict: Verdict) -> VerdictKind {
        match verdict {
            Verdict::Verified { .. } => VerdictKind::Verified,
            Verdict::Authenticated { .. } => VerdictKind::Authenticated,
            Verdict::Failed(_) => VerdictKind::Failed,
            Verdict::Unattempted => VerdictKind::Unattempted,
        }
    }
}

impl VerdictKind {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            VerdictKind::Unattempted => "unattempted",
            VerdictKind::Verified => "verified",
            VerdictKind::Authenticated => "authenticated",
            VerdictKind::Failed => "failed",
        }
    }
}

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    #[error("a header that the signature needs is missing")]
    MissingHeader,
    #[error("a header that the signature needs is malformed")]
    MalformedHeader,
    #[error("the body lacks the fields that hold or make up the signature")]
    MissingField,
    #[error("the body is not in the form that the provider sends")]
    MalformedBody,
    #[error("the signature is right, but was made too long ago, or in the future")]
    TimestampOutsideTolerance,
    #[error("no signature was made with a secret of this receiver over this request")]
    SignatureMismatch,
    #[error("the signature fits a slightly different body: something between the provider and here rewrote it")]
    BodyModifiedSuspected,
    #[error("no secret of this receiver has the form that the provider's signature needs, or the one it names")]
    UnknownKey,
    #[error("the request names an algorithm that is not accepted")]
    UnsupportedAlgorithm,
    #[error("the certificate is not from where the provider keeps its own, is not valid now or not for the provider")]
    CertificateNotTrusted,
}

impl Reason {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::MissingHeader => "missing_header",
            Reason::MalformedHeader => "malformed_header",
            Reason::MissingField => "missing_field",
            Reason::MalformedBody => "malformed_body",
            Reason::TimestampOutsideTolerance => "timestamp_outside_tolerance",
            Reason::SignatureMismatch => "signature_mismatch",
            Reason::BodyModifiedSuspected => "body_modified_suspected",
            Reason::UnknownKey => "unknown_key",
            Reason::UnsupportedAlgorithm => "unsupported_algorithm",
            Reason::CertificateNotTrusted => "certificate_not_trusted",
        }
    }
}
