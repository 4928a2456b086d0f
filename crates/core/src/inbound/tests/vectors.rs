//! Every row against requests as its provider sends them: accepted as they are, refused after any change of what is
//! signed. The file says which of the vendors' libraries made and checked each vector.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use rustls_pki_types::TrustAnchor;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use crate::inbound::provider::{Part, Scheme};
use crate::inbound::{
    Certificates, PROVIDERS, Provider, Reason, Request, Setup, Trust, Verdict, event_id, event_type, verify,
};
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

#[derive(Deserialize)]
struct File {
    root: String,
    vectors: Vec<Vector>,
}

#[derive(Clone, Debug, Deserialize)]
struct Vector {
    provider: String,
    #[serde(default)]
    name: String,
    secret: String,
    now: i64,
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
    /// Headers that nothing signs.
    unsigned: Vec<String>,
    verdict: String,
    r#type: String,
    id: Option<String>,
    certificate: Option<String>,
}

static FILE: LazyLock<File> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../../../conformance/inbound/vectors.json")).unwrap());

impl Vector {
    fn row(&self) -> &'static Provider {
        Provider::find(&self.provider)
    }

    fn with_request<T>(&self, body: &[u8], ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        ask(&Request { method: &self.method, url: &self.url, headers: &headers, body })
    }

    fn verdict_of(&self, secrets: &[&str], trust: Trust<'_>, body: &[u8]) -> Verdict {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
        let certificates = self.certificate.as_ref().map(|pem| Certificates { pem: pem.as_bytes(), trust });
        let setup = Setup { secrets: &secrets, certificates, ..Setup::default() };
        self.with_request(body, |request| verify(self.row(), &setup, request, UnixMs(self.now)))
    }

    fn verdict(&self) -> Verdict {
        self.verdict_of(&[&self.secret], Trust::FromPinnedHost, self.body.as_bytes())
    }

    fn with_body(&self, body: &[u8]) -> Verdict {
        self.verdict_of(&[&self.secret], Trust::FromPinnedHost, body)
    }

    /// Whether any scheme of the row signs this part, with the URL and the body's hash in it counting as the body.
    fn signs(&self, part: &Part) -> bool {
        self.verdict == "verified" && self.row().recipes().any(|recipe| recipe.message.contains(part))
    }

    fn is_wholly_signed(&self) -> bool {
        let is_by_items = self.provider == "adyen" && self.headers.is_empty();
        (self.signs(&Part::Body) && !is_by_items)
            || self.signs(&Part::SortedFormUnlessHashed)
            || self.provider == "paypal"
    }

    /// How old the request may be, where that is bounded.
    fn tolerance(&self) -> Option<Duration> {
        let times = self.row().recipes().filter_map(|recipe| recipe.time.as_ref());
        let is_timeless = self.verdict != "verified";
        times.filter_map(|time| time.tolerance).next().filter(|_| !is_timeless)
    }

    fn label(&self) -> String {
        format!("{} {}", self.provider, self.name)
    }
}

/// A neighbour of the character that stands for another value in hexadecimal, base64 and decimal alike.
fn other(byte: u8) -> u8 {
    match byte {
        b'1' | b'a' | b'A' => byte + 1,
        b'0'..=b'9' => b'1',
        b'b'..=b'z' => b'a',
        b'B'..=b'Z' => b'A',
        _ => b'_',
    }
}

fn changed_at(text: &str, at: usize) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = other(bytes[at]);
    String::from_utf8(bytes).ok().filter(|changed| changed != text)
}

#[test]
fn every_provider_that_signs_has_a_vector_and_every_vector_its_provider() {
    for provider in PROVIDERS.iter().filter(|provider| !provider.schemes.is_empty()) {
        assert!(FILE.vectors.iter().any(|vector| vector.provider == provider.name), "{}", provider.name);
    }
    for vector in &FILE.vectors {
        assert_eq!(vector.row().name, vector.provider);
    }
}

#[test]
fn requests_as_providers_send_them_are_accepted_and_known_by_type_and_id() {
    for vector in &FILE.vectors {
        assert_eq!(vector.verdict().as_str(), vector.verdict, "{}: {:?}", vector.label(), vector.verdict());
        let (kind, id) = vector.with_request(vector.body.as_bytes(), |request| {
            (event_type(vector.row(), &vector.provider, request), event_id(vector.row(), request))
        });
        assert_eq!(kind, vector.r#type, "{}", vector.label());
        assert_eq!(id, vector.id, "{}", vector.label());
    }
}

#[test]
fn of_several_secrets_the_verdict_says_which() {
    for vector in &FILE.vectors {
        let found =
            vector.verdict_of(&["another secret", &vector.secret], Trust::FromPinnedHost, vector.body.as_bytes());
        let expected = match vector.verdict.as_str() {
            "verified" => Verdict::Verified { secret: 1 },
            _ => Verdict::Authenticated { secret: 1 },
        };
        assert_eq!(found, expected, "{}", vector.label());
    }
}

#[test]
fn a_changed_byte_of_a_signed_body_is_refused() {
    let expected =
        [Reason::SignatureMismatch, Reason::BodyModifiedSuspected, Reason::MalformedBody, Reason::MissingField];
    for vector in FILE.vectors.iter().filter(|vector| vector.is_wholly_signed()) {
        for at in 0..vector.body.len() {
            let mut body = vector.body.clone().into_bytes();
            body[at] ^= 1;
            let reason = vector.with_body(&body).reason();
            assert!(reason.is_some_and(|reason| expected.contains(&reason)), "{} at {at}: {reason:?}", vector.label());
        }
    }
}

/// Fields that are signed one by one, where the body as a whole is not.
fn signed_fields(vector: &Vector) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_str(&vector.body).unwrap_or_default();
    let texts = |pointers: &[&str]| -> Vec<String> {
        let found = pointers.iter().filter_map(|pointer| body.pointer(pointer)?.as_str());
        found.filter(|text| text.is_ascii() && !text.contains('\n')).map(str::to_owned).collect()
    };
    match vector.provider.as_str() {
        "mailgun" => texts(&["/signature/timestamp", "/signature/token", "/signature/signature"]),
        "sns" => texts(&["/MessageId", "/Timestamp", "/TopicArn", "/Type", "/Signature", "/Token", "/SubscribeURL"]),
        "braintree" => vec![vector.body.split("bt_payload=").nth(1).unwrap().trim_end_matches("%0A").to_owned()],
        "adyen" => (0..2)
            .flat_map(|item| {
                let of = |name| format!("/notificationItems/{item}/NotificationRequestItem/{name}");
                let names =
                    ["pspReference", "merchantAccountCode", "eventCode", "success", "additionalData/hmacSignature"];
                names.map(of)
            })
            .flat_map(|pointer| texts(&[&pointer]))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_changed_byte_of_a_field_that_is_signed_for_itself_is_refused() {
    let mut fields = 0;
    for vector in FILE.vectors.iter().filter(|vector| !vector.is_wholly_signed()) {
        for field in signed_fields(vector) {
            let start = vector.body.find(&field).unwrap();
            for at in start..start + field.len() {
                let Some(body) = changed_at(&vector.body, at) else { continue };
                let verdict = vector.with_body(body.as_bytes());
                assert!(verdict.reason().is_some(), "{} {field} at {at}: {verdict:?}", vector.label());
            }
            fields += 1;
        }
    }
    assert!(fields > 20, "{fields}");
}

#[test]
fn a_missing_or_changed_header_is_refused_and_one_that_nothing_signs_is_not() {
    // A rotation lists signatures that are not ours, too: they may be missing or wrong.
    for vector in FILE.vectors.iter().filter(|vector| vector.name != "rotation") {
        for (name, value) in &vector.headers {
            let mut without = vector.clone();
            without.headers.remove(name);
            if vector.unsigned.contains(name) {
                assert_eq!(without.verdict().as_str(), vector.verdict, "{} without {name}", vector.label());
                continue;
            }
            let reason = without.verdict().reason();
            // Adyen's other webhooks have their signatures in the body.
            let expected = if vector.provider == "adyen" { Reason::MissingField } else { Reason::MissingHeader };
            assert_eq!(reason, Some(expected), "{} without {name}", vector.label());
            // The URL of a certificate that we have is no part of the message.
            if name != "paypal-cert-url" {
                assert_refused_after_any_change(vector, name, value);
            }
        }
    }
}

fn assert_refused_after_any_change(vector: &Vector, name: &str, value: &str) {
    let expected = [
        Reason::SignatureMismatch,
        Reason::MalformedHeader,
        Reason::MissingHeader,
        Reason::UnsupportedAlgorithm,
        // `ts` of Paddle's header and the like, when the pair is gone.
        Reason::MissingField,
    ];
    for at in 0..value.len() {
        let Some(changed) = changed_at(value, at) else { continue };
        let mut other = vector.clone();
        other.headers.insert(name.to_owned(), changed);
        let reason = other.verdict().reason();
        assert!(
            reason.is_some_and(|reason| expected.contains(&reason)),
            "{} {name} at {at}: {reason:?}",
            vector.label()
        );
    }
}

#[test]
fn another_key_is_refused() {
    for vector in &FILE.vectors {
        for at in [vector.secret.len() / 2, vector.secret.len() - 3] {
            let Some(secret) = changed_at(&vector.secret, at) else { continue };
            let reason = vector.verdict_of(&[&secret], Trust::FromPinnedHost, vector.body.as_bytes()).reason();
            let expected = [Reason::SignatureMismatch, Reason::UnknownKey];
            assert!(reason.is_some_and(|reason| expected.contains(&reason)), "{}: {reason:?}", vector.label());
        }
        assert_eq!(vector.verdict_of(&[], Trust::FromPinnedHost, vector.body.as_bytes()), Verdict::Unattempted);
    }
}

#[test]
fn a_secret_of_the_wrong_form_is_an_unknown_key() {
    for provider in ["svix", "custom", "discord", "sendgrid", "adyen", "braintree"] {
        let vector = FILE.vectors.iter().find(|vector| vector.provider == provider).unwrap();
        let found = vector.verdict_of(&["no key, for sure!"], Trust::FromPinnedHost, vector.body.as_bytes());
        assert_eq!(found, Verdict::Failed(Reason::UnknownKey), "{provider}");
    }
}

#[test]
fn a_signature_in_the_name_of_another_key_is_an_unknown_key() {
    let mut vector = FILE.vectors.iter().find(|vector| vector.provider == "braintree").unwrap().clone();
    vector.body = vector.body.replace("a_public_key", "b_public_key");
    assert_eq!(vector.verdict(), Verdict::Failed(Reason::UnknownKey));
}

#[test]
fn a_request_is_accepted_as_long_as_its_provider_allows_and_no_longer() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let after = |vector: &Vector, wait: Duration| {
        let mut later = vector.clone();
        later.now = (UnixMs(vector.now) + wait).0;
        later.verdict()
    };
    for vector in &FILE.vectors {
        let Some(tolerance) = vector.tolerance() else {
            assert!(after(vector, YEAR).is_accepted(), "{}", vector.label());
            continue;
        };
        assert!(after(vector, tolerance).is_accepted(), "{}", vector.label());
        let late = Verdict::Failed(Reason::TimestampOutsideTolerance);
        assert_eq!(after(vector, tolerance + Duration::from_secs(1)), late, "{}", vector.label());
        let mut early = vector.clone();
        early.now = (UnixMs(vector.now) - Duration::from_secs(302)).0;
        assert_eq!(early.verdict(), late, "{}", vector.label());
    }
}

#[test]
fn another_url_is_refused_where_it_is_signed_and_nowhere_else() {
    for vector in &FILE.vectors {
        let mut other = vector.clone();
        other.url = vector.url.replacen("://", "://x", 1);
        assert_ne!(other.url, vector.url);
        match vector.signs(&Part::Url) {
            true => assert_eq!(other.verdict().reason(), Some(Reason::SignatureMismatch), "{}", vector.label()),
            false => assert!(other.verdict().is_accepted(), "{}", vector.label()),
        }
    }
}

#[test]
fn another_method_is_refused_where_it_is_signed() {
    for vector in FILE.vectors.iter().filter(|vector| vector.signs(&Part::Method)) {
        let mut other = vector.clone();
        other.method = "PUT".into();
        assert_eq!(other.verdict().reason(), Some(Reason::SignatureMismatch), "{}", vector.label());
    }
}

#[test]
fn a_body_that_was_printed_again_is_told_from_a_forged_one() {
    for vector in FILE.vectors.iter().filter(|vector| vector.signs(&Part::Body) && vector.is_wholly_signed()) {
        let suspected = Some(Reason::BodyModifiedSuspected);
        if !vector.body.ends_with('\n') {
            assert_eq!(
                vector.with_body(format!("{}\n", vector.body).as_bytes()).reason(),
                suspected,
                "{}",
                vector.label()
            );
        }
        let Ok(json) = serde_json::from_str::<&serde_json::value::RawValue>(vector.body.trim_end()) else { continue };
        let spaced = json.get().replacen("{\"", "{\n  \"", 1);
        if vector.body.contains(": ") || vector.body.ends_with('\n') {
            continue;
        }
        assert_eq!(vector.with_body(spaced.as_bytes()).reason(), suspected, "{}", vector.label());
    }
}

#[test]
fn certificates_are_followed_to_a_root_where_one_is_asked_for() {
    let root = rustls_pki_types::CertificateDer::from_pem_slice(FILE.root.as_bytes()).unwrap();
    let anchor: TrustAnchor<'_> = webpki::anchor_from_trusted_cert(&root).unwrap();
    let roots = [anchor];
    for vector in FILE.vectors.iter().filter(|vector| vector.certificate.is_some()) {
        let of = |trust| vector.verdict_of(&[&vector.secret], trust, vector.body.as_bytes());
        assert!(of(Trust::Chain(&roots)).is_accepted(), "{}", vector.label());
        assert_eq!(of(Trust::Chain(&[])).reason(), Some(Reason::CertificateNotTrusted));
    }
}

#[test]
fn a_certificate_that_is_not_the_providers_not_valid_or_no_certificate_is_not_trusted() {
    let of = |name: &str| FILE.vectors.iter().find(|vector| vector.provider == name).unwrap().clone();
    let (mut paypal, mut sns) = (of("paypal"), of("sns"));
    let not_trusted = Some(Reason::CertificateNotTrusted);
    std::mem::swap(&mut paypal.certificate, &mut sns.certificate);
    assert_eq!(paypal.verdict().reason(), not_trusted);
    assert_eq!(sns.verdict().reason(), not_trusted);
    sns.certificate = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into());
    assert_eq!(sns.verdict().reason(), not_trusted);
    sns.certificate = None;
    assert_eq!(sns.verdict(), Verdict::Unattempted);
    let mut expired = of("paypal");
    expired.now += 40 * 365 * 24 * 60 * 60 * 1000;
    assert_eq!(expired.verdict().reason(), not_trusted);
    let mut elsewhere = of("paypal");
    elsewhere.headers.insert("paypal-cert-url".into(), "https://evil.example/v1/notifications/certs/CERT-1".into());
    assert_eq!(elsewhere.verdict().reason(), not_trusted);
    // The URL is no part of what SNS signs.
    let mut elsewhere = of("sns");
    elsewhere.body = elsewhere.body.replace("https://sns.us-east-1.amazonaws.com/S", "https://evil.example/S");
    assert_eq!(elsewhere.verdict().reason(), not_trusted);
}

#[test]
fn certificates_up_to_the_bounds_are_read() {
    let paypal = FILE.vectors.iter().find(|vector| vector.provider == "paypal").unwrap();
    let pem = paypal.certificate.clone().unwrap();
    let verdict = |pem: String, trust| {
        let vector = Vector { certificate: Some(pem), ..paypal.clone() };
        vector.verdict_of(&[&vector.secret], trust, vector.body.as_bytes()).is_accepted()
    };
    let padded = |length: usize| format!("{pem}{}", "\n".repeat(length - pem.len()));
    assert!(verdict(padded(limits::CERTIFICATE_PEM_BYTES_MAX), Trust::FromPinnedHost));
    assert!(!verdict(padded(limits::CERTIFICATE_PEM_BYTES_MAX + 1), Trust::FromPinnedHost));
    let root = rustls_pki_types::CertificateDer::from_pem_slice(FILE.root.as_bytes()).unwrap();
    let roots = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let leaf = &pem[..pem.find("-----END CERTIFICATE-----").unwrap() + 26];
    // The intermediate one stands last.
    let chain = |length: usize| format!("{}{pem}", leaf.repeat(length - 2));
    assert!(verdict(chain(limits::CERTIFICATES_MAX), Trust::Chain(&roots)));
    assert!(!verdict(chain(limits::CERTIFICATES_MAX + 1), Trust::Chain(&roots)));
}

#[test]
fn a_weaker_signature_does_not_count_beside_a_stronger_one() {
    let mut vector = FILE.vectors.iter().find(|vector| vector.name == "SHA-1 alone").unwrap().clone();
    assert!(vector.verdict().is_accepted());
    vector.headers.insert("x-hub-signature-256".into(), format!("sha256={}", "0".repeat(64)));
    assert_eq!(vector.verdict().reason(), Some(Reason::SignatureMismatch));
}

#[test]
fn a_provider_that_does_not_sign_is_not_attempted() {
    for provider in PROVIDERS.iter().filter(|provider| provider.schemes.is_empty()) {
        let secrets = [Secret::new("secret".into())];
        let setup = Setup { secrets: &secrets, ..Setup::default() };
        assert_eq!(verify(provider, &setup, &Request::empty(), UnixMs(0)), Verdict::Unattempted);
    }
}

#[test]
fn sources_are_found_by_name_and_alias_and_unknown_ones_are_custom() {
    for (source, name) in
        [("Stripe", "stripe"), ("clerk", "svix"), ("WhatsApp", "meta"), ("acme", "custom"), ("", "custom")]
    {
        assert_eq!(Provider::find(source).name, name);
    }
    let mut names: Vec<&str> =
        PROVIDERS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases)).copied().collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a name stands twice");
    assert!(Provider::find("twilio").signs_url() && !Provider::find("stripe").signs_url());
    assert!(Provider::find("sns").needs_certificate() && !Provider::find("slack").needs_certificate());
    assert!(PROVIDERS.iter().any(|row| row.schemes.iter().any(|scheme| matches!(scheme, Scheme::Token(_)))));
}

#[test]
fn what_is_public_is_told_from_what_is_shared() {
    for vector in &FILE.vectors {
        let provider = Provider::find(&vector.provider);
        let is_public = match vector.provider.as_str() {
            "discord" | "sendgrid" | "paypal" | "sns" | "adobesign" => true,
            _ => vector.secret.starts_with("whpk_"),
        };
        assert_eq!(provider.gives_public(&Secret::new(vector.secret.clone())), is_public, "{}", vector.name);
    }
    let of = |source: &str, given: &str| Provider::find(source).gives_public(&Secret::new(given.into()));
    let public_key = format!("whpk_{}", BASE64.encode([7; 32]));
    assert!(of("custom", &public_key) && of("svix", &public_key));
    assert!(!of("custom", "whsec_c2VjcmV0") && !of("svix", "nonsense") && !of("token", &public_key));
    assert!(of("discord", "not hexadecimal"), "a key of the wrong form is still a public one");
    assert!(!of("monday", "anything"));
}

#[test]
fn a_public_key_does_not_verify_what_anybody_could_have_signed_with_its_text() {
    let public_key = Secret::new(format!("whpk_{}", BASE64.encode([7; 32])));
    let now = UnixMs(1_700_000_000_000);
    let message = format!("{}.{{}}", now.seconds());
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public_key.reveal().as_bytes()), message.as_bytes());
    let header = format!("t={},v1={}", now.seconds(), hex::encode(mac));
    let headers = [("x-alumia-signature", header.as_str())];
    let request = Request { headers: &headers, body: b"{}", ..Request::empty() };
    let secrets = [public_key];
    let setup = Setup { secrets: &secrets, ..Setup::default() };
    assert_eq!(verify(Provider::find("custom"), &setup, &request, now).reason(), Some(Reason::UnknownKey));
}

#[test]
fn what_verification_reads_is_kept_and_secrets_are_not() {
    for vector in &FILE.vectors {
        let provider = vector.row();
        let mut kept = vector.clone();
        kept.headers.retain(|name, _| provider.keeps_header(name));
        let (verdict, again) = (vector.verdict(), kept.verdict());
        // A token is the secret: without it there is nothing to verify again.
        assert!(again == verdict || matches!(verdict, Verdict::Authenticated { .. }), "{}", vector.name);
        let is_public = provider.gives_public(&Secret::new(vector.secret.clone()));
        let shows = kept.headers.values().any(|value| value.contains(&vector.secret));
        assert!(is_public || !shows, "{} {}", vector.provider, vector.name);
    }
    for name in
        ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-gitlab-token", "x-amz-security-token"]
    {
        assert!(!Provider::find("gitlab").keeps_header(name) && !Provider::find("okta").keeps_header(name), "{name}");
    }
    for name in ["user-agent", "content-type", "stripe-signature", "x-hub-signature-256", "webhook-id"] {
        assert!(Provider::find("custom").keeps_header(name), "{name}");
    }
    assert!(Provider::find("gitlab").keeps_header("idempotency-key"));
    assert!(Provider::find("asana").hands_secret_over() && !Provider::find("asana").keeps_header("x-hook-secret"));
}
