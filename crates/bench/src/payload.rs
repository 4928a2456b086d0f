//! The event every scenario publishes: 1,024 bytes of ordinary JSON that carry a sequence number and the instant the
//! event was due to be sent.
//!
//! The driver renders its request once and then only overwrites the digits in place; the sink finds them again in
//! whatever envelope the server wraps around the data. Neither parses JSON, so neither competes with the server for
//! the two cores more than it must.

use memchr::memmem;
use ring::hmac;

use crate::driver::Inlet;
use crate::signature::hex;

/// Bytes of `data`, the part of the event that is the user's.
pub(crate) const DATA_BYTES: usize = 1024;
/// What the events are called.
pub(crate) const EVENT_TYPE: &str = "order.completed";

const KEY: &str = "\"bench\":\"";
const SEQUENCE_DIGITS: usize = 12;
const INSTANT_DIGITS: usize = 19;
const STAMP_BYTES: usize = SEQUENCE_DIGITS + 1 + INSTANT_DIGITS;

/// What an event says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Position among the events of its tenant, from 0, without gaps.
    pub(crate) sequence: u64,
    /// When it was due to be sent: nanoseconds of the machine's real-time clock.
    pub(crate) scheduled_ns: u64,
}

impl Stamp {
    /// The stamp in `body`, wherever it stands.
    pub(crate) fn find(body: &[u8]) -> Option<Stamp> {
        let start = memmem::find(body, KEY.as_bytes())? + KEY.len();
        let stamp = body.get(start..start + STAMP_BYTES)?;
        let (sequence, rest) = stamp.split_at(SEQUENCE_DIGITS);
        let instant = rest.strip_prefix(b"-")?;
        Some(Stamp { sequence: number(sequence)?, scheduled_ns: number(instant)? })
    }

    fn write(self, place: &mut [u8]) {
        let (sequence, rest) = place.split_at_mut(SEQUENCE_DIGITS);
        write_digits(sequence, self.sequence);
        write_digits(&mut rest[1..], self.scheduled_ns);
    }
}

/// A whole HTTP request that publishes `batch` events, ready to be stamped and written.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where each event's stamp stands.
    stamps: Vec<usize>,
    /// Set where somebody else's webhook is played.
    signed: Option<Signed>,
}

/// What changes with the body of a webhook as GitHub sends it.
#[derive(Clone, Debug)]
struct Signed {
    key: hmac::Key,
    /// Where its id, signature and body stand.
    id: usize,
    signature: usize,
    body: usize,
}

impl Request {
    /// A `POST /v1/events` to `host` with `key`, publishing `batch` events.
    pub(crate) fn new(host: &str, key: &str, batch: usize) -> Request {
        let event = format!("{{\"type\":\"{EVENT_TYPE}\",\"data\":{}}}", data());
        let body = match batch {
            1 => event,
            _ => format!("{{\"events\":[{}]}}", vec![event.as_str(); batch].join(",")),
        };
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        let stamps = memmem::find_iter(&bytes, KEY.as_bytes()).map(|at| at + KEY.len()).collect();
        Request { bytes, stamps, signed: None }
    }

    /// A webhook of GitHub to a receiver: the same data, signed anew each time.
    pub(crate) fn received(host: &str, inlet: &Inlet) -> Request {
        let (body, id, signature) = (data(), "0".repeat(SEQUENCE_DIGITS), "0".repeat(64));
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: GitHub-Hookshot/bench\r\naccept: */*\r\n\
             content-type: application/json\r\nx-github-event: push\r\nx-github-delivery: {id}\r\n\
             x-hub-signature-256: sha256={signature}\r\ncontent-length: {}\r\n\r\n",
            inlet.path,
            body.len()
        );
        let at = |name: &str| memmem::find(head.as_bytes(), name.as_bytes()).map_or(0, |at| at + name.len());
        let signed = Signed {
            key: hmac::Key::new(hmac::HMAC_SHA256, inlet.secret.as_bytes()),
            id: at("x-github-delivery: "),
            signature: at("sha256="),
            body: head.len(),
        };
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        let stamps = memmem::find(&bytes, KEY.as_bytes()).map(|at| at + KEY.len()).into_iter().collect();
        Request { bytes, stamps, signed: Some(signed) }
    }

    /// The request with its events stamped `first_sequence`, `first_sequence + 1`, …
    pub(crate) fn stamped(&mut self, first_sequence: u64, scheduled_ns: u64) -> &[u8] {
        for (sequence, at) in (first_sequence..).zip(&self.stamps) {
            Stamp { sequence, scheduled_ns }.write(&mut self.bytes[*at..*at + STAMP_BYTES]);
        }
        if let Some(signed) = &self.signed {
            write_digits(&mut self.bytes[signed.id..signed.id + SEQUENCE_DIGITS], first_sequence);
            let tag = hmac::sign(&signed.key, &self.bytes[signed.body..]);
            let place = &mut self.bytes[signed.signature..signed.signature + 64];
            place.iter_mut().zip(hex(tag.as_ref())).for_each(|(digit, written)| *digit = written);
        }
        &self.bytes
    }
}

/// A delivery's body as the `standard` dialect words it, with room for a stamp: what the deliver-only ceiling sends.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    bytes: Vec<u8>,
    stamp: usize,
}

impl Delivery {
    pub(crate) fn new() -> Delivery {
        let bytes = format!(
            "{{\"id\":\"evt_01933b2e-7d4c-7cc1-b5a1-2f6a1d0c9e11\",\"type\":\"{EVENT_TYPE}\",\
             \"timestamp\":\"2026-01-01T00:00:00.000Z\",\"tenant_id\":\"ten_01933b2e-7d4c-7cc1-b5a1-2f6a1d0c9e12\",\
             \"data\":{}}}",
            data()
        )
        .into_bytes();
        let stamp = memmem::find(&bytes, KEY.as_bytes()).expect("data() has the key") + KEY.len();
        Delivery { bytes, stamp }
    }

    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        stamp.write(&mut self.bytes[self.stamp..self.stamp + STAMP_BYTES]);
        &self.bytes
    }
}

/// An order as a shop might report it, with an unset stamp, padded to [`DATA_BYTES`].
fn data() -> String {
    let head = format!("{{{KEY}{}-{}\",", "0".repeat(SEQUENCE_DIGITS), "0".repeat(INSTANT_DIGITS));
    let order = "\"order\":{\"id\":\"ord_7Qm2xV9d\",\"number\":\"2026-004711\",\"currency\":\"EUR\",\"total\":184.35,\
        \"tax\":29.43,\"paid\":true,\"lines\":[{\"sku\":\"TSHIRT-L-BLUE\",\"quantity\":2,\"price\":24.9},\
        {\"sku\":\"MUG-CERAMIC-400\",\"quantity\":1,\"price\":14.55},{\"sku\":\"JACKET-RAIN-M\",\"quantity\":1,\
        \"price\":120.0}]},\"customer\":{\"id\":\"cus_1pYcT6aK\",\"name\":\"Zoë Müller\",\
        \"email\":\"zoe@example.org\",\"address\":{\"street\":\"Königstraße 12\",\"city\":\"Köln\",\
        \"zip\":\"50667\",\"country\":\"DE\"}},\"note\":\"";
    let tail = "\"}";
    let padding = DATA_BYTES - head.len() - order.len() - tail.len();
    let note: String =
        "Please leave the parcel with the neighbours if nobody opens. ".chars().cycle().take(padding).collect();
    format!("{head}{order}{note}{tail}")
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))).flatten()
    })
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn body(request: &[u8]) -> &[u8] {
        let end_of_head = memmem::find(request, b"\r\n\r\n").unwrap();
        &request[end_of_head + 4..]
    }

    #[test]
    fn the_data_is_json_of_exactly_the_promised_size() {
        assert_eq!(data().len(), DATA_BYTES);
        let parsed: serde_json::Value = serde_json::from_str(&data()).unwrap();
        assert_eq!(parsed["order"]["lines"][1]["sku"], "MUG-CERAMIC-400");
    }

    #[test]
    fn a_single_event_is_found_with_the_stamp_it_was_given() {
        let mut request = Request::new("127.0.0.1:1", "sk_test_x", 1);
        let bytes = request.stamped(90_123, 1_800_000_000_123_456_789);
        assert_eq!(Stamp::find(bytes), Some(Stamp { sequence: 90_123, scheduled_ns: 1_800_000_000_123_456_789 }));
        let parsed: serde_json::Value = serde_json::from_slice(body(bytes)).unwrap();
        assert_eq!(parsed["type"], EVENT_TYPE);
    }

    #[test]
    fn a_batch_counts_upwards_and_announces_its_true_length() {
        let mut request = Request::new("127.0.0.1:1", "sk_test_x", 3);
        let bytes = request.stamped(7, 1);
        let parsed: serde_json::Value = serde_json::from_slice(body(bytes)).unwrap();
        let sequences: Vec<u64> = parsed["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| Stamp::find(event["data"].to_string().as_bytes()).unwrap().sequence)
            .collect();
        assert_eq!(sequences, [7, 8, 9]);
        let head = std::str::from_utf8(&bytes[..bytes.len() - body(bytes).len()]).unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body(bytes).len())), "{head}");
    }

    #[test]
    fn a_webhook_is_signed_over_its_own_stamp_and_has_an_id_of_its_own() {
        let inlet = Inlet { path: "/in".into(), secret: "s3cret".into() };
        let mut request = Request::received("127.0.0.1:1", &inlet);
        let bytes = request.stamped(4_711, 1).to_vec();
        let head = String::from_utf8(bytes[..bytes.len() - body(&bytes).len()].to_vec()).unwrap();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s3cret"), body(&bytes));
        let signature = String::from_utf8(hex(tag.as_ref()).collect()).unwrap();
        assert!(head.contains(&format!("sha256={signature}\r\n")), "{head}");
        assert!(head.starts_with("POST /in ") && head.contains("x-github-delivery: 000000004711\r\n"), "{head}");
        assert_eq!(Stamp::find(&bytes), Some(Stamp { sequence: 4_711, scheduled_ns: 1 }));
    }

    #[test]
    fn a_body_without_a_whole_stamp_has_none() {
        assert_eq!(Stamp::find(b"{}"), None);
        assert_eq!(Stamp::find(b"{\"bench\":\"000000000001-00000"), None);
        assert_eq!(Stamp::find(b"{\"bench\":\"00000000000x-0000000000000000001\"}"), None);
    }
}
