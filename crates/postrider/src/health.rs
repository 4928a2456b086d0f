//! What can be found out about a deployment without asking anybody else, and what is to be thought of it: for `postrider
//! doctor` and for the console.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use postrider_core::egress_policy::EgressPolicy;
use serde::Serialize;
use url::Url;

use crate::config::{OidcOptions, PortalOptions, is_loopback};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Good,
    Warning,
    Bad,
}

/// What was found about one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub level: Level,
    pub text: String,
}

impl Finding {
    pub fn good(what: &'static str, text: impl Into<String>) -> Finding {
        Finding { what, level: Level::Good, text: text.into() }
    }

    pub fn warning(what: &'static str, text: impl Into<String>) -> Finding {
        Finding { what, level: Level::Warning, text: text.into() }
    }

    pub fn bad(what: &'static str, text: impl Into<String>) -> Finding {
        Finding { what, level: Level::Bad, text: text.into() }
    }
}

/// Less free space than this is worth a warning, and less than that is trouble, in bytes.
const FREE_WARNING: u64 = 2 << 30;
const FREE_BAD: u64 = 100 << 20;
/// Where clouds answer with credentials: nothing should be allowed to reach it.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// What people log in by, if it is not a password alone. Whether it answers is seen at the first log-in.
pub fn identity_provider(oidc: &OidcOptions, public_url: Option<&Url>) -> Finding {
    const WHAT: &str = "log-in";
    match public_url {
        _ if oidc.client_id.is_empty() => {
            Finding::bad(WHAT, "POSTRIDER_OIDC_CLIENT_ID is not set: the identity provider would not know us")
        }
        None => Finding::warning(
            WHAT,
            "POSTRIDER_PUBLIC_URL is not set: the redirect address is taken from each request, and the identity \
             provider knows only one",
        ),
        Some(url) => {
            let origin = url.as_str().trim_end_matches('/');
            Finding::good(WHAT, format!("by {}, which must know {origin}/login/oidc/callback", oidc.issuer))
        }
    }
}

/// Whether browsers will do what the portal is set up for.
pub fn portal(portal: &PortalOptions, public_url: Option<&Url>) -> Option<Finding> {
    const WHAT: &str = "portal";
    if !portal.is_on || portal.frame_ancestors.is_empty() {
        return None;
    }
    let shown = portal.frame_ancestors.join(", ");
    Some(match public_url {
        None => Finding::warning(
            WHAT,
            "POSTRIDER_PUBLIC_URL is not set: links into the portal are made of each request's host, and the cookie that a \
             frame needs is set only if a trusted proxy says that it speaks HTTPS",
        ),
        Some(url) if url.scheme() == "https" => Finding::good(WHAT, format!("can be shown in frames of {shown}")),
        Some(url) if url.host().is_some_and(|host| is_loopback(&host)) => {
            Finding::good(WHAT, format!("can be shown in frames of {shown} on this machine"))
        }
        Some(_) => Finding::bad(
            WHAT,
            "POSTRIDER_PUBLIC_URL is plain http: browsers keep no cookie in a frame of another site without HTTPS",
        ),
    })
}

/// Room on the file system of the data directory.
pub fn disk(data: &Path) -> Finding {
    const WHAT: &str = "disk";
    let place = data.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let free = match rustix::fs::statvfs(place) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => return Finding::warning(WHAT, format!("free space of {} is unknown: {error}", place.display())),
    };
    let text = format!("{:.1} GiB free", free as f64 / f64::from(1 << 30));
    match free {
        0..FREE_BAD => Finding::bad(WHAT, format!("{text}: events will be refused with 503 when it is full")),
        FREE_BAD..FREE_WARNING => Finding::warning(WHAT, format!("{text}: think of a shorter retention")),
        _ => Finding::good(WHAT, text),
    }
}

/// What the egress guard lets through.
pub fn egress(policy: &EgressPolicy) -> Vec<Finding> {
    const WHAT: &str = "egress";
    let mut findings = Vec::new();
    for net in &policy.allow {
        if net.prefix_len() == 0 {
            findings.push(Finding::bad(WHAT, format!("egress_allow has {net}: every private address can be reached")));
        } else if net.contains(&METADATA) {
            findings.push(Finding::bad(WHAT, format!("egress_allow has {net}: a cloud's credentials can be reached")));
        }
    }
    if policy.allow_http {
        findings.push(Finding::warning(WHAT, "allow_http is on: deliveries may travel unencrypted"));
    }
    if findings.is_empty() {
        let exempt = if policy.allow.is_empty() { "no range is exempt".to_owned() } else { shown(&policy.allow) };
        findings.push(Finding::good(WHAT, format!("private addresses are refused; {exempt}")));
    }
    findings
}

fn shown(nets: &[ipnet::IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    format!("exempt: {}", nets.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_portal_in_frames_needs_https_but_on_this_machine() {
        let framed = PortalOptions {
            is_on: true,
            frame_ancestors: vec!["https://app.example.com".to_owned()],
            ..PortalOptions::default()
        };
        let level = |portal: &PortalOptions, url: Option<&str>| {
            let url = url.map(|url| Url::parse(url).unwrap());
            super::portal(portal, url.as_ref()).map(|found| found.level)
        };
        assert_eq!(level(&framed, Some("https://hooks.example.com")), Some(Level::Good));
        assert_eq!(level(&framed, Some("http://localhost:8080")), Some(Level::Good));
        assert_eq!(level(&framed, Some("http://hooks.example.com")), Some(Level::Bad));
        assert_eq!(level(&framed, None), Some(Level::Warning));
        assert_eq!(level(&PortalOptions { is_on: false, ..framed }, None), None);
        assert_eq!(level(&PortalOptions { is_on: true, ..PortalOptions::default() }, None), None);
    }
}
