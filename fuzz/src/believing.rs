//! Signed tokens: nothing is believed but what the issuer has signed, byte for byte.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use postrider_core::jws::{Found, KeySet, Unverified};
use postrider_core::time::UnixMs;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Headers and claims that the issuer signs here.
const SIGNED: [(&str, &str); 4] = [
    (
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"one"}"#,
        r#"{"iss":"https://issuer.example","aud":"postrider","exp":1800000000}"#,
    ),
    (
        r#"{"alg":"EdDSA"}"#,
        r#"{"iss":"https://issuer.example","aud":["a","postrider"],"exp":1.8e9,"nbf":0.5,"scope":"a b","role":"admin"}"#,
    ),
    (r#"{"alg":"Ed25519","kid":"one"}"#, r#"{"exp":-1e308,"iat":1e308,"tenant_id":null,"platform_token":true}"#),
    // Signed by the very key, and never to be believed.
    (r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#, r#"{"aud":"postrider","exp":1800000000}"#),
];

struct Issuer {
    keys: KeySet,
    tokens: Vec<String>,
}

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
        let x = BASE64URL.encode(pair.public_key());
        let keys =
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"one","alg":"EdDSA","use":"sig","x":"{x}"}}]}}"#);
        let tokens = SIGNED.iter().map(|(header, claims)| {
            let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
            let signature = BASE64URL.encode(pair.sign(signed.as_bytes()));
            format!("{signed}.{signature}")
        });
        Issuer { tokens: tokens.collect(), keys: KeySet::parse(keys.as_bytes()).expect("a key set") }
    })
}

/// The text is a token, and then a key set.
///
/// - A token that verifies is one that was signed, to the last bit of its signature.
/// - A key set from a stranger verifies nothing of the issuer's, unless it has the issuer's key.
///
/// # Panics
/// If one of these does not hold.
pub fn tokens(data: &[u8]) {
    let issuer = issuer();
    let _ = KeySet::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(unverified) = Unverified::parse(text) else { return };
    let audience = ["postrider".to_owned()];
    for now in [0, 1_790_000_000_000, i64::MAX] {
        let _ = unverified.claims().check(UnixMs(now), &audience);
    }
    let Found::Key(key) = unverified.key(&issuer.keys) else { return };
    if unverified.verify(key).is_ok() {
        assert!(issuer.tokens[..SIGNED.len() - 1].iter().any(|token| token == text), "{text}");
    }
}

/// What was signed, and what never was.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let tokens = &issuer().tokens;
    let unsigned = tokens.iter().map(|token| format!("{}.", token.rsplit_once('.').expect("three parts").0));
    let none = [r#"{"alg":"none"}"#, r#"{"alg":"HS256","kid":"one"}"#]
        .map(|header| format!("{}.{}.", BASE64URL.encode(header), BASE64URL.encode(r#"{"exp":1e9}"#)));
    let keys =
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#.to_owned();
    tokens.iter().cloned().chain(unsigned).chain(none).chain([keys]).map(String::into_bytes).collect()
}
