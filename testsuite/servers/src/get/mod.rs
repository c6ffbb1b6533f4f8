//! Fetching: each kind is unpacked aside, tried, and moved into its place whole, so what is there
//! works.

mod apt;
mod deb;
mod http;
mod programs;
mod source;
mod works;

pub(crate) use works::lies;

use crate::{
    error::Error,
    folder::{Folder, repository},
    kinds::{KINDS, Kind},
    program::{say, tools},
};
use sha2::{Digest, Sha256};
use source::Source;
use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The time that one `get` waits for another.
const PATIENCE: Duration = Duration::from_secs(600);

/// Returns the sha256 of some bytes, in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the text that is written beside a kind; a kind whose text differs is made anew. It
/// lists the packages, or the sources of what is built.
fn packages(kind: &Kind) -> Result<String, Error> {
    if kind.is_built() {
        return sources();
    }
    let of = kind.packages.iter().flat_map(|(suite, names)| names.iter().map(move |name| (name, suite)));
    Ok(of.map(|(name, suite)| format!("{name}/{}\n", suite.name())).collect())
}

fn sources() -> Result<String, Error> {
    let at = repository().join("ci/dynamodb");
    ["Cargo.toml", "Cargo.lock", "src/main.rs"]
        .iter()
        .map(|name| {
            let file = at.join(name);
            let content = fs::read(&file).map_err(|e| Error::file("read", &file, &e))?;
            Ok(format!("{}  {name}\n", sha256(&content)))
        })
        .collect()
}

/// Tells whether a kind is there, and made of what it would be made of now.
pub(crate) fn is_present(folder: &Folder, kind: &Kind) -> bool {
    let of = fs::read_to_string(folder.of(kind).join("PACKAGES"));
    matches!((of, packages(kind)), (Ok(of), Ok(now)) if of.trim_end() == now.trim_end())
}

/// Fetches those that are missing of these kinds, or of all that this machine needs.
pub(crate) fn get(folder: &Folder, names: &[String]) -> Result<(), Error> {
    let wanted = wanted(names)?;
    if missing(folder, &wanted).is_empty() {
        return Ok(());
    }
    let _lock = lock(folder)?;
    let missing = missing(folder, &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    tools::needed_to_get(&missing)?;
    let began = Instant::now();
    let work = Work::new(folder)?;
    let source = Source::new(&work.0, &missing);
    let mut failed = Vec::new();
    for kind in &missing {
        match install(folder, kind, &work.0, &source) {
            Ok(()) => say(&format!("{} is there", kind.name)),
            Err(e) => {
                say(&format!("{}: {e}", kind.name));
                failed.push(kind.name);
            }
        }
    }
    let (all, seconds, at) = (missing.len(), began.elapsed().as_secs(), folder.path().display());
    say(&format!("{} of {all} fetched in {seconds} s, in {at}", all - failed.len()));
    match failed.is_empty() {
        true => Ok(()),
        false => {
            let names = failed.join(" ");
            Err(Error::new(format!("not fetched: {names} (see above); the others can be used")))
        }
    }
}

/// Returns the kinds that are to be there. A Java is one of them if it is asked for, or if a
/// server needs one and the machine has none.
fn wanted(names: &[String]) -> Result<Vec<&'static Kind>, Error> {
    let mut kinds = names.iter().map(|name| Kind::named(name)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        kinds.extend(KINDS.iter().filter(|kind| kind.name != "java"));
    }
    let java = Kind::named("java")?;
    let needs_java = kinds.iter().any(|kind| kind.name.starts_with("zookeeper"));
    if needs_java && !tools::has_java() && !kinds.contains(&java) {
        kinds.push(java);
    }
    Ok(kinds)
}

fn missing(folder: &Folder, wanted: &[&'static Kind]) -> Vec<&'static Kind> {
    wanted.iter().copied().filter(|kind| !is_present(folder, kind)).collect()
}

fn lock(folder: &Folder) -> Result<File, Error> {
    let at = folder.path();
    let refused = |e| {
        let at = at.display();
        Error::new(format!("cannot write in {at} (KV_SERVERS_DIR names another folder): {e}"))
    };
    fs::create_dir_all(at).map_err(refused)?;
    let lock = File::options().create(true).append(true).open(at.join(".lock")).map_err(refused)?;
    let deadline = Instant::now() + PATIENCE;
    let mut is_told = false;
    while let Err(e) = lock.try_lock() {
        match e {
            TryLockError::Error(e) => return Err(refused(e)),
            TryLockError::WouldBlock if Instant::now() > deadline => {
                let at = at.display();
                return Err(Error::new(format!(
                    "another 'get' still holds {at}/.lock after {} minutes",
                    PATIENCE.as_secs() / 60
                )));
            }
            TryLockError::WouldBlock => {}
        }
        if !is_told {
            say("another 'get' is at work; waiting for it");
            is_told = true;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(lock)
}

/// A folder that is deleted when it is dropped; making it deletes those that killed processes have
/// left.
struct Work(PathBuf);

impl Work {
    fn new(folder: &Folder) -> Result<Self, Error> {
        let at = folder.path();
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".get.") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let work = at.join(format!(".get.{}", std::process::id()));
        fs::create_dir(&work).map_err(|e| Error::file("made", &work, &e))?;
        Ok(Self(work))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn install(folder: &Folder, kind: &Kind, work: &Path, source: &Source) -> Result<(), Error> {
    let at = work.join(kind.name);
    fs::create_dir(&at).map_err(|e| Error::file("made", &at, &e))?;
    match kind.is_built() {
        true => build(&at, work)?,
        false => unpack(kind, &at, source)?,
    }
    works::works(kind, &at).map_err(|said| Error::new(format!("does not run on this machine: {said}")))?;
    let list = at.join("PACKAGES");
    fs::write(&list, packages(kind)?).map_err(|e| Error::file("written", &list, &e))?;
    let place = folder.of(kind);
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|e| Error::file("replaced", &place, &e))?;
    }
    fs::rename(&at, &place).map_err(|e| Error::file("put in its place", &place, &e))
}

fn unpack(kind: &Kind, at: &Path, source: &Source) -> Result<(), Error> {
    let sums = at.join("SHA256SUMS");
    let mut file = File::create(&sums).map_err(|e| Error::file("written", &sums, &e))?;
    for (suite, names) in kind.packages {
        for name in *names {
            let package = source.fetch(name, *suite)?;
            deb::unpack(&package.bytes, at, kind.name == "java")
                .map_err(|e| Error::new(format!("{} cannot be unpacked: {e}", package.file)))?;
            writeln!(file, "{}  {}", package.sha256, package.file)
                .map_err(|e| Error::file("written", &sums, &e))?;
        }
    }
    programs::write(kind, at).map_err(|e| Error::file("filled", &at.join("bin"), &e))
}

/// Builds the emulator aside, so that the project's own build neither waits for it nor keeps it.
fn build(at: &Path, work: &Path) -> Result<(), Error> {
    say("dynamodb is built from ci/dynamodb, which takes a minute or two");
    let target = work.join("target");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(repository().join("ci/dynamodb/Cargo.toml")).env("CARGO_TARGET_DIR", &target);
    // Cargo runs in the root folder, for the emulator is no part of the workspace, whose
    // .cargo/config.toml is found from every folder below.
    let status = cargo.current_dir("/").status().map_err(|e| Error::new(format!("cargo: {e}")))?;
    if !status.success() {
        return Err(Error::new("cannot be built (see above)"));
    }
    let (built, bin) = (target.join("debug/dynamodb"), at.join("bin"));
    fs::create_dir(&bin)
        .and_then(|()| fs::copy(&built, bin.join("dynamodb")))
        .map(drop)
        .map_err(|e| Error::file("copied", &built, &e))
}
