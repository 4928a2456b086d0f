//! An issuer's keys, for tests.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

use crate::auth::hash;

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A key that signs tokens, the same for each name.
pub(crate) struct Signer {
    pub(crate) alg: &'static str,
    pub(crate) kid: &'static str,
    pub(crate) jwk: Value,
    pub(crate) sign: Sign,
}

impl Signer {
    pub(crate) fn ed25519(kid: &'static str) -> Signer {
        let pair = Ed25519KeyPair::from_seed_unchecked(&hash(kid.as_bytes())).unwrap();
        let x = BASE64URL.encode(pair.public_key());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig" });
        Signer { alg: "EdDSA", kid, jwk, sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()) }
    }

    pub(crate) fn rs256(kid: &'static str) -> Signer {
        let text: String = include_str!("../../../../core/src/jws/test_rsa_key.txt").split_whitespace().collect();
        let pair = RsaKeyPair::from_pkcs8(&BASE64.decode(text).unwrap()).unwrap();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
        let (n, e) = (BASE64URL.encode(public.n), BASE64URL.encode(public.e));
        let jwk = json!({ "kty": "RSA", "alg": "RS256", "n": n, "e": e, "kid": kid, "use": "sig" });
        let sign = move |message: &[u8]| {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        Signer { alg: "RS256", kid, jwk, sign: Box::new(sign) }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.alg, "kid": self.kid }).to_string(), &claims.to_string())
    }

    /// The token of these very texts.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
        let signature = BASE64URL.encode((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub(crate) fn key_set(signers: &[&Signer]) -> Bytes {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
    json!({ "keys": keys }).to_string().into()
}
