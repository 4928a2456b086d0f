//! Standard Webhooks signatures (`v1`, HMAC-SHA256), made and checked independently of the server's own code.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// How far a `webhook-timestamp` may be from now.
const TOLERANCE_SECONDS: u64 = 300;

/// A webhook's secret, ready to sign.
#[derive(Clone, Debug)]
pub(crate) struct SigningKey(hmac::Key);

/// The three headers of a signed delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) timestamp: &'a [u8],
    pub(crate) signatures: &'a [u8],
}

impl SigningKey {
    /// From `whsec_<base64>` as the server showed it.
    pub(crate) fn new(secret: &str) -> Result<SigningKey> {
        let encoded = secret.strip_prefix("whsec_").context("the webhook's secret does not start with whsec_")?;
        let key = STANDARD.decode(encoded).context("the webhook's secret is not base64")?;
        Ok(SigningKey(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// `v1,<base64>` over `{id}.{timestamp}.{body}`.
    pub(crate) fn sign(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.tag(id, timestamp, body)))
    }

    /// Whether one of the signatures is right and the timestamp is within tolerance of `now_s`.
    pub(crate) fn verifies(&self, signed: &Signed<'_>, body: &[u8], now_s: u64) -> bool {
        let timestamp: Option<u64> = std::str::from_utf8(signed.timestamp).ok().and_then(|text| text.parse().ok());
        if signed.id.is_empty() || timestamp.is_none_or(|sent| sent.abs_diff(now_s) > TOLERANCE_SECONDS) {
            return false;
        }
        let tag = self.tag(signed.id, signed.timestamp, body);
        let mut buffer = [0u8; 44];
        let written = STANDARD.encode_slice(tag, &mut buffer).expect("32 bytes are 44 in base64");
        let wanted = &buffer[..written];
        signed.signatures.split(|byte| *byte == b' ').any(|one| one.strip_prefix(b"v1,") == Some(wanted))
    }

    fn tag(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id, b".", timestamp, b".", body] {
            context.update(part);
        }
        context.sign()
    }
}

/// A secret that signs `t=<unix>,v1=<hex>` over `{t}.{body}`, its text being the key.
#[derive(Clone, Debug)]
pub(crate) struct StampingKey(hmac::Key);

impl StampingKey {
    pub(crate) fn new(secret: &str) -> StampingKey {
        StampingKey(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Whether the header is right and its time within tolerance of `now_s`.
    pub(crate) fn verifies(&self, header: &[u8], body: &[u8], now_s: u64) -> bool {
        let text = std::str::from_utf8(header).unwrap_or_default();
        let parts = text.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="));
        let Some((time, signature)) = parts else { return false };
        if time.parse().is_ok_and(|sent: u64| sent.abs_diff(now_s) <= TOLERANCE_SECONDS) {
            let mut context = hmac::Context::with_key(&self.0);
            [time.as_bytes(), b".", body].iter().for_each(|part| context.update(part));
            let tag = context.sign();
            return signature.len() == 64 && hex(tag.as_ref()).eq(signature.bytes());
        }
        false
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The example of the Standard Webhooks reference libraries' own tests.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &[u8] = b"msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &[u8] = b"1614265330";
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn verifies(id: &[u8], timestamp: &[u8], signatures: &str, body: &[u8]) -> bool {
        let signed = Signed { id, timestamp, signatures: signatures.as_bytes() };
        SigningKey::new(SECRET).unwrap().verifies(&signed, body, 1_614_265_400)
    }

    #[test]
    fn the_published_vectors_are_reproduced() {
        assert_eq!(SigningKey::new(SECRET).unwrap().sign(ID, TIMESTAMP, BODY), SIGNATURE);
        let other = SigningKey::new("whsec_plJ3nmyCDGBKInavdOK15jsl").unwrap();
        assert_eq!(
            other.sign(
                b"msg_loFOjxBNrRLzqYUf",
                b"1731705121",
                b"{\"event_type\":\"ping\",\"data\":{\"success\":true}}"
            ),
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="
        );
    }

    #[test]
    fn a_right_signature_verifies_alone_and_in_a_list() {
        assert!(verifies(ID, TIMESTAMP, SIGNATURE, BODY));
        assert!(verifies(ID, TIMESTAMP, &format!("v1a,AAAA v1,BBBB {SIGNATURE}"), BODY));
    }

    #[test]
    fn any_changed_part_is_refused() {
        assert!(!verifies(ID, TIMESTAMP, SIGNATURE, b"{\"test\": 2432232315}"));
        assert!(!verifies(b"msg_p5jXN8AQM9LWM0D4loKWxJeK", TIMESTAMP, SIGNATURE, BODY));
        assert!(!verifies(ID, b"1614265331", SIGNATURE, BODY));
        assert!(!verifies(ID, TIMESTAMP, &SIGNATURE.replace("g0h", "g0H"), BODY));
        assert!(!verifies(ID, TIMESTAMP, "", BODY));
    }

    #[test]
    fn a_stale_timestamp_is_refused_even_when_signed() {
        let key = SigningKey::new(SECRET).unwrap();
        let signed = Signed { id: ID, timestamp: TIMESTAMP, signatures: SIGNATURE.as_bytes() };
        assert!(key.verifies(&signed, BODY, 1_614_265_330 + 300));
        assert!(!key.verifies(&signed, BODY, 1_614_265_330 + 301));
    }

    #[test]
    fn a_stamped_signature_is_checked_whole() {
        let key = StampingKey::new("s3cret");
        // `printf '1614265330.{}' | openssl dgst -sha256 -hmac s3cret`
        let header = b"t=1614265330,v1=fc2131457b96a88934ed47ab7d4654a01d906c50546d10290330582312e37a2f";
        assert!(key.verifies(header, b"{}", 1_614_265_630));
        assert!(!key.verifies(header, b"{}", 1_614_265_631));
        assert!(!key.verifies(header, b"[]", 1_614_265_330));
        assert!(!key.verifies(&header[..header.len() - 1], b"{}", 1_614_265_330));
        assert!(!StampingKey::new("s3cre").verifies(header, b"{}", 1_614_265_330));
    }

    #[test]
    fn a_secret_of_another_form_is_refused() {
        assert!(SigningKey::new("test-secret").is_err());
        assert!(SigningKey::new("whsec_!!").is_err());
    }
}
