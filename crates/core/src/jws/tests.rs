//! Every way we know in which a token lies.

use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
};
use serde_json::json;

use super::*;
use crate::limits::JWKS_KEYS_MAX;

const NOW: UnixMs = UnixMs(1_790_000_000_000);
const SECONDS: i64 = 1_790_000_000;

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL.encode(bytes)
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key that signs, and its public half as a JSON Web Key.
struct Signer {
    alg: &'static str,
    sign: Sign,
    jwk: Value,
}

fn ec(alg: &'static str, algorithm: &'static EcdsaSigningAlgorithm, crv: &str) -> Signer {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
    let jwk = json!({ "kty": "EC", "crv": crv, "x": encoded(x), "y": encoded(y), "kid": "1" });
    Signer { alg, jwk, sign: Box::new(move |message| pair.sign(&random, message).unwrap().as_ref().to_vec()) }
}

fn rsa(alg: &'static str, padding: &'static dyn RsaEncoding) -> Signer {
    let text: String = include_str!("test_rsa_key.txt").split_whitespace().collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let pair = RsaKeyPair::from_pkcs8(&der).unwrap();
    let public = RsaPublic::from(pair.public());
    let jwk = json!({ "kty": "RSA", "alg": alg, "n": encoded(&public.n), "e": encoded(&public.e), "kid": "1" });
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    Signer { alg, jwk, sign: Box::new(sign) }
}

type RsaPublic = ring::signature::RsaPublicKeyComponents<Vec<u8>>;

fn ed25519() -> Signer {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key()), "kid": "1" });
    Signer { alg: "EdDSA", jwk, sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()) }
}

fn es256() -> Signer {
    ec("ES256", &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
}

impl Signer {
    fn header(&self) -> Value {
        json!({ "alg": self.alg, "kid": "1", "typ": "JWT" })
    }

    /// The token of these very texts.
    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(payload));
        let signature = encoded((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    fn keys(&self) -> KeySet {
        set(std::slice::from_ref(&self.jwk))
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "hooks", "sub": "a", "iat": SECONDS, "exp": SECONDS + 300 })
}

/// As a caller goes about it.
fn believed(token: &str, keys: &KeySet) -> Result<Claims, Fault> {
    believed_at(token, keys, NOW)
}

fn believed_at(token: &str, keys: &KeySet, now: UnixMs) -> Result<Claims, Fault> {
    let token = Unverified::parse(token)?;
    token.claims().check(now, &["hooks".to_owned()])?;
    match token.key(keys) {
        Found::Key(key) => {
            let key = key.clone();
            token.verify(&key)
        }
        Found::OtherAlgorithm => Err(Fault::Algorithm),
        Found::Nothing => Err(Fault::UnknownKey),
    }
}

#[test]
fn a_token_of_every_algorithm_is_believed_with_its_key_and_with_no_other() {
    let signers = [
        rsa("RS256", &RSA_PKCS1_SHA256),
        rsa("RS512", &RSA_PKCS1_SHA512),
        rsa("PS256", &RSA_PSS_SHA256),
        es256(),
        ec("ES384", &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        ed25519(),
    ];
    let stranger = es256();
    for signer in &signers {
        let token = signer.token(|_| {});
        let claims = believed(&token, &signer.keys()).unwrap();
        assert_eq!((claims.sub.as_deref(), claims.iss.as_deref()), (Some("a"), Some("https://id.example")));
        for other in signers.iter().chain([&stranger]).filter(|other| other.jwk != signer.jwk) {
            let fault = believed(&token, &other.keys()).unwrap_err();
            assert!(matches!(fault, Fault::Algorithm | Fault::Signature), "{} {}: {fault}", signer.alg, other.alg);
        }
    }
}

#[test]
fn a_change_of_any_character_is_noticed() {
    let signer = es256();
    let (token, keys) = (signer.token(|_| {}), signer.keys());
    for (at, character) in token.char_indices() {
        for other in ["A", "B", ".", "=", ""] {
            if other == character.to_string() {
                continue;
            }
            let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            assert!(believed(&changed, &keys).is_err(), "{at}: {other}");
        }
    }
}

#[test]
fn none_and_shared_secrets_are_no_algorithms() {
    let signer = rsa("RS256", &RSA_PKCS1_SHA256);
    let keys = signer.keys();
    let payload = encoded(claims().to_string());
    for alg in ["none", "None", "NONE", "", "HS256", "HS512", "RS1", "rs256", "RSA-OAEP"] {
        let header = encoded(json!({ "alg": alg, "kid": "1" }).to_string());
        let signed = format!("{header}.{payload}");
        // The public key, which everybody knows, as the shared secret: in the forms in which libraries have taken it.
        let public = signer.jwk["n"].as_str().unwrap();
        for secret in [public.as_bytes().to_vec(), BASE64URL.decode(public).unwrap(), signer.jwk.to_string().into()] {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let signature = encoded(ring::hmac::sign(&key, signed.as_bytes()));
            assert_eq!(believed(&format!("{signed}.{signature}"), &keys), Err(Fault::Algorithm), "{alg}");
        }
        assert_eq!(believed(&format!("{signed}."), &keys), Err(Fault::Algorithm), "{alg}");
    }
    for header in [json!({ "kid": "1" }), json!({ "alg": 1, "kid": "1" }), json!({ "alg": null, "kid": "1" })] {
        let token = signer.sign(&header.to_string(), &claims().to_string());
        assert_eq!(believed(&token, &keys), Err(Fault::Algorithm), "{header}");
    }
}

#[test]
fn the_key_says_the_algorithm_and_not_the_token() {
    // Signed rightly by the right key, and yet not in the way the key is for.
    let signer = Signer { jwk: rsa("RS256", &RSA_PKCS1_SHA256).jwk, ..rsa("RS512", &RSA_PKCS1_SHA512) };
    assert_eq!(believed(&signer.token(|_| {}), &signer.keys()), Err(Fault::Algorithm));
    let mut unnamed = signer.jwk.clone();
    unnamed.as_object_mut().unwrap().remove("alg");
    assert_eq!(believed(&signer.token(|_| {}), &set(&[unnamed.clone()])), Err(Fault::Algorithm));
    assert!(believed(&rsa("RS256", &RSA_PKCS1_SHA256).token(|_| {}), &set(&[unnamed])).is_ok());
}

#[test]
fn a_token_brings_no_key_of_its_own() {
    let (trusted, forger) = (es256(), es256());
    let header = json!({
        "alg": "ES256", "kid": "1", "jwk": forger.jwk, "jku": "https://evil.example/jwks", "x5u": "https://evil.example",
    });
    let token = forger.sign(&header.to_string(), &claims().to_string());
    assert_eq!(believed(&token, &trusted.keys()), Err(Fault::Signature));
}

#[test]
fn a_kid_that_is_unknown_is_no_key_and_none_at_all_is_the_only_key_there_is() {
    let signer = es256();
    let token = signer.sign(&json!({ "alg": "ES256", "kid": "2" }).to_string(), &claims().to_string());
    assert_eq!(believed(&token, &signer.keys()), Err(Fault::UnknownKey));
    let nameless = signer.sign(&json!({ "alg": "ES256" }).to_string(), &claims().to_string());
    assert!(believed(&nameless, &signer.keys()).is_ok());
    let two = set(&[signer.jwk.clone(), es256().jwk]);
    assert_eq!(believed(&nameless, &two), Err(Fault::UnknownKey));
    let odd = signer.sign(&json!({ "alg": "ES256", "kid": 1 }).to_string(), &claims().to_string());
    assert_eq!(believed(&odd, &signer.keys()), Err(Fault::Malformed));
}

#[test]
fn names_given_twice_are_refused_however_they_are_written() {
    let signer = es256();
    let keys = signer.keys();
    let (header, payload) = (signer.header().to_string(), claims().to_string());
    let with = |text: &str, member: &str| format!("{},{member}}}", text.strip_suffix('}').unwrap());
    assert!(believed(&signer.sign(&header, &with(&payload, r#""x":{"y":1}"#)), &keys).is_ok());
    for member in [r#""aud":"hooks""#, r#""\u0061ud":"hooks""#, r#""exp":1"#, r#""x":{"y":1,"y":1}"#, r#""z":1,"z":1"#]
    {
        assert_eq!(believed(&signer.sign(&header, &with(&payload, member)), &keys), Err(Fault::Malformed), "{member}");
    }
    for member in [r#""alg":"ES256""#, r#""kid":"1""#] {
        assert_eq!(believed(&signer.sign(&with(&header, member), &payload), &keys), Err(Fault::Malformed), "{member}");
    }
}

#[test]
fn a_token_may_have_so_many_bytes_and_not_one_more() {
    let signer = ed25519();
    let padded = |length: usize| signer.token(|claims| claims["pad"] = json!("x".repeat(length)));
    // Four characters carry three bytes: a few lengths reach the bound exactly.
    let at_bound = (5000..7000).map(padded).find(|token| token.len() == TOKEN_BYTES_MAX).unwrap();
    assert!(believed(&at_bound, &signer.keys()).is_ok());
    assert_eq!(believed(&format!("{at_bound}A"), &signer.keys()), Err(Fault::TooLarge));
}

#[test]
fn times_hold_with_the_leeway_and_not_a_millisecond_beyond() {
    let signer = ed25519();
    let keys = signer.keys();
    let leeway = TOKEN_LEEWAY.as_millis() as i64;
    let at = |token: &str, ms: i64| believed_at(token, &keys, UnixMs(ms)).map(drop);
    let token = signer.token(|claims| claims["exp"] = json!(SECONDS));
    assert_eq!(at(&token, NOW.0 + leeway - 1), Ok(()));
    assert_eq!(at(&token, NOW.0 + leeway), Err(Fault::Expired));
    let token = signer.token(|claims| claims["exp"] = json!(SECONDS as f64 + 0.5));
    assert_eq!(at(&token, NOW.0 + leeway + 499), Ok(()));
    assert_eq!(at(&token, NOW.0 + leeway + 500), Err(Fault::Expired));
    for name in ["nbf", "iat"] {
        let token = signer.token(|claims| {
            claims["iat"] = Value::Null;
            claims[name] = json!(SECONDS);
        });
        assert_eq!(at(&token, NOW.0 - leeway), Ok(()), "{name}");
        assert_eq!(at(&token, NOW.0 - leeway - 1), Err(Fault::NotYet), "{name}");
    }
    let without = signer.token(|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
    assert_eq!(at(&without, NOW.0), Err(Fault::Endless));
    assert_eq!(at(&signer.token(|claims| claims["exp"] = Value::Null), NOW.0), Err(Fault::Endless));
    assert_eq!(at(&signer.token(|claims| claims["exp"] = json!(-1e300)), NOW.0), Err(Fault::Expired));
    assert_eq!(at(&signer.token(|claims| claims["nbf"] = json!(1e300)), NOW.0), Err(Fault::NotYet));
    assert_eq!(at(&signer.token(|claims| claims["exp"] = json!(1e300)), NOW.0), Ok(()));
    assert_eq!(at(&signer.token(|claims| claims["exp"] = json!("soon")), NOW.0), Err(Fault::Malformed));
}

#[test]
fn the_audience_is_one_of_those_that_are_asked_for() {
    let signer = ed25519();
    let told = |aud: Value| believed(&signer.token(|claims| claims["aud"] = aud), &signer.keys()).map(drop);
    assert_eq!(told(json!("hooks")), Ok(()));
    assert_eq!(told(json!(["other", "hooks"])), Ok(()));
    for aud in [json!("other"), json!("hooks "), json!("HOOKS"), json!(""), json!([]), json!(["hook"]), Value::Null] {
        assert_eq!(told(aud.clone()), Err(Fault::Audience), "{aud}");
    }
    for aud in [json!(1), json!({ "hooks": 1 }), json!([["hooks"]])] {
        assert_eq!(told(aud.clone()), Err(Fault::Malformed), "{aud}");
    }
}

#[test]
fn what_is_no_access_token_in_the_compact_form_is_refused() {
    let signer = es256();
    let keys = signer.keys();
    let token = signer.token(|_| {});
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let texts = [
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        signed.to_owned(),
        format!("{token}.{signature}.x"),
        format!("{token}="),
        format!(" {token}"),
        json!({ "payload": "x", "signatures": [] }).to_string(),
    ];
    for text in texts {
        assert_eq!(believed(&text, &keys), Err(Fault::Malformed), "{text}");
    }
    for header in [
        json!({ "alg": "ES256", "kid": "1", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "ES256", "kid": "1", "crit": null }),
        json!({ "alg": "ES256", "kid": "1", "typ": "dpop+jwt" }),
        json!({ "alg": "ES256", "kid": "1", "typ": "logout+jwt" }),
        json!({ "alg": "ES256", "kid": "1", "typ": 1 }),
        json!([]),
    ] {
        let token = signer.sign(&header.to_string(), &claims().to_string());
        assert_eq!(believed(&token, &keys), Err(Fault::Malformed), "{header}");
    }
    for typ in ["at+jwt", "application/at+jwt", "jwt"] {
        let header = json!({ "alg": "ES256", "kid": "1", "typ": typ });
        assert!(believed(&signer.sign(&header.to_string(), &claims().to_string()), &keys).is_ok(), "{typ}");
    }
    let values = claims().as_object().unwrap().values().cloned().collect::<Vec<_>>();
    for payload in [json!(values).to_string(), "1".to_owned(), "{".to_owned(), "[".repeat(5000)] {
        assert_eq!(believed(&signer.sign(&signer.header().to_string(), &payload), &keys), Err(Fault::Malformed));
    }
}

#[test]
fn a_signature_in_der_or_with_a_zero_half_is_none() {
    let signer = es256();
    let token = signer.token(|_| {});
    let (signed, _) = token.rsplit_once('.').unwrap();
    let zero = [0; 64];
    let der = [&[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01][..]].concat();
    for signature in [&zero[..], &der, &zero[..63], &[]] {
        let forged = format!("{signed}.{}", encoded(signature));
        assert_eq!(believed(&forged, &signer.keys()), Err(Fault::Signature), "{signature:?}");
    }
}

#[test]
fn keys_that_are_for_something_else_or_weak_are_left_out() {
    let (ec, rsa, ed) = (es256().jwk, rsa("RS256", &RSA_PKCS1_SHA256).jwk, ed25519().jwk);
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    let modulus = BASE64URL.decode(rsa["n"].as_str().unwrap()).unwrap();
    let left_out = [
        with(&ec, "use", json!("enc")),
        with(&ec, "key_ops", json!(["sign"])),
        with(&ec, "alg", json!("ES384")),
        with(&ec, "alg", json!("HS256")),
        with(&ec, "crv", json!("P-521")),
        with(&ec, "crv", json!("secp256k1")),
        with(&ec, "x", json!("AA")),
        with(&ec, "y", Value::Null),
        with(&ed, "crv", json!("X25519")),
        with(&ed, "x", json!(encoded([1; 31]))),
        with(&rsa, "alg", json!("RSA-OAEP")),
        with(&rsa, "alg", json!("ES256")),
        with(&rsa, "n", json!(encoded(&modulus[..255]))),
        with(&rsa, "n", json!("")),
        with(&rsa, "e", json!(encoded([1; 9]))),
        json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "1" }),
        json!({ "kid": "1" }),
        json!("key"),
    ];
    for jwk in &left_out {
        assert!(set(std::slice::from_ref(jwk)).is_empty(), "{jwk}");
    }
    // And they do not spoil the others.
    let mixed: Vec<Value> = left_out.into_iter().chain([ed]).collect();
    assert!(believed(&ed25519().token(|_| {}), &set(&mixed)).is_ok());
    let zeros = [&[0, 0][..], &modulus].concat();
    let padded = set(&[with(&rsa, "n", json!(encoded(zeros)))]);
    assert_eq!(padded, set(&[rsa]));
}

#[test]
fn a_key_set_is_one_and_bounded() {
    let parse = |text: &str| KeySet::parse(text.as_bytes());
    assert!(parse(r#"{"keys":[]}"#).unwrap().is_empty());
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
        assert!(parse(text).is_err(), "{text}");
    }
    let of = |count: usize| json!({ "keys": vec![es256().jwk; count] }).to_string();
    assert!(parse(&of(JWKS_KEYS_MAX)).is_ok());
    assert!(parse(&of(JWKS_KEYS_MAX + 1)).is_err());
    let frame = r#"{"keys":[]}"#;
    let padded = |bytes: usize| format!("{frame}{}", " ".repeat(bytes - frame.len()));
    assert!(parse(&padded(crate::limits::JWKS_BYTES_MAX)).is_ok());
    assert!(parse(&padded(crate::limits::JWKS_BYTES_MAX + 1)).is_err());
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_refused_and_nothing_falls_over(
        text in ".{0,300}",
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        header in proptest::sample::select(vec![r#"{"alg":"ES256","kid":"1"}"#, r#"{"alg":"RS256","kid":"1"}"#, "{}"]),
    ) {
        let keys = es256().keys();
        let payload = encoded(&bytes);
        let tokens =
            [text.clone(), format!("{text}.{text}.{text}"), format!("{}.{payload}.{payload}", encoded(header))];
        for token in tokens {
            proptest::prop_assert!(believed(&token, &keys).is_err(), "{}", token);
        }
        let _ = KeySet::parse(&bytes);
        let _ = KeySet::parse(text.as_bytes());
    }
}
