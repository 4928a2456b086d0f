//! What one sees while the benchmark runs: a bar on a terminal, a line per stage elsewhere. On standard error.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(200);

pub(crate) struct Progress {
    style: ProgressStyle,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let style = ProgressStyle::with_template("{msg:44} {wide_bar:.green/dim} {percent:>3} %  {eta:>4}");
        Progress { style: style.expect("the template is constant").progress_chars("━╸─") }
    }

    /// Lets `duration` pass under a bar.
    pub(crate) async fn wait(&self, what: &str, duration: Duration) {
        let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let bar = self.count(what, total);
        let started = Instant::now();
        while started.elapsed() < duration {
            tokio::time::sleep(TICK.min(duration.saturating_sub(started.elapsed()))).await;
            bar.set_position(u64::try_from(started.elapsed().as_millis()).unwrap_or(total));
        }
        bar.finish_and_clear();
    }

    /// A bar that counts to `total`.
    pub(crate) fn count(&self, what: &str, total: u64) -> ProgressBar {
        ProgressBar::new(total).with_style(self.style.clone()).with_message(what.to_owned())
    }

    /// A finished stage.
    pub(crate) fn say(&self, line: &str) {
        // Nobody reads it if standard error is closed.
        drop(writeln!(io::stderr().lock(), "{line}"));
    }
}
