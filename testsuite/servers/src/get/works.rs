//! Tells whether what was unpacked runs on this machine.

use crate::kinds::{Family, Kind};
use std::{fs, path::Path, process::Command};

/// 1999-12-31 12:00:00, as a number of seconds and as the library of other clocks is told it.
const OTHER_TIME: (u64, &str) = (946_641_600, "1999-12-31 12:00:00");

/// Tries the kind; the error is what it said last.
pub(super) fn works(kind: &Kind, at: &Path) -> Result<(), String> {
    let bin = |name: &str| at.join("bin").join(name);
    let client = kind.client.unwrap_or_default();
    match kind.family {
        Family::Etcd => {
            runs(&bin(kind.server), &["--version"])?;
            runs(&bin(client), &["version"])
        }
        Family::Consul => runs(&bin(kind.server), &["version"]),
        Family::Zookeeper => ["zookeeper.jar", "netty-handler.jar"]
            .iter()
            .try_for_each(|jar| is_there(&at.join("usr/share/java").join(jar))),
        Family::Redis => [kind.server, client].iter().try_for_each(|name| runs(&bin(name), &["--version"])),
        Family::Dynamodb => runs(&bin(kind.server), &["--version"]),
        Family::Tool => tool(kind, at),
    }
}

fn tool(kind: &Kind, at: &Path) -> Result<(), String> {
    let program = at.join("bin").join(kind.server);
    match kind.name {
        "faketime" => lies(&program),
        "java" => runs(&program, &["-version"]),
        _ => {
            runs(&program, &["--version"])?;
            is_there(&at.join("usr/include/google/protobuf/descriptor.proto"))
        }
    }
}

/// Checks that the library gives a process another time.
pub(crate) fn lies(library: &Path) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut clock = Command::new(own);
    clock.arg("seconds").env("LD_PRELOAD", library).env("FAKETIME", OTHER_TIME.1).env("TZ", "UTC");
    let output = clock.output().map_err(|e| e.to_string())?;
    let shown = String::from_utf8_lossy(&output.stdout);
    let is_near = |seconds: u64| seconds.abs_diff(OTHER_TIME.0) < 60;
    match shown.trim().parse().is_ok_and(is_near) {
        true => Ok(()),
        false => Err(format!("a process that was given another time shows {}", shown.trim())),
    }
}

fn is_there(file: &Path) -> Result<(), String> {
    match fs::metadata(file).is_ok_and(|file| file.len() > 0) {
        true => Ok(()),
        false => Err(format!("{} is missing", file.display())),
    }
}

fn runs(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&said).lines().next_back().unwrap_or_default().to_owned())
}
