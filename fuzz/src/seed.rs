//! What a run starts from: every genuine request, every handshake, calls of the gateway, and words that mutations should
//! know.

use std::collections::BTreeSet;

use crate::input::written;
use crate::vectors::vectors;
use crate::{baking, believing, filling, forwarding, gateway_seed, replying};

/// The seeds of a target; none for an unknown one.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "verify" | "events" | "linear" => vectors().iter().map(written).chain(questions()).collect(),
        "handshakes" => questions().collect(),
        "tamper" => tampered(),
        "certificates" => certificates(),
        "bodies" => bodies(),
        "templates" => texts(&gateway_seed::TEMPLATES),
        "contracts" => texts(&gateway_seed::CONTRACTS),
        "queries" => texts(&gateway_seed::QUERIES),
        "hostnames" => texts(&gateway_seed::HOSTNAMES),
        "rights" => texts(&gateway_seed::RIGHTS),
        "urls" => urls(),
        "filters" => texts(&FILTERS),
        "tokens" => believing::seeds(),
        "cookies" => texts(&baking::SEEDS),
        "forms" => filling::SEEDS.map(<[u8]>::to_vec).to_vec(),
        "forwarded" => texts(&forwarding::SEEDS),
        "replies" => texts(&replying::SEEDS),
        _ => Vec::new(),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Words for libFuzzer's `-dict`: sources, header names, and names in bodies.
pub fn dictionary() -> String {
    let names = vectors().iter().flat_map(|vector| vector.headers.keys().cloned().chain([vector.provider.clone()]));
    let more = ["challenge", "plainToken", "crc_token", "hub.challenge", "validationToken", "bt_challenge", "whsec_"];
    let web = ["retry-after: ", "__Host-postrider_session=", "postrider_visitor=", "csrf=", "::ffff:", "10.0.0.1, "];
    let syntax = ["source ", "secret ", "verify-token ", "awaits-secret", "GET /?", "POST /", "sha256=", "v1,", "v0="];
    let more = more.into_iter().chain(web).chain(syntax).chain(gateway_seed::WORDS).map(str::to_owned);
    let words: BTreeSet<String> = names.chain(more).collect();
    words.iter().map(|word| format!("\"{word}\"\n")).collect()
}

const QUESTIONS: [&str; 19] = [
    "source slack\nsecret s\nPOST /\n\n{\"type\":\"url_verification\",\"challenge\":\"3eZbrw1aB\"}",
    "source meta\nverify-token t\nGET /?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=t\n\n",
    "source meta\nverify-token t\nGET /?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=x\n\n",
    "source dropbox\nGET /?challenge=abc\n\n",
    "source msgraph\nPOST /?validationToken=Validation%3A+Testing+client\n\n",
    "source zoom\nsecret a zoom secret\nPOST /\n\n{\"event\":\"endpoint.url_validation\",\"payload\":{\"plainToken\":\"qgg8vlvZ\"}}",
    "source x\nsecret a consumer secret\nGET /?crc_token=abc\n\n",
    "source x\nsecret a consumer secret\nGET /?crc_token=%7B%22a%22%3A1%7D\n\n",
    "source discord\nsecret 00\nPOST /\n\n{\"type\":1}",
    "source okta\nGET /\nx-okta-verification-challenge: abc\n\n",
    "source twitch\nPOST /\ntwitch-eventsub-message-type: webhook_callback_verification\n\n{\"challenge\":\"a\"}",
    "source monday\nPOST /\n\n{\"challenge\":\"3eZbrw1aB\"}",
    "source asana\nawaits-secret\nPOST /\nx-hook-secret: 0123456789abcdef0123\n\n",
    "source asana\nsecret 0123456789abcdef0123\nPOST /\nx-hook-secret: 0123456789abcdef0123\n\n",
    "source ebay\nverify-token a-token-of-my-own\nGET https://a.example/in?challenge_code=a8628072\n\n",
    "source braintree\nsecret public|private\nGET /?bt_challenge=0123456789abcdef0123\n\n",
    "source adobesign\nsecret CBJCHBCAABAA\nGET /\nx-adobesign-clientid: CBJCHBCAABAA\n\n",
    "source custom\nsecret whpk_AAAA\nsecret whsec_AAAA\nPOST /\nwebhook-signature: v1a,AA== v1,AA==\n\n",
    "source token\nsecret one of mine\nPOST /\nauthorization: Bearer one of mine\n\n\u{feff}a=1&b=2\r\n",
];

fn questions() -> impl Iterator<Item = Vec<u8>> {
    QUESTIONS.iter().map(|text| text.as_bytes().to_vec())
}

/// What the tests of the policy know of, good and bad.
fn urls() -> Vec<Vec<u8>> {
    let lines = include_str!("../../crates/core/tests/hostile_urls.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split_once('|')?.1.trim().as_bytes().to_vec())).collect()
}

/// A filter, and data.
const FILTERS: [&str; 8] = [
    "{\"path\":\"data.amount\",\"op\":\"gte\",\"value\":100}\n{\"amount\":100.0}",
    "{\"all\":[{\"path\":\"type\",\"op\":\"prefix\",\"value\":\"order.\"},{\"path\":\"data.a.0\",\"op\":\"exists\"}]}\n{\"a\":[1]}",
    "{\"any\":[{\"not\":{\"path\":\"data.x\",\"op\":\"eq\",\"value\":null}},{\"path\":\"data.x\",\"op\":\"in\",\"value\":[1,\"a\",[2]]}]}\n{\"x\":null}",
    "{\"path\":\"data.n\",\"op\":\"lt\",\"value\":9007199254740993}\n{\"n\":9007199254740992.0}",
    "{\"path\":\"data.n\",\"op\":\"gt\",\"value\":-1e308}\n{\"n\":-18446744073709551616}",
    "{\"path\":\"data.s\",\"op\":\"lte\",\"value\":\"straße\"}\n{\"s\":\"strasse\"}",
    "{\"path\":\"data.o\",\"op\":\"ne\",\"value\":{\"a\":[1,{\"b\":2}]}}\n{\"o\":{\"a\":[1.0,{\"b\":2e0}]}}",
    "{\"path\":\"data\",\"op\":\"exists\",\"value\":false}\n[]",
];

/// Each vector as it is, with a byte less, and with a header twice.
fn tampered() -> Vec<Vec<u8>> {
    let scripts: [&[u8]; 3] = [&[], &[0, 0, 9, 1, 0], &[4, 0, 0, 0, 0]];
    let chosen = (0..vectors().len()).filter_map(|index| u8::try_from(index).ok());
    chosen.flat_map(|index| scripts.map(|script| [&[index], script].concat())).collect()
}

/// A content type and a body each.
fn bodies() -> Vec<Vec<u8>> {
    let others: [&[u8]; 6] = [
        b"application/x-www-form-urlencoded\na=1&b=x+y%21&a=2",
        b"application/x-www-form-urlencoded; charset=utf-8\n%ff=%00&&=",
        b"text/plain\none\r\n\ttwo \"three\"",
        b"\n\xff\xfe\0",
        b"application/json\n{\"a\":1} {\"b\":2}",
        b"\n",
    ];
    let sent = vectors().iter().map(|vector| {
        let kind = vector.headers.get("content-type").map_or("", String::as_str);
        format!("{kind}\n{}", vector.body).into_bytes()
    });
    others.map(<[u8]>::to_vec).into_iter().chain(sent).collect()
}

fn certificates() -> Vec<Vec<u8>> {
    let pems = vectors().iter().filter_map(|vector| vector.certificate.as_ref()).map(|pem| {
        // A byte of the key changed: the seed is a stranger's certificate.
        let middle = pem.len() / 3;
        let other = if pem.as_bytes()[middle] == b'A' { b'B' } else { b'A' };
        [&pem.as_bytes()[..middle], &[other], &pem.as_bytes()[middle + 1..]].concat()
    });
    let urls = [
        "https://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/?Action=ConfirmSubscription&Token=1",
        "https://me:x@api.paypal.com:443/v1/notifications/certs/../x#y",
    ];
    pems.chain(urls.map(|url| url.as_bytes().to_vec())).collect()
}
