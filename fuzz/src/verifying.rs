//! Verification by any row of any request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postrider_core::inbound::{Verdict, verify as core_verify};
use postrider_core::limits;
use postrider_core::signing::Secret;
use ring::digest;

use crate::input::Input;

/// - The same question has the same answer.
/// - Nothing is accepted without a secret, or with other secrets of any form.
/// - The secret that the verdict names accepts the request alone.
///
/// # Panics
/// If one of these does not hold.
pub fn verify(data: &[u8]) {
    let input = Input::parse(data);
    let (row, now) = (input.row(), input.now);
    let verdict_of = |secrets: &[Secret]| input.ask(secrets, |setup, request| core_verify(row, setup, request, now));
    let verdict = verdict_of(&input.secrets);
    assert_eq!(verdict, verdict_of(&input.secrets), "another answer to the same question");
    assert!(!verdict_of(&[]).is_accepted(), "accepted without a secret");
    assert_eq!(verdict.reason().is_some(), matches!(verdict, Verdict::Failed(_)));
    let (Verdict::Verified { secret } | Verdict::Authenticated { secret }) = verdict else { return };
    assert!(secret < input.secrets.len().min(limits::INBOUND_SECRETS_MAX), "names a secret that was not tried");
    let alone = std::slice::from_ref(&input.secrets[secret]);
    assert!(verdict_of(alone).is_accepted(), "the named secret accepts nothing alone");
    let strangers = strangers(&input.secrets[secret]);
    assert!(!verdict_of(&strangers).is_accepted(), "{} is accepted with another key", row.name);
}

/// Other secrets of every form, among them the form of this one.
pub(crate) fn strangers(secret: &Secret) -> Vec<Secret> {
    let hash = digest::digest(&digest::SHA256, [b"another ", secret.reveal().as_bytes()].concat().as_slice());
    let (hex, base64) = (hex::encode(hash), BASE64.encode(hash));
    let public = secret.reveal().split('|').next().unwrap_or_default();
    let texts = [
        hex.clone(),
        base64.clone(),
        format!("whsec_{base64}"),
        format!("whpk_{base64}"),
        format!("{public}|{hex}"),
        format!("arn:aws:sns:us-east-1:123456789012:{hex}"),
        // Another account's verification key.
        OTHER_P256.to_owned(),
    ];
    texts.into_iter().map(Secret::new).collect()
}

/// The generator of the curve: a public key whose private key is 1, and nobody's.
const OTHER_P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
