//! Opens the file, and tells whether it is still the one at its path.

use super::{
    disk::{Disk, Kept, Open, Residence},
    make,
};
use crate::error;
use kv_core::{Error, ErrorKind, Result};
use redb::Builder;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The bytes with which every redb file begins.
const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, why)
}

/// Returns the one path of the file, whatever way leads to it.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(whole) if whole.is_dir() => {
            return Err(refused(format!("{} is a folder; give the path of a file in it", path.display())));
        }
        Ok(whole) => return Ok(whole),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            let why = format!("the folder of {} is a file; give another path", path.display());
            return Err(refused(why));
        }
        Err(e) => return Err(error::unusable(path, e)),
    }
    let Some(name) = path.file_name() else {
        return Err(refused(format!(
            "{:?} names no file; write redb:///path/to/file",
            path.display().to_string()
        )));
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::canonicalize(folder) {
        Ok(folder) => Ok(folder.join(name)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(refused(format!(
            "the folder of {} is not there; make it first: mkdir -p {}",
            path.display(),
            folder.display()
        ))),
        Err(e) => Err(error::unusable(path, e)),
    }
}

/// The way in which the file is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opening<'a> {
    /// Makes the file when it is not there. Every page is checked if `verify` is set, or if a
    /// crash has to be repaired.
    First { verify: bool },
    /// Opens, after a failure, the file that this process has, without letting go of it.
    Again(&'a Arc<Kept>),
}

/// Opens the file, and repairs it if the process before crashed.
pub(crate) fn open(path: &Path, cache_size: usize, opening: Opening<'_>) -> Result<Open> {
    let (kept, verify) = match opening {
        Opening::First { verify } => (first(path)?, verify),
        Opening::Again(kept) => (kept.clone(), false),
    };
    let is_again = matches!(opening, Opening::Again(_));
    let length = kept.len().map_err(|e| error::unusable(path, e))?;
    if length > 0 || is_again {
        let mut head = [0; MAGIC.len()];
        if kept.read(0, &mut head).is_err() || head != *MAGIC {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "{} is not a redb file, and was left as it is; give another path, or move it away",
                    path.display()
                ),
            ));
        }
    }
    let repaired = Arc::new(AtomicBool::new(false));
    let mut builder = Builder::new();
    let seen = repaired.clone();
    builder.set_cache_size(cache_size).set_repair_callback(move |_| seen.store(true, Ordering::Relaxed));
    let residence = Residence::new(cache_size, length);
    let disk = Disk { kept: kept.clone(), residence: residence.clone(), is_locked: is_again };
    let mut database = match builder.create_with_backend(disk) {
        Ok(database) => database,
        Err(e) if length == 0 => {
            drop(kept);
            empty(path);
            return Err(error::not_made(path, e));
        }
        Err(e) => return Err(error::not_opened(path, e)),
    };
    let repaired = repaired.load(Ordering::Relaxed);
    if verify && !repaired && length > 0 {
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => {
                return Err(error::damaged(
                    path,
                    "redb fell back to an earlier state of it, so that writes may be missing (opening it again goes on \
                     from there)",
                ));
            }
            Err(e) => return Err(error::not_opened(path, e)),
        }
    }
    Ok(Open { database, residence, kept })
}

/// Opens the file for the first time, and makes it when it is not there.
fn first(path: &Path) -> Result<Arc<Kept>> {
    make::whole(path)?;
    let file = File::options().read(true).write(true).open(path).map_err(|e| error::unusable(path, e))?;
    Kept::new(file).map_err(|e| error::not_opened(path, e))
}

/// Empties a file that could not be made whole, since a part of one would never be opened. A file
/// that another process has made whole meanwhile stays.
fn empty(path: &Path) {
    let Ok(mut file) = File::options().read(true).write(true).open(path) else { return };
    let mut head = [0; MAGIC.len()];
    if file.try_lock().is_ok() {
        let is_whole = file.read_exact(&mut head).is_ok() && head == *MAGIC;
        if !is_whole {
            // If a part stays, the next opening tells it.
            let _ = file.set_len(0);
        }
        let _ = file.unlock();
    }
}

/// The identity of a file, whatever its path: its device and inode, where the system tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(Option<(u64, u64)>);

impl Identity {
    /// Returns the identity of the file that was opened at this path a moment ago.
    pub(crate) fn of_open(path: &Path) -> Result<Self> {
        Self::at(path).ok_or_else(|| gone(path, "was moved or deleted"))
    }

    /// Returns the identity of the file at this path; `None` where there is none.
    fn at(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            #[cfg(unix)]
            Ok(found) => {
                use std::os::unix::fs::MetadataExt;
                Some(Self(Some((found.dev(), found.ino()))))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            _ => Some(Self(None)),
        }
    }

    /// Refuses a path at which another file is by now, or none. Where the system cannot tell files
    /// apart, the path is accepted.
    pub(crate) fn check(self, path: &Path) -> Result<()> {
        match Self::at(path) {
            Some(Self(found)) if found.is_none() || self.0.is_none() || found == self.0 => Ok(()),
            Some(_) => Err(gone(path, "was replaced by another file")),
            None => Err(gone(path, "was moved or deleted")),
        }
    }
}

fn gone(path: &Path, how: &str) -> Error {
    let why = format!(
        "{} {how} while it is open in this process; nothing was written; put it back, or close all stores of it here and \
         open them again",
        path.display()
    );
    Error::new(ErrorKind::Unavailable, why)
}
