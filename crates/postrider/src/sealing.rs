//! Secrets at rest: sealed by a data key, which is itself sealed by the operator's master key.
//!
//! The data key is made once, at random, and kept in the store, wrapped by the master key; so a new master key means
//! rewrapping one value ([`Sealer::rewrap`]) and nothing else. Every sealed value carries the version of its format,
//! its own random nonce, and opens only for the purpose it was sealed for: a row copied over another row does not
//! open.
//!
//! Format, version 1: `01`, 24 bytes of nonce, XChaCha20-Poly1305 ciphertext with its tag. The associated data is
//! `01` followed by the purpose.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::ambient::Ambient;
use crate::store::Store;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Name of the setting that holds the wrapped data key, and the purpose it is sealed for.
pub(crate) const DATA_KEY: &str = "data_key";

/// The operator's key: 32 bytes, and where they came from, so that an error can name it.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; 32]>,
    origin: Arc<str>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey(… from {})", self.origin)
    }
}

impl PartialEq for MasterKey {
    /// Whether they are the same key, wherever they came from.
    fn eq(&self, other: &MasterKey) -> bool {
        self.bytes.as_slice().ct_eq(other.bytes.as_slice()).into()
    }
}

impl MasterKey {
    pub fn new(bytes: [u8; 32], origin: &str) -> MasterKey {
        MasterKey { bytes: Zeroizing::new(bytes), origin: origin.into() }
    }

    /// Reads the base64 form (with or without padding, white space around it ignored).
    ///
    /// # Errors
    /// Not base64, or not 32 bytes. The message never contains the key.
    pub fn parse(text: &str, origin: &str) -> Result<MasterKey> {
        let unpadded = text.trim().trim_end_matches('=');
        let decoded = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(unpadded)
            .map(Zeroizing::new)
            .map_err(|_| anyhow!("not base64; `postrider keys generate-master` makes a good one"))?;
        let bytes = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| {
            anyhow!(
                "{} bytes long, but must be base64 of 32 bytes; `postrider keys generate-master` makes one",
                decoded.len()
            )
        })?;
        Ok(MasterKey::new(bytes, origin))
    }

    /// The base64 form, for the key file.
    pub fn encoded(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.bytes.as_slice()))
    }

    /// Where it came from: a variable or a file.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Says of a key that was read from `path` where it came from.
    pub fn origin_of_file(path: &Path) -> String {
        format!("file {}", path.display())
    }
}

/// Seals and opens small secrets (XChaCha20-Poly1305, random nonce, purpose bound as associated data).
pub struct Sealer {
    data_key: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
    ambient: Arc<dyn Ambient>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// A sealer with this very data key. The product uses [`Sealer::load_or_create`].
    pub fn with_data_key(data_key: [u8; 32], ambient: Arc<dyn Ambient>) -> Sealer {
        let cipher = XChaCha20Poly1305::new(&Key::from(data_key));
        Sealer { data_key: Zeroizing::new(data_key), cipher, ambient }
    }

    /// As [`Sealer::load_or_create`], for a store that has a data key; also gives it as it is wrapped now.
    ///
    /// # Errors
    /// The store's, a store without a data key, or a master key that is not its own.
    pub async fn load(store: &dyn Store, master: &MasterKey, ambient: Arc<dyn Ambient>) -> Result<(Sealer, Vec<u8>)> {
        let wrapped = store.get_setting(DATA_KEY).await.context("reading the data key")?;
        let wrapped = wrapped.context("the store holds no secrets yet")?;
        Ok((Sealer::unwrap_data_key(&wrapped, master, ambient)?, wrapped))
    }

    /// Unwraps the store's data key with `master`, or makes one on first use.
    ///
    /// # Errors
    /// The store's, or a master key that is not the one this store was made with.
    pub async fn load_or_create(store: &dyn Store, master: &MasterKey, ambient: Arc<dyn Ambient>) -> Result<Sealer> {
        if let Some(wrapped) = store.get_setting(DATA_KEY).await.context("reading the data key")? {
            return Sealer::unwrap_data_key(&wrapped, master, ambient);
        }
        let made = Sealer::with_data_key(ambient.random(), ambient.clone());
        // Another node may have made one at the same time: the one that is kept counts.
        let kept = store.init_setting(DATA_KEY, made.wrapped(master)).await.context("keeping the data key")?;
        Sealer::unwrap_data_key(&kept, master, ambient)
    }

    /// The sealer of a store whose wrapped data key this is.
    ///
    /// # Errors
    /// The master key is not its own.
    pub(crate) fn unwrap_data_key(wrapped: &[u8], master: &MasterKey, ambient: Arc<dyn Ambient>) -> Result<Sealer> {
        let wrapping = Sealer::with_data_key(*master.bytes, ambient.clone());
        let data_key = wrapping.open(DATA_KEY, wrapped).map_err(|_| {
            anyhow!(
                "the master key ({}) does not open this store, which has another one. If it was rotated, give the new \
                 key; otherwise give the former one back, or restore `master.key` from the backup of the data directory",
                master.origin
            )
        })?;
        let bytes = <[u8; 32]>::try_from(data_key.as_slice()).context("the stored data key has a wrong length")?;
        Ok(Sealer::with_data_key(bytes, ambient))
    }

    /// Wraps the data key with `master` from now on, in one transaction: rotation of the master key. Sealed values stay as
    /// they are, and so do processes that run. `wrapped` is what [`Sealer::load`] gave; `false` if somebody else has
    /// rotated the key since: nothing was changed.
    ///
    /// # Errors
    /// The store's.
    pub async fn rewrap(&self, store: &dyn Store, wrapped: Vec<u8>, master: &MasterKey) -> Result<bool> {
        store.replace_setting(DATA_KEY, wrapped, self.wrapped(master)).await.context("keeping the data key")
    }

    fn wrapped(&self, master: &MasterKey) -> Vec<u8> {
        let wrapping = Sealer::with_data_key(*master.bytes, self.ambient.clone());
        wrapping.seal(DATA_KEY, self.data_key.as_slice())
    }

    /// Seals `plain` for `purpose` (such as `webhook:wh_…`); it opens only for the same purpose.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = self.ambient.random();
        let aad = associated_data(purpose);
        let ciphertext = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            .expect("a secret in memory is far below the cipher's limit of 256 GiB");
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// # Errors
    /// Wrong key, wrong purpose, or changed bytes.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (version, rest) = sealed.split_first().ok_or_else(|| anyhow!("a sealed value is empty"))?;
        if *version != VERSION {
            bail!("a sealed value has format {version}, which this version of Postrider does not know");
        }
        ensure!(rest.len() >= NONCE_BYTES + TAG_BYTES, "a sealed value is cut short");
        let (nonce, ciphertext) = rest.split_at(NONCE_BYTES);
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).context("a nonce has a fixed length")?;
        let aad = associated_data(purpose);
        self.cipher
            .decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| anyhow!("a sealed value for `{purpose}` does not open: wrong key, wrong place or damaged"))
    }
}

fn associated_data(purpose: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + purpose.len());
    data.push(VERSION);
    data.extend_from_slice(purpose.as_bytes());
    data
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ambient::System;

    fn sealer(key: u8) -> Sealer {
        Sealer::with_data_key([key; 32], Arc::new(System))
    }

    #[test]
    fn a_sealed_secret_opens_for_its_purpose_and_looks_different_each_time() {
        let sealer = sealer(1);
        let (a, b) = (sealer.seal("webhook:wh_1", b"whsec_x"), sealer.seal("webhook:wh_1", b"whsec_x"));
        assert_ne!(a, b);
        assert_eq!(sealer.open("webhook:wh_1", &a).unwrap().as_slice(), b"whsec_x");
        assert_eq!(sealer.open("webhook:wh_1", &b).unwrap().as_slice(), b"whsec_x");
        assert!(!a.windows(7).any(|window| window == b"whsec_x"));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let sealer = sealer(1);
        let sealed = sealer.seal("p", b"secret");
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(sealer.open("p", &changed).is_err(), "byte {index}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open("p", &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_value_does_not_open_for_another_purpose_or_with_another_key() {
        let sealed = sealer(1).seal("webhook:wh_1", b"secret");
        assert!(sealer(1).open("webhook:wh_2", &sealed).is_err());
        assert!(sealer(2).open("webhook:wh_1", &sealed).is_err());
    }

    #[test]
    fn a_wrong_master_key_is_named_by_where_it_came_from() {
        let ambient: Arc<dyn Ambient> = Arc::new(System);
        let right = Sealer::with_data_key([5; 32], ambient.clone());
        let wrapped = right.seal(DATA_KEY, &[9; 32]);
        let wrong = MasterKey::new([6; 32], "POSTRIDER_MASTER_KEY");
        let message = Sealer::unwrap_data_key(&wrapped, &wrong, ambient.clone()).unwrap_err().to_string();
        assert!(message.contains("POSTRIDER_MASTER_KEY"), "{message}");

        let opened = Sealer::unwrap_data_key(&wrapped, &MasterKey::new([5; 32], "x"), ambient).unwrap();
        assert_eq!(*opened.data_key, [9; 32]);
    }

    #[test]
    fn a_master_key_is_base64_of_32_bytes_and_never_shown() {
        let key = MasterKey::new([0xfb; 32], "test");
        let text = key.encoded();
        assert_eq!(*MasterKey::parse(&format!("  {}\n", *text), "test").unwrap().bytes, [0xfb; 32]);
        assert!(MasterKey::parse(text.trim_end_matches('='), "test").is_ok());
        assert!(MasterKey::parse("c2hvcnQ=", "test").unwrap_err().to_string().contains("5 bytes"));
        let hostile = MasterKey::parse("not*base64", "test").unwrap_err().to_string();
        assert!(!hostile.contains("not*base64"), "{hostile}");
        assert!(!format!("{key:?}").contains(text.as_str()));
    }
}
