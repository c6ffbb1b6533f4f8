//! The program: `ci/servers help` tells what it does.

mod client;
mod nodes;
mod ports;
mod process;
mod run;
mod selftest;
mod spec;
pub(crate) mod tls;
pub(crate) mod tools;

pub(crate) use process::Said;
pub(crate) use spec::{Spec, write};

use crate::{certificates, error::Error, folder::Folder, get, kinds::Kind};
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

const USAGE: &str = include_str!("usage.txt");
/// The command that runs what follows in a session of its own; it is not for people.
const APART: &str = "apart";

/// Says something to the person, by stderr: stdout may belong to a program.
pub(crate) fn say(what: &str) {
    eprintln!("ci/servers: {what}");
}

/// Does what the arguments of this process ask for; returns 1 when it could not be done, 2 when it
/// makes no sense.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(e) => {
            say(&e.to_string());
            if e.is_misuse() {
                say("'ci/servers help' lists the commands");
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    match command.as_str() {
        "help" | "-h" | "--help" => print!("{USAGE}"),
        "certs" => match rest {
            [folder] => certificates::make(Path::new(folder))?,
            _ => return Err(Error::misuse("certs FOLDER")),
        },
        APART => return Err(process::become_apart(rest)),
        "seconds" => println!("{}", seconds()),
        _ => return with_folder(command, rest),
    }
    Ok(ExitCode::SUCCESS)
}

fn with_folder(command: &str, rest: &[String]) -> Result<ExitCode, Error> {
    let folder = folder()?;
    match command {
        "get" => get::get(&folder, rest)?,
        "path" => println!("{}", path(&folder, rest)?.display()),
        "start" => run::start(&folder, rest)?,
        "stop" => run::stop(&folder, rest)?,
        "status" => run::status(&folder)?,
        "pause" => run::pause(&folder, rest)?,
        "resume" => run::resume(&folder, rest)?,
        "kill" => run::kill(&folder, rest)?,
        "wipe" => run::wipe(&folder, rest)?,
        "client" => return client::client(&folder, rest),
        "selftest" => return selftest::selftest(&folder, rest),
        _ => return Err(Error::misuse(format!("unknown command '{command}'"))),
    }
    Ok(ExitCode::SUCCESS)
}

fn folder() -> Result<Folder, Error> {
    let here = env::current_dir().map_err(|e| Error::new(format!("the current folder: {e}")))?;
    let folder = Folder::from_env(&here);
    // The path is written into search paths and settings files, where these characters would end
    // it.
    let shown = folder.path().display().to_string();
    match shown.contains(['"', ':', '\\']) {
        true => Err(Error::new(format!("KV_SERVERS_DIR must have no quote, colon or backslash: {shown}"))),
        false => Ok(folder),
    }
}

fn path(folder: &Folder, arguments: &[String]) -> Result<PathBuf, Error> {
    let kind = arguments.first().ok_or_else(|| Error::misuse("path: which kind?"))?;
    let kind = Kind::named(kind)?;
    match &arguments[1..] {
        [] => folder.server(kind),
        [option] if option == "--client" => folder.client(kind),
        _ => Err(Error::misuse("path KIND [--client]")),
    }
}

/// Tells whether a node's process runs.
pub(crate) fn is_running(spec: &Spec, number: usize) -> bool {
    process::pid_of(&spec.node(number)).is_some()
}

fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
