//! The arguments of the program.

use crate::{backends, cell::Op, side::Done};
use std::path::PathBuf;

/// The text that tells the arguments.
pub(crate) const USAGE: &str =
    "usage: kv-bench --quick | --full [--only NAME,...] [--out FOLDER] [--data FOLDER]

  --quick         short rounds, in all less than ten minutes
  --full          long rounds, large stores, and the cost of builds
  --only NAME,... these backends and calls alone; the tables are printed, and written nowhere
  --out FOLDER    the folder into which the page and its plots are written, also with --only
  --data FOLDER   the folder in which stores and servers keep their data, on the disk to measure

It runs in the workspace's folder, and writes docs/performance.md. The servers are those that
`ci/servers get` fetches.";

/// The run that was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) is_full: bool,
    pub(crate) backends: Vec<&'static str>,
    pub(crate) ops: Vec<Op>,
    /// Tells whether only some backends or calls were asked for.
    pub(crate) is_part: bool,
    pub(crate) out: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
}

impl Arguments {
    /// Reads the arguments.
    ///
    /// # Errors
    /// One is unknown, or lacks its value, or it is not said how long the run is to be.
    pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Done<Self> {
        let (mut is_full, mut backends, mut ops) = (None, Vec::new(), Vec::new());
        let (mut out, mut data, mut is_part) = (None, None, false);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} lacks its value\n{USAGE}"));
            match argument.as_str() {
                "--quick" => is_full = Some(false),
                "--full" => is_full = Some(true),
                "--out" => out = Some(PathBuf::from(value()?)),
                "--data" => data = Some(PathBuf::from(value()?)),
                "--only" => {
                    is_part = true;
                    for name in value()?.split(',') {
                        let backend = backends::ALL.iter().find(|(known, _)| *known == name);
                        match (backend, Op::ALL.iter().find(|op| op.name() == name)) {
                            (Some((backend, _)), _) => backends.push(*backend),
                            (_, Some(op)) => ops.push(*op),
                            _ => return Err(unknown(name)),
                        }
                    }
                }
                _ => return Err(format!("unknown argument {argument:?}\n{USAGE}").into()),
            }
        }
        if backends.is_empty() {
            backends = backends::ALL.iter().map(|(name, _)| *name).collect();
        }
        if ops.is_empty() {
            ops = Op::ALL.to_vec();
        }
        let is_full = is_full.ok_or(USAGE)?;
        Ok(Self { is_full, backends, ops, is_part, out, data })
    }
}

fn unknown(name: &str) -> kv_testsuite::Failure {
    let known = backends::ALL.iter().map(|(name, _)| *name);
    let known: Vec<_> = known.chain(Op::ALL.iter().map(|op| op.name())).collect();
    format!("unknown {name:?}; backends and calls are {}", known.join(", ")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Done<Arguments> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_selects_backends_and_calls() {
        let read = read("--quick --only memory,get,list").unwrap();
        assert_eq!((read.backends, read.ops), (vec!["memory"], vec![Op::Get, Op::List]));
        assert!(read.is_part && !read.is_full);
    }

    #[test]
    fn without_it_all_are_run() {
        let read = read("--full --out elsewhere").unwrap();
        assert_eq!((read.backends.len(), read.ops.len()), (backends::ALL.len(), Op::ALL.len()));
        assert!(read.is_full && !read.is_part);
        assert_eq!(read.out, Some("elsewhere".into()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, says) in [
            ("", "usage:"),
            ("--quick --only gte", "unknown \"gte\"; backends and calls are memory,"),
            ("--quick --only", "--only lacks its value"),
            ("--fast", "unknown argument \"--fast\""),
        ] {
            let said = read(line).unwrap_err().to_string();
            assert!(said.starts_with(says), "{line}: {said}");
        }
    }
}
