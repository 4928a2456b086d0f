//! The soak as a picture: eight small charts over the same minutes, as SVG.
//!
//! Drawn by `plotters`, which has axes, round labels and a logarithmic scale. The console's own chart
//! (`postrider/src/console/kit/chart.rs`) is no substitute: its labels are HTML beside the drawing, and its colours come from
//! the console's style sheet, while this picture stands alone in a document. What `plotters` cannot do is two sets of
//! colours, so each colour is named once below and [`style`] says what becomes of it in the dark.

use anyhow::{Context, Result};
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{Point, Soak};
use crate::machine::Machine;

/// Twice the size it is shown in: `plotters` draws at whole units.
const SIZE: (u32, u32) = (1_840, 2_040);
const HEADING: u32 = 184;
const COLUMNS: usize = 2;
const ROWS: usize = 4;
/// `plotters` writes sizes divided by this.
const FONT_SCALE: f64 = 1.24;
const LOG_LEAST_MS: f64 = 0.1;

/// A colour, and what it is in the dark.
struct Colour {
    light: RGBColor,
    dark: &'static str,
}

const PAPER: Colour = Colour { light: RGBColor(0xff, 0xff, 0xff), dark: "#0d1117" };
const INK: Colour = Colour { light: RGBColor(0x1f, 0x23, 0x28), dark: "#e6edf3" };
const PALE: Colour = Colour { light: RGBColor(0x59, 0x63, 0x6e), dark: "#9198a1" };
const GRID: Colour = Colour { light: RGBColor(0xd8, 0xde, 0xe4), dark: "#30363d" };
const BAND: Colour = Colour { light: RGBColor(0xee, 0xf3, 0xf9), dark: "#161f2b" };
const BLUE: Colour = Colour { light: RGBColor(0x09, 0x69, 0xda), dark: "#4493f8" };
const ORANGE: Colour = Colour { light: RGBColor(0xbc, 0x4c, 0x00), dark: "#f0883e" };
const PURPLE: Colour = Colour { light: RGBColor(0x82, 0x50, 0xdf), dark: "#ab7df8" };
const COLOURS: [Colour; 8] = [PAPER, INK, PALE, GRID, BAND, BLUE, ORANGE, PURPLE];

type Figure = fn(&Point) -> f64;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One of the small charts.
struct Panel {
    title: &'static str,
    unit: &'static str,
    logarithmic: bool,
    /// Each with its name, if there are several.
    lines: &'static [(&'static str, Colour, Figure)],
}

const PANELS: [Panel; COLUMNS * ROWS] = [
    panel("Delivered", "deliveries/s", &[("", BLUE, |point| point.delivered_per_second)]),
    Panel {
        title: "Latency",
        unit: "ms (logarithmic)",
        logarithmic: true,
        lines: &[
            ("first, p50", BLUE, Point::first_p50_ms),
            ("first, p99", ORANGE, Point::first_p99_ms),
            ("retried, p50", PURPLE, Point::retried_p50_ms),
        ],
    },
    panel("Resident memory", "MB", &[("", BLUE, |point| point.memory_bytes as f64 / 1e6)]),
    panel("Open file descriptors", "descriptors", &[("", BLUE, |point| point.descriptors as f64)]),
    panel("Queue: deliveries pending, retries included", "deliveries", &[("", BLUE, |point| point.pending)]),
    panel("CPU of the server", "cores", &[("", BLUE, |point| point.server_cores)]),
    panel("Write-ahead log", "MB", &[("", BLUE, |point| point.log_bytes as f64 / 1e6)]),
    panel("Database for each delivery so far", "bytes", &[("", BLUE, Point::database_bytes_per_delivery)]),
];

const fn panel(title: &'static str, unit: &'static str, lines: &'static [(&'static str, Colour, Figure)]) -> Panel {
    Panel { title, unit, logarithmic: false, lines }
}

/// The picture.
pub(crate) fn svg(soak: &Soak, machine: &Machine) -> Result<String> {
    let mut drawing = String::new();
    {
        let root = SVGBackend::with_string(&mut drawing, SIZE).into_drawing_area();
        draw(&root, soak, machine).map_err(|error| anyhow::anyhow!("cannot draw the soak: {error}"))?;
        root.present().map_err(|error| anyhow::anyhow!("cannot draw the soak: {error}"))?;
    }
    let (_, body) = drawing.split_once(">\n").context("a drawing begins with its tag")?;
    let (width, height) = SIZE;
    let title = "Soak: deliveries, latency, memory, descriptors, queue, CPU and disk of the server over time";
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{}</style>\n{body}",
        width / 2,
        height / 2,
        style()
    ))
}

/// What a reader's dark theme makes of the colours, which stand in the drawing as attributes.
fn style() -> String {
    let rule = |colour: &Colour| {
        let RGBColor(red, green, blue) = colour.light;
        let (light, dark) = (format!("#{red:02X}{green:02X}{blue:02X}"), colour.dark);
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    let rules: String = COLOURS.iter().map(rule).collect();
    format!(
        "text{{font-family:system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif}}\
         @media (prefers-color-scheme:dark){{{rules}}}"
    )
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(root: &Area<'_>, soak: &Soak, machine: &Machine) -> Drawn {
    root.fill(&PAPER.light)?;
    let (heading, panels) = root.split_vertically(HEADING);
    let first = format!(
        "{} events/s for {}, every receiver failing one request in {}",
        crate::report::thousands(soak.rate),
        crate::report::lasting(soak.seconds),
        crate::sink::FAILS_ONE_IN
    );
    let second = "Shaded: the two quarters that are compared.";
    let third =
        format!("{}, {} cores for everything; {}, commit {}", machine.cpu, machine.cores, machine.date, machine.commit);
    let lines = [(first.as_str(), 38.0, INK, 30), (second, 26.0, PALE, 88), (&third, 26.0, PALE, 126)];
    for (line, size, colour, top) in lines {
        heading.draw_text(line, &text(size, &colour), (30, top))?;
    }
    for (area, panel) in panels.split_evenly((ROWS, COLUMNS)).iter().zip(&PANELS) {
        draw_panel(area, panel, &soak.points)?;
    }
    Ok(())
}

fn text(size: f64, colour: &Colour) -> TextStyle<'static> {
    ("sans-serif", size * FONT_SCALE).with_color(colour.light).into_text_style(&(0, 0))
}

fn draw_panel(area: &Area<'_>, panel: &Panel, points: &[Point]) -> Drawn {
    let minutes = points.last().map_or(1.0, |point| point.seconds / 60.0);
    let figures = || panel.lines.iter().flat_map(|(_, _, figure)| points.iter().map(figure));
    let greatest = figures().fold(0.0, f64::max);
    let mut builder = ChartBuilder::on(area);
    builder.margin(24).margin_right(36).margin_top(70).x_label_area_size(76).y_label_area_size(130);
    area.draw_text(panel.title, &text(30.0, &INK), (30, 18))?;
    if panel.logarithmic {
        // Whole decades, so that every line of the grid has its label.
        let least = figures().fold(f64::MAX, f64::min).max(LOG_LEAST_MS);
        let range = 10_f64.powf(least.log10().floor())..10_f64.powf(greatest.max(1.0).log10().ceil());
        let mut chart = builder.build_cartesian_2d(0.0..minutes, range.clone().log_scale())?;
        band(&mut chart, points, range)?;
        axes(&mut chart, panel.unit)?;
        lines(&mut chart, panel, points)?;
    } else {
        // From zero: what is flat is to look flat, and what is not, not.
        let range = 0.0..if greatest > 0.0 { greatest * 1.25 } else { 1.0 };
        let mut chart = builder.build_cartesian_2d(0.0..minutes, range.clone())?;
        band(&mut chart, points, range)?;
        axes(&mut chart, panel.unit)?;
        lines(&mut chart, panel, points)?;
    }
    legend(area, panel)
}

type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

/// Shades the second quarter and the last.
fn band<Y: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, '_, Y>,
    points: &[Point],
    range: std::ops::Range<f64>,
) -> Drawn {
    let quarter = points.len() / 4;
    for shaded in [&points[quarter..2 * quarter], &points[3 * quarter..]] {
        let [first, .., last] = shaded else { continue };
        let corners = [(first.seconds / 60.0, range.start), (last.seconds / 60.0, range.end)];
        chart.draw_series([Rectangle::new(corners, BAND.light.filled())])?;
    }
    Ok(())
}

fn axes<Y>(chart: &mut Chart<'_, '_, Y>, unit: &str) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let label = |value: &f64| {
        if *value < 10.0 { format!("{}", (value * 100.0).round() / 100.0) } else { crate::report::thousands(*value) }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.light.stroke_width(2))
        .axis_style(PALE.light.stroke_width(2))
        .x_labels(7)
        .y_labels(6)
        .x_desc("minutes")
        .y_desc(unit)
        .axis_desc_style(text(24.0, &PALE))
        .label_style(text(24.0, &PALE))
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    Ok(())
}

fn lines<Y: Ranged<ValueType = f64>>(chart: &mut Chart<'_, '_, Y>, panel: &Panel, points: &[Point]) -> Drawn {
    for (_, colour, figure) in panel.lines {
        let line = points.iter().map(|point| (point.seconds / 60.0, figure(point)));
        let line = line.filter(|(_, value)| !value.is_nan());
        chart.draw_series(LineSeries::new(line, colour.light.stroke_width(3)))?;
    }
    Ok(())
}

/// The names of several lines, in their colours, at the right of the title.
fn legend(area: &Area<'_>, panel: &Panel) -> Drawn {
    let (width, _) = area.dim_in_pixel();
    let mut right = width as i32 - 36;
    for (name, colour, _) in panel.lines.iter().rev().filter(|(name, _, _)| !name.is_empty()) {
        // No font is at hand to measure with: a letter is about half as wide as it is high.
        right -= 13 * name.len() as i32 + 70;
        area.draw(&PathElement::new([(right, 33), (right + 40, 33)], colour.light.stroke_width(6)))?;
        area.draw_text(name, &text(26.0, colour), (right + 50, 20))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::latency::Summary;

    fn soak(points: usize) -> Soak {
        let point = |number: usize| Point {
            seconds: number as f64 * 5.0,
            delivered_per_second: 6_000.0,
            delivered: number as u64 * 30_000,
            first: Summary { count: 29_000, p50_ms: 3.0, p99_ms: 20.0, max_ms: 90.0 },
            retried: Summary { count: 1_000, p50_ms: 505.0, p99_ms: 1_500.0, max_ms: 1_600.0 },
            memory_bytes: 130_000_000,
            ..Point::default()
        };
        Soak {
            peak_per_second: 8_847.0,
            rate: 6_193.0,
            seconds: points as f64 * 5.0,
            webhooks: 50,
            failed: 1,
            requests: 20,
            trends: vec![],
            held: vec![],
            points: (1..=points).map(point).collect(),
        }
    }

    fn machine() -> Machine {
        Machine {
            date: "2026-01-02 03:04 UTC".to_owned(),
            commit: "abc".to_owned(),
            cpu: "A <CPU> & more".to_owned(),
            cores: 2,
            memory_gib: 24.0,
            kernel: "6.1".to_owned(),
            flush: vec![],
            busy_flush: vec![],
        }
    }

    #[test]
    fn the_picture_says_what_it_shows_and_needs_nothing_else() {
        let svg = svg(&soak(360), &machine()).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("6,193 events/s for 30 minutes, every receiver failing one request in 20"));
        assert!(svg.contains("A &lt;CPU&gt; &amp; more"), "what comes from outside is escaped");
        assert!(PANELS.iter().all(|panel| svg.contains(panel.title) && svg.contains(panel.unit)));
        assert_eq!(svg.matches("stroke-width=\"3\"").count(), 10, "a line for each figure");
        assert_eq!(svg.matches("http").count(), 1, "the name space and nothing to be fetched");
    }

    #[test]
    fn every_colour_of_the_picture_has_one_for_the_dark() {
        let svg = svg(&soak(360), &machine()).unwrap();
        let (style, body) = svg.split_once("</style>").unwrap();
        for attribute in body.match_indices("=\"#").map(|(at, _)| &body[at + 1..at + 10]) {
            assert!(style.contains(&format!("[fill={attribute}]")), "{attribute} is not in the style");
        }
    }

    #[test]
    fn a_run_of_hardly_any_points_is_drawn_too() {
        for points in [0, 1, 3] {
            assert!(svg(&soak(points), &machine()).is_ok());
        }
    }
}
