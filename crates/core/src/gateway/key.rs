//! Gateway API keys: `ath_<16 hex>.<64 hex>`. The first part names the key, the second is the secret; only its hash is kept.

use std::fmt;

use ring::digest;
use subtle::ConstantTimeEq;

use crate::signing::Secret;

/// A key as its holder sends it.
pub struct GatewayKey {
    id: String,
    secret: Secret,
}

const PREFIX: &str = "ath_";
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;

impl GatewayKey {
    /// The key made of these random bytes.
    pub fn from_random(id: [u8; 8], secret: &[u8; 32]) -> GatewayKey {
        GatewayKey { id: hex::encode(id), secret: Secret::new(hex::encode(secret)) }
    }

    /// `None`: the text has another form. Digits are in lower case, as they were when the key was shown.
    pub fn parse(text: &str) -> Option<GatewayKey> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('.')?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let fits = id.len() == ID_DIGITS && secret.len() == SECRET_DIGITS && is_hex(id) && is_hex(secret);
        fits.then(|| GatewayKey { id: id.to_owned(), secret: Secret::new(secret.to_owned()) })
    }

    /// What names it; no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key: only for the one time that its holder is shown it.
    pub fn reveal(&self) -> Secret {
        Secret::new(format!("{PREFIX}{}.{}", self.id, self.secret.reveal()))
    }

    /// What is kept of the secret. It has 256 random bits, so nothing slower is needed.
    pub fn hash(&self) -> [u8; 32] {
        let hash = digest::digest(&digest::SHA256, self.secret.reveal().as_bytes());
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether it is the key whose hash was kept; in constant time.
    pub fn matches(&self, hash: &[u8]) -> bool {
        self.hash().ct_eq(hash).into()
    }
}

impl fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayKey({PREFIX}{}.…)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_shown_and_known_by_its_hash() {
        let key = GatewayKey::from_random([0xab; 8], &[0xcd; 32]);
        let text = key.reveal().reveal().to_owned();
        assert_eq!(text, format!("ath_{}.{}", "ab".repeat(8), "cd".repeat(32)));
        let read = GatewayKey::parse(&text).unwrap();
        assert_eq!(read.id(), "ab".repeat(8));
        assert!(read.matches(&key.hash()));
        assert!(!GatewayKey::from_random([0xab; 8], &[0xce; 32]).matches(&key.hash()));
        assert!(!read.matches(&[]) && !read.matches(&key.hash()[..31]));
        assert!(!format!("{read:?}").contains("cdcd"));
    }

    #[test]
    fn another_form_is_no_key() {
        let (id, secret) = ("ab".repeat(8), "cd".repeat(32));
        for bad in [
            String::new(),
            "ath_".to_owned(),
            format!("ath_{id}"),
            format!("ath_{id}."),
            format!("ath_{id}{secret}"),
            format!("{id}.{secret}"),
            format!("pr_{id}.{secret}"),
            format!("ATH_{id}.{secret}"),
            format!(" ath_{id}.{secret}"),
            format!("ath_{id}.{secret} "),
            format!("ath_{id}.{secret}.{secret}"),
            format!("ath_{}.{secret}", &id[1..]),
            format!("ath_{id}0.{secret}"),
            format!("ath_{id}.{}", &secret[1..]),
            format!("ath_{id}.{secret}0"),
            format!("ath_{}.{secret}", id.to_uppercase()),
            format!("ath_{id}.{}", secret.to_uppercase()),
            format!("ath_{id}.{}g", &secret[1..]),
            format!("ath_{id}.{}é", &secret[2..]),
        ] {
            assert!(GatewayKey::parse(&bad).is_none(), "{bad}");
        }
    }
}
