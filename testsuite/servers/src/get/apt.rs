//! The machine's own apt, with its mirror, its proxy and its keys, but with lists and a cache of
//! our own.

use super::source::Pin;
use crate::kinds::Kind;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const HELPER: &str = "/usr/lib/apt/apt-helper";
/// The names of suites by which a mirror of the machine is known to be one of Debian's.
const SUITES: [&str; 9] =
    ["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];

pub(super) struct Apt {
    mirror: String,
    downloads: PathBuf,
    /// The packages that were found, by PACKAGE/SUITE.
    found: BTreeMap<String, Pin>,
}

impl Apt {
    /// Reads the signed lists of the suites that these kinds come from. Returns `None` when there
    /// is no apt, and a mirror is named.
    pub(super) fn read_lists(
        work: &Path,
        kinds: &[&Kind],
        mirror: Option<&str>,
    ) -> Result<Option<Self>, String> {
        if !Path::new(HELPER).exists() {
            return match mirror {
                Some(_) => Ok(None),
                None => {
                    Err("this machine has no apt, and KV_SERVERS_MIRROR names no mirror: packages come from \
                     KV_SERVERS_EXTRA alone (see 'Other machines' in docs/servers.md)"
                        .into())
                }
            };
        }
        let mirror = match mirror {
            Some(named) => named.to_owned(),
            None => mirror_of_machine().ok_or(
                "apt on this machine has no Debian source to take the mirror from; KV_SERVERS_MIRROR can name one",
            )?,
        };
        if !Path::new(KEYRING).exists() {
            return Err(format!(
                "no {KEYRING}, so nothing fetched could be trusted (Debian's package debian-archive-keyring)"
            ));
        }
        let suites: BTreeSet<_> =
            kinds.iter().flat_map(|kind| kind.packages).map(|(suite, _)| suite.name()).collect();
        let said = update(work, &mirror, &suites).map_err(|e| format!("apt-get: {e}"))?;
        let mut found = BTreeMap::new();
        for suite in suites {
            match list_of(work, suite) {
                Some(list) => read(&list, suite, kinds, &mut found),
                None => crate::program::say(&format!("no list of Debian {suite}: {}", reason(&said, suite))),
            }
        }
        let downloads = work.join("debs");
        fs::create_dir_all(&downloads).map_err(|e| format!("{}: {e}", downloads.display()))?;
        Ok(Some(Self { mirror, downloads, found }))
    }

    pub(super) fn find(&self, package: &str) -> Option<&Pin> {
        self.found.get(package)
    }

    /// Returns the bytes of a package; apt takes them only if their sha256 is the one given.
    pub(super) fn download(&self, pin: &Pin) -> Result<Vec<u8>, String> {
        let file = self.downloads.join(pin.file());
        if !file.exists() {
            let mut helper = Command::new(HELPER);
            helper.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file"]);
            helper.arg(format!("{}{}", self.mirror, pin.path)).arg(&file);
            let output = helper.arg(format!("SHA256:{}", pin.sha256)).output().map_err(|e| e.to_string())?;
            if !output.status.success() {
                let _ = fs::remove_file(&file);
                return Err(reason(&said(&output), ""));
            }
        }
        fs::read(&file).map_err(|e| e.to_string())
    }
}

fn mirror_of_machine() -> Option<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Identifier: Packages"]);
    let output = apt.output().ok()?;
    let known = |line: &str| {
        let (uri, suite) = line.split_once(' ')?;
        SUITES.contains(&suite).then(|| uri.to_owned())
    };
    String::from_utf8_lossy(&output.stdout).lines().find_map(known)
}

/// Updates the lists; returns what apt said.
fn update(work: &Path, mirror: &str, suites: &BTreeSet<&str>) -> std::io::Result<String> {
    let sources: String =
        suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
    let list = work.join("sources.list");
    fs::write(&list, sources)?;
    for folder in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(work.join(folder))?;
    }
    let mut apt = Command::new("apt-get");
    let settings = [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=/dev/null".into(),
        format!("Dir::State::Lists={}", work.join("lists").display()),
        format!("Dir::Cache={}", work.display()),
        "APT::Sandbox::User=root".into(),
        "Acquire::Retries=3".into(),
        "Acquire::GzipIndexes=false".into(),
        "Acquire::Languages=none".into(),
        "Acquire::PDiffs=false".into(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        // An archived suite is signed once and for all.
        "Acquire::Check-Valid-Until=false".into(),
    ];
    for setting in settings {
        apt.arg("-o").arg(setting);
    }
    Ok(said(&apt.arg("update").output()?))
}

fn list_of(work: &Path, suite: &str) -> Option<String> {
    let lists = fs::read_dir(work.join("lists")).ok()?;
    let is_it =
        |name: &str| name.contains(&format!("_dists_{suite}_main_binary-")) && name.ends_with("_Packages");
    let list = lists.flatten().find(|entry| is_it(&entry.file_name().to_string_lossy()))?;
    fs::read_to_string(list.path()).ok()
}

/// Notes the packages of the list that the kinds are unpacked from; of two versions the later one.
fn read(list: &str, suite: &str, kinds: &[&Kind], found: &mut BTreeMap<String, Pin>) {
    let of = kinds.iter().flat_map(|kind| kind.packages).filter(|(of, _)| of.name() == suite);
    let wanted: BTreeSet<_> = of.flat_map(|(_, names)| names.iter().copied()).collect();
    for paragraph in list.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        let Some(name) = field("Package: ").filter(|name| wanted.contains(name)) else { continue };
        if let (Some(path), Some(sha256)) = (field("Filename: "), field("SHA256: ")) {
            found.insert(format!("{name}/{suite}"), Pin { path: path.into(), sha256: sha256.into() });
        }
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part).into_owned()).concat()
}

/// Returns the line of apt's output that tells most, without the mirror's address.
fn reason(said: &str, about: &str) -> String {
    let is_it = |line: &&str| (line.starts_with("E:") || line.starts_with("W:")) && line.contains(about);
    let line = said.lines().find(is_it).or_else(|| said.lines().next_back()).unwrap_or_default();
    let without = |word: &&str| !word.contains("://");
    line.split(' ').filter(without).collect::<Vec<_>>().join(" ")
}
