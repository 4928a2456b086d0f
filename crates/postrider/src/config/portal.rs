//! The customers' portal, as operators write it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use postrider_core::limits::{NAME_CHARS_MAX, PORTAL_FRAME_ANCESTORS_MAX, PORTAL_LOGO_BYTES_MAX};
use url::{Host, Url};

use super::parse::{self, Parsed};
use crate::portal::theme::Accent;

/// How the portal looks, and where it may be shown.
#[derive(Clone, Debug, Default)]
pub struct PortalOptions {
    /// Whether it is served.
    pub is_on: bool,
    /// What it is called at its top.
    pub name: String,
    /// `None`: ours.
    pub logo: Option<Logo>,
    /// `None`: ours.
    pub accent: Option<Accent>,
    /// Origins as `frame-ancestors` takes them; empty: it is shown in no frame.
    pub frame_ancestors: Vec<String>,
}

/// A picture in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    pub bytes: Arc<[u8]>,
    pub content_type: &'static str,
    pub ending: &'static str,
}

/// What pictures end in and are sent as.
const PICTURES: [(&str, &str); 4] =
    [("svg", "image/svg+xml"), ("png", "image/png"), ("webp", "image/webp"), ("jpg", "image/jpeg")];

pub(super) fn name(value: &str) -> Parsed<String> {
    if value.chars().count() > NAME_CHARS_MAX || value.chars().any(char::is_control) {
        return Err(format!("must have at most {NAME_CHARS_MAX} characters, none of them a control character"));
    }
    Ok(value.to_owned())
}

/// Empty: none.
pub(super) fn logo(value: &str) -> Parsed<Option<Logo>> {
    let Some(path) = parse::optional_path(value) else { return Ok(None) };
    let given = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let given = if given == "jpeg" { "jpg" } else { &given };
    let picture = PICTURES.into_iter().find(|(ending, _)| *ending == given);
    let (ending, content_type) = picture.ok_or("must be a file that ends in .svg, .png, .webp or .jpg")?;
    Ok(Some(Logo { bytes: read(&path)?.into(), content_type, ending }))
}

fn read(path: &Path) -> Parsed<Vec<u8>> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(PORTAL_LOGO_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > PORTAL_LOGO_BYTES_MAX {
        return Err(format!("has more than {PORTAL_LOGO_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Empty: none.
pub(super) fn accent(value: &str) -> Parsed<Option<Accent>> {
    if value.is_empty() {
        return Ok(None);
    }
    Accent::of(value.parse().map_err(|error: postrider_core::colour::NoColour| error.to_string())?).map(Some)
}

/// For dark pages; empty: made from the other.
pub(super) fn accent_dark(options: &mut PortalOptions, value: &str) -> Parsed<()> {
    if value.is_empty() {
        return Ok(());
    }
    let Some(accent) = &mut options.accent else {
        return Err("needs POSTRIDER_PORTAL_ACCENT beside it".to_owned());
    };
    accent.darken(value.parse().map_err(|error: postrider_core::colour::NoColour| error.to_string())?)
}

pub(super) fn frame_ancestors(value: &str) -> Parsed<Vec<String>> {
    let origins: Vec<String> = parse::list(value).map(frame_ancestor).collect::<Parsed<_>>()?;
    if origins.len() > PORTAL_FRAME_ANCESTORS_MAX {
        return Err(format!("may name at most {PORTAL_FRAME_ANCESTORS_MAX} origins"));
    }
    Ok(origins)
}

/// One origin, written anew from what was understood of it: it becomes a part of a header.
fn frame_ancestor(text: &str) -> Parsed<String> {
    let wrong = || format!("{text:?} is no origin such as https://app.example.com or https://*.example.com");
    let (plain, any) = match text.split_once("://*.") {
        Some((scheme, rest)) => (format!("{scheme}://{rest}"), "*."),
        None => (text.to_owned(), ""),
    };
    let url = Url::parse(&plain).map_err(|_| wrong())?;
    let is_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_origin || !url.username().is_empty() || url.password().is_some() || plain.contains('*') {
        return Err(wrong());
    }
    let host = url.host().ok_or_else(wrong)?;
    let is_name = matches!(&host, Host::Domain(name) if is_plain(name));
    if (!any.is_empty() && !is_name) || matches!(&host, Host::Domain(name) if !is_plain(name)) {
        return Err(wrong());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&host) => {}
        "http" => return Err(format!("{text:?}: plain http is for this machine (localhost, 127.0.0.1) only")),
        _ => return Err(wrong()),
    }
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{}://{any}{host}{port}", url.scheme()))
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Whether a browser takes it for this machine.
pub(crate) fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost" || name.as_ref().ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_origin_is_written_as_a_header_takes_it() {
        let given = "https://App.Example.com/, https://*.example.com,http://localhost:3000,https://a.example:8443,\
                     http://127.0.0.1:3000,http://[::1]:80";
        assert_eq!(
            frame_ancestors(given).unwrap(),
            [
                "https://app.example.com",
                "https://*.example.com",
                "http://localhost:3000",
                "https://a.example:8443",
                "http://127.0.0.1:3000",
                "http://[::1]",
            ]
        );
        assert!(frame_ancestors("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_origin_never_comes_into_a_header() {
        for text in [
            "*",
            "https://*",
            "https:",
            "app.example.com",
            "'self'",
            "https://app.example.com/path",
            "https://app.example.com?x",
            "https://app.example.com; script-src *",
            "https://a b.example",
            "https://user@app.example.com",
            "https://a.*.example.com",
            "https://*.127.0.0.1",
            "http://app.example.com",
            "data:x",
            "javascript:alert(1)",
            "https://exa;mple.com",
        ] {
            assert!(frame_ancestors(text).is_err(), "{text}: {:?}", frame_ancestors(text));
        }
    }

    #[test]
    fn there_are_so_many_origins_and_no_more() {
        let most: Vec<_> = (0..PORTAL_FRAME_ANCESTORS_MAX).map(|n| format!("https://a{n}.example")).collect();
        assert_eq!(frame_ancestors(&most.join(",")).unwrap().len(), PORTAL_FRAME_ANCESTORS_MAX);
        assert!(frame_ancestors(&format!("{},https://b.example", most.join(","))).is_err());
    }

    #[test]
    fn a_logo_is_a_picture_of_a_size() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: usize| {
            let path = directory.path().join(name);
            std::fs::write(&path, vec![b'x'; bytes]).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let found = logo(&file("a.PNG", PORTAL_LOGO_BYTES_MAX)).unwrap().unwrap();
        assert_eq!((found.content_type, found.ending, found.bytes.len()), ("image/png", "png", PORTAL_LOGO_BYTES_MAX));
        assert_eq!(logo(&file("a.jpeg", 1)).unwrap().unwrap().ending, "jpg");
        assert!(logo(&file("b.png", PORTAL_LOGO_BYTES_MAX + 1)).unwrap_err().contains("bytes"));
        assert!(logo(&file("a.html", 1)).is_err());
        assert!(logo("/no/such.png").unwrap_err().contains("cannot be read"));
        assert_eq!(logo("").unwrap(), None);
    }

    #[test]
    fn a_name_is_one_line() {
        assert!(name(&"x".repeat(NAME_CHARS_MAX)).is_ok());
        assert!(name(&"x".repeat(NAME_CHARS_MAX + 1)).is_err());
        assert!(name("a\nb").is_err());
    }
}
