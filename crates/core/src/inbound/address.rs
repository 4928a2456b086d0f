//! The spellings of a receiver's public URL that providers sign.

use std::borrow::Cow;

use crate::inbound::provider::UrlRule;

/// The texts that may have been signed for `url`, most likely first. At most three.
pub(super) fn spellings(rule: UrlRule, url: &str) -> Vec<Cow<'_, str>> {
    match rule {
        UrlRule::Exact => vec![Cow::Borrowed(url)],
        UrlRule::DefaultPortOptional => {
            let others = [without_default_port(url), with_default_port(url)];
            std::iter::once(Cow::Borrowed(url)).chain(others.into_iter().flatten().map(Cow::Owned)).collect()
        }
        UrlRule::Decoded => match decoded(url) {
            Cow::Borrowed(url) => vec![Cow::Borrowed(url)],
            decoded => vec![decoded, Cow::Borrowed(url)],
        },
    }
}

/// Scheme with `://`, host, port with its colon, and the rest.
fn parts(url: &str) -> Option<(&str, &str, &str, &str)> {
    let (scheme, rest) = url.split_at(url.find("://")? + 3);
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A colon inside the brackets of an IPv6 address begins no port.
    let start = authority.rfind(']').unwrap_or(0);
    let (host, port) = authority.split_at(authority[start..].find(':').map_or(authority.len(), |at| start + at));
    Some((scheme, host, port, rest))
}

fn default_port(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("https://") { ":443" } else { ":80" }
}

fn without_default_port(url: &str) -> Option<String> {
    let (scheme, host, port, rest) = parts(url)?;
    (port == default_port(scheme)).then(|| [scheme, host, rest].concat())
}

fn with_default_port(url: &str) -> Option<String> {
    let (scheme, host, port, rest) = parts(url)?;
    port.is_empty().then(|| [scheme, host, default_port(scheme), rest].concat())
}

/// The characters that HubSpot decodes before it signs, and no others.
const DECODED: [(&str, char); 12] = [
    ("3A", ':'),
    ("2F", '/'),
    ("3F", '?'),
    ("40", '@'),
    ("21", '!'),
    ("24", '$'),
    ("27", '\''),
    ("28", '('),
    ("29", ')'),
    ("2A", '*'),
    ("2C", ','),
    ("3B", ';'),
];

fn decoded(url: &str) -> Cow<'_, str> {
    if !url.contains('%') {
        return Cow::Borrowed(url);
    }
    let mut pieces = url.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let known = piece.get(..2).and_then(|code| DECODED.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)));
        match known {
            Some((_, character)) => {
                text.push(*character);
                text.push_str(&piece[2..]);
            }
            None => {
                text.push('%');
                text.push_str(piece);
            }
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_port_may_stand_there_or_not_and_no_other_port_may_vanish() {
        let ports = |url| spellings(UrlRule::DefaultPortOptional, url);
        assert_eq!(ports("https://a.example/x?y=1"), ["https://a.example/x?y=1", "https://a.example:443/x?y=1"]);
        assert_eq!(ports("https://a.example:443/x"), ["https://a.example:443/x", "https://a.example/x"]);
        assert_eq!(ports("http://a.example?z"), ["http://a.example?z", "http://a.example:80?z"]);
        assert_eq!(ports("https://a.example:8443/x"), ["https://a.example:8443/x"]);
        assert_eq!(ports("https://[2001:db8::1]/x"), ["https://[2001:db8::1]/x", "https://[2001:db8::1]:443/x"]);
        assert_eq!(ports("no url"), ["no url"]);
    }

    #[test]
    fn hubspots_table_is_decoded_and_nothing_else() {
        let url = "https://a.example/w%3a%2Fx?q=%40%21%24%27%28%29%2A%2C%3B&keep=%20%2B%26%25&end=%4";
        assert_eq!(decoded(url), "https://a.example/w:/x?q=@!$'()*,;&keep=%20%2B%26%25&end=%4");
        assert_eq!(decoded("https://a.example/%zz%é"), "https://a.example/%zz%é");
    }
}
