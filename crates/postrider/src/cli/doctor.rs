//! `postrider doctor`: looks at everything that commonly goes wrong, and says what to do about it.

mod gateway;

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use postrider_core::time::UnixMs;

use super::failure::{Failure, Kind};
use super::terminal::{Terminal, Tone};
use crate::ambient::{Ambient, System};
use crate::config::{ADMIN_KEY_FILE, Checked, ConfigFlags, MASTER_KEY_FILE, Sources, permission_problem};
use crate::health::{self, Finding, Level};
use crate::store::postgres::{self, PgStore, Weight};
use crate::store::sqlite::SqliteStore;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Only ask the server whether it is ready: exit code 0 or 4.
    #[arg(long)]
    healthcheck: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ConfigFlags,
}

/// What is asked over the network may take so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// A name that resolves wherever names do.
const KNOWN_NAME: &str = "example.com";
pub(super) async fn run(doctor: &Doctor, terminal: &mut Terminal) -> Result<(), Failure> {
    let loaded = Sources::of_process(&doctor.flags).load()?;
    let checked = &loaded.checked;
    let origin = super::serve::reachable_origin(checked.listen());
    if doctor.healthcheck {
        return health(&origin, terminal).await;
    }
    let mut findings = vec![Finding::good("configuration", "every value is well-formed")];
    findings.extend(loaded.warnings.iter().map(|warning| Finding::warning("configuration", warning)));
    match checked.store() {
        Some(settings) => findings.extend(shared(settings, checked.has_master_key()).await),
        None => {
            findings.extend(data_directory(checked.data()));
            findings.push(store(checked.data()).await);
            findings.push(health::disk(checked.data()));
            findings.push(clock(checked.data(), System.now()));
        }
    }
    findings.push(names().await);
    findings.push(certificates(checked));
    findings.extend(health::egress(checked.egress()));
    findings.extend(gateway::look(checked).await);
    findings.extend(checked.oidc().map(|(oidc, public_url)| health::identity_provider(oidc, public_url)));
    let (portal, public_url) = checked.portal();
    findings.extend(health::portal(portal, public_url));
    findings.push(server(&origin).await);
    tell(doctor.json, &findings, terminal)
}

fn tell(as_json: bool, findings: &[Finding], terminal: &mut Terminal) -> Result<(), Failure> {
    if as_json {
        terminal.json(&findings)?;
    } else {
        for finding in findings {
            let (sign, tone) = match finding.level {
                Level::Good => ("✓", Tone::Good),
                Level::Warning => ("!", Tone::Warning),
                Level::Bad => ("✗", Tone::Bad),
            };
            terminal.say(format!("{} {:14} {}", terminal.paint(tone, sign), finding.what, finding.text))?;
        }
    }
    match findings.iter().filter(|finding| finding.level == Level::Bad).count() {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing is wrong")),
        count => Err(Failure::failed(format!("{count} things are wrong"))),
    }
}

fn data_directory(data: &Path) -> Vec<Finding> {
    const WHAT: &str = "data directory";
    let shown = data.display();
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::good(WHAT, format!("{shown} does not exist yet; `serve` creates it"))];
        }
        Err(error) => return vec![Finding::bad(WHAT, format!("{shown}: {error}"))],
    };
    if !metadata.is_dir() {
        return vec![Finding::bad(WHAT, format!("{shown} is not a directory"))];
    }
    if let Err(error) = tempfile::tempfile_in(data) {
        return vec![Finding::bad(WHAT, format!("{shown} cannot be written to: {error}"))];
    }
    let places = [data.to_owned(), data.join(ADMIN_KEY_FILE), data.join(MASTER_KEY_FILE)];
    let problems: Vec<Finding> =
        places.iter().filter_map(|place| permission_problem(place)).map(|text| Finding::bad(WHAT, text)).collect();
    if problems.is_empty() {
        return vec![Finding::good(WHAT, format!("{shown} can be written to, and read by its owner only"))];
    }
    problems
}

/// A database that nodes share.
async fn shared(settings: &postgres::Settings, has_master_key: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !has_master_key {
        findings.push(Finding::bad("master key", "POSTRIDER_MASTER_KEY is not set; it is the same on every node"));
    }
    let observations = PgStore::inspect(settings.clone()).await;
    findings.extend(observations.into_iter().map(|observation| Finding {
        what: observation.what,
        level: match observation.weight {
            Weight::Good => Level::Good,
            Weight::Warning => Level::Warning,
            Weight::Bad => Level::Bad,
        },
        text: observation.text,
    }));
    findings
}

async fn store(data: &Path) -> Finding {
    const WHAT: &str = "store";
    let data = data.to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        let version = SqliteStore::schema_version(&data)?;
        let problems = SqliteStore::problems(&data)?;
        Ok::<_, crate::store::Error>((version, problems))
    });
    match looked.await {
        Ok(Ok((None, _))) => Finding::good(WHAT, "there is none yet; `serve` creates it"),
        Ok(Ok((Some(version), problems))) if problems.is_empty() => {
            Finding::good(WHAT, format!("sound (schema {version}, SQLite's quick check)"))
        }
        Ok(Ok((_, problems))) => {
            Finding::bad(WHAT, format!("damaged: {}; restore the data directory from a backup", problems.join("; ")))
        }
        Ok(Err(error)) => Finding::bad(WHAT, format!("{error:#}")),
        Err(error) => Finding::bad(WHAT, error.to_string()),
    }
}

/// A clock that is behind what it wrote earlier was set back.
fn clock(data: &Path, now: UnixMs) -> Finding {
    const WHAT: &str = "clock";
    let written = std::fs::metadata(data.join("postrider.db")).and_then(|file| file.modified());
    let written = written.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let ahead = written.map(|time| UnixMs(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).since(now));
    match ahead {
        Some(ahead) if ahead > Duration::from_secs(60) => {
            Finding::bad(WHAT, format!("{now} is {} s behind the store's last write", ahead.as_secs()))
        }
        _ => Finding::good(WHAT, format!("{now}; receivers accept signatures within 5 minutes of theirs")),
    }
}

async fn names() -> Finding {
    const WHAT: &str = "names";
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((KNOWN_NAME, 443))).await {
        Ok(Ok(addresses)) if addresses.size_hint().0 > 0 => Finding::good(WHAT, format!("{KNOWN_NAME} resolves")),
        Ok(Ok(_)) => Finding::warning(WHAT, format!("{KNOWN_NAME} has no address")),
        Ok(Err(error)) => Finding::warning(WHAT, format!("{KNOWN_NAME} does not resolve: {error}")),
        Err(_) => Finding::warning(WHAT, format!("{KNOWN_NAME} was not resolved in time")),
    }
}

fn certificates(checked: &Checked) -> Finding {
    const WHAT: &str = "certificates";
    let system = rustls_native_certs::load_native_certs().certs.len();
    let files = checked.egress_ca_files();
    match crate::egress::client_config(files) {
        Err(error) => Finding::bad(WHAT, format!("{error:#}")),
        Ok(_) if system == 0 && files.is_empty() => {
            Finding::bad(WHAT, "no authority is trusted, so no https endpoint is; install ca-certificates")
        }
        Ok(_) => Finding::good(WHAT, format!("{system} of the system, {} further files", files.len())),
    }
}

async fn server(origin: &str) -> Finding {
    const WHAT: &str = "server";
    match ready(origin).await {
        Ok(()) => Finding::good(WHAT, format!("ready at {origin}")),
        Err(failure) if failure.kind == Kind::Unreachable => Finding::warning(WHAT, format!("not running at {origin}")),
        Err(failure) => Finding::bad(WHAT, failure.message),
    }
}

async fn health(origin: &str, terminal: &mut Terminal) -> Result<(), Failure> {
    match ready(origin).await {
        Ok(()) => terminal.say("ready"),
        Err(failure) => Err(Failure { kind: Kind::Unreachable, ..failure }),
    }
}

/// Asks `/readyz`, without a key.
async fn ready(origin: &str) -> Result<(), Failure> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .tls_backend_preconfigured(crate::egress::client_config(&[])?)
        .build()
        .map_err(anyhow::Error::from)?;
    match http.get(format!("{origin}/readyz")).send().await {
        Ok(reply) if reply.status().is_success() => Ok(()),
        Ok(reply) => Err(Failure::failed(format!("{origin} is not ready: it answered {}", reply.status()))),
        Err(_) => Err(Failure::new(Kind::Unreachable, format!("nothing answers at {origin}"))),
    }
}

#[cfg(test)]
mod tests;
