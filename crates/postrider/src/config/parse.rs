//! Values as operators write them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::store::postgres;

/// The error says what is wrong with a value, without repeating it.
pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn listen(value: &str) -> Parsed<SocketAddr> {
    let numeric = match value.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => value.to_owned(),
    };
    numeric.parse().map_err(|_| "must be address:port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".to_owned())
}

pub(super) fn required_path(value: &str) -> Parsed<PathBuf> {
    if value.is_empty() { Err("must name a directory".to_owned()) } else { Ok(PathBuf::from(value)) }
}

/// `None`: the embedded one.
pub(super) fn store(value: &str) -> Parsed<Option<postgres::Settings>> {
    match value {
        "embedded" => Ok(None),
        _ if value.starts_with("postgres://") || value.starts_with("postgresql://") => {
            postgres::Settings::new(value).map(Some)
        }
        _ => Err("must be `embedded` (the SQLite store in the data directory) or a postgres:// URL".into()),
    }
}

/// Empty: not set.
pub(super) fn optional_path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

/// What this machine calls itself.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Empty: not set.
pub(super) fn admin_key(value: &str) -> Parsed<Option<String>> {
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces: it travels in a header".into());
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// Empty: not set.
pub(super) fn optional_url(value: &str, schemes: &[&str]) -> Parsed<Option<Url>> {
    if value.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(value).map_err(|error| format!("not a URL ({error})"))?;
    if !schemes.contains(&url.scheme()) || url.host().is_none() {
        let expected: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
        return Err(format!("must start with {}", expected.join(" or ")));
    }
    Ok(Some(url))
}

pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn networks(value: &str) -> Parsed<Vec<IpNet>> {
    list(value)
        .map(|item| {
            let whole = item.parse::<IpNet>().map(|net| net.trunc());
            let parsed = whole.or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| format!("`{item}` is neither a range such as 10.0.0.0/8 nor an address"))
        })
        .collect()
}

pub(super) fn ports(value: &str) -> Parsed<Vec<u16>> {
    let mut ports = Vec::new();
    for item in list(value) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let range = first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok());
        match range {
            Some((first, last)) if 0 < first && first <= last => ports.extend(first..=last),
            _ => return Err(format!("`{item}` is neither a port nor a range such as 9000-9010")),
        }
    }
    if ports.is_empty() {
        return Err("must name at least one port".into());
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

pub(super) fn switch(value: &str) -> Parsed<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

pub(super) fn number(value: &str, min: u32, max: u32) -> Parsed<u32> {
    let parsed = value.parse().ok().filter(|number| (min..=max).contains(number));
    parsed.ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

pub(super) fn rate_or_off(value: &str) -> Parsed<u32> {
    if value == "off" { Ok(0) } else { number(value, 0, 10_000_000) }
}

pub(super) fn threads(value: &str) -> Parsed<usize> {
    if value == "auto" {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return Ok((processors / 2).max(1));
    }
    Ok(number(value, 1, 256)? as usize)
}

pub(super) fn duration(value: &str) -> Parsed<Duration> {
    const FORM: &str = "must be a number with a unit: ms, s, m, h or d, such as 20s";
    let digits = value.len() - value.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (count, unit) = value.split_at(digits);
    let count: u64 = count.parse().map_err(|_| FORM.to_owned())?;
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(FORM.to_owned()),
    };
    count.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "is too long".to_owned())
}

pub(super) fn duration_between(value: &str, least: Duration, most: Duration) -> Parsed<Duration> {
    let span = duration(value)?;
    let inside = (least..=most).contains(&span);
    if inside { Ok(span) } else { Err(format!("must be from {}s to {}s", least.as_secs(), most.as_secs())) }
}

pub(super) fn duration_or_off(value: &str) -> Parsed<Option<Duration>> {
    if value == "off" {
        return Ok(None);
    }
    duration(value).map(|span| (!span.is_zero()).then_some(span)).map_err(|error| format!("{error}; or off"))
}

pub(super) fn log_filter(value: &str) -> Parsed<String> {
    EnvFilter::try_new(value).map_err(|error| format!("not a level or list of directives ({error})"))?;
    Ok(value.to_owned())
}
