//! Secrets at rest: sealed by a data key, which is itself sealed by the operator's master key.

use anyhow::Result;
use zeroize::Zeroizing;

/// Seals and opens small secrets (XChaCha20-Poly1305, random nonce, purpose bound as associated data).
pub struct Sealer {}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// Seals `plain` for `purpose` (such as `webhook:wh_…`); it opens only for the same purpose.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let _ = (purpose, plain);
        unimplemented!("sealing")
    }

    /// # Errors
    /// Wrong key, wrong purpose, or changed bytes.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let _ = (purpose, sealed);
        unimplemented!("sealing")
    }
}
