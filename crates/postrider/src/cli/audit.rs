//! `postrider audit`: the audit log taken out of the server, and checked on this side, where nobody who could change it
//! there can make it look right.

mod check;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures_util::StreamExt;
use postrider_core::time::UnixMs;

use super::client::ServerFlags;
use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use super::when;
use crate::ambient::{Ambient, System};
use check::{Broken, Checker, Expected, Hash, Report, parse_hash};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the log as lines of JSON.
    Export {
        /// Only from this time on: 2026-01-31T12:00:00Z, or 2h, 3d ago.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Check that no entry was changed, removed, put in or moved: of the server's log, or of an exported one.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// An exported log; `-` is standard input. Without it, the server's.
    file: Option<PathBuf>,
    /// A hash that an earlier check printed and that was kept elsewhere: all up to it must be as it was then.
    #[arg(long, value_name = "HASH", value_parser = parsed_hash)]
    head: Option<Hash>,
    /// The file begins somewhere in the log (`export --since`): its first entry is taken as it is.
    #[arg(long, requires = "file")]
    partial: bool,
    /// Let entries without a hash stand among the others: nodes of a version before the chain ran beside newer ones.
    #[arg(long)]
    allow_unlinked: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

fn parsed_hash(text: &str) -> Result<Hash, String> {
    parse_hash(text).ok_or_else(|| "must be 64 hexadecimal digits".to_owned())
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::Export { since, server } => export(since.as_deref(), &server, terminal).await,
        Command::Verify(verify) => run_verify(&verify, terminal).await,
    }
}

const PATH: &str = "/v1/audit-log/export";

async fn export(since: Option<&str>, server: &ServerFlags, terminal: &mut Terminal) -> Result<(), Failure> {
    let now: UnixMs = System.now();
    let since = since.map(|text| when::parse(text, now)).transpose().map_err(Failure::usage)?;
    let since = since.map(|at| at.to_string());
    let client = server.client()?;
    let mut query: Vec<(&str, &str)> = Vec::new();
    query.extend(since.as_deref().map(|since| ("since", since)));
    query.extend(client.tenant_filter().map(|tenant| ("tenant_id", tenant)));
    let mut pieces = client.stream(PATH, &query).await?.bytes_stream();
    while let Some(piece) = pieces.next().await {
        terminal.raw(&piece.map_err(|error| broke_off(&error))?)?;
    }
    Ok(())
}

fn broke_off(error: &reqwest::Error) -> Failure {
    Failure::failed(format!("the export broke off: {error}")).hint("what was written is not all of it; try again")
}

async fn run_verify(verify: &Verify, terminal: &mut Terminal) -> Result<(), Failure> {
    let expected = Expected { head: verify.head, partial: verify.partial, unlinked_allowed: verify.allow_unlinked };
    let mut checker = Checker::new(expected);
    match &verify.file {
        Some(path) => read(path, &mut checker)?,
        None => {
            let client = verify.server.client()?;
            let mut pieces = client.stream(PATH, &[]).await?.bytes_stream();
            while let Some(piece) = pieces.next().await {
                checker.feed(&piece.map_err(|error| broke_off(&error))?).map_err(told)?;
            }
        }
    }
    let report = checker.finish().map_err(told)?;
    if verify.json { terminal.json(&report) } else { tell(&report, verify, terminal) }
}

fn read(path: &Path, checker: &mut Checker) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::failed(format!("cannot read {}: {error}", path.display()));
    let mut from: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(unreadable)?)
    };
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece).map_err(unreadable)? {
            0 => return Ok(()),
            count => checker.feed(&piece[..count]).map_err(told)?,
        }
    }
}

fn told(broken: Broken) -> Failure {
    let hint = match &broken {
        Broken::NoChain => "set POSTRIDER_API_KEY to the platform admin key",
        Broken::NotALine { .. } | Broken::CutShort => "export it again: `postrider audit export > audit.jsonl`",
        Broken::Unlinked { .. } => "--allow-unlinked lets such entries stand, if there was an upgrade node by node",
        Broken::Order { .. } | Broken::Changed { .. } | Broken::HeadMissing => {
            "somebody with access to the store has changed the log; compare with an earlier export or a backup"
        }
    };
    Failure::failed(broken.to_string()).hint(hint)
}

fn tell(report: &Report, verify: &Verify, terminal: &mut Terminal) -> Result<(), Failure> {
    let tick = terminal.paint(Tone::Good, "✓");
    let part = if verify.partial { ", of a part of the log" } else { "" };
    terminal.say(format!("{tick} {} entries{part}, each as it was written and in its place", report.entries))?;
    if report.unlinked > 0 {
        let mark = terminal.paint(Tone::Warning, "!");
        terminal.say(format!("{mark} {} of them have no hash and are not protected", report.unlinked))?;
    }
    let Some(head) = &report.head else { return Ok(()) };
    terminal.say(format!("head  {head}"))?;
    if verify.head.is_none() {
        terminal.note(
            "keep the head elsewhere: with `--head` a later check tells whether anything up to it was changed since",
        );
    }
    Ok(())
}
