//! The tools that the machine must have; what is missing is told before anything else is done.

use crate::{error::Error, folder::Folder, kinds::Kind};
use std::{env, path::Path};

/// Tells whether a Java is named or on the path; a server takes the fetched one where neither is.
pub(crate) fn has_java() -> bool {
    env::var_os("JAVA_HOME").is_some_and(|home| !home.is_empty()) || has("java")
}

/// Checks that a server that needs one finds a Java.
///
/// # Errors
/// The machine has none, and none was fetched.
pub(crate) fn needs_java(folder: &Folder) -> Result<(), Error> {
    if has_java() {
        return Ok(());
    }
    folder.server(Kind::named("java")?).map(drop).map_err(|_| {
        Error::new(
            "this machine lacks a Java (JAVA_HOME, or java on the path); to have one: ci/servers get java",
        )
    })
}

/// Tells whether a command is on the path.
pub(crate) fn has(command: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(command).is_file())
}

/// Checks that what these kinds are fetched and built with is there.
///
/// # Errors
/// Something is missing; all of it is named.
pub(crate) fn needed_to_get(kinds: &[&Kind]) -> Result<(), Error> {
    let mut missing = Vec::new();
    if !Path::new("/bin/sh").exists() {
        missing.push("/bin/sh, which the programs of each kind are scripts for");
    }
    if kinds.iter().any(|kind| kind.is_built()) {
        if !has("cargo") {
            missing.push("cargo, which builds dynamodb (Rust's, from rustup)");
        }
        if !has("cc") && !has("gcc") && !has("clang") {
            missing.push("cc, which builds dynamodb (Debian's package gcc)");
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::new(format!("this machine lacks {}", missing.join("; and ")))),
    }
}
