//! Where commands write: plain text, colours only on a terminal, JSON when asked for.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::{Failure, Kind};
use crate::config::variable;

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Strong,
    Good,
    Bad,
    Warning,
    Quiet,
    Accent,
}

/// Standard output (or a buffer in tests) and whether it may be coloured.
pub(super) struct Terminal {
    out: Box<dyn Write + Send>,
    is_colored: bool,
    is_interactive: bool,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("is_colored", &self.is_colored).finish_non_exhaustive()
    }
}

impl Terminal {
    /// This process's. `NO_COLOR` is respected.
    pub(super) fn of_process() -> Terminal {
        let is_terminal = io::stdout().is_terminal();
        let is_colored = is_terminal && variable("NO_COLOR").is_none();
        let is_interactive = is_terminal && io::stdin().is_terminal();
        Terminal { out: Box::new(io::stdout()), is_colored, is_interactive }
    }

    /// Plain text into a buffer.
    #[cfg(test)]
    pub(super) fn captured() -> (Terminal, Written) {
        let written = Written::default();
        (Terminal { out: Box::new(written.clone()), is_colored: false, is_interactive: false }, written)
    }

    /// Whether somebody can be asked.
    pub(super) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// One line.
    pub(super) fn say(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        Ok(self.out.flush()?)
    }

    /// One JSON document: indented for a person, one line for a program.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = if self.is_interactive { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.say(text.map_err(anyhow::Error::from)?)
    }

    /// One line of JSON, for streams.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.say(serde_json::to_string(value).map_err(anyhow::Error::from)?)
    }

    /// `text` in its tone, if colours are on.
    pub(super) fn paint(&self, tone: Tone, text: impl Display) -> String {
        paint(self.is_colored, tone, text)
    }

    /// A question without a line end; the answer is read from standard input.
    pub(super) fn ask(&mut self, question: &str) -> Result<String, Failure> {
        write!(self.out, "{question} ")?;
        self.out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_lowercase())
    }

    /// Tells on standard error why a command failed.
    pub(super) fn complain(&self, failure: &Failure) {
        if failure.kind == Kind::ReaderGone {
            return;
        }
        let is_colored = io::stderr().is_terminal();
        let mut text = format!("{} {failure}\n", paint(is_colored, Tone::Bad, "error:"));
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("{} {hint}\n", paint(is_colored, Tone::Quiet, " hint:")));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// A remark on standard error, so that it never mixes with data.
    pub(super) fn note(&self, text: impl Display) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn paint(is_colored: bool, tone: Tone, text: impl Display) -> String {
    let code = match tone {
        _ if !is_colored => return text.to_string(),
        Tone::Strong => "1",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warning => "33",
        Tone::Quiet => "2",
        Tone::Accent => "36",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What was written to a captured terminal.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(super) struct Written(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Written {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

#[cfg(test)]
impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
