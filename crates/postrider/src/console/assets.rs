//! Stylesheet, scripts and icon, within the binary. Their names have the hash of what is in them, so a browser never asks
//! for one again, and never has an old one. They are sent compressed where that is asked for; pages never are, since they
//! hold what is secret beside what others may have chosen.

use std::borrow::Cow;
use std::io::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::{Answer, Fault};
use super::route::{Access, Route};
use super::visit::Visit;
use crate::auth::hash;
use crate::config::PortalOptions;

#[derive(Debug)]
struct Asset {
    /// Below `/assets/`.
    name: String,
    content_type: &'static str,
    bytes: Bytes,
    gzip: Bytes,
}

#[derive(Debug)]
pub(super) struct Assets {
    style: Asset,
    script: Asset,
    htmx: Asset,
    icon: Asset,
    /// The portal's, as it is configured.
    logo: Option<Asset>,
    accent: Option<Asset>,
}

impl Asset {
    fn new(stem: &str, ending: &str, content_type: &'static str, bytes: impl Into<Cow<'static, [u8]>>) -> Asset {
        let bytes = match bytes.into() {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let name = format!("{stem}.{}.{ending}", &hex::encode(hash(&bytes))[..16]);
        Asset { name, content_type, gzip: compressed(&bytes), bytes }
    }

    fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

impl Assets {
    pub(super) fn of(portal: &PortalOptions) -> Assets {
        const SCRIPT: &str = "text/javascript; charset=utf-8";
        const STYLE: &str = "text/css; charset=utf-8";
        let logo = portal.logo.as_ref();
        let accent = portal.accent.as_ref();
        Assets {
            logo: logo.map(|logo| Asset::new("logo", logo.ending, logo.content_type, logo.bytes.to_vec())),
            accent: accent.map(|accent| Asset::new("accent", "css", STYLE, accent.stylesheet().into_bytes())),
            style: Asset::new("console", "css", STYLE, &include_bytes!("../../assets/console.css")[..]),
            script: Asset::new("console", "js", SCRIPT, &include_bytes!("../../assets/console.js")[..]),
            htmx: Asset::new("htmx", "js", SCRIPT, &include_bytes!("../../assets/htmx.min.js")[..]),
            icon: Asset::new("icon", "svg", "image/svg+xml", &include_bytes!("../../assets/icon.svg")[..]),
        }
    }

    pub(super) fn style(&self) -> String {
        self.style.path()
    }

    pub(super) fn script(&self) -> String {
        self.script.path()
    }

    pub(super) fn htmx(&self) -> String {
        self.htmx.path()
    }

    pub(super) fn icon(&self) -> String {
        self.icon.path()
    }

    /// The portal's logo, or else our icon.
    pub(super) fn logo(&self) -> String {
        self.logo.as_ref().map_or_else(|| self.icon(), Asset::path)
    }

    /// The stylesheet with the portal's colours, where they are not ours.
    pub(super) fn accent(&self) -> Option<String> {
        self.accent.as_ref().map(Asset::path)
    }

    fn find(&self, name: &str) -> Option<&Asset> {
        let ours = [&self.style, &self.script, &self.htmx, &self.icon];
        ours.into_iter().chain(&self.logo).chain(&self.accent).find(|asset| asset.name == name)
    }
}

fn compressed(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes everything").into()
}

/// Whether the browser takes gzip: it names it, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let named = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut ways = named.flat_map(|value| value.split(','));
    ways.any(|way| {
        let (name, weight) = way.split_once(';').unwrap_or((way, "q=1"));
        let is_refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/assets/{name}", Access::Public, asset)]
}

async fn asset(visit: Visit) -> Result<Answer, Fault> {
    let asset = visit.console.assets.find(visit.path_text("name")).ok_or(Fault::NotFound)?;
    let answer = if takes_gzip(&visit.parts.headers) {
        let packed = Answer::document(asset.content_type, asset.gzip.clone());
        packed.header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))
    } else {
        Answer::document(asset.content_type, asset.bytes.clone())
    };
    let answer = answer.header(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(answer.header(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_compressed_is_the_same_and_a_third_of_the_size() {
        let assets = Assets::of(&PortalOptions::default());
        let all = [&assets.style, &assets.script, &assets.htmx];
        for asset in all {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&*asset.gzip).read_to_end(&mut text).unwrap();
            assert_eq!(text, asset.bytes, "{}", asset.name);
        }
        let size = |of: fn(&Asset) -> usize| all.into_iter().map(of).sum::<usize>();
        assert!(size(|one| one.gzip.len()) * 5 < size(|one| one.bytes.len()) * 2);
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let asked = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(asked("gzip") && asked("br, GZIP;q=0.5") && asked("gzip, deflate, br, zstd"));
        assert!(!asked("br") && !asked("gzip;q=0") && !asked("identity, gzip; q=0.0") && !asked("xgzip"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
