#![allow(clippy::unwrap_used)]

use super::*;

/// Of the official Standard Webhooks libraries' own tests.
const OFFICIAL: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn keys(dialect: Dialect, current: &str, previous: Option<(&str, UnixMs)>) -> SigningKeys {
    let secrets = WebhookSecrets {
        current: Secret::new(current.into()),
        previous: previous.map(|(text, until)| (Secret::new(text.into()), until)),
    };
    SigningKeys::new(dialect, &secrets).unwrap()
}

fn sign(dialect: Dialect, keys: &SigningKeys, message: (&str, i64, &str)) -> Vec<(&'static str, String)> {
    let (id, seconds, body) = message;
    let time = seconds.to_string();
    let message = Message { id, time: &time, body: body.as_bytes() };
    let mut headers = Vec::new();
    keys.sign(&dialect.profile().signature, &message, UnixMs(seconds * 1000), &mut headers);
    headers
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
        let keys = keys(dialect, "test-secret", None);
        let signed = sign(dialect, &keys, ("evt_1", 1_700_000_000, r#"{"hello":"world"}"#));
        assert_eq!(signed, [(header, expected)]);
    }
}

#[test]
fn athenas_vector_is_met() {
    let keys = keys(Dialect::Athena, "test-secret", None);
    let body = r#"{"event_id":"evt_1","payload":"hello"}"#;
    let expected = "v1=3efa3be6cf2a27faa78e6170ce247195799201711a662baab749fb569772c287";
    let signed = sign(Dialect::Athena, &keys, ("evt_1", 1_700_000_000, body));
    assert_eq!(signed, [("x-athena-signature", expected.to_owned())]);
}

#[test]
fn standard_webhooks_own_vector_is_met() {
    let keys = keys(Dialect::Standard, OFFICIAL, None);
    let message = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
    let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(sign(Dialect::Standard, &keys, message), [("webhook-signature", expected.to_owned())]);
}
