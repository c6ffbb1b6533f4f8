//! Tables in Markdown, and how numbers are shown in them.

use crate::{cell::thousands, stats::Spread};

/// Returns a table of these rows, under these titles; the first column is text.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let titles: Vec<_> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rule = format!("|---|{}\n", "---:|".repeat(titles.len() - 1));
    line(&titles) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

/// Returns a rate with its spread, in calls a second.
pub(super) fn rate(rates: &[f64]) -> String {
    let Some(all) = Spread::of(rates.iter().copied()) else { return none() };
    let [median, least, most] = [all.median, all.least, all.most].map(count);
    format!("{median} ({least}–{most})")
}

/// Returns a ratio with its spread.
pub(super) fn ratio(ratio: Option<Spread>) -> String {
    ratio.map_or_else(none, |all| format!("**{}** ({}–{})", two(all.median), two(all.least), two(all.most)))
}

/// Returns a time in nanoseconds, with its unit.
pub(super) fn time(nanos: Option<f64>) -> String {
    match nanos {
        None => none(),
        Some(nanos) if nanos < 9_950.0 => format!("{} µs", three(nanos / 1e3)),
        Some(nanos) if nanos < 9_950_000.0 => format!("{:.0} µs", nanos / 1e3),
        Some(nanos) if nanos < 1e10 => format!("{:.0} ms", nanos / 1e6),
        Some(nanos) => format!("{:.0} s", nanos / 1e9),
    }
}

/// Returns a count: whole where it is large.
pub(super) fn count(number: f64) -> String {
    match number {
        number if number < 99.5 => three(number),
        number => thousands(number.round() as u64),
    }
}

/// Returns what stands where there is nothing.
pub(super) fn none() -> String {
    "–".to_owned()
}

fn two(number: f64) -> String {
    if number < 99.5 { format!("{number:.2}") } else { count(number) }
}

/// Returns a number with two digits behind the point at most, without zeros at the end.
fn three(number: f64) -> String {
    let digits = if number < 9.95 { 2 } else { 1 };
    let shown = format!("{number:.digits$}");
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_titles_a_rule_and_rows() {
        let made = table(&["call", "ours"], &[vec!["get".into(), "1".into()]]);
        assert_eq!(made, "| call | ours |\n|---|---:|\n| get | 1 |\n");
    }

    #[test]
    fn numbers_are_as_long_as_they_say_something() {
        assert_eq!(
            [0.0, 0.5, 2.0, 12.34, 99.4, 1_234.6].map(count),
            ["0", "0.5", "2", "12.3", "99.4", "1,235"]
        );
        let times =
            [138.0, 5_400.0, 12_345.0, 2_300_000.0, 98_000_000.0, 12e9].map(|nanos| time(Some(nanos)));
        assert_eq!(times, ["0.14 µs", "5.4 µs", "12 µs", "2300 µs", "98 ms", "12 s"]);
        assert_eq!(time(None), "–");
    }

    #[test]
    fn spreads_are_in_brackets() {
        assert_eq!(rate(&[1_000.0, 1_200.0, 900.0]), "1,000 (900–1,200)");
        assert_eq!(ratio(Spread::of([0.97, 1.0, 0.9])), "**0.97** (0.90–1.00)");
        assert_eq!((rate(&[]), ratio(None)), (none(), none()));
    }
}
