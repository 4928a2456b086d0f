//! The keys that sign our own tokens: ES256, sealed in the store, the same on all nodes, a new one every
//! [`TOKEN_KEY_SPAN`].
//!
//! Time alone says which key signs: spans are counted from the epoch, each has one key, and the first node that needs
//! it makes it (`Store::init_setting`, of which the first one counts). So nodes need not talk to rotate. The next
//! span's key is made and published a whole span ahead, so that whoever keeps our key set for a while has it in time;
//! the former one is published and accepted for a span more.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use parking_lot::RwLock;
use postrider_core::jws::{Claims, Fault, Found, KeySet, Unverified};
use postrider_core::limits::TOKEN_KEY_SPAN;
use postrider_core::time::UnixMs;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{digest, hmac};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::sealing::Sealer;
use crate::store::Store;

/// Name of the setting that ties tokens to the credential they were issued for, and what it is sealed for.
const BINDING: &str = "token_binding";

/// The keys of our own as this process knows them.
#[derive(Debug, Default)]
pub(super) struct OwnKeys {
    ring: RwLock<Option<Arc<Ring>>>,
    /// Whoever reads them from the store holds it; when that failed last.
    turn: Mutex<Option<UnixMs>>,
}

/// From one failure to read the keys to the next try, while there are former ones to go on with.
const RETRY_MS: u64 = 5_000;

/// The keys of three spans: the former, the one that signs, and the next.
#[derive(Debug)]
pub(super) struct Ring {
    span: i64,
    signing: OwnKey,
    set: KeySet,
    /// The set as we publish it.
    pub jwks: Bytes,
    binding: hmac::Key,
}

struct OwnKey {
    kid: String,
    pair: EcdsaKeyPair,
    jwk: Value,
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnKey({}, …)", self.kid)
    }
}

impl OwnKeys {
    /// The keys that count at `now`.
    ///
    /// # Errors
    /// The store's, when there are none to go on with.
    pub(super) async fn ring(&self, store: &dyn Store, sealer: &Sealer, now: UnixMs) -> Result<Arc<Ring>> {
        let span = span(now);
        let known = || self.ring.read().clone();
        if let Some(ring) = known().filter(|ring| ring.span == span) {
            return Ok(ring);
        }
        let mut failed_at = self.turn.lock().await;
        match known() {
            Some(ring) if ring.span == span => return Ok(ring),
            Some(ring) if failed_at.is_some_and(|at| now.since(at).as_millis() < u128::from(RETRY_MS)) => {
                return Ok(ring);
            }
            _ => {}
        }
        match Ring::load(store, sealer, span).await {
            Ok(ring) => {
                let ring = Arc::new(ring);
                *self.ring.write() = Some(ring.clone());
                *failed_at = None;
                Ok(ring)
            }
            Err(error) => {
                *failed_at = Some(now);
                // The former ones have the next span's key too.
                known().ok_or(error)
            }
        }
    }
}

fn span(now: UnixMs) -> i64 {
    now.0.div_euclid(i64::try_from(TOKEN_KEY_SPAN.as_millis()).expect("a month of milliseconds"))
}

impl Ring {
    async fn load(store: &dyn Store, sealer: &Sealer, span: i64) -> Result<Ring> {
        let former = OwnKey::load(store, sealer, span - 1, false).await?;
        let signing = OwnKey::load(store, sealer, span, true).await?.context("a key that is made is there")?;
        let next = OwnKey::load(store, sealer, span + 1, true).await?;
        let jwks: Vec<&Value> = former.iter().chain([&signing]).chain(&next).map(|key| &key.jwk).collect();
        let jwks = Bytes::from(serde_json::to_vec(&json!({ "keys": jwks }))?);
        let set = KeySet::parse(&jwks).map_err(|why| anyhow!(why)).context("our own key set")?;
        let binding = match store.get_setting(BINDING).await? {
            Some(sealed) => sealed,
            None => {
                let fresh = hmac_secret()?;
                store.init_setting(BINDING, sealer.seal(BINDING, &fresh)).await?
            }
        };
        let binding = hmac::Key::new(hmac::HMAC_SHA256, &sealer.open(BINDING, &binding)?);
        Ok(Ring { span, signing, set, jwks, binding })
    }

    /// # Errors
    /// Only without randomness.
    pub(super) fn sign(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": "ES256", "kid": self.signing.kid, "typ": "at+jwt" });
        let encoded = |json: &Value| BASE64URL.encode(json.to_string());
        let mut token = format!("{}.{}", encoded(&header), encoded(claims));
        let signed = self.signing.pair.sign(&SystemRandom::new(), token.as_bytes());
        let signature = signed.map_err(|_| anyhow!("the system gives no random bytes"))?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    /// What `token` says, if it is of us.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn believe(&self, token: Unverified<'_>) -> Result<Claims, Fault> {
        match token.key(&self.set) {
            Found::Key(key) => token.verify(key),
            Found::OtherAlgorithm => Err(Fault::Algorithm),
            Found::Nothing => Err(Fault::UnknownKey),
        }
    }

    /// What a token carries to end with the credential whose hash this is; says nothing about the credential to who
    /// reads the token.
    pub(super) fn bound_to(&self, credential: &[u8; 32]) -> String {
        BASE64URL.encode(&hmac::sign(&self.binding, credential).as_ref()[..16])
    }
}

fn hmac_secret() -> Result<[u8; 32]> {
    let random = ring::rand::generate::<[u8; 32]>(&SystemRandom::new());
    random.map(|random| random.expose()).map_err(|_| anyhow!("the system gives no random bytes"))
}

impl OwnKey {
    /// The key of a span; `None` if it was never made and shall not be.
    async fn load(store: &dyn Store, sealer: &Sealer, span: i64, make: bool) -> Result<Option<OwnKey>> {
        let name = format!("token_key:{span}");
        let kept = store.get_setting(&name).await.context("reading a key for tokens")?;
        let sealed = match kept {
            Some(sealed) => sealed,
            None if make => {
                let fresh = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
                let fresh = fresh.map_err(|_| anyhow!("the system gives no random bytes"))?;
                // Another node may have made one at the same time: the one that is kept counts.
                let kept = store.init_setting(&name, sealer.seal(&name, fresh.as_ref())).await;
                kept.context("keeping a key for tokens")?
            }
            None => return Ok(None),
        };
        OwnKey::read(&sealer.open(&name, &sealed)?).map(Some)
    }

    fn read(document: &[u8]) -> Result<OwnKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document, &SystemRandom::new());
        let pair = pair.map_err(|error| anyhow!("a stored key for tokens cannot be used: {error}"))?;
        // 04, then both coordinates.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (BASE64URL.encode(x), BASE64URL.encode(y));
        // Its name is its thumbprint (RFC 7638).
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = BASE64URL.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" });
        Ok(OwnKey { kid, pair, jwk })
    }
}

#[cfg(test)]
mod tests;
