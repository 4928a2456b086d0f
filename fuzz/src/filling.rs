//! Forms, as the console reads them.

use postrider_core::form::Form;

/// The bytes are a body.
///
/// - It has the fields that a reader of another make finds, in their order.
/// - Written out as a browser does, it reads the same again.
/// - A field is there or not, however it is asked for, and its first value counts.
///
/// # Panics
/// If one of these does not hold.
pub fn forms(data: &[u8]) {
    let form = Form::parse(data);
    assert_eq!(form.fields(), by_hand(data));
    let mut written = url::form_urlencoded::Serializer::new(String::new());
    let written = written.extend_pairs(form.fields()).finish();
    assert_eq!(Form::parse(written.as_bytes()), form, "{written}");
    for name in form.fields().iter().map(|(name, _)| name.as_str()).chain(["", "csrf", "no such field"]) {
        let values: Vec<&String> =
            form.fields().iter().filter(|(own, _)| own == name).map(|(_, value)| value).collect();
        let first = values.first().map_or("", |value| value.as_str());
        assert_eq!(form.has(name), !values.is_empty());
        assert_eq!(form.all(name).iter().collect::<Vec<_>>(), values);
        assert_eq!(form.text(name), first);
        assert_eq!(form.given(name).unwrap_or_default(), first.trim());
        assert_ne!(form.given(name), Some(""), "what is empty was not given");
    }
}

/// The URL standard's algorithm, a byte at a time.
fn by_hand(body: &[u8]) -> Vec<(String, String)> {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let fields = pairs.map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let mut half = || decoded(halves.next().unwrap_or_default());
        (half(), half())
    });
    fields.collect()
}

fn decoded(mut text: &[u8]) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        text = rest;
        let escaped = match (first, rest) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        bytes.push(match (first, escaped) {
            (_, Some((high, low))) => {
                text = &rest[2..];
                16 * high + low
            }
            (b'+', None) => b' ',
            (byte, None) => *byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) const SEEDS: [&[u8]; 7] = [
    b"csrf=0123abcd&url=https%3A%2F%2Fshop.example%2Fhooks&event_types=order.paid&event_types=order.%2a&active=",
    b"description=caf%C3%A9+%26+bar%21&description=second",
    b"&&=&a&=b&a=b=c&",
    b"%41=%4&%=+%2b%zz&%2",
    b"a=\xff%ff%00\0&%F0%9F=%98%80",
    b"name=+%09+&name=x&csrf=",
    b"filter=%7B%22all%22%3A%5B%5D%7D%0D%0A&headers=x-a%3A+b%0D%0Ax-c%3A+d",
];
