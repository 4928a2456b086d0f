//! `postrider sign` and `postrider verify`: signatures of every dialect, without a server.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use postrider_core::dialect::Dialect;
use postrider_core::signing::{Secret, SigningKeys, WebhookSecrets, verify as verify_signature};
use postrider_core::time::UnixMs;
use serde_json::json;

use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use super::when;
use crate::ambient::{Ambient, System};
use crate::config::variable;

/// What both need.
#[derive(Debug, Args)]
struct Message {
    /// standard, athenatext, athenty, scaikey, alumia or athena.
    #[arg(long, default_value = "standard", value_parser = dialect)]
    dialect: Dialect,
    /// File with the secret; else the variable POSTRIDER_SECRET.
    #[arg(long, env = "POSTRIDER_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// File with the body exactly as it is on the wire; - is standard input.
    #[arg(value_name = "BODY", default_value = "-")]
    body: PathBuf,
    /// As if it were then: a time, or how long ago. Now unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// Id of the message, where the dialect signs one.
    #[arg(long, default_value = "msg_example")]
    id: String,
    #[command(flatten)]
    message: Message,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A header of the request, as `name: value`; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    message: Message,
}

fn dialect(name: &str) -> Result<Dialect, String> {
    name.parse().map_err(|_| {
        let names: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.name()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be `name: value`")?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}

impl Message {
    fn secret(&self) -> Result<Secret, Failure> {
        let text = match &self.secret_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("cannot read the secret from {}: {error}", path.display())))?,
            None => variable("POSTRIDER_SECRET").ok_or_else(|| {
                Failure::usage("there is no secret")
                    .hint("set POSTRIDER_SECRET, or use --secret-file (a flag would show it to other users)")
            })?,
        };
        Ok(Secret::new(text.trim().to_owned()))
    }

    fn body(&self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        if self.body.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut body)?;
        } else {
            body = std::fs::read(&self.body)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", self.body.display())))?;
        }
        Ok(body)
    }

    fn at(&self) -> Result<UnixMs, Failure> {
        let now = System.now();
        let at = self.at.as_deref().map_or(Ok(now), |text| when::parse(text, now));
        at.map_err(|error| Failure::usage(format!("--at: {error}")))
    }
}

pub(super) fn sign(sign: &Sign, terminal: &mut Terminal) -> Result<(), Failure> {
    let message = &sign.message;
    let secrets = WebhookSecrets { current: message.secret()?, previous: None };
    let keys = SigningKeys::new(message.dialect, &secrets)
        .map_err(|error| Failure::usage(format!("the secret does not fit {}: {error}", message.dialect.name())))?;
    let headers = message.dialect.sign_body(&sign.id, &message.body()?, &keys, message.at()?);
    if message.json {
        let headers: serde_json::Map<_, _> =
            headers.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        return terminal.json(&headers);
    }
    for (name, value) in headers {
        terminal.say(format!("{name}: {value}"))?;
    }
    Ok(())
}

pub(super) fn verify(verify: &Verify, terminal: &mut Terminal) -> Result<(), Failure> {
    let message = &verify.message;
    let find = |name: &str| verify.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
    let verdict = verify_signature(message.dialect, &message.secret()?, find, &message.body()?, message.at()?);
    if message.json {
        let error = verdict.err().map(|error| json!(error));
        terminal.json(&json!({"valid": verdict.is_ok(), "error": error}))?;
    } else if verdict.is_ok() {
        terminal.say(terminal.paint(Tone::Good, "the signature is good"))?;
    }
    verdict.map_err(|error| Failure::failed(format!("not verified: {error}")))
}

#[cfg(test)]
mod tests;
