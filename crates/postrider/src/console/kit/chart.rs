//! Charts, drawn on the server as SVG: no script, no inline style, colours by class so that both themes have their own.
//!
//! The drawing stretches to any width; scales and times stand beside it as text, so that they stay readable on a phone. Each
//! mark has its figures as a tooltip, and a table below has all of them for whoever does not see the drawing.

use askama::Template;
use askama::filters::HtmlSafe;
use postrider_core::time::UnixMs;

use super::{Html, grouped, time};

/// Units of the drawing: as high as it is, and as wide as one point.
const HEIGHT: f64 = 100.0;
const STEP: f64 = 10.0;

/// One row of figures.
#[derive(Clone, Debug)]
pub(in crate::console) struct Series {
    pub label: &'static str,
    /// `good`, `bad`, `low`, `mid` or `high`.
    pub class: &'static str,
    /// One for each point; `None`: there is nothing to show.
    pub values: Vec<Option<u64>>,
}

/// What is drawn, with all that is said of it.
#[derive(Clone, Debug, Template)]
#[template(path = "kit/chart.html")]
pub(in crate::console) struct Chart {
    id: &'static str,
    title: &'static str,
    summary: String,
    width: f64,
    top: String,
    middle: String,
    from: Html,
    to: Html,
    legend: Vec<(&'static str, &'static str)>,
    bars: Vec<Bar>,
    lines: Vec<Line>,
    rows: Vec<(Html, Vec<String>)>,
}

impl HtmlSafe for Chart {}

#[derive(Clone, Debug)]
struct Bar {
    x: f64,
    tip: String,
    parts: Vec<Part>,
}

/// A line with its gaps, and the points that stand between two of them.
#[derive(Clone, Debug, Default)]
struct Line {
    class: &'static str,
    path: String,
    dots: String,
}

#[derive(Clone, Debug)]
struct Part {
    class: &'static str,
    y: String,
    height: String,
}

/// What a chart is of.
#[derive(Clone, Debug)]
pub(in crate::console) struct About {
    /// Of its elements; one of a kind on its page.
    pub id: &'static str,
    pub title: &'static str,
    /// In a sentence, what the figures come to.
    pub summary: String,
    pub unit: &'static str,
}

impl Chart {
    /// Columns of several parts, the first at the bottom.
    pub(in crate::console) fn columns(about: About, times: &[UnixMs], until: UnixMs, series: &[Series]) -> Chart {
        let sum = |at: usize| series.iter().filter_map(|series| series.values[at]).sum::<u64>();
        let top = nice((0..times.len()).map(sum).max().unwrap_or_default());
        let bars = (0..times.len()).filter(|at| sum(*at) > 0).map(|at| {
            let mut below = 0;
            let parts = series.iter().filter_map(|series| {
                let value = series.values[at].filter(|value| *value > 0)?;
                below += value;
                Some(Part { class: series.class, y: number(height(below, top)), height: number(share(value, top)) })
            });
            Bar { x: at as f64 * STEP, parts: parts.collect(), tip: tip(times[at], series, at, about.unit) }
        });
        let bars = bars.collect();
        Chart { bars, ..Chart::around(about, times, until, top, series) }
    }

    /// One line for each series; a gap where there is nothing.
    pub(in crate::console) fn lines(about: About, times: &[UnixMs], until: UnixMs, series: &[Series]) -> Chart {
        let top =
            nice(series.iter().flat_map(|series| series.values.iter().flatten()).copied().max().unwrap_or_default());
        let lines = series.iter().map(|series| line(series, top)).collect();
        let told = (0..times.len()).filter(|at| series.iter().any(|series| series.values[*at].is_some()));
        let bars =
            told.map(|at| Bar { x: at as f64 * STEP, parts: Vec::new(), tip: tip(times[at], series, at, about.unit) });
        let bars = bars.collect();
        Chart { lines, bars, ..Chart::around(about, times, until, top, series) }
    }

    fn around(about: About, times: &[UnixMs], until: UnixMs, top: u64, series: &[Series]) -> Chart {
        let told = |at: &usize| series.iter().any(|series| series.values[*at].is_some_and(|value| value > 0));
        let cell = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), grouped);
        let row = |at: usize| (time(times[at]), series.iter().map(|series| cell(series.values[at])).collect());
        let scale = |value: u64| format!("{} {}", grouped(value), about.unit).trim_end().to_owned();
        Chart {
            id: about.id,
            title: about.title,
            width: times.len() as f64 * STEP,
            top: scale(top),
            middle: if top.is_multiple_of(2) { scale(top / 2) } else { String::new() },
            from: times.first().copied().map(time).unwrap_or_default(),
            to: time(until),
            legend: series.iter().map(|series| (series.class, series.label)).collect(),
            bars: Vec::new(),
            lines: Vec::new(),
            rows: (0..times.len()).filter(told).map(row).collect(),
            summary: about.summary,
        }
    }
}

/// The least round number that is not below `value`: 1, 2, 4, 5 or 10 times a power of ten.
fn nice(value: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [1, 2, 4, 5, 10] {
            let round = power.saturating_mul(factor);
            if round >= value || round == u64::MAX {
                return round;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn share(value: u64, top: u64) -> f64 {
    value as f64 / top as f64 * HEIGHT
}

/// From the top of the drawing.
fn height(value: u64, top: u64) -> f64 {
    HEIGHT - share(value, top)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn tip(at: UnixMs, series: &[Series], index: usize, unit: &str) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at.0).map(|stamp| stamp.strftime("%-d %b, %H:%M UTC").to_string());
    let told = series.iter().filter_map(|series| Some((series.label, series.values[index]?)));
    let figures = told.map(|(label, value)| format!("{label} {} {unit}", grouped(value)).trim_end().to_owned());
    format!("{}: {}", stamp.unwrap_or_default(), figures.collect::<Vec<_>>().join(", "))
}

/// A line through the middle of each point. One alone is a dot: a line of no length with round ends.
fn line(series: &Series, top: u64) -> Line {
    let place = |at: usize, value: u64| format!("{} {}", number((at as f64 + 0.5) * STEP), number(height(value, top)));
    let values = &series.values;
    let is_there = |at: Option<usize>| at.and_then(|at| values.get(at)).is_some_and(Option::is_some);
    let mut line = Line { class: series.class, ..Line::default() };
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        match (is_there(at.checked_sub(1)), is_there(Some(at + 1))) {
            (false, false) => line.dots.push_str(&format!("M{}h0", place(at, *value))),
            (false, true) => line.path.push_str(&format!("M{}", place(at, *value))),
            (true, _) => line.path.push_str(&format!("L{}", place(at, *value))),
        }
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn times(count: i64) -> Vec<UnixMs> {
        (0..count).map(|at| UnixMs(1_772_618_400_000 + at * HOUR)).collect()
    }

    fn about() -> About {
        About { id: "sent", title: "Sent", summary: "Some & others.".to_owned(), unit: "" }
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let told: Vec<_> = [0, 1, 2, 3, 5, 6, 11, 41, 99, 101, 4_000_001].map(nice).into();
        assert_eq!(told, [1, 1, 2, 4, 5, 10, 20, 50, 100, 200, 5_000_000]);
        assert_eq!(nice(u64::MAX), u64::MAX);
    }

    #[test]
    fn columns_stand_on_each_other_and_say_what_they_are() {
        let good = Series { label: "Delivered", class: "good", values: vec![Some(30), Some(0), None] };
        let bad = Series { label: "Failed", class: "bad", values: vec![Some(10), Some(0), None] };
        let times = times(3);
        let drawn = Chart::columns(about(), &times, times[2], &[good, bad]).render().unwrap();
        assert!(drawn.contains(r#"<rect class="good" x="1" y="25" width="8" height="75""#), "{drawn}");
        assert!(drawn.contains(r#"<rect class="bad" x="1" y="0" width="8" height="25""#), "{drawn}");
        assert!(drawn.contains("4 Mar, 10:00 UTC: Delivered 30, Failed 10"), "{drawn}");
        assert_eq!(drawn.matches("<rect class=\"hit\"").count(), 1, "nothing is drawn where nothing was: {drawn}");
        assert!(drawn.contains(r#"aria-labelledby="sent-title sent-desc""#) && drawn.contains("Some &#38; others."));
        assert!(!drawn.contains("style="), "{drawn}");
    }

    #[test]
    fn a_line_has_gaps_and_a_point_alone_is_a_dot() {
        let line = Series { label: "p50", class: "low", values: vec![Some(1), Some(2), None, Some(0)] };
        let times = times(4);
        let drawn = Chart::lines(about(), &times, times[3], &[line]).render().unwrap();
        assert!(drawn.contains(r#"class="line low" d="M5 50L15 0""#), "{drawn}");
        assert!(drawn.contains(r#"class="dot low" d="M35 100h0""#), "{drawn}");
    }
}
