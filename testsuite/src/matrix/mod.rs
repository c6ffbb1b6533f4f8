//! Clause by backend: how the runs ended, kept in files from which the docs' tables are made.
//!
//! Every whole run of a backend's suite writes a file of its own into the folder `kv-matrix` of
//! Cargo's target folder, or into `$KV_MATRIX_DIR`. From all files that are there the program
//! `kv-matrix` makes `docs/compatibility.md` and a table in `README.md`, and from the cases
//! themselves `docs/contract.md`.

mod pages;
mod words;

pub use pages::{brief, contract, page};

use crate::{Outcome, Report, cases};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
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
            capabilities: words::capabilities(&report.capabilities),
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
        match (self.kept, self.broken.is_empty(), self.ignored.is_empty()) {
            (_, false, _) => "✗",
            (0, ..) => "–",
            (_, _, false) => "◐",
            _ => "✓",
        }
    }
}

/// Returns the clauses in the order of the contract.
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
    /// Returns the version of its server, where the name of the backend ends with one: `etcd-3.5`.
    fn version(&self) -> Option<&str> {
        let (_, version) = self.backend.rsplit_once('-')?;
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
    }

    /// Returns its name without the version.
    fn server(&self) -> &str {
        match self.version() {
            Some(version) => &self.backend[..self.backend.len() - version.len() - 1],
            None => &self.backend,
        }
    }

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

    /// Returns a line for each clause: how many of its cases were kept, and what became of the
    /// others.
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
    /// The file system refuses it.
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

/// Returns the folder of the columns: `$KV_MATRIX_DIR`, or `kv-matrix` in Cargo's target folder.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) when this program is in no target folder and the variable
/// is not set.
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

/// Reads all columns of a folder, in the order of their names.
///
/// # Errors
/// The file system refuses it; [`InvalidData`](io::ErrorKind::InvalidData) for a file that no run
/// wrote.
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
