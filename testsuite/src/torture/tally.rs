//! The results of rounds, kept in a file each for the page of the documentation.

use super::{plan::Plan, round::Report};
use crate::Failure;
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

/// The numbers of what one workload saw in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The name of the column in the matrix.
    pub backend: String,
    /// The name of the round: a stroke's, `all`, `calm` or `leaks`.
    pub round: String,
    /// The number that decided chance.
    pub seed: u64,
    /// The number of seconds for which strokes fell.
    pub seconds: u64,
    /// The number of strokes.
    pub strokes: u64,
    /// The workload's name.
    pub workload: String,
    /// The number of calls whose answer is known.
    pub answered: u64,
    /// The number of calls of unknown outcome.
    pub unknown: u64,
    /// The number of calls that failed without an effect.
    pub failed: u64,
    /// The number of groups of calls that the checker gave up.
    pub undecided: u64,
    /// The number of promises that were broken.
    pub violations: u64,
}

/// Writes the results of a round into this folder.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn save(
    folder: &Path,
    backend: &str,
    round: &str,
    plan: &Plan,
    report: &Report,
) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let mut text = String::new();
    for (workload, seen) in &report.seen {
        let _ = writeln!(
            text,
            "{backend}\t{round}\t{}\t{}\t{}\t{workload}\t{}\t{}\t{}\t{}\t{}",
            plan.seed,
            plan.time.as_secs(),
            report.blows.len(),
            seen.answered,
            seen.unknown,
            seen.failed,
            seen.undecided,
            seen.violations.len()
        );
    }
    fs::write(folder.join(format!("{backend}-{round}-{}.tsv", plan.seed)), text)?;
    Ok(())
}

/// Reads the results of the rounds of this folder.
///
/// # Errors
/// The folder cannot be read, or a file in it is not one of a round.
pub fn load(folder: &Path) -> Result<Vec<Tally>, Failure> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tsv") {
            for line in fs::read_to_string(&path)?.lines() {
                let tally = parse(line)
                    .ok_or_else(|| format!("{}: {line:?} is no line of a round", path.display()))?;
                all.push(tally);
            }
        }
    }
    all.sort_by(|a, b| {
        (&a.backend, &a.round, a.seed, &a.workload).cmp(&(&b.backend, &b.round, b.seed, &b.workload))
    });
    Ok(all)
}

fn parse(line: &str) -> Option<Tally> {
    let mut parts = line.split('\t');
    let mut text = || parts.next().map(str::to_owned);
    let (backend, round) = (text()?, text()?);
    let mut number = || text()?.parse().ok();
    let (seed, seconds, strokes) = (number()?, number()?, number()?);
    let workload = text()?;
    let mut number = || text()?.parse().ok();
    let (answered, unknown, failed, undecided, violations) =
        (number()?, number()?, number()?, number()?, number()?);
    Some(Tally {
        backend,
        round,
        seed,
        seconds,
        strokes,
        workload,
        answered,
        unknown,
        failed,
        undecided,
        violations,
    })
}

/// Returns the table, with a row for each backend and workload.
#[must_use]
pub fn table(all: &[Tally]) -> String {
    let mut rows: BTreeMap<(&str, &str), Vec<&Tally>> = BTreeMap::new();
    for tally in all {
        rows.entry((&tally.backend, &tally.workload)).or_default().push(tally);
    }
    let mut text = String::from(
        "| server | workload | rounds | seconds | strokes | calls answered | of unknown outcome | failed | undecided | violations \
         |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ((backend, workload), rounds) in rows {
        let sum = |of: fn(&Tally) -> u64| rounds.iter().map(|tally| of(tally)).sum::<u64>();
        let _ = writeln!(
            text,
            "| {backend} | {workload} | {} | {} | {} | {} | {} | {} | {} | {} |",
            rounds.len(),
            sum(|t| t.seconds),
            sum(|t| t.strokes),
            sum(|t| t.answered),
            sum(|t| t.unknown),
            sum(|t| t.failed),
            sum(|t| t.undecided),
            sum(|t| t.violations)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was_written_and_rounds_are_summed() {
        let line = "etcd-3.5\tall\t7\t15\t9\tlocks\t100\t2\t3\t0\t1";
        let tally = parse(line).expect("a line of a round");
        assert_eq!((tally.seed, tally.violations, &*tally.workload), (7, 1, "locks"));
        assert!(parse("etcd-3.5\tall\t7").is_none());
        let table = table(&[tally.clone(), Tally { seed: 8, ..tally }]);
        assert!(table.ends_with("| etcd-3.5 | locks | 2 | 30 | 18 | 200 | 4 | 6 | 0 | 2 |\n"), "{table}");
    }
}
