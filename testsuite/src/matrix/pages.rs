//! The pages that are made from the cases and from their runs.

use super::{Column, clauses};
use crate::{Case, Outcome, cases};
use std::{collections::BTreeMap, fmt::Write};

/// The columns of one server: its versions are shown as one wherever they agree.
struct Server<'a> {
    name: &'a str,
    columns: Vec<&'a Column>,
}

impl<'a> Server<'a> {
    fn all(columns: &'a [Column]) -> Vec<Self> {
        let mut servers: Vec<Self> = Vec::new();
        for column in columns {
            let name = column.server();
            match servers.iter_mut().find(|server| server.name == name) {
                Some(server) => server.columns.push(column),
                None => servers.push(Self { name, columns: vec![column] }),
            }
        }
        servers
    }

    fn heading(&self) -> String {
        let versions: Vec<_> = self.columns.iter().filter_map(|column| column.version()).collect();
        format!("{} {}", self.name, versions.join(", ")).trim_end().to_owned()
    }

    /// Returns what all versions say, or what each says where they differ.
    fn cell(&self, of: impl Fn(&Column) -> String) -> String {
        let said: Vec<_> = self.columns.iter().map(|column| of(column)).collect();
        if said.windows(2).all(|pair| pair[0] == pair[1]) {
            return said.into_iter().next().unwrap_or_default();
        }
        let versions = self.columns.iter().map(|column| column.version().unwrap_or_default());
        let each: Vec<_> = versions.zip(said).map(|(version, said)| format!("{version}: {said}")).collect();
        each.join("; ")
    }
}

/// Returns the page `docs/compatibility.md`.
pub fn page(columns: &[Column]) -> String {
    let servers = Server::all(columns);
    let mut out = String::from(
        "# Compatibility\n\n\
         `ci/matrix` makes this page from a run of the conformance suite on every backend; do not edit it. A column is a \
         server, with the versions that the suite ran on.\n\n\
         ## What each backend can do\n\n",
    );
    let names = columns.first().into_iter().flat_map(|column| &column.capabilities).map(|(name, _)| name);
    out += &table(
        "",
        &servers,
        names.map(|name| {
            let cells = servers.iter().map(|server| server.cell(|column| value(column, name).to_owned()));
            (name.clone(), cells.collect())
        }),
    );
    out += "\n## What each backend keeps\n\n\
            A clause is a part of [the contract](contract.md). ✓ every case of the clause was kept; ◐ some were, and the others \
            could not be tried; – none could be tried; ✗ broken.\n\n";
    out += &table(
        "clause",
        &servers,
        clauses().into_iter().map(|clause| {
            let cells =
                servers.iter().map(|server| server.cell(|column| column.cell(clause).mark().to_owned()));
            (format!("[`{clause}`](contract.md#{})", anchor(clause)), cells.collect())
        }),
    );
    out += "\n## What could not be tried\n\n\
            Each reason, the backends that give it, and the cases.\n\n";
    out += &untried(columns);
    out
}

/// Returns the reasons in their order, each with the backends that gave it, and the cases.
fn untried(columns: &[Column]) -> String {
    let mut reasons: BTreeMap<String, BTreeMap<Vec<String>, Vec<&str>>> = BTreeMap::new();
    for column in columns {
        let mut of_column: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for clause in clauses() {
            for (why, cases) in column.cell(clause).ignored {
                of_column.entry(why).or_default().extend(cases);
            }
        }
        for (why, cases) in of_column {
            reasons.entry(why).or_default().entry(cases).or_default().push(&column.backend);
        }
    }
    let mut out = String::new();
    for (why, groups) in reasons {
        let _ = writeln!(out, "- {why}");
        for (cases, backends) in groups {
            let cases: Vec<_> = cases.iter().map(|case| format!("`{case}`")).collect();
            let _ = writeln!(out, "  - {}: {}", backends.join(", "), cases.join(", "));
        }
    }
    out
}

/// Returns the page `docs/contract.md`: what every backend promises, and the case that tries it.
pub fn contract() -> String {
    let mut out = String::from(
        "# The contract\n\n\
         What every backend promises, one sentence for each case of the conformance suite that tries it; `ci/matrix` makes this \
         page from the suite, so that nothing stands here that is not tried. A clause is named by what stands in front of the \
         slash of its cases: `key.refused` has `key.refused/names`. Run a clause on a backend with `cargo test -p kv-etcd --test \
         conformance -- key.refused`.\n\n\
         What a server makes impossible is in the backend's `Capabilities`, and a call that needs it is refused with \
         `Unsupported`; [compatibility.md](compatibility.md) shows which backend keeps what.\n",
    );
    for (title, cases) in cases::CHAPTERS {
        let _ = write!(out, "\n## {title}\n");
        let mut clause = "";
        for Case { name, promise, .. } in *cases {
            let (of, case) = name.split_once('/').unwrap_or((name, ""));
            if of != clause {
                clause = of;
                let _ = write!(out, "\n### {clause}\n\n");
            }
            let _ = writeln!(out, "- {promise} (`{case}`)");
        }
    }
    out
}

/// Returns the anchor of a heading, as renderers of Markdown make it.
fn anchor(clause: &str) -> String {
    clause.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Returns the table for the README, one backend a line.
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

fn table(corner: &str, servers: &[Server<'_>], rows: impl Iterator<Item = (String, Vec<String>)>) -> String {
    let names: Vec<_> = servers.iter().map(Server::heading).collect();
    let mut out = format!("| {corner} | {} |\n|---{}|\n", names.join(" | "), "|---".repeat(names.len()));
    for (name, cells) in rows {
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    }
    out
}
