//! The cost of a build of each backend, from nothing.

use crate::{handle::cargo, side::Done};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The cost of the build of one crate.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) name: String,
    /// The number of crates that are built, itself among them.
    pub(crate) crates: usize,
    pub(crate) took: Duration,
}

/// Builds the crates of these backends, each in an empty folder.
///
/// # Errors
/// One cannot be built.
pub(crate) fn measure(backends: &[&str]) -> Done<Vec<Build>> {
    std::iter::once("core")
        .chain(backends.iter().copied())
        .map(|backend| one(&format!("kv-{backend}")))
        .collect()
}

fn one(name: &str) -> Done<Build> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "-p", name, "-e", "normal,build", "--prefix", "none", "--format", "{p}"]);
    let output = tree.output()?;
    if !output.status.success() {
        return Err(format!("{tree:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let crates = crates(&String::from_utf8(output.stdout)?);
    let folder = tempfile::tempdir()?;
    let mut build = cargo();
    build.args(["build", "--locked", "--quiet", "--release", "-p", name, "--target-dir"]).arg(folder.path());
    let began = Instant::now();
    if !build.status()?.success() {
        return Err(format!("{build:?} failed").into());
    }
    Ok(Build { name: name.to_owned(), crates, took: began.elapsed() })
}

/// Returns the number of different crates of a tree, one a line.
fn crates(tree: &str) -> usize {
    let named = |line: &str| line.split(" (").next().map(str::to_owned).filter(|name| !name.is_empty());
    tree.lines().filter_map(named).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once() {
        assert_eq!(crates("kv-redb v0.1.0 (/x)\nbytes v1.12.0\nredb v4.4.0\nbytes v1.12.0 (*)\n\n"), 3);
    }
}
