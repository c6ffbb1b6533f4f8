//! The sources of packages: Debian's suites through the machine's own apt, whose lists Debian has
//! signed; on a machine without apt a mirror, or a folder, by the sums of our own list.

use super::{apt::Apt, http, sha256};
use crate::{error::Error, kinds::Kind, packages::Suite, program::say};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// PACKAGE/SUITE, file and sum of what Debian had when this was written.
const PINS: &str = include_str!("../pins.txt");

/// A package whose sum is good.
pub(super) struct Package {
    pub(super) file: String,
    pub(super) sha256: String,
    pub(super) bytes: Vec<u8>,
}

/// A file on a mirror, and its sum.
#[derive(Clone)]
pub(super) struct Pin {
    pub(super) path: String,
    pub(super) sha256: String,
}

impl Pin {
    pub(super) fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn checked(&self, bytes: Vec<u8>) -> Option<Package> {
        let sum = sha256(&bytes);
        (sum == self.sha256).then(|| Package { file: self.file().into(), sha256: sum, bytes })
    }
}

pub(super) struct Source {
    apt: Option<Apt>,
    /// The mirror that is asked where there is no apt.
    mirror: Option<String>,
    extra: Option<PathBuf>,
}

impl Source {
    /// Reads apt's lists for these kinds. An obstacle is told, and ends nothing: a kind may still
    /// be had from elsewhere.
    pub(super) fn new(work: &Path, kinds: &[&Kind]) -> Self {
        let named = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let mirror = named("KV_SERVERS_MIRROR").map(|url| format!("{}/", url.trim_end_matches('/')));
        let extra = named("KV_SERVERS_EXTRA").map(PathBuf::from);
        let packaged: Vec<_> = kinds.iter().copied().filter(|kind| !kind.is_built()).collect();
        let apt = match packaged.is_empty() {
            true => None,
            false => Apt::read_lists(work, &packaged, mirror.as_deref()).unwrap_or_else(|why| {
                say(&why);
                None
            }),
        };
        Self { apt, mirror, extra }
    }

    /// Returns a package, or says what is to be done.
    pub(super) fn fetch(&self, name: &str, suite: Suite) -> Result<Package, Error> {
        let package = format!("{name}/{}", suite.name());
        let mut problem = match self.by_apt(name, &package, suite) {
            Ok(found) => return Ok(found),
            Err(problem) => problem,
        };
        let Some(pin) = pinned(&package) else {
            return Err(Error::new(problem));
        };
        if let Some(found) = self.by_mirror(&pin, &mut problem) {
            return Ok(found);
        }
        self.by_copy(&pin, problem).map_err(Error::new)
    }

    fn by_apt(&self, name: &str, package: &str, suite: Suite) -> Result<Package, String> {
        let Some(apt) = &self.apt else {
            return Err(format!("no apt to fetch the package {name} with"));
        };
        let Some(pin) = apt.find(package) else {
            let suite = suite.name();
            return Err(format!(
                "Debian {suite} does not have the package {name} (archived, renamed, or its lists did not come)"
            ));
        };
        let bytes =
            apt.download(pin).map_err(|why| format!("{} of Debian {}: {why}", pin.file(), suite.name()))?;
        pin.checked(bytes).ok_or_else(|| format!("{} has another sha256 than Debian's list", pin.file()))
    }

    fn by_mirror(&self, pin: &Pin, problem: &mut String) -> Option<Package> {
        let (None, Some(mirror)) = (&self.apt, &self.mirror) else {
            return None;
        };
        match http::get(&format!("{mirror}{}", pin.path)) {
            Ok(bytes) => {
                let found = pin.checked(bytes);
                if found.is_none() {
                    problem.push_str(&format!("; {} on the mirror has another sha256", pin.file()));
                }
                found
            }
            Err(why) => {
                problem.push_str(&format!("; {} on the mirror: {why}", pin.file()));
                None
            }
        }
    }

    fn by_copy(&self, pin: &Pin, mut problem: String) -> Result<Package, String> {
        let (file, sum) = (pin.file(), &pin.sha256);
        problem.push_str(&format!(
            "; a copy, {file} with sha256 {sum}, is taken from the folder that KV_SERVERS_EXTRA names"
        ));
        let Some(extra) = &self.extra else {
            return Err(problem);
        };
        let Ok(bytes) = fs::read(extra.join(file)) else {
            return Err(format!("{problem}, but {} has no such file", extra.display()));
        };
        pin.checked(bytes).ok_or_else(|| format!("{problem}, but the file there has another sha256"))
    }
}

fn pinned(package: &str) -> Option<Pin> {
    if env::consts::ARCH != "x86_64" {
        return None;
    }
    PINS.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (name, path, sha256) = (words.next()?, words.next()?, words.next()?);
        (name == package).then(|| Pin { path: path.into(), sha256: sha256.into() })
    })
}
