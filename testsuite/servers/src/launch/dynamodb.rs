//! The emulator of DynamoDB.

use std::{path::Path, process::Command};

/// Returns the command that starts one on this port of 127.0.0.1, with its data in this file.
#[must_use]
pub fn command(program: &Path, port: u16, file: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(format!("--port={port}")).arg(format!("--db-path={}", file.display()));
    command
}
