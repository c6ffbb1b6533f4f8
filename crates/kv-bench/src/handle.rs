//! The cost of the handle: allocations and sizes of futures, told by a program that counts them.

use crate::side::Done;
use std::{env, process::Command};

/// The cost of one call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) call: String,
    pub(crate) nanos: f64,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
    /// The bytes of the future.
    pub(crate) future: f64,
}

/// Returns the command of Cargo that this program was started by, or that of the path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs the program that counts.
///
/// # Errors
/// It cannot be built or run.
pub(crate) fn measure() -> Done<Vec<Cost>> {
    let mut program = cargo();
    program.args([
        "run",
        "--release",
        "--locked",
        "--quiet",
        "-p",
        "kv-bench",
        "--bin",
        "kv-bench-allocations",
    ]);
    let output = program.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{program:?} failed").into());
    }
    read(&String::from_utf8(output.stdout)?)
}

fn read(text: &str) -> Done<Vec<Cost>> {
    let line = |line: &str| {
        let (call, numbers) = line.split_once('\t')?;
        let numbers: Vec<f64> =
            numbers.split('\t').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [nanos, allocations, bytes, future] = numbers[..] else { return None };
        Some(Cost { call: call.to_owned(), nanos, allocations, bytes, future })
    };
    text.lines()
        .map(|text| line(text).ok_or_else(|| format!("{text:?} is no line of costs").into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read() {
        let read = read("get by &str\t231\t3.00\t960\t16\n").unwrap();
        let cost =
            Cost { call: "get by &str".into(), nanos: 231.0, allocations: 3.0, bytes: 960.0, future: 16.0 };
        assert_eq!(read, [cost]);
        assert!(super::read("get\t1\t2\n").is_err());
    }
}
