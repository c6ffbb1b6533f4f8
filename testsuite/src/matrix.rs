//! Clause by backend: how the runs ended, kept in files from which the docs' tables are made.
//!
//! Every whole run of a backend's suite writes a file of its own into the folder `kv-matrix` of Cargo's target folder, or
//! into `$KV_MATRIX_DIR`; the program `kv-matrix` makes `docs/compatibility.md` and a table in `README.md` of all that
//! are there.

use crate::{Case, Outcome, Report, cases};
use kv_core::{Capabilities, Durability, ForeignKeys, Linearizable, TtlRange, Watching};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// One backend: what it can do, and how each case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    backend: String,
    capabilities: Vec<(String, String)>,
    cases: BTreeMap<String, Outcome>,
}

impl From<&Report> for Column {
    fn from(report: &Report) -> Self {
        let cases = report.results.iter().map(|(case, outcome)| (case.name.to_owned(), outcome.clone()));
        Self {
            backend: report.backend.clone(),
            capabilities: capabilities(&report.capabilities),
            cases: cases.collect(),
        }
    }
}

/// A clause on one backend.
#[derive(Default)]
struct Cell {
    kept: usize,
    /// Reasons, and the cases that were ignored for them.
    ignored: BTreeMap<String, Vec<String>>,
    broken: Vec<String>,
}

impl Cell {
    fn mark(&self) -> &'static str {
        match (self.kept, self.broken.is_empty()) {
            (_, false) => "✗",
            (0, true) => "–",
            (_, true) => "✓",
        }
    }
}

/// The clauses in the order of the contract.
fn clauses() -> Vec<&'static str> {
    let mut clauses = Vec::new();
    for case in cases::all() {
        if !clauses.contains(&case.clause()) {
            clauses.push(case.clause());
        }
    }
    clauses
}

impl Column {
    fn cell(&self, clause: &str) -> Cell {
        let mut cell = Cell::default();
        for case in cases::all().iter().filter(|c| c.clause() == clause) {
            match self.cases.get(case.name) {
                Some(Outcome::Kept) => cell.kept += 1,
                Some(Outcome::Ignored(why)) => {
                    cell.ignored.entry(why.clone()).or_default().push(case.name.to_owned());
                }
                Some(Outcome::Broken(_)) => cell.broken.push(case.name.to_owned()),
                None => cell.broken.push(format!("{} (not run)", case.name)),
            }
        }
        cell
    }

    /// A line for each clause: how many of its cases were kept, and what became of the others.
    pub fn summary(&self) -> String {
        let mut out = format!("{}, clause by clause\n", self.backend);
        for clause in clauses() {
            let cell = self.cell(clause);
            let _ = write!(out, "  {} {clause:<22} {:>2} kept", cell.mark(), cell.kept);
            for (why, cases) in &cell.ignored {
                let _ = write!(out, "; {} ignored: {why}", cases.len());
            }
            if !cell.broken.is_empty() {
                let _ = write!(out, "; broken: {}", cell.broken.join(", "));
            }
            out.push('\n');
        }
        out
    }

    /// Writes the column's file into this folder, as a rule [`folder`].
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
        let name: String = self.backend.chars().map(plain).collect();
        fs::write(folder.join(format!("{name}.matrix")), self.to_text())
    }

    fn to_text(&self) -> String {
        let line = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|p| p.replace(['\n', '\t'], " ")).collect();
            format!("{}\n", parts.join("\t"))
        };
        let mut out = line(&["backend", &self.backend]);
        for (name, value) in &self.capabilities {
            out += &line(&["capability", name, value]);
        }
        for (name, outcome) in &self.cases {
            out += &match outcome {
                Outcome::Kept => line(&["case", name, "kept"]),
                Outcome::Ignored(why) => line(&["case", name, "ignored", why]),
                Outcome::Broken(why) => line(&["case", name, "broken", why]),
            };
        }
        out
    }

    fn from_text(text: &str) -> Option<Self> {
        let (mut backend, mut capabilities, mut cases) = (None, Vec::new(), BTreeMap::new());
        for line in text.lines() {
            match *line.split('\t').collect::<Vec<_>>() {
                ["backend", name] => backend = Some(name.to_owned()),
                ["capability", name, value] => capabilities.push((name.to_owned(), value.to_owned())),
                ["case", name, "kept"] => drop(cases.insert(name.to_owned(), Outcome::Kept)),
                ["case", name, "ignored", why] => {
                    cases.insert(name.to_owned(), Outcome::Ignored(why.to_owned()));
                }
                ["case", name, "broken", why] => {
                    cases.insert(name.to_owned(), Outcome::Broken(why.to_owned()));
                }
                _ => return None,
            }
        }
        Some(Self { backend: backend?, capabilities, cases })
    }
}

/// Where the columns are: `$KV_MATRIX_DIR`, or `kv-matrix` in Cargo's target folder.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) when this program is in no target folder and the variable is not set.
pub fn folder() -> io::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("KV_MATRIX_DIR") {
        return Ok(folder.into());
    }
    let program = std::env::current_exe()?;
    // Cargo marks its target folder with this file.
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.map(|t| t.join("kv-matrix")).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "no folder for the matrix; set KV_MATRIX_DIR to one")
    })
}

/// All columns of a folder, by name.
///
/// # Errors
/// The file system's; [`InvalidData`](io::ErrorKind::InvalidData) for a file that no run wrote.
pub fn load(folder: &Path) -> io::Result<Vec<Column>> {
    let mut columns = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_none_or(|e| e != "matrix") {
            continue;
        }
        let column = Column::from_text(&fs::read_to_string(&path)?);
        columns.push(column.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: not a column of the matrix", path.display()),
            )
        })?);
    }
    columns.sort_by(|a, b| a.backend.cmp(&b.backend));
    Ok(columns)
}

/// The page `docs/compatibility.md`.
pub fn page(columns: &[Column]) -> String {
    let mut out = String::from(
        "# Compatibility\n\n\
         Made by `ci/matrix` from a run of the conformance suite on every backend; do \
         not edit.\n\n\
         ## What each backend can do\n\n",
    );
    out += &table(
        "",
        columns,
        columns.first().into_iter().flat_map(|c| &c.capabilities).map(|(name, _)| {
            let cells = columns.iter().map(|c| value(c, name).to_owned()).collect();
            (name.clone(), cells)
        }),
    );
    out += "\n## What each backend keeps\n\n\
            ✓ every case of the clause was kept; – none could be tried; ✗ broken. A number says what was not tried, and \
            why.\n\n";
    let mut notes: Vec<String> = Vec::new();
    let rows: Vec<_> = clauses()
        .into_iter()
        .map(|clause| {
            let cells = columns.iter().map(|column| {
                let cell = column.cell(clause);
                let marks = cell.ignored.iter().map(|(why, cases)| {
                    let note =
                        format!("{} on {}: {}", cases.join(", "), column.backend, why.replace('|', "\\|"));
                    notes.push(note);
                    format!("[^{}]", notes.len())
                });
                let marks: String = marks.collect();
                format!("{}{marks}", cell.mark())
            });
            (format!("`{clause}`"), cells.collect())
        })
        .collect();
    out += &table("clause", columns, rows.into_iter());
    out.push('\n');
    for (n, note) in notes.iter().enumerate() {
        let _ = writeln!(out, "[^{}]: {note}", n + 1);
    }
    out += "\n## The cases\n\n";
    for Case { name, promise, .. } in cases::all() {
        let _ = writeln!(out, "- `{name}`: {promise}");
    }
    out
}

/// The table for the README, one backend a line.
pub fn brief(columns: &[Column]) -> String {
    const SHOWN: [&str; 5] = ["survives", "TTLs", "watches", "locks", "transactions"];
    let mut out = format!(
        "| backend | {} | cases kept |\n|---{}|---|\n",
        SHOWN.join(" | "),
        "|---".repeat(SHOWN.len())
    );
    for column in columns {
        let cells: Vec<_> = SHOWN.iter().map(|name| value(column, name)).collect();
        let kept = column.cases.values().filter(|o| **o == Outcome::Kept).count();
        let ignored = column.cases.values().filter(|o| matches!(o, Outcome::Ignored(_))).count();
        let tried = cases::all().len() - ignored;
        let _ = writeln!(out, "| {} | {} | {kept} of {tried} |", column.backend, cells.join(" | "));
    }
    out
}

fn value<'a>(column: &'a Column, name: &str) -> &'a str {
    column.capabilities.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

fn table(corner: &str, columns: &[Column], rows: impl Iterator<Item = (String, Vec<String>)>) -> String {
    let names: Vec<_> = columns.iter().map(|c| c.backend.as_str()).collect();
    let mut out = format!("| {corner} | {} |\n|---{}|\n", names.join(" | "), "|---".repeat(names.len()));
    for (name, cells) in rows {
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    }
    out
}

/// In words, for the tables.
fn capabilities(c: &Capabilities) -> Vec<(String, String)> {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let range = |r: Option<&TtlRange>| r.map_or_else(|| "none".to_owned(), in_words);
    let rows = [
        (
            "survives",
            match c.durability {
                Durability::Quorum => "loss of a minority".to_owned(),
                Durability::Fsync => "a crash".to_owned(),
                _ => "not every crash".to_owned(),
            },
        ),
        (
            "linearizable reads",
            match c.linearizable {
                Linearizable::Always => "always".to_owned(),
                Linearizable::ExceptDuringLeaderChange => "but while the leader changes".to_owned(),
                _ => "never".to_owned(),
            },
        ),
        ("largest value", size(c.max_value)),
        ("TTLs", range(c.ttl.as_ref())),
        ("late at most", c.ttl.as_ref().map_or_else(|| "-".to_owned(), late)),
        ("children of expiring keys", yes(c.children_of_expiring)),
        ("leases", range(c.lease.as_ref())),
        (
            "watches",
            match c.watch {
                Watching::EachChange => "each change".to_owned(),
                Watching::NewestState => "newest state".to_owned(),
                _ => "none".to_owned(),
            },
        ),
        (
            "locks",
            c.lock.as_ref().map_or_else(
                || "none".to_owned(),
                |l| {
                    format!(
                        "{}, {}",
                        if l.fair { "fair" } else { "unfair" },
                        if l.fenced_writes { "fenced writes" } else { "no fenced writes" }
                    )
                },
            ),
        ),
        (
            "transactions",
            match c.max_txn_ops {
                0 => "none".to_owned(),
                usize::MAX => "of any size".to_owned(),
                most => format!("{most} operations"),
            },
        ),
        ("list shows one moment", yes(c.list_snapshot)),
        ("`delete_tree` is atomic", yes(c.delete_tree_atomic)),
        ("`delete_tree` counts", yes(c.delete_tree_counts)),
        (
            "other tools' keys are listed",
            match c.foreign_keys {
                ForeignKeys::Seen => "at once".to_owned(),
                _ => "after adoption".to_owned(),
            },
        ),
        ("`health`", yes(c.health)),
    ];
    rows.map(|(name, value)| (name.to_owned(), value)).into()
}

fn in_words(range: &TtlRange) -> String {
    format!("{} to {}", time(range.least), time(range.greatest))
}

fn late(range: &TtlRange) -> String {
    match range.late_share {
        0.0 => time(range.late_by),
        share if range.late_by.is_zero() => times(share),
        share => format!("{} + {}", times(share), time(range.late_by)),
    }
}

fn times(share: f64) -> String {
    // What a share was computed from leaves digits behind.
    let share = (share * 100.0).round() / 100.0;
    if share == 1.0 { "the TTL".to_owned() } else { format!("{share} × the TTL") }
}

/// In the largest unit of which there are two or more, rounded down.
fn time(d: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * 86_400, "years"), (86_400, "days"), (3_600, "h"), (60, "min")];
    let s = d.as_secs();
    match UNITS.iter().find(|(unit, _)| s >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", s / unit),
        None if s < 10 && (d.subsec_millis() != 0 || s == 0) => format!("{} ms", d.as_millis()),
        None => format!("{s} s"),
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        usize::MAX => "any".to_owned(),
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}
