//! A violation as a picture: calls over time by client, the strokes behind them, and the moment of
//! the violation.

use super::{field::Blow, workload::Violation};
use std::fmt::Write as _;

const LEFT: f64 = 150.0;
const WIDTH: f64 = 1200.0;
const LANE: f64 = 30.0;
const TOP: f64 = 40.0;

/// Draws a violation as an SVG.
#[must_use]
pub(super) fn draw(violation: &Violation, blows: &[Blow]) -> String {
    let calls = &violation.calls;
    let from = calls.iter().map(|c| c.began).min().unwrap_or(violation.at).min(violation.at);
    let answered = calls.iter().filter_map(|c| c.ended).max().unwrap_or(violation.at);
    let to =
        answered.max(violation.at).max(calls.iter().map(|c| c.began).max().unwrap_or(from)).max(from + 1);
    let margin = ((to - from) / 20).max(1);
    let (from, to) = (from.saturating_sub(margin), to + margin);
    let x = |at: u64| LEFT + WIDTH * (at.clamp(from, to) - from) as f64 / (to - from) as f64;
    let mut clients: Vec<&str> = Vec::new();
    for call in calls {
        if !clients.contains(&call.client.as_str()) {
            clients.push(&call.client);
        }
    }
    // Calls of one client that overlap, as those of unknown outcome do, get lanes of their own.
    let (mut lanes, mut placed): (Vec<(&str, u64)>, Vec<usize>) = (Vec::new(), Vec::new());
    for client in &clients {
        lanes.push((client, 0));
    }
    for call in calls {
        let free = lanes.iter().position(|(client, until)| *client == call.client && *until <= call.began);
        let lane = free.unwrap_or_else(|| {
            lanes.push((&call.client, 0));
            lanes.len() - 1
        });
        lanes[lane].1 = call.ended.unwrap_or(call.began + margin);
        placed.push(lane);
    }
    let height = TOP + LANE * lanes.len() as f64 + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"18\" \
         font-size=\"13\">{}</text>\n",
        LEFT + WIDTH + 20.0,
        escaped(&violation.what)
    );
    for blow in blows.iter().filter(|blow| blow.began <= to && blow.ended >= from) {
        let (left, right) = (x(blow.began), x(blow.ended));
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#fde8c8\"/>\n<text x=\"{left:.1}\" \
             y=\"{:.1}\" fill=\"#a05a00\">{}</text>",
            (right - left).max(2.0),
            height - TOP - 40.0,
            height - 26.0,
            escaped(&blow.label)
        );
    }
    for (lane, (client, _)) in lanes.iter().enumerate() {
        let y = TOP + LANE * lane as f64 + 18.0;
        let _ = writeln!(svg, "<text x=\"8\" y=\"{y:.1}\">{}</text>", escaped(client));
    }
    for (call, lane) in calls.iter().zip(placed) {
        let (left, right) = (x(call.began), call.ended.map_or(x(to), x));
        let (y, known) = (TOP + LANE * lane as f64 + 4.0, call.ended.is_some());
        let (fill, dash) = if known { ("#9cc3e6", "") } else { ("#e4e4e4", " stroke-dasharray=\"4 3\"") };
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"22\" rx=\"3\" fill=\"{fill}\" \
             stroke=\"#35618c\"{dash}/>\n<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (right - left).max(2.0),
            left + 3.0,
            y + 15.0,
            escaped(&call.label)
        );
    }
    let at = x(violation.at);
    let _ = writeln!(
        svg,
        "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#d00000\" stroke-width=\"2\"/>\n<text \
         x=\"{LEFT}\" y=\"{:.1}\">{:.6} s</text>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.6} s</text>\n</svg>",
        height - 36.0,
        height - 8.0,
        from as f64 / 1e6,
        LEFT + WIDTH,
        height - 8.0,
        to as f64 / 1e6
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
