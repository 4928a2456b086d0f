//! The one core that reads every row: where the signatures are, which bytes they are over, and whether one fits.
//!
//! The signature is looked at before its time, so `timestamp_outside_tolerance` says that the request was genuine.
//! Signatures are compared as text, in constant time: another spelling of the same bytes is not the signature.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use ring::{digest, hmac, signature};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::inbound::address;
use crate::inbound::body::{Body, likely_originals};
use crate::inbound::provider::{Algorithm, Encoding, KeyForm, Part, Recipe, Signature, Text, Time, TimePlace, Unit};
use crate::inbound::{Reason, Request, Verdict};
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

/// How far a signed time may lie in the future, for every provider: clocks differ, and nothing is gained by it.
const FUTURE: Duration = Duration::from_secs(300);

/// Whether the request brings a signature of this recipe.
pub(super) fn is_present(recipe: &Recipe, request: &Request<'_>, body: &Body<'_>) -> bool {
    match &recipe.signature {
        Signature::Header { name, .. } | Signature::Pairs { name, .. } => request.header(name).is_some(),
        Signature::Tagged { name, tag } => {
            request.header(name).is_some_and(|value| tagged(value, tag).next().is_some() || !value.contains(','))
        }
        Signature::Numbered { prefix } => numbered(prefix, request).next().is_some(),
        // A place in the body: whether it is missing is said by reason, not by trying the next scheme.
        Signature::Json(_) => true,
        Signature::FormPairs(name) => body.field(name).is_some(),
    }
}

/// Verifies; the index of the secret that did it.
///
/// # Errors
/// The first reason found.
pub(super) fn check(
    recipe: &Recipe,
    secrets: &[Secret],
    request: &Request<'_>,
    body: &Body<'_>,
    now: UnixMs,
) -> Result<usize, Reason> {
    let claims = claims(recipe, request, body)?;
    let time = recipe.time.as_ref().map(|time| written_time(time, recipe, request, body)).transpose()?;
    let keys: Vec<(usize, Key)> =
        secrets.iter().enumerate().filter_map(|(index, secret)| Some((index, key(recipe, secret)?))).collect();
    let exchange = Exchange { recipe, request, time: time.as_deref().unwrap_or_default() };
    let found = exchange.find(&keys, &claims, body)?;
    let Some(secret) = found else { return Err(exchange.mismatch(&keys, &claims)) };
    check_hash(recipe, request)?;
    match (&recipe.time, &time) {
        (Some(rule), Some(written)) => check_time(rule, written, now).map(|()| secret),
        _ => Ok(secret),
    }
}

/// Verifies a request that carries the secret itself.
pub(super) fn check_token(place: &Text, secrets: &[Secret], request: &Request<'_>, body: &Body<'_>) -> Verdict {
    let Some(token) = place.read(request, body) else { return Verdict::Failed(Reason::MissingHeader) };
    let token = Zeroizing::new(token);
    match secrets.iter().position(|secret| secret.reveal().as_bytes().ct_eq(token.as_bytes()).into()) {
        Some(secret) if !token.is_empty() => Verdict::Authenticated { secret },
        _ => Verdict::Failed(Reason::SignatureMismatch),
    }
}

/// A signature as it is written in the request, with the name of its key where the provider gives one.
struct Claim<'r> {
    key_name: Option<&'r str>,
    text: Cow<'r, str>,
}

fn claims<'r>(recipe: &Recipe, request: &Request<'r>, body: &'r Body<'_>) -> Result<Vec<Claim<'r>>, Reason> {
    let texts: Vec<Claim<'r>> = match &recipe.signature {
        Signature::Header { name, prefix } => {
            let value = bounded(request.header(name))?;
            vec![claim(value.strip_prefix(prefix).ok_or(Reason::MalformedHeader)?)]
        }
        Signature::Pairs { name, separator, key } => {
            let value = bounded(request.header(name))?;
            pairs(value, *separator).filter(|(given, _)| given == key).map(|(_, text)| claim(text)).collect()
        }
        Signature::Tagged { name, tag } => tagged(bounded(request.header(name))?, tag).map(claim).collect(),
        Signature::Numbered { prefix } => numbered(prefix, request).map(claim).collect(),
        Signature::Json(path) => {
            body.json().ok_or(Reason::MalformedBody)?;
            vec![Claim { key_name: None, text: body.text(path).ok_or(Reason::MissingField)? }]
        }
        Signature::FormPairs(name) => {
            let value = body.field(name).ok_or(Reason::MissingField)?;
            let named = value.split('&').filter_map(|pair| pair.split_once('|'));
            named.map(|(name, text)| Claim { key_name: Some(name), text: Cow::Borrowed(text) }).collect()
        }
    };
    let looks_right = |claim: &Claim<'_>| looks_right(recipe, &claim.text);
    let claims: Vec<Claim<'r>> = texts.into_iter().take(limits::INBOUND_SIGNATURES_MAX).filter(looks_right).collect();
    if claims.is_empty() { Err(Reason::MalformedHeader) } else { Ok(claims) }
}

fn claim(text: &str) -> Claim<'_> {
    Claim { key_name: None, text: Cow::Borrowed(text) }
}

fn bounded(value: Option<&str>) -> Result<&str, Reason> {
    let value = value.ok_or(Reason::MissingHeader)?;
    if value.is_empty() || value.len() > limits::INBOUND_HEADER_BYTES_MAX {
        return Err(Reason::MalformedHeader);
    }
    Ok(value)
}

fn pairs(value: &str, separator: char) -> impl Iterator<Item = (&str, &str)> {
    value.split(separator).filter_map(|pair| pair.trim().split_once('='))
}

fn tagged<'v>(value: &'v str, tag: &'static str) -> impl Iterator<Item = &'v str> {
    value
        .split(' ')
        .filter_map(move |item| item.split_once(',').filter(|(given, _)| *given == tag).map(|(_, text)| text))
}

fn numbered<'r>(prefix: &'static str, request: &Request<'r>) -> impl Iterator<Item = &'r str> {
    request.headers.iter().filter_map(move |(name, value)| {
        let (start, number) = name.split_at_checked(prefix.len())?;
        let is_one =
            start.eq_ignore_ascii_case(prefix) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        is_one.then_some(*value)
    })
}

/// Whether the text could be a signature at all: its length and alphabet.
fn looks_right(recipe: &Recipe, text: &str) -> bool {
    let length = match recipe.algorithm {
        Algorithm::HmacSha1 => Some(20),
        Algorithm::HmacSha256 => Some(32),
        Algorithm::HmacSha512 | Algorithm::Ed25519 => Some(64),
        Algorithm::EcdsaP256 => None,
    };
    let is_length = |bytes: usize| length.map_or((8..=80).contains(&bytes), |length| bytes == length);
    decoded(recipe.encoding, text).is_some_and(|bytes| is_length(bytes.len()))
}

fn decoded(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    if text.len() > 256 {
        return None;
    }
    match encoding {
        Encoding::Hex => hex::decode(text).ok(),
        Encoding::Base64 => BASE64.decode(text).ok(),
        Encoding::Base64Url => BASE64_URL.decode(text).ok(),
    }
}

/// What a secret is to its recipe.
pub(super) enum Key {
    Mac { key: hmac::Key, name: Option<String> },
    Public(Vec<u8>),
}

/// `None` if the secret does not have the recipe's form.
pub(super) fn key(recipe: &Recipe, secret: &Secret) -> Option<Key> {
    let text = secret.reveal().trim();
    let mac = |bytes: &[u8]| {
        let key = (!bytes.is_empty()).then(|| hmac::Key::new(mac_algorithm(recipe.algorithm), bytes))?;
        Some(Key::Mac { key, name: None })
    };
    match recipe.key {
        // A public key is no key to sign with: who knows it, which anybody may, could forge requests.
        KeyForm::Utf8 if text.starts_with("whpk_") => None,
        KeyForm::Utf8 => mac(secret.reveal().as_bytes()),
        KeyForm::Whsec => mac(&whsec(text)?),
        KeyForm::WhsecOrBase64 => mac(&whsec(text).or_else(|| base64_key(text))?),
        KeyForm::Hex if recipe.algorithm == Algorithm::Ed25519 => public(hex::decode(text).ok()?),
        KeyForm::Hex => mac(&Zeroizing::new(hex::decode(text).ok()?)),
        KeyForm::Whpk => public(BASE64.decode(text.strip_prefix("whpk_")?).ok()?),
        KeyForm::Spki => spki_point(text).map(Key::Public),
        KeyForm::Sha1OfPrivate => {
            let (name, private) = text.split_once('|')?;
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, private.as_bytes());
            let key = hmac::Key::new(mac_algorithm(recipe.algorithm), hash.as_ref());
            Some(Key::Mac { key, name: Some(name.to_owned()) })
        }
    }
}

fn public(bytes: Vec<u8>) -> Option<Key> {
    (bytes.len() == 32).then_some(Key::Public(bytes))
}

fn whsec(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    base64_key(text.strip_prefix("v1,").unwrap_or(text).strip_prefix("whsec_")?)
}

fn base64_key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    BASE64.decode(text).ok().map(Zeroizing::new)
}

/// What stands in every SubjectPublicKeyInfo of an uncompressed P-256 point before the point (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

fn spki_point(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let bytes = BASE64.decode(lines.flat_map(str::split_whitespace).collect::<String>()).ok()?;
    let point = bytes.strip_prefix(&P256_SPKI)?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

fn mac_algorithm(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        Algorithm::HmacSha256 | Algorithm::Ed25519 | Algorithm::EcdsaP256 => hmac::HMAC_SHA256,
    }
}

/// One request read by one recipe.
struct Exchange<'a, 'r> {
    recipe: &'a Recipe,
    request: &'a Request<'r>,
    time: &'a str,
}

impl Exchange<'_, '_> {
    /// The secret that made one of the claims over this body.
    fn find(&self, keys: &[(usize, Key)], claims: &[Claim<'_>], body: &Body<'_>) -> Result<Option<usize>, Reason> {
        let spellings = match self.recipe.message.contains(&Part::Url) {
            true => address::spellings(self.recipe.url, self.request.url),
            false => vec![Cow::Borrowed("")],
        };
        for url in &spellings {
            let pieces = self.pieces(url, body)?;
            let fits = |key: &Key| fits(self.recipe, key, &pieces, claims);
            if let Some((index, _)) = keys.iter().find(|(_, key)| fits(key)) {
                return Ok(Some(*index));
            }
        }
        Ok(None)
    }

    /// Why nothing fits: whether there is a key at all, and whether it would have fitted a body that somebody on the way
    /// may have made this one from.
    fn mismatch(&self, keys: &[(usize, Key)], claims: &[Claim<'_>]) -> Reason {
        let knows = |claim: &Claim<'_>| keys.iter().any(|(_, key)| is_named(key, claim));
        if !claims.iter().any(knows) {
            return Reason::UnknownKey;
        }
        if !self.recipe.message.contains(&Part::Body) {
            return Reason::SignatureMismatch;
        }
        // One pass over the body for each: two secrets, current and previous, are worth it.
        let keys = &keys[..keys.len().min(2)];
        let originals = likely_originals(self.request.body);
        let fits = |original: &Vec<u8>| matches!(self.find(keys, claims, &Body::new(original)), Ok(Some(_)));
        if originals.iter().any(fits) { Reason::BodyModifiedSuspected } else { Reason::SignatureMismatch }
    }

    /// What is signed, in pieces, so that a body need not be copied.
    fn pieces<'p>(&'p self, url: &'p str, body: &'p Body<'_>) -> Result<Vec<Cow<'p, [u8]>>, Reason> {
        let text = |text: &'p str| Cow::Borrowed(text.as_bytes());
        let piece = |part: &Part| {
            Ok(match part {
                Part::Literal(literal) => Cow::Borrowed(literal.as_bytes()),
                Part::Time => text(self.time),
                Part::Header(name) => text(bounded(self.request.header(name))?),
                Part::Method => text(self.request.method),
                Part::Url => text(url),
                Part::Body => Cow::Borrowed(body.bytes),
                Part::SortedFormUnlessHashed => Cow::Owned(match body_hash(self.request) {
                    Some(_) => Vec::new(),
                    None => sorted_form(body),
                }),
                Part::Json(path) => Cow::Owned(body.text(path).ok_or(Reason::MissingField)?.into_owned().into_bytes()),
                Part::Form(name) => text(body.field(name).ok_or(Reason::MissingField)?),
            })
        };
        self.recipe.message.iter().map(piece).collect()
    }
}

/// Names and values sorted by name, then value, each pair once, as Twilio's libraries do.
fn sorted_form(body: &Body<'_>) -> Vec<u8> {
    let mut pairs: Vec<(&str, &str)> =
        body.form().iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect::<Vec<_>>().concat()
}

const BODY_HASH: &str = "bodySHA256";

/// The hash of the body that the URL claims, where the recipe knows such a thing.
fn body_hash(request: &Request<'_>) -> Option<String> {
    request.parameter(BODY_HASH)
}

fn check_hash(recipe: &Recipe, request: &Request<'_>) -> Result<(), Reason> {
    if !recipe.message.contains(&Part::SortedFormUnlessHashed) {
        return Ok(());
    }
    let Some(claimed) = body_hash(request) else { return Ok(()) };
    let actual = hex::encode(digest::digest(&digest::SHA256, request.body));
    // The URL is genuine by now, so it is the body that is not.
    if bool::from(actual.as_bytes().ct_eq(claimed.as_bytes())) { Ok(()) } else { Err(Reason::BodyModifiedSuspected) }
}

fn is_named(key: &Key, claim: &Claim<'_>) -> bool {
    match (key, claim.key_name) {
        (Key::Mac { name: Some(name), .. }, Some(given)) => name == given,
        _ => true,
    }
}

fn fits(recipe: &Recipe, key: &Key, pieces: &[Cow<'_, [u8]>], claims: &[Claim<'_>]) -> bool {
    let mut named = claims.iter().filter(|claim| is_named(key, claim));
    match key {
        Key::Mac { key, .. } => {
            let mut context = hmac::Context::with_key(key);
            pieces.iter().for_each(|piece| context.update(piece));
            let expected = encoded(recipe.encoding, context.sign().as_ref());
            named.any(|claim| claim.text.as_bytes().ct_eq(expected.as_bytes()).into())
        }
        Key::Public(public) => {
            let algorithm: &dyn signature::VerificationAlgorithm = match recipe.algorithm {
                Algorithm::Ed25519 => &signature::ED25519,
                _ => &signature::ECDSA_P256_SHA256_ASN1,
            };
            let key = signature::UnparsedPublicKey::new(algorithm, public);
            let message = pieces.concat();
            named.take(limits::INBOUND_PUBLIC_KEY_CHECKS_MAX).any(|claim| {
                decoded(recipe.encoding, &claim.text).is_some_and(|bytes| key.verify(&message, &bytes).is_ok())
            })
        }
    }
}

fn encoded(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => BASE64.encode(bytes),
        Encoding::Base64Url => BASE64_URL.encode(bytes),
    }
}

/// The time of signing as it is written: exactly this text is signed.
fn written_time<'r>(
    time: &Time,
    recipe: &Recipe,
    request: &Request<'r>,
    body: &'r Body<'_>,
) -> Result<Cow<'r, str>, Reason> {
    let written = match (&time.place, &recipe.signature) {
        (TimePlace::Header(name), _) => Cow::Borrowed(bounded(request.header(name))?),
        (TimePlace::Pair(key), Signature::Pairs { name, separator, .. }) => {
            let mut pairs = pairs(bounded(request.header(name))?, *separator);
            Cow::Borrowed(pairs.find(|(given, _)| given == key).ok_or(Reason::MalformedHeader)?.1)
        }
        (TimePlace::Pair(_), _) => return Err(Reason::MalformedHeader),
        (TimePlace::Json(path), _) => {
            body.json().ok_or(Reason::MalformedBody)?;
            body.text(path).ok_or(Reason::MissingField)?
        }
    };
    let malformed = match time.place {
        TimePlace::Json(_) => Reason::MalformedBody,
        TimePlace::Header(_) | TimePlace::Pair(_) => Reason::MalformedHeader,
    };
    // Where the text is signed and no bound is set, it is only a text: SendGrid and Discord do not promise its form.
    if time.tolerance.is_none() || instant(time.unit, &written).is_some() { Ok(written) } else { Err(malformed) }
}

fn instant(unit: Unit, written: &str) -> Option<UnixMs> {
    if unit == Unit::Rfc3339 {
        return if written.len() <= 64 { written.parse().ok() } else { None };
    }
    let is_number = !written.is_empty() && written.len() <= 15 && written.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = is_number.then(|| written.parse().ok()).flatten()?;
    match unit {
        Unit::Seconds => number.checked_mul(1000).map(UnixMs),
        _ => Some(UnixMs(number)),
    }
}

fn check_time(time: &Time, written: &str, now: UnixMs) -> Result<(), Reason> {
    let Some(tolerance) = time.tolerance else { return Ok(()) };
    let at = instant(time.unit, written).ok_or(Reason::MalformedHeader)?;
    // A second more for times that are cut to whole seconds.
    let age_max = tolerance + if time.unit == Unit::Seconds { Duration::from_millis(999) } else { Duration::ZERO };
    if now.since(at) > age_max || at.since(now) > FUTURE {
        return Err(Reason::TimestampOutsideTolerance);
    }
    Ok(())
}
