//! The sections of the page.

use super::{PLOTS, Part, tables};
use crate::{
    built::Build,
    cell::Cell,
    counts::Counted,
    growth::{Of, Point},
    handle::Cost,
    rounds::{Measured, Result},
    stats::Spread,
};

/// The plots of growth by their files' names.
pub(super) const GROWTHS: [(&str, Of); 4] =
    [("get", Of::Get), ("list", Of::List), ("watches", Of::Watches), ("waiters", Of::Waiters)];

/// Returns the table that sums up all backends.
pub(super) fn short(parts: &[Part]) -> String {
    let rows: Vec<_> = parts
        .iter()
        .map(|part| {
            let of = |other| {
                let medians: Vec<_> =
                    part.cells.iter().filter_map(|cell| Some(cell.ratio(other)?.median)).collect();
                let least = |bound: f64| medians.iter().filter(|ratio| **ratio >= bound).count();
                match Spread::of(medians.iter().copied()) {
                    None => [tables::none(), tables::none()],
                    all => {
                        [tables::ratio(all), format!("{}, {} of {}", least(0.97), least(0.9), medians.len())]
                    }
                }
            };
            std::iter::once(part.name.to_owned()).chain(of("eq")).chain(of("raw")).collect()
        })
        .collect();
    let titles = [
        "backend",
        "ours:eq, median of the cells",
        "at 0.97, at 0.90 or more",
        "ours:raw",
        "at 0.97, at 0.90 or more",
    ];
    tables::table(&titles, &rows)
}

/// Returns the section of a backend.
pub(super) fn backend(part: &Part) -> String {
    let mut text = format!("## {}\n\n{}\n", part.name, super::notes(part.name));
    if !part.cells.is_empty() {
        text += &format!("![ratios on {0}]({PLOTS}/{0}.svg)\n\n{1}\n", part.name, speeds(&part.cells));
        text += &latencies(&part.cells);
        text.push('\n');
    }
    if let Some((counter, counted)) = &part.counted
        && !counted.is_empty()
    {
        text += &format!("Of one call: {counter}.\n\n{}\n", counts(counted));
    }
    text
}

/// Returns the names of the sides that are in any cell, in order, ours left out.
pub(super) fn others(cells: &[Measured]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for side in cells.iter().flat_map(|cell| &cell.sides).map(|result| result.side) {
        if side != "ours" && !names.contains(&side) {
            names.push(side);
        }
    }
    names
}

fn speeds(cells: &[Measured]) -> String {
    let others = others(cells);
    let ratios = others.iter().map(|other| format!("ours:{other}"));
    let rates = std::iter::once("ours/s".to_owned()).chain(others.iter().map(|other| format!("{other}/s")));
    let titles: Vec<_> = std::iter::once("call, callers".to_owned()).chain(ratios).chain(rates).collect();
    let rows: Vec<_> = cells
        .iter()
        .map(|cell| {
            let rate = |side: &&str| match cell.side(side) {
                Some(result) if cell.cell.op.has_rate() => tables::rate(&result.rates),
                _ => tables::none(),
            };
            std::iter::once(cell.cell.to_string())
                .chain(others.iter().map(|other| tables::ratio(cell.ratio(other))))
                .chain(std::iter::once(&"ours").chain(&others).map(rate))
                .collect()
        })
        .collect();
    tables::table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

fn latencies(cells: &[Measured]) -> String {
    let all: Vec<_> = std::iter::once("ours").chain(others(cells)).collect();
    let titles: Vec<_> = std::iter::once("p50, p99, p99.9".to_owned())
        .chain(all.iter().map(|side| (*side).to_owned()))
        .collect();
    let rows: Vec<_> = cells
        .iter()
        .map(|cell| {
            let shown = |side: &&str| cell.side(side).map_or_else(tables::none, quantiles);
            std::iter::once(cell.cell.to_string()).chain(all.iter().map(shown)).collect()
        })
        .collect();
    tables::table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

fn quantiles(result: &Result) -> String {
    // A quantile that lies among the last few calls is that of chance.
    let calls = result.latencies.calls() as f64;
    let shown = [0.5, 0.99, 0.999].map(|part| {
        let is_told = calls * (1.0 - part) >= 1.0;
        tables::time(result.latencies.quantile(part).filter(|_| is_told))
    });
    shown.join(", ")
}

fn counts(counted: &[Counted]) -> String {
    let mut sides = Vec::new();
    let mut cells: Vec<Cell> = Vec::new();
    for one in counted {
        if !sides.contains(&one.side) {
            sides.push(one.side);
        }
        if !cells.contains(&one.cell) {
            cells.push(one.cell);
        }
    }
    let titles: Vec<_> = std::iter::once("call").chain(sides.iter().copied()).collect();
    let rows: Vec<_> = cells
        .iter()
        .map(|cell| {
            let shown = |side: &&str| {
                let found = counted.iter().find(|one| one.cell == *cell && one.side == *side);
                found.map_or_else(tables::none, of_a_call)
            };
            let name = cell.to_string();
            let name = name.trim_end_matches(", 1").to_owned();
            std::iter::once(name).chain(sides.iter().map(shown)).collect()
        })
        .collect();
    tables::table(&titles, &rows)
}

fn of_a_call(counted: &Counted) -> String {
    let counts = &counted.a_call;
    let mut shown = format!("**{}**", tables::count(counts.total()));
    let names: Vec<_> =
        counts.requests.iter().map(|(name, count)| format!("{name} {}", tables::count(*count))).collect();
    if counts.requests.len() > 1 || !counts.requests.keys().all(|name| name == "requests") {
        shown += &format!(": {}", names.join(", "));
    }
    for (bytes, way) in [(counts.received, "in"), (counts.sent, "out")] {
        if let Some(bytes) = bytes {
            shown += &format!("; {} B {way}", tables::count(bytes.max(0.0).round()));
        }
    }
    shown
}

/// Returns the tables of growth, each with its plot.
pub(super) fn growth(parts: &[Part]) -> String {
    let mut text = String::new();
    for (name, of) in GROWTHS {
        let numbers = numbers(of, parts);
        if numbers.is_empty() {
            continue;
        }
        let titles: Vec<_> = std::iter::once(of.title().to_owned())
            .chain(numbers.iter().map(|number| crate::cell::thousands(*number as u64)))
            .collect();
        let rows: Vec<_> = parts
            .iter()
            .filter(|part| part.growth.iter().any(|point| point.of == of))
            .map(|part| {
                let shown = |number: &usize| {
                    point(part, of, *number).map_or_else(tables::none, |point| {
                        let [half, most] =
                            [0.5, 0.99].map(|share| tables::time(point.latencies.quantile(share)));
                        format!("{half} ({most})")
                    })
                };
                std::iter::once(part.name.to_owned()).chain(numbers.iter().map(shown)).collect()
            })
            .collect();
        let table = tables::table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
        text += &format!("![{}]({PLOTS}/{name}.svg)\n\n{table}\n", of.title());
    }
    text
}

/// Returns the numbers at which some backend was measured.
pub(super) fn numbers(of: Of, parts: &[Part]) -> Vec<usize> {
    let points = parts.iter().flat_map(|part| &part.growth).filter(|point| point.of == of);
    let mut numbers: Vec<_> = points.map(|point| point.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Returns what was measured of a backend at a number.
pub(super) fn point(part: &Part, of: Of, number: usize) -> Option<&Point> {
    part.growth.iter().find(|point| point.of == of && point.number == number)
}

/// Returns the table of the handle.
pub(super) fn handle(costs: &[Cost]) -> String {
    let rows: Vec<_> = costs
        .iter()
        .map(|cost| {
            let numbers = [cost.nanos, cost.allocations, cost.bytes, cost.future].map(tables::count);
            std::iter::once(cost.call.clone()).chain(numbers).collect()
        })
        .collect();
    tables::table(&["call", "ns", "allocations", "bytes allocated", "bytes of the future"], &rows)
}

/// Returns the table of builds.
pub(super) fn builds(builds: &[Build]) -> String {
    let rows: Vec<_> = builds
        .iter()
        .map(|build| {
            vec![build.name.clone(), build.crates.to_string(), format!("{:.0}", build.took.as_secs_f64())]
        })
        .collect();
    tables::table(&["crate", "crates built", "seconds"], &rows)
}
