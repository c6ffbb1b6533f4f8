//! The page that a run writes, and its plots.

mod plot;
mod sections;
mod tables;

use crate::{
    built::Build,
    counts::Counted,
    growth::Point,
    handle::Cost,
    machine::Machine,
    rounds::{Measured, Plan},
    side::Done,
};
use std::{fs, path::Path};

/// The results of one backend.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) cells: Vec<Measured>,
    /// The counts, with the name of what is counted and where.
    pub(crate) counted: Option<(&'static str, Vec<Counted>)>,
    pub(crate) growth: Vec<Point>,
}

/// The results of a run.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) is_full: bool,
    pub(crate) plan: Plan,
    pub(crate) parts: Vec<Part>,
    pub(crate) handle: Vec<Cost>,
    pub(crate) builds: Vec<Build>,
}

/// The page without its numbers.
const PAGE: &str = include_str!("page.md");
/// The folder of the plots, beside the page.
const PLOTS: &str = "performance";

impl Report {
    /// Returns the page.
    pub(crate) fn page(&self) -> String {
        let machine = &self.machine;
        let servers: Vec<_> = self
            .parts
            .iter()
            .filter(|part| !part.version.is_empty())
            .map(|part| part.version.clone())
            .collect();
        let backends: String = self.parts.iter().map(sections::backend).collect();
        let builds = match self.builds.is_empty() {
            true => String::new(),
            false => {
                format!("\n## Builds\n\nA release build from nothing.\n\n{}", sections::builds(&self.builds))
            }
        };
        let page = fill(
            PAGE,
            &[
                ("form", if self.is_full { "--full" } else { "--quick" }),
                ("date", &machine.date),
                ("cores", &machine.cores.to_string()),
                ("processor", &machine.processor),
                ("memory", &format!("{:.0}", machine.memory_gib)),
                ("kernel", &machine.kernel),
                ("rust", &machine.rust),
                ("servers", &servers.join(", ")),
                ("rounds", &self.plan.rounds.to_string()),
                ("seconds", &self.plan.time.as_secs_f64().to_string()),
                ("short", sections::short(&self.parts).trim_end()),
                ("backends", &backends),
                ("growth", &sections::growth(&self.parts)),
                ("handle", &sections::handle(&self.handle)),
                ("builds", &builds),
            ],
        );
        page.trim_end().to_owned() + "\n"
    }

    /// Writes the page and the plots into this folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Done<()> {
        let plots = folder.join(PLOTS);
        fs::create_dir_all(&plots)?;
        fs::write(folder.join("performance.md"), self.page())?;
        for part in self.parts.iter().filter(|part| !part.cells.is_empty()) {
            fs::write(plots.join(format!("{}.svg", part.name)), plot::ratios(part.name, &part.cells))?;
        }
        for (name, of) in sections::GROWTHS {
            if let Some(plot) = plot::growth(of, &self.parts) {
                fs::write(plots.join(format!("{name}.svg")), plot)?;
            }
        }
        Ok(())
    }
}

/// Returns the notes on the sides of a backend.
fn notes(backend: &str) -> &'static str {
    match backend {
        "memory" => include_str!("notes/memory.md"),
        "redb" => include_str!("notes/redb.md"),
        "etcd" => include_str!("notes/etcd.md"),
        "consul" => include_str!("notes/consul.md"),
        "zookeeper" => include_str!("notes/zookeeper.md"),
        "redis" => include_str!("notes/redis.md"),
        "dynamodb" => include_str!("notes/dynamodb.md"),
        _ => "",
    }
}

/// Puts each text in the place of its name between braces.
fn fill(template: &str, texts: &[(&str, &str)]) -> String {
    texts
        .iter()
        .fold(template.to_owned(), |page, (name, text)| page.replace(&format!("{{{{{name}}}}}"), text))
}

#[cfg(test)]
mod tests;
