//! A delivery as the API shows it, on one line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::terminal::{Terminal, Tone};

/// The part of a delivery that commands show. What they do not know is kept for `--json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Delivery {
    pub id: i64,
    pub webhook_id: String,
    pub status: String,
    pub attempt_count: u32,
    pub response_status: Option<u16>,
    pub duration_ms: Option<u32>,
    pub error: Option<AttemptError>,
    pub next_attempt_at: Option<String>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct AttemptError {
    pub class: String,
    pub detail: String,
}

impl Delivery {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "canceled")
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.status == "succeeded"
    }

    /// `✓ 7042… wh_…  200 in 12 ms`, or why not.
    pub(super) fn line(&self, terminal: &Terminal) -> String {
        let (sign, tone) = match self.status.as_str() {
            "succeeded" => ("✓", Tone::Good),
            "failed" | "canceled" => ("✗", Tone::Bad),
            _ => ("…", Tone::Warning),
        };
        let mut text = format!("{} delivery {} to {}", terminal.paint(tone, sign), self.id, self.webhook_id);
        text.push_str(&format!("  {}", terminal.paint(tone, &self.status)));
        if let Some(status) = self.response_status {
            text.push_str(&format!("  {status}"));
        }
        if let Some(duration) = self.duration_ms {
            text.push_str(&format!("  {duration} ms"));
        }
        if self.attempt_count > 1 {
            text.push_str(&format!("  attempt {}", self.attempt_count));
        }
        if let Some(error) = self.error.as_ref().filter(|error| error.class != "http_status") {
            text.push_str(&format!("  {}: {}", error.class, error.detail));
        }
        if let Some(next) = self.next_attempt_at.as_ref().filter(|_| !self.has_ended()) {
            text.push_str(&terminal.paint(Tone::Quiet, format!("  next try at {next}")));
        }
        text
    }
}
