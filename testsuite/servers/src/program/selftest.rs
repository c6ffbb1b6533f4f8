//! Uses every kind that is there as a person would: start, write, kill, start, read, stop, wipe.

use super::{
    process::{LOOK, Said},
    run,
    spec::{Spec, names, running},
};
use crate::{
    error::Error,
    folder::Folder,
    get,
    kinds::{KINDS, Kind},
    named,
};
use std::{
    env, fs,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

/// A time that is longer than any command waits for anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// The time that the nodes that are left may take to have a leader.
const ELECTS: Duration = Duration::from_secs(10);

pub(super) fn selftest(folder: &Folder, given: &[String]) -> Result<ExitCode, Error> {
    let kinds = given.iter().map(|name| Kind::named(name)).collect::<Result<Vec<_>, _>>()?;
    let kinds = if kinds.is_empty() { KINDS.iter().collect() } else { kinds };
    let present: Vec<_> = kinds.iter().copied().filter(|kind| get::is_present(folder, kind)).collect();
    if present.is_empty() {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
        let names = names.join(" ");
        return Err(Error::new(format!("none of these is there: {names} (to have them: ci/servers get)")));
    }
    let mut trials = Trials { folder, own: format!("selftest-{}", std::process::id()), passed: 0, failed: 0 };
    for kind in present {
        trials.of(kind);
    }
    println!("{} passed, {} failed", trials.passed, trials.failed);
    Ok(if trials.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Trials<'a> {
    folder: &'a Folder,
    /// The beginning of the names of all that is started.
    own: String,
    passed: usize,
    failed: usize,
}

/// Wipes what was started, however the rest went.
impl Drop for Trials<'_> {
    fn drop(&mut self) {
        for name in names(self.folder).into_iter().filter(|name| name.starts_with(&self.own)) {
            if let Err(e) = run::wipe(self.folder, &[name]) {
                super::say(&e.to_string());
            }
        }
    }
}

impl Trials<'_> {
    fn of(&mut self, kind: &'static Kind) {
        match kind.name {
            "protoc" => self.trial("protoc", || compiles(self.folder, kind)),
            "faketime" => {
                self.trial("faketime", || get::lies(&self.folder.server(kind)?).map_err(Error::new))
            }
            "java" => self.trial("java", || {
                Said::by(Command::new(self.folder.server(kind)?).arg("-version"), "", PATIENCE).ok().map(drop)
            }),
            name => self.of_server(kind, name),
        }
    }

    fn of_server(&mut self, kind: &'static Kind, name: &str) {
        let one = format!("{}-{name}", self.own);
        self.trial(name, || keeps(self.folder, name, &one));
        let of = named::of(kind);
        if of.options().len() == 3 {
            let (nodes, cluster) = (of.enough().to_string(), format!("{one}-cluster"));
            let title = format!("{name}, {nodes} nodes, TLS, users");
            self.trial(&title, || survives(self.folder, name, &cluster, &nodes));
        }
    }

    fn trial(&mut self, title: &str, act: impl FnOnce() -> Result<(), Error>) {
        let began = Instant::now();
        let result = act();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("{title:<28} ok      {:5} ms", began.elapsed().as_millis());
            }
            Err(e) => {
                self.failed += 1;
                println!("{title:<28} FAILED  {e}");
            }
        }
    }
}

/// Runs this program, as a person does.
fn own(arguments: &[&str]) -> Result<String, Error> {
    let program = env::current_exe().map_err(|e| Error::new(e.to_string()))?;
    let said = Said::by(Command::new(program).args(arguments), "", PATIENCE);
    match said.is_success {
        true => Ok(said.out),
        false => Err(Error::new(format!("{}: {}{}", arguments.join(" "), said.out, said.err.trim_end()))),
    }
}

fn keeps(folder: &Folder, kind: &str, name: &str) -> Result<(), Error> {
    own(&["start", kind, "--name", name])?;
    put(folder, name)?;
    own(&["kill", name])?;
    own(&["start", name])?;
    reads(folder, name)?;
    own(&["stop", name])?;
    ends(name)?;
    own(&["start", name])?;
    own(&["pause", name])?;
    own(&["wipe", name])?;
    is_wiped(folder, name)
}

fn survives(folder: &Folder, kind: &str, name: &str, nodes: &str) -> Result<(), Error> {
    let first = format!("{name}/1");
    own(&["start", kind, "--name", name, "--nodes", nodes, "--tls", "--auth"])?;
    put(folder, name)?;
    own(&["kill", &first])?;
    reads_in_time(folder, name)?;
    own(&["start", &first])?;
    own(&["stop", name])?;
    ends(name)?;
    own(&["start", name])?;
    reads(folder, name)?;
    own(&["wipe", name])?;
    is_wiped(folder, name)
}

fn put(folder: &Folder, name: &str) -> Result<(), Error> {
    let spec = Spec::read(folder, name)?;
    let written = named::of(spec.kind).put(&spec, "selftest", "kept");
    written.map_err(|e| Error::new(format!("the write failed: {e}")))
}

fn reads(folder: &Folder, name: &str) -> Result<(), Error> {
    let spec = Spec::read(folder, name)?;
    let got = named::of(spec.kind).get(&spec, "selftest");
    let got = got.unwrap_or_else(|e| format!("({e})"));
    match got.trim_end() {
        "kept" => Ok(()),
        other => Err(Error::new(format!("read '{other}', not 'kept'"))),
    }
}

/// Reads again and again until the nodes that are left have a leader, or the time is over.
fn reads_in_time(folder: &Folder, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + ELECTS;
    loop {
        let read = reads(folder, name);
        if read.is_ok() || Instant::now() > deadline {
            return read;
        }
        thread::sleep(LOOK);
    }
}

fn ends(name: &str) -> Result<(), Error> {
    let status = own(&["status"])?;
    let of = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('/'))
    };
    let lines: Vec<_> = status.lines().filter(of).collect();
    match !lines.is_empty() && lines.iter().all(|line| line.contains(" stopped ")) {
        true => Ok(()),
        false => Err(Error::new(format!("still runs: {}", lines.join("; ")))),
    }
}

fn is_wiped(folder: &Folder, name: &str) -> Result<(), Error> {
    match running(folder).join(name).exists() {
        true => Err(Error::new("its folder is still there")),
        false => Ok(()),
    }
}

const MESSAGE: &str = "syntax = \"proto3\";\nimport \"google/protobuf/any.proto\";\n\
                       message M { google.protobuf.Any any = 1; }\n";

fn compiles(folder: &Folder, kind: &Kind) -> Result<(), Error> {
    let at = env::temp_dir().join(format!("kv-servers-protoc-{}", std::process::id()));
    let compiled = || {
        fs::create_dir_all(&at)?;
        fs::write(at.join("m.proto"), MESSAGE)?;
        let mut protoc = Command::new(folder.server(kind).map_err(std::io::Error::other)?);
        protoc.current_dir(&at).args(["--include_imports", "-o", "m.bin", "m.proto"]);
        let said = Said::by(&mut protoc, "", PATIENCE);
        match said.is_success {
            true => fs::read(at.join("m.bin")),
            false => Err(std::io::Error::other(said.last_line())),
        }
    };
    let compiled = compiled();
    let _ = fs::remove_dir_all(&at);
    let words = b"google.protobuf.Any";
    match compiled {
        Ok(bytes) if bytes.windows(words.len()).any(|window| window == words) => Ok(()),
        Ok(_) => Err(Error::new("what it compiled does not name what it imports")),
        Err(e) => Err(Error::new(e.to_string())),
    }
}
