//! Plots as SVG, made by hand: dots of ratios, and lines of growth.

use super::{Part, sections};
use crate::{cell::thousands, growth::Of, rounds::Measured};
use std::fmt::Write;

/// The colours of the sides, and of the lines.
const COLOURS: [&str; 8] =
    ["#0b6cb3", "#d1571b", "#3a8f3a", "#8a4fb0", "#a8841a", "#1a9a9a", "#b0305c", "#666666"];
const WIDTH: f64 = 720.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 20.0;

/// A logarithmic axis.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Returns the place of a number; one beyond the end is at the end.
    fn at(&self, number: f64) -> f64 {
        let part = (number.clamp(self.least, self.most) / self.least).ln() / (self.most / self.least).ln();
        self.from + part * (self.to - self.from)
    }
}

/// Returns the plot of a backend's ratios: a row for each cell, a dot for each other side, with a
/// line from the least to the most of its rounds.
pub(super) fn ratios(name: &str, cells: &[Measured]) -> String {
    const ROW: f64 = 20.0;
    const TOP: f64 = 56.0;
    let axis = Axis { least: 0.05, most: 20.0, from: LEFT, to: WIDTH - RIGHT };
    let others = sections::others(cells);
    let height = TOP + ROW * cells.len() as f64 + 16.0;
    let mut svg =
        begin(height, &format!("{name}: our speed to that of the other sides; right of 1 we are faster"));
    for tick in [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0] {
        let (x, end) = (axis.at(tick), height - 12.0);
        let colour = if (tick - 1.0_f64).abs() < 1e-9 { "#444" } else { "#ddd" };
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{end:.1}\" stroke=\"{colour}\"/>\n{}",
            text(x, TOP - 6.0, "middle", &tick.to_string())
        );
    }
    for (at, other) in others.iter().enumerate() {
        svg += &key(LEFT + at as f64 * 110.0, 30.0, COLOURS[at % COLOURS.len()], &format!("ours:{other}"));
    }
    for (row, cell) in cells.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        svg += &text(LEFT - 10.0, y + 4.0, "end", &cell.cell.to_string());
        for (at, other) in others.iter().enumerate() {
            let Some(ratio) = cell.ratio(other) else { continue };
            let (colour, y) =
                (COLOURS[at % COLOURS.len()], y + (at as f64 - (others.len() - 1) as f64 / 2.0) * 3.5);
            let [x, from, to] = [ratio.median, ratio.least, ratio.most].map(|number| axis.at(number));
            let _ = writeln!(
                svg,
                "<line x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>\
                <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }
    svg + "</svg>\n"
}

/// Returns the plot of a kind of growth: a line for each backend; `None` where nothing was measured.
pub(super) fn growth(of: Of, parts: &[Part]) -> Option<String> {
    const TOP: f64 = 40.0;
    const HEIGHT: f64 = 320.0;
    let numbers = sections::numbers(of, parts);
    let median =
        |part: &Part, number| sections::point(part, of, number)?.latencies.quantile(0.5).map(|ns| ns / 1e3);
    let all: Vec<f64> =
        parts.iter().flat_map(|part| numbers.iter().filter_map(|n| median(part, *n))).collect();
    let (least, most) =
        all.iter().fold((f64::MAX, 0.0_f64), |(least, most), at| (least.min(*at), most.max(*at)));
    let (first, last) = (*numbers.first()? as f64, *numbers.last()? as f64);
    if most <= 0.0 {
        return None;
    }
    let power = |number: f64, up: bool| {
        let power = number.max(1e-3).log10();
        10_f64.powf(if up { power.ceil() } else { power.floor() })
    };
    let across = Axis { least: first, most: last.max(first * 2.0), from: 70.0, to: WIDTH - 120.0 };
    let (low, high) = (power(least, false), power(most, true).max(power(least, false) * 10.0));
    let up = Axis { least: low, most: high, from: HEIGHT - 30.0, to: TOP };
    let mut svg = begin(HEIGHT, &format!("{} (median in µs)", of.title()));
    let mut tick = low;
    while tick <= high * 1.001 {
        let (y, end) = (up.at(tick), WIDTH - 120.0);
        let label = if tick < 1.0 { tick.to_string() } else { thousands(tick as u64) };
        let _ = write!(
            svg,
            "<line x1=\"70\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n{}",
            text(64.0, y + 4.0, "end", &label)
        );
        tick *= 10.0;
    }
    for number in &numbers {
        svg += &text(across.at(*number as f64), HEIGHT - 10.0, "middle", &thousands(*number as u64));
    }
    for (at, part) in parts.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let points: Vec<_> = numbers
            .iter()
            .filter_map(|n| Some(format!("{:.1},{:.1}", across.at(*n as f64), up.at(median(part, *n)?))))
            .collect();
        if !points.is_empty() {
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
            svg += &key(WIDTH - 105.0, TOP + 18.0 * at as f64, colour, part.name);
        }
    }
    Some(svg + "</svg>\n")
}

/// Returns the beginning of a plot, with its title.
fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n{}",
        text(10.0, 16.0, "start", title)
    )
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

/// Returns a dot with what its colour means.
fn key(x: f64, y: f64, colour: &str, name: &str) -> String {
    format!(
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>\n{}",
        text(x + 8.0, y + 4.0, "start", name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_its_ends_and_its_middle() {
        let axis = Axis { least: 0.1, most: 10.0, from: 0.0, to: 100.0 };
        for (number, place) in [(0.1, 0.0), (1.0, 50.0), (10.0, 100.0), (0.001, 0.0), (99.0, 100.0)] {
            assert!((axis.at(number) - place).abs() < 1e-6, "{number}");
        }
    }

    #[test]
    fn text_has_no_marks() {
        assert!(text(0.0, 0.0, "end", "a<b&c").contains(">a&lt;b&amp;c</text>"));
    }
}
