//! PayPal and AWS SNS: RSA signatures whose key is in a certificate that the request names by URL.
//!
//! Core fetches nothing. [`certificate_url`] says what to fetch, or that the request names a place that is not the
//! provider's. **The caller must** fetch exactly this URL through the egress client (which follows no redirects and dials
//! no private address), over TLS with the server's name checked, accept status 200 only, read at most
//! `limits::CERTIFICATE_PEM_BYTES_MAX`, and may keep the text by URL: the URL's content never changes, a new certificate
//! gets a new URL. What cannot be fetched leaves the request unattempted, to be verified again later.
//!
//! [`Trust`] says what a fetched certificate must show. In both cases: its key is RSA, it is valid at the time of the
//! request, and it is made out to the provider.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{self, RsaParameters, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use url::Url;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::pem::Pem;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName};

use crate::inbound::body::Body;
use crate::inbound::provider::{Provider, Scheme};
use crate::inbound::{Reason, Request, Setup};
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

/// What was fetched for a request.
#[derive(Clone, Copy, Debug)]
pub struct Certificates<'a> {
    /// The signer's certificate, then those that lead to a root, if any.
    pub pem: &'a [u8],
    pub trust: Trust<'a>,
}

/// Why a fetched certificate is believed.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// It came over TLS from the host that [`certificate_url`] holds it to. This is what the vendors' own libraries go by;
    /// AWS serves the signer's certificate alone, so there is no chain to follow.
    FromPinnedHost,
    /// It must also lead to one of these roots.
    Chain(&'a [TrustAnchor<'a>]),
}

/// The URL of the certificate that signed this request; `None` if its provider uses none.
///
/// # Errors
/// The URL is missing, or is not where the provider keeps its certificates: nothing must be fetched.
pub fn certificate_url(provider: &Provider, request: &Request<'_>) -> Option<Result<String, Reason>> {
    let scheme = provider.schemes.iter().find(|scheme| matches!(scheme, Scheme::PayPal | Scheme::Sns))?;
    Some(match scheme {
        Scheme::PayPal => paypal_url(request),
        _ => sns_url(&Body::new(request.body)),
    })
}

/// The URL that confirms a subscription of AWS SNS, if this is a request for one and the URL is AWS's. Ask only about a
/// verified request, and fetch it like [`certificate_url`].
pub fn subscription_url(provider: &Provider, request: &Request<'_>) -> Option<String> {
    provider.schemes.iter().find(|scheme| matches!(scheme, Scheme::Sns))?;
    let body = Body::new(request.body);
    (body.text(&["Type"])? == "SubscriptionConfirmation").then_some(())?;
    let url = pinned(&body.text(&["SubscribeURL"])?, is_sns_host)?;
    (url.path() == "/").then(|| url.into())
}

/// An https URL without user, port or fragment on a host that is the provider's.
fn pinned(text: &str, is_host: fn(&str) -> bool) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= limits::URL_BYTES_MAX)?;
    let is_plain = url.scheme() == "https"
        && url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none()
        && url.fragment().is_none();
    (is_plain && url.domain().is_some_and(is_host)).then_some(url)
}

fn paypal_url(request: &Request<'_>) -> Result<String, Reason> {
    let text = request.header("paypal-cert-url").ok_or(Reason::MissingHeader)?;
    let is_host = |host: &str| matches!(host, "api.paypal.com" | "api.sandbox.paypal.com");
    let url = pinned(text, is_host).filter(|url| url.path().starts_with("/v1/notifications/certs/"));
    url.filter(|url| url.query().is_none()).map(String::from).ok_or(Reason::CertificateNotTrusted)
}

fn sns_url(body: &Body<'_>) -> Result<String, Reason> {
    body.json().ok_or(Reason::MalformedBody)?;
    let text = body.text(&["SigningCertURL"]).ok_or(Reason::MissingField)?;
    let url = pinned(&text, is_sns_host).filter(|url| url.path().ends_with(".pem") && url.query().is_none());
    url.map(String::from).ok_or(Reason::CertificateNotTrusted)
}

/// `sns.<region>.amazonaws.com`, also in China.
fn is_sns_host(host: &str) -> bool {
    let host = host.strip_suffix(".cn").unwrap_or(host);
    let region = host.strip_prefix("sns.").and_then(|rest| rest.strip_suffix(".amazonaws.com"));
    region.is_some_and(|region| {
        region.len() >= 3
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    })
}

/// PayPal: `{transmission id}|{time}|{webhook id}|{CRC-32 of the body}`. The webhook's id, which the request does not
/// contain, is the receiver's secret. Rests on PayPal's documentation and its Java and PHP libraries.
pub(super) fn check_paypal(
    setup: &Setup<'_>,
    secrets: &[Secret],
    request: &Request<'_>,
    now: UnixMs,
) -> Result<usize, Reason> {
    let header = |name| request.header(name).ok_or(Reason::MissingHeader);
    let (id, time) = (header("paypal-transmission-id")?, header("paypal-transmission-time")?);
    let signature = decoded(header("paypal-transmission-sig")?).ok_or(Reason::MalformedHeader)?;
    if !header("paypal-auth-algo")?.eq_ignore_ascii_case("SHA256withRSA") {
        return Err(Reason::UnsupportedAlgorithm);
    }
    paypal_url(request)?;
    let is_paypal = |name: &str| name.ends_with(".paypal.com");
    let key = signer(setup, is_paypal, now)?;
    let checksum = crc32(request.body);
    let signs = |secret: &Secret| {
        let message = format!("{id}|{time}|{}|{checksum}", secret.reveal().trim());
        fits(&signature::RSA_PKCS1_2048_8192_SHA256, &key, message.as_bytes(), &signature)
    };
    secrets.iter().position(signs).ok_or(Reason::SignatureMismatch)
}

/// AWS SNS: fields of the body by name, each name and value on a line of its own. Anybody with an AWS account can have
/// SNS sign for a topic of their own, so the topic must be one that the receiver names as its secret.
pub(super) fn check_sns(setup: &Setup<'_>, secrets: &[Secret], body: &Body<'_>, now: UnixMs) -> Result<usize, Reason> {
    body.json_named_once().ok_or(Reason::MalformedBody)?;
    let field = |name: &'static [&'static str]| body.text(name).ok_or(Reason::MissingField);
    let signature = decoded(&field(&["Signature"])?).ok_or(Reason::MalformedBody)?;
    let algorithm = match field(&["SignatureVersion"])?.as_ref() {
        "1" => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        "2" => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(Reason::UnsupportedAlgorithm),
    };
    let message = sns_message(body)?;
    sns_url(body)?;
    let is_sns = |name: &str| name == "sns.amazonaws.com" || is_sns_host(name);
    let key = signer(setup, is_sns, now)?;
    if !fits(algorithm, &key, message.as_bytes(), &signature) {
        return Err(Reason::SignatureMismatch);
    }
    let topic = field(&["TopicArn"])?;
    secrets.iter().position(|secret| secret.reveal().trim() == topic).ok_or(Reason::UnknownKey)
}

/// What SNS signs: which fields depends on the type; a field that is missing is left out.
fn sns_message(body: &Body<'_>) -> Result<String, Reason> {
    const NOTIFICATION: &[&[&str]] =
        &[&["Message"], &["MessageId"], &["Subject"], &["Timestamp"], &["TopicArn"], &["Type"]];
    const CONFIRMATION: &[&[&str]] =
        &[&["Message"], &["MessageId"], &["SubscribeURL"], &["Timestamp"], &["Token"], &["TopicArn"], &["Type"]];
    let names = match body.text(&["Type"]).ok_or(Reason::MissingField)?.as_ref() {
        "Notification" => NOTIFICATION,
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => CONFIRMATION,
        _ => return Err(Reason::MalformedBody),
    };
    let mut message = String::with_capacity(body.bytes.len());
    for name in names {
        match body.text(name) {
            Some(value) => message.extend([name[0], "\n", &value, "\n"]),
            None if name[0] == "Subject" => {}
            None => return Err(Reason::MissingField),
        }
    }
    Ok(message)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    (text.len() <= limits::INBOUND_HEADER_BYTES_MAX).then(|| BASE64.decode(text).ok()).flatten()
}

fn fits(algorithm: &'static RsaParameters, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

/// The RSA key of the first certificate, if the certificate is to be believed.
fn signer(setup: &Setup<'_>, is_name: impl Fn(&str) -> bool, now: UnixMs) -> Result<Vec<u8>, Reason> {
    let given = setup.certificates.ok_or(Reason::CertificateNotTrusted)?;
    if given.pem.len() > limits::CERTIFICATE_PEM_BYTES_MAX {
        return Err(Reason::CertificateNotTrusted);
    }
    let pems = Pem::iter_from_buffer(given.pem).take(limits::CERTIFICATES_MAX);
    // What is called something else is no certificate, whatever is in it.
    let certificates = pems.filter_map(Result::ok).filter(|pem| pem.label == "CERTIFICATE");
    let chain: Vec<Vec<u8>> = certificates.map(|pem| pem.contents).collect();
    let leaf = chain.first().ok_or(Reason::CertificateNotTrusted)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| Reason::CertificateNotTrusted)?;
    let at = ASN1Time::from_timestamp(now.seconds()).map_err(|_| Reason::CertificateNotTrusted)?;
    let is_rsa = certificate.public_key().algorithm.algorithm == OID_PKCS1_RSAENCRYPTION;
    let is_good = is_rsa && certificate.validity().is_valid_at(at) && is_made_out_to(&certificate, is_name);
    if !is_good {
        return Err(Reason::CertificateNotTrusted);
    }
    if let Trust::Chain(roots) = given.trust {
        follow(&chain, roots, now)?;
    }
    Ok(certificate.public_key().subject_public_key.data.to_vec())
}

/// By its alternative names, or by its common name where it has none.
fn is_made_out_to(certificate: &X509Certificate<'_>, is_name: impl Fn(&str) -> bool) -> bool {
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        let mut names = names.value.general_names.iter();
        return names.any(|name| matches!(name, GeneralName::DNSName(name) if is_name(name)));
    }
    let mut names = certificate.subject().iter_common_name();
    names.any(|name| name.as_str().is_ok_and(&is_name))
}

fn follow(chain: &[Vec<u8>], roots: &[TrustAnchor<'_>], now: UnixMs) -> Result<(), Reason> {
    let untrusted = |_| Reason::CertificateNotTrusted;
    let certificates: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (leaf, rest) = certificates.split_first().ok_or(Reason::CertificateNotTrusted)?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(untrusted)?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds().max(0).unsigned_abs()));
    let usage = webpki::KeyUsage::server_auth();
    let found = leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, roots, rest, at, usage, None, None);
    found.map(drop).map_err(untrusted)
}

/// CRC-32 as in zip and PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)];
    !bytes.iter().fold(!0, step)
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn certificates_come_from_the_providers_own_hosts_only() {
        let paypal = |url: &str| {
            let headers = [("PAYPAL-CERT-URL", url)];
            let request = Request { method: "POST", url: "https://r.example", headers: &headers, body: b"" };
            certificate_url(Provider::find("paypal"), &request).unwrap()
        };
        let good = "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1";
        assert_eq!(paypal(good), Ok(good.to_owned()));
        let certs = "/v1/notifications/certs/CERT-1";
        for host in ["http://api.paypal.com", "https://api.paypal.com.evil.example", "https://evil.example"] {
            assert_eq!(paypal(&format!("{host}{certs}")), Err(Reason::CertificateNotTrusted), "{host}");
        }
        for host in ["api.paypal.com@evil.example", "api.paypal.com:8443", "me@api.paypal.com", "127.0.0.1"] {
            assert_eq!(paypal(&format!("https://{host}{certs}")), Err(Reason::CertificateNotTrusted), "{host}");
        }
        assert_eq!(paypal("https://api.paypal.com/v1/notifications/certs/../../x"), Err(Reason::CertificateNotTrusted));
        assert_eq!(paypal(&format!("{good}?to=x")), Err(Reason::CertificateNotTrusted));
        assert!(certificate_url(Provider::find("stripe"), &Request::empty()).is_none());
    }

    #[test]
    fn sns_names_its_region() {
        for host in ["sns.us-east-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"] {
            assert!(is_sns_host(host), "{host}");
        }
        for host in ["sns.amazonaws.com", "x.sns.us-east-1.amazonaws.com", "sns.evil.example.amazonaws.com", "sns.a"] {
            assert!(!is_sns_host(host), "{host}");
        }
        let confirm = |url: &str| {
            let body = format!(r#"{{"Type":"SubscriptionConfirmation","SubscribeURL":"{url}"}}"#);
            subscription_url(Provider::find("sns"), &Request { body: body.as_bytes(), ..Request::empty() })
        };
        let good = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1";
        assert_eq!(confirm(good), Some(good.to_owned()));
        assert_eq!(confirm("https://sns.eu-west-1.amazonaws.com/elsewhere?Action=ConfirmSubscription"), None);
        assert_eq!(confirm("https://169.254.169.254/latest"), None);
        assert_eq!(confirm("https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription"), None);
    }
}
