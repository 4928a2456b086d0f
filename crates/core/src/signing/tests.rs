use proptest::prelude::*;

use super::*;

/// Of the official Standard Webhooks libraries' own tests.
const OFFICIAL: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// RFC 8032, section 7.1, test 1: seed and public key.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const BODY: &str = r#"{"hello":"world"}"#;

type Headers = Vec<(String, String)>;

fn secrets(current: &str, previous: Option<(&str, UnixMs)>) -> WebhookSecrets {
    let previous = previous.map(|(text, until)| (Secret::new(text.into()), until));
    WebhookSecrets { current: Secret::new(current.into()), previous }
}

fn ed25519() -> String {
    format!("whsk_{}", BASE64.encode(SEED))
}

/// The signature headers alone.
fn sign(dialect: Dialect, secrets: &WebhookSecrets, id: &str, at: UnixMs, body: &str) -> Headers {
    let time = at.seconds().to_string();
    let message = Message { id, time: &time, body: body.as_bytes() };
    let mut headers = Vec::new();
    SigningKeys::new(dialect, secrets).unwrap().sign(&dialect.profile().signature, &message, at, &mut headers);
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The signature headers with those that hold what else is signed.
fn request(dialect: Dialect, secrets: &WebhookSecrets, body: &str) -> Headers {
    let mut headers = sign(dialect, secrets, "evt_1", NOW, body);
    let profile = dialect.profile();
    headers.extend(profile.id_header.map(|name| (name.to_owned(), "evt_1".to_owned())));
    headers.extend(profile.time_header.map(|name| (name.to_owned(), "1700000000".to_owned())));
    headers
}

fn check_at(dialect: Dialect, secret: &str, headers: &Headers, body: &[u8], now: UnixMs) -> Result<(), VerifyError> {
    let header = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    verify(dialect, &Secret::new(secret.into()), header, body, now)
}

fn check(dialect: Dialect, secret: &str, headers: &Headers, body: &str) -> Result<(), VerifyError> {
    check_at(dialect, secret, headers, body.as_bytes(), NOW)
}

/// A secret fit for every dialect's test, and a second one.
fn pair(dialect: Dialect) -> (&'static str, &'static str) {
    if dialect == Dialect::Standard { (OFFICIAL, OTHER) } else { ("test-secret", "old-secret") }
}

#[test]
fn the_contracts_vectors_are_met() {
    const STAMPED: &str = "f85455a1b55ea86f7a15f5f9923d0abc4b888da84ec485f2ff358f427776beca";
    const BARE: &str = "84cc33df716ed0b0598f07437c94069ace3730358778a592bd6bbd1423d111f3";
    for (dialect, header, expected) in [
        (Dialect::Athenatext, "athena-signature", format!("t=1700000000,v1={STAMPED}")),
        (Dialect::Scaikey, "x-scaikey-signature", format!("t=1700000000,v1={STAMPED}")),
        (Dialect::Alumia, "x-alumia-signature", format!("t=1700000000,v1={STAMPED}")),
        (Dialect::Athenty, "x-athenty-signature", BARE.to_owned()),
    ] {
        let signed = sign(dialect, &secrets("test-secret", None), "evt_1", NOW, BODY);
        assert_eq!(signed, [(header.to_owned(), expected)]);
    }
}

#[test]
fn athenas_vector_is_met() {
    let body = r#"{"event_id":"evt_1","payload":"hello"}"#;
    let expected = "v1=3efa3be6cf2a27faa78e6170ce247195799201711a662baab749fb569772c287";
    let signed = sign(Dialect::Athena, &secrets("test-secret", None), "evt_1", NOW, body);
    assert_eq!(signed, [("x-athena-signature".to_owned(), expected.to_owned())]);
}

#[test]
fn standard_webhooks_own_vector_is_met() {
    let at = UnixMs(1_614_265_330_000);
    let body = r#"{"test": 2432232314}"#;
    let signed = sign(Dialect::Standard, &secrets(OFFICIAL, None), "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
    let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(signed, [("webhook-signature".to_owned(), expected.to_owned())]);
}

#[test]
fn standard_webhooks_own_ed25519_vector_is_met() {
    let at = UnixMs(1_614_265_330_000);
    let body = r#"{"test": 2432232314}"#;
    let key = secrets("whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=", None);
    let signed = sign(Dialect::Standard, &key, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
    let expected = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
    assert_eq!(signed, [("webhook-signature".to_owned(), expected.to_owned())]);
}

#[test]
fn the_public_key_of_an_ed25519_secret_is_the_published_one() {
    let expected = format!("whpk_{}", BASE64.encode(hex::decode(PUBLIC).unwrap()));
    let seed_and_public = [SEED.to_vec(), hex::decode(PUBLIC).unwrap()].concat();
    for secret in [ed25519(), format!("whsk_{}", BASE64.encode(seed_and_public))] {
        let public = public_key(Dialect::Standard, &Secret::new(secret)).unwrap();
        assert_eq!((public.to_string(), hex::encode(public.0)), (expected.clone(), PUBLIC.to_owned()));
    }
    assert_eq!(public_key(Dialect::Standard, &Secret::new(OFFICIAL.into())), None);
    assert_eq!(public_key(Dialect::Athenty, &Secret::new(ed25519())), None);
}

#[test]
fn an_ed25519_signature_verifies_with_the_public_key_alone() {
    let headers = request(Dialect::Standard, &secrets(&ed25519(), None), BODY);
    let public = public_key(Dialect::Standard, &Secret::new(ed25519())).unwrap().to_string();
    assert!(headers[0].1.starts_with("v1a,"));
    assert_eq!(check(Dialect::Standard, &public, &headers, BODY), Ok(()));
    assert_eq!(check(Dialect::Standard, &ed25519(), &headers, BODY), Ok(()));
    assert_eq!(check(Dialect::Standard, &public, &headers, "{}"), Err(VerifyError::SignatureMismatch));
    assert_eq!(check(Dialect::Standard, OFFICIAL, &headers, BODY), Err(VerifyError::SignatureMismatch));
}

#[test]
fn a_secret_that_is_made_up_is_of_the_kind_of_the_former() {
    let after = |dialect, former: &str| secret_like(dialect, &Secret::new(former.into()), [3; 32]);
    let key = after(Dialect::Standard, &ed25519());
    assert_eq!(key.reveal(), format!("whsk_{}", BASE64.encode([3; 32])));
    assert!(public_key(Dialect::Standard, &key).is_some());
    for (dialect, former) in [(Dialect::Standard, OFFICIAL), (Dialect::Athenty, &ed25519()), (Dialect::Athena, "")] {
        assert_eq!(after(dialect, former), secret_from_random([3; 32]), "{dialect:?}");
    }
}

#[test]
fn a_rotation_from_hmac_to_ed25519_lists_both() {
    let both = secrets(&ed25519(), Some((OFFICIAL, NOW + TOLERANCE)));
    let headers = request(Dialect::Standard, &both, BODY);
    let (new, old) = headers[0].1.split_once(' ').unwrap();
    assert!(new.starts_with("v1a,") && old.starts_with("v1,"));
    assert_eq!(check(Dialect::Standard, OFFICIAL, &headers, BODY), Ok(()));
    assert_eq!(check(Dialect::Standard, &ed25519(), &headers, BODY), Ok(()));
}

#[test]
fn during_an_overlap_either_secret_verifies_and_the_header_keeps_its_shape() {
    for dialect in Dialect::ALL {
        let (new, old) = pair(dialect);
        let headers = request(dialect, &secrets(new, Some((old, NOW + TOLERANCE))), BODY);
        assert_eq!(check(dialect, new, &headers, BODY), Ok(()), "{dialect:?}");
        let overlaps = dialect.rotation_overlap() > std::time::Duration::ZERO;
        assert_eq!(check(dialect, old, &headers, BODY).is_ok(), overlaps, "{dialect:?}");
        let alone = |secret| request(dialect, &secrets(secret, None), BODY)[0].1.clone();
        let found: Vec<_> = headers.iter().filter(|(name, _)| name.contains("signature")).cloned().collect();
        let main = dialect.profile().signature.header;
        let expected = match dialect {
            Dialect::Standard => vec![(main.into(), format!("{} {}", alone(new), alone(old)))],
            Dialect::Scaikey => {
                let old = alone(old).split_once(',').unwrap().1.to_owned();
                vec![(main.into(), format!("{},{old}", alone(new)))]
            }
            Dialect::Athenatext | Dialect::Athenty => {
                vec![(main.into(), alone(old)), (format!("{main}-next"), alone(new))]
            }
            Dialect::Alumia | Dialect::Athena => vec![(main.into(), alone(new))],
        };
        assert_eq!(found, expected, "{dialect:?}");
    }
}

#[test]
fn the_previous_secret_stops_signing_the_moment_it_ends() {
    for dialect in Dialect::ALL {
        let (new, old) = pair(dialect);
        let ended = request(dialect, &secrets(new, Some((old, NOW))), BODY);
        assert_eq!(ended, request(dialect, &secrets(new, None), BODY), "{dialect:?}");
        let last_moment = request(dialect, &secrets(new, Some((old, UnixMs(NOW.0 + 1)))), BODY);
        let overlaps = dialect.rotation_overlap() > std::time::Duration::ZERO;
        assert_eq!(last_moment != ended, overlaps, "{dialect:?}");
    }
}

#[test]
fn secrets_are_taken_in_the_form_of_their_dialect_only() {
    let whsec = |n: usize| format!("whsec_{}", BASE64.encode(vec![7; n]));
    let whsk = |n: usize| format!("whsk_{}", BASE64.encode(vec![7; n]));
    let most = "x".repeat(limits::SECRET_BYTES_MAX);
    let too_long = "x".repeat(limits::SECRET_BYTES_MAX + 1);
    for (dialect, secret, good) in [
        (Dialect::Standard, whsec(23), false),
        (Dialect::Standard, whsec(24), true),
        (Dialect::Standard, whsec(64), true),
        (Dialect::Standard, whsec(65), false),
        (Dialect::Standard, whsec(32).trim_end_matches('=').to_owned(), false),
        (Dialect::Standard, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa*w".into(), false),
        (Dialect::Standard, whsk(32), true),
        (Dialect::Standard, whsk(31), false),
        (Dialect::Standard, whsk(64), false),
        (Dialect::Standard, "plain text".into(), false),
        (Dialect::Standard, String::new(), false),
        (Dialect::Athenatext, "x".into(), true),
        (Dialect::Scaikey, most, true),
        (Dialect::Alumia, too_long, false),
        (Dialect::Athenty, String::new(), false),
        (Dialect::Athena, String::new(), true),
    ] {
        let found = check_secret(dialect, &Secret::new(secret.clone()));
        assert_eq!(found.is_ok(), good, "{dialect:?} {secret}: {found:?}");
        if let Err(InvalidSecret(message)) = found {
            assert!(
                secret.len() < 8 || !message.contains(&secret[6..]),
                "the message gives the secret away: {message}"
            );
        }
    }
}

#[test]
fn a_fresh_secret_fits_every_dialect_and_is_never_printed() {
    let secret = secret_from_random([9; 32]);
    assert!(Dialect::ALL.into_iter().all(|dialect| check_secret(dialect, &secret).is_ok()));
    let shown = format!("{secret:?} {:?}", WebhookSecrets { current: secret.clone(), previous: None });
    assert!(!shown.contains("whsec_"), "{shown}");
}

#[test]
fn an_athena_webhook_without_a_secret_signs_nothing_and_verifies_nothing() {
    assert!(sign(Dialect::Athena, &secrets("", None), "evt_1", NOW, BODY).is_empty());
    let headers = request(Dialect::Athena, &secrets("test-secret", None), BODY);
    assert_eq!(check(Dialect::Athena, "", &headers, BODY), Err(VerifyError::SignatureMismatch));
}

#[test]
fn a_time_five_minutes_away_is_the_last_to_pass() {
    for dialect in [Dialect::Standard, Dialect::Athenatext, Dialect::Scaikey, Dialect::Alumia, Dialect::Athena] {
        let (secret, _) = pair(dialect);
        let headers = request(dialect, &secrets(secret, None), BODY);
        for (offset, expected) in [
            (-301, Err(VerifyError::TimestampOutsideTolerance)),
            (-300, Ok(())),
            (300, Ok(())),
            (301, Err(VerifyError::TimestampOutsideTolerance)),
        ] {
            let now = UnixMs(NOW.0 + offset * 1000);
            assert_eq!(check_at(dialect, secret, &headers, BODY.as_bytes(), now), expected, "{dialect:?} {offset}");
        }
    }
}

#[test]
fn the_reason_of_a_refusal_is_told() {
    use VerifyError::{MalformedHeader, MissingHeader, SignatureMismatch};
    let mac = "f85455a1b55ea86f7a15f5f9923d0abc4b888da84ec485f2ff358f427776beca";
    for (value, expected) in [
        (format!("t=1700000000,v1={mac}"), Ok(())),
        (format!("t=1700000000,v0=00,v1=00,v1={mac}"), Ok(())),
        (format!("t=1700000000,v1={}", mac.to_uppercase()), Err(SignatureMismatch)),
        (format!("t=1700000000,v2={mac}"), Err(SignatureMismatch)),
        (format!("t=1700000000,v1={mac}0"), Err(SignatureMismatch)),
        ("t=1700000000,v1=".into(), Err(SignatureMismatch)),
        (format!("v1={mac},t=1700000000"), Err(MalformedHeader)),
        (format!("t=+1700000000,v1={mac}"), Err(MalformedHeader)),
        (format!("t=,v1={mac}"), Err(MalformedHeader)),
        (format!("t=17000000000000000000,v1={mac}"), Err(MalformedHeader)),
        ("nonsense".into(), Err(MalformedHeader)),
        (String::new(), Err(MalformedHeader)),
    ] {
        let headers = vec![("x-alumia-signature".to_owned(), value.clone())];
        assert_eq!(check(Dialect::Alumia, "test-secret", &headers, BODY), expected, "{value}");
    }
    assert_eq!(check(Dialect::Alumia, "test-secret", &Vec::new(), BODY), Err(MissingHeader));
    for missing in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut headers = request(Dialect::Standard, &secrets(OFFICIAL, None), BODY);
        headers.retain(|(name, _)| name != missing);
        assert_eq!(check(Dialect::Standard, OFFICIAL, &headers, BODY), Err(MissingHeader), "{missing}");
    }
}

#[test]
fn a_signature_for_the_next_secret_counts_even_if_the_other_header_is_gone() {
    let both = secrets("test-secret", Some(("old-secret", NOW + TOLERANCE)));
    let mut headers = request(Dialect::Athenty, &both, BODY);
    headers.retain(|(name, _)| name.ends_with("-next"));
    assert_eq!(check(Dialect::Athenty, "test-secret", &headers, BODY), Ok(()));
}

#[test]
fn of_two_headers_that_fail_the_first_gives_the_reason() {
    let mut headers = request(Dialect::Athenty, &secrets("another", Some(("third", NOW + TOLERANCE))), BODY);
    headers[1].1.clear();
    assert_eq!(check(Dialect::Athenty, "test-secret", &headers, BODY), Err(VerifyError::SignatureMismatch));
}

#[test]
fn any_change_of_one_byte_is_refused_in_every_dialect() {
    for dialect in Dialect::ALL {
        let another = if dialect == Dialect::Standard { ed25519() } else { "another".to_owned() };
        for secret in [pair(dialect).0, &another] {
            let headers = request(dialect, &secrets(secret, None), BODY);
            assert_eq!(check(dialect, secret, &headers, BODY), Ok(()), "{dialect:?}");
            for (n, changed) in one_byte_changes(BODY.as_bytes()) {
                assert!(check_at(dialect, secret, &headers, &changed, NOW).is_err(), "{dialect:?} body at {n}");
            }
            for (header, (name, value)) in headers.iter().enumerate() {
                for (n, changed) in one_byte_changes(value.as_bytes()) {
                    // What is not ASCII cannot stand in a header.
                    let Ok(changed) = String::from_utf8(changed) else { continue };
                    let mut forged = headers.clone();
                    forged[header].1 = changed;
                    assert!(check(dialect, secret, &forged, BODY).is_err(), "{dialect:?} {name} at {n}: {forged:?}");
                }
            }
        }
    }
}

/// Every text that differs in one byte by one of a few changes, is one byte shorter, or one byte longer.
fn one_byte_changes(original: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..original.len()).flat_map(move |n| {
        let flips = [1, 2, 4, 8, 16, 32, 64].map(|bit| {
            let mut changed = original.to_vec();
            changed[n] ^= bit;
            changed
        });
        let shorter = [&original[..n], &original[n + 1..]].concat();
        let longer = [&original[..n], b"0", &original[n..]].concat();
        flips.into_iter().chain([shorter, longer]).filter(move |changed| changed != original).map(move |c| (n, c))
    })
}

proptest! {
    #[test]
    fn what_is_signed_verifies_until_it_is_changed(
        dialect in proptest::sample::select(&Dialect::ALL[..]),
        bytes in any::<[u8; 32]>(),
        body in ".{0,200}",
        other in ".{0,200}",
    ) {
        let secret = secret_from_random(bytes);
        let headers = request(dialect, &WebhookSecrets { current: secret.clone(), previous: None }, &body);
        prop_assert_eq!(check(dialect, secret.reveal(), &headers, &body), Ok(()));
        prop_assert_eq!(check(dialect, secret.reveal(), &headers, &other).is_ok(), body == other);
        let stranger = secret_from_random(bytes.map(|byte| byte ^ 1));
        prop_assert!(check(dialect, stranger.reveal(), &headers, &body).is_err());
    }

    #[test]
    fn no_header_makes_verifying_panic(
        dialect in proptest::sample::select(&Dialect::ALL[..]),
        value in "[tv1=,. a0-9\\PC]{0,80}",
        time in "[-+0-9]{0,20}",
        secret in "(whsec_|whsk_|whpk_)?[A-Za-z0-9+/=]{0,90}",
    ) {
        let profile = dialect.profile();
        let header = |name: &str| Some(if Some(name) == profile.time_header { time.as_str() } else { &value });
        let verdict = verify(dialect, &Secret::new(secret), header, b"body", NOW);
        prop_assert!(verdict.is_err());
    }
}
