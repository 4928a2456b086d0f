//! Certificates that a request names: where they may be, and what an arbitrary one can do.

use postrider_core::inbound::{Certificates, Request, Setup, Trust, certificate_url, subscription_url, verify};
use postrider_core::limits;
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use x509_parser::pem::Pem;

use crate::vectors::{Vector, vectors};

/// The text is tried as a certificate, as the URL of one, and as the URL of a subscription.
///
/// - Only the provider's own hosts are ever named, by https, without user, port or fragment.
/// - A certificate that does not contain the signer's key verifies nothing.
///
/// # Panics
/// If one of these does not hold.
pub fn certificates(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for vector in vectors().iter().filter(|vector| vector.certificate.is_some()) {
        assert_worthless(vector, data);
        assert_certificate_url_is_pinned(vector, &text);
    }
    let body = serde_json::json!({ "Type": "SubscriptionConfirmation", "SubscribeURL": text }).to_string();
    let request = Request { method: "POST", url: "", headers: &[], body: body.as_bytes() };
    if let Some(url) = subscription_url(postrider_core::inbound::Provider::find("sns"), &request) {
        assert_pinned(&url, &["amazonaws.com", "amazonaws.com.cn"]);
    }
}

/// Whatever is in it: who verifies with it has the signer's key.
fn assert_worthless(vector: &Vector, pem: &[u8]) {
    let secrets = [Secret::new(vector.secret.clone())];
    let certificates = Some(Certificates { pem, trust: Trust::FromPinnedHost });
    let setup = Setup { secrets: &secrets, certificates, ..Setup::default() };
    let headers: Vec<(&str, &str)> = vector.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let request = Request { method: &vector.method, url: &vector.url, headers: &headers, body: vector.body.as_bytes() };
    if verify(vector.row(), &setup, &request, UnixMs(vector.now)).is_accepted() {
        let genuine = key(vector.certificate.as_deref().unwrap_or_default().as_bytes());
        assert!(!genuine.is_empty() && key(pem) == genuine, "{}", vector.provider);
    }
}

/// What stands before the modulus of an RSA key of 2048 bits, and what follows: the modulus.
///
/// The wrapping is read by the same library as in the product: how lenient it is about white space or a word after the
/// label decides nothing. The key is looked for without one.
fn key(pem: &[u8]) -> Vec<u8> {
    const BEFORE: [u8; 9] = [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
    let mut blocks = Pem::iter_from_buffer(pem).filter_map(Result::ok);
    let der = blocks.find(|block| block.label == "CERTIFICATE").map(|block| block.contents).unwrap_or_default();
    let start = der.windows(BEFORE.len()).position(|window| window == BEFORE).unwrap_or(der.len());
    der.get(start..start + BEFORE.len() + 256).unwrap_or_default().to_vec()
}

fn assert_certificate_url_is_pinned(vector: &Vector, text: &str) {
    let headers = [("paypal-cert-url", text)];
    let body = serde_json::json!({ "SigningCertURL": text }).to_string();
    let request = Request { method: "POST", url: "", headers: &headers, body: body.as_bytes() };
    if let Some(Ok(url)) = certificate_url(vector.row(), &request) {
        let hosts: &[&str] = match vector.provider.as_str() {
            "paypal" => &["paypal.com"],
            _ => &["amazonaws.com", "amazonaws.com.cn"],
        };
        assert_pinned(&url, hosts);
        assert!(!url.contains('?'), "{url}");
    }
}

/// Read without a URL parser: between `https://` and the next `/` stands a host below one of these, and nothing else.
fn assert_pinned(url: &str, domains: &[&str]) {
    assert!(url.len() <= 4 * limits::URL_BYTES_MAX, "{url}");
    let rest = url.strip_prefix("https://").expect("https");
    let host = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    assert!(host.bytes().all(is_plain), "{url}");
    assert!(domains.iter().any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))), "{url}");
    assert!(!url.contains('#') && url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
}
