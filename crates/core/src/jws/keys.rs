//! Public keys and the one algorithm of each.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;

use crate::inbound::body::is_named_once;
use crate::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};

macro_rules! algorithms {
    ($($variant:ident = $($name:literal)|+;)+) => {
        /// How a token can be signed: with a public key, in one of these ways.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Algorithm {
            $($variant,)+
        }

        impl Algorithm {
            /// By its registered name (RFC 7518, RFC 8037, RFC 9864); names are case-sensitive.
            pub fn from_name(name: &str) -> Option<Algorithm> {
                match name {
                    $($($name)|+ => Some(Algorithm::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

algorithms! {
    Rs256 = "RS256";
    Rs384 = "RS384";
    Rs512 = "RS512";
    Ps256 = "PS256";
    Ps384 = "PS384";
    Ps512 = "PS512";
    Es256 = "ES256";
    Es384 = "ES384";
    EdDsa = "EdDSA" | "Ed25519";
}

/// A public key and the one algorithm that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Both big-endian, without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// An uncompressed point, or the 32 bytes of an ed25519 key.
    Point(Vec<u8>),
}

impl Key {
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let result = match (&self.material, scheme(self.algorithm)) {
            (Material::Rsa { modulus, exponent }, Scheme::Rsa(parameters)) => {
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature)
            }
            (Material::Point(point), Scheme::Point(algorithm)) => {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            _ => return false,
        };
        result.is_ok()
    }
}

enum Scheme {
    Rsa(&'static RsaParameters),
    Point(&'static dyn VerificationAlgorithm),
}

fn scheme(algorithm: Algorithm) -> Scheme {
    match algorithm {
        Algorithm::Rs256 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => Scheme::Point(&ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => Scheme::Point(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDsa => Scheme::Point(&ED25519),
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// What a set has for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'k> {
    Key(&'k Key),
    /// The key of that id is for another algorithm: the token is forged, not early.
    OtherAlgorithm,
    Nothing,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are for something else, weak or of an unknown kind are left out, so that an
    /// issuer can have them too.
    ///
    /// # Errors
    /// It is none, or larger than a set needs to be.
    pub fn parse(json: &[u8]) -> Result<KeySet, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        if json.len() > JWKS_BYTES_MAX {
            return Err(format!("the key set has more than {JWKS_BYTES_MAX} bytes"));
        }
        if !is_named_once(json) {
            return Err("the key set is not JSON, or gives a name twice".to_owned());
        }
        let document: Document = serde_json::from_slice(json).map_err(|error| format!("no key set: {error}"))?;
        if document.keys.len() > JWKS_KEYS_MAX {
            return Err(format!("the key set has more than {JWKS_KEYS_MAX} keys"));
        }
        Ok(KeySet { keys: document.keys.into_iter().filter_map(key).collect() })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of that id; a token without one is given the only key that it can mean.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let named: Vec<&Key> = match kid {
            Some(kid) => self.keys.iter().filter(|key| key.kid.as_deref() == Some(kid)).collect(),
            None if self.keys.len() == 1 => self.keys.iter().collect(),
            None => Vec::new(),
        };
        match named.iter().find(|key| key.algorithm == algorithm) {
            Some(key) => Found::Key(key),
            None if named.is_empty() => Found::Nothing,
            None => Found::OtherAlgorithm,
        }
    }
}

use Algorithm as A;

/// The members of a key that we read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn key(json: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    let verifies = jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !verifies {
        return None;
    }
    let (material, fitting): (Material, &[Algorithm]) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let material = Material::Rsa { modulus: number(&jwk.n)?, exponent: number(&jwk.e)? };
            (material, &[A::Rs256, A::Rs384, A::Rs512, A::Ps256, A::Ps384, A::Ps512])
        }
        ("EC", Some("P-256")) => (point(&jwk, 32)?, &[A::Es256]),
        ("EC", Some("P-384")) => (point(&jwk, 48)?, &[A::Es384]),
        ("OKP", Some("Ed25519")) => (Material::Point(bytes(&jwk.x).filter(|x| x.len() == 32)?), &[A::EdDsa]),
        _ => return None,
    };
    // A key that names no algorithm is for the usual one of its kind, and for no other.
    let algorithm = match &jwk.alg {
        Some(name) => Algorithm::from_name(name).filter(|algorithm| fitting.contains(algorithm))?,
        None => fitting[0],
    };
    if let Material::Rsa { modulus, exponent } = &material
        && !((2048 / 8..=8192 / 8).contains(&modulus.len()) && exponent.len() <= 8)
    {
        return None;
    }
    Some(Key { kid: jwk.kid.map(Into::into), algorithm, material })
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    BASE64URL.decode(text.as_deref()?).ok()
}

/// Without leading zeros, which some issuers write.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

/// The uncompressed form (SEC 1) of a point whose coordinates have `length` bytes each.
fn point(jwk: &Jwk, length: usize) -> Option<Material> {
    let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
    (x.len() == length && y.len() == length).then(|| Material::Point([&[4], x.as_slice(), &y].concat()))
}
