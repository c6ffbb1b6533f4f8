//! Makes a new file: whole, or not at all.

use crate::error;
use kv_core::{Error, ErrorKind, Result};
use redb::Builder;
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Makes an empty store at this path, unless something is there. The file is made beside its
/// place, under another name, and gets its own name when it is whole: a process that is killed
/// meanwhile, or a disk that is full, leaves nothing that could not be opened.
pub(super) fn whole(path: &Path) -> Result<()> {
    let beside = beside(path);
    if is_there(path) {
        // The file has a second name if the process that made it was killed when it had just named
        // it.
        let _ = fs::remove_file(&beside);
        return Ok(());
    }
    let failed = |e| error::unusable(path, e);
    let mut making =
        mine(path, File::options().read(true).write(true).create(true).truncate(false).open(&beside))?;
    // Before this process had the lock, another one may have named the file that is locked here,
    // and written to it.
    if is_there(path) {
        return Ok(());
    }
    if making.metadata().map_err(failed)?.len() > 0 {
        // A process that was killed has left this file. It may have its own name by now, or
        // another one since: so it loses this name, and nothing else.
        fs::remove_file(&beside).map_err(failed)?;
        making = mine(path, File::options().read(true).write(true).create_new(true).open(&beside))?;
    }
    let made = fill(path, making).and_then(|()| name(&beside, path).map_err(failed));
    // The other name goes, also when the file has its own name by now.
    let _ = fs::remove_file(&beside);
    made?;
    // A new file is only safe from a power cut when the folder that names it is flushed too.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Returns the file, locked, unless another process makes it.
fn mine(path: &Path, opened: io::Result<File>) -> Result<File> {
    let taken = || {
        let why = format!("{} is being made by another process; open it again", path.display());
        Error::new(ErrorKind::Unavailable, why)
    };
    let making = match opened {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(taken()),
        opened => opened.map_err(|e| error::unusable(path, e))?,
    };
    match making.try_lock() {
        Ok(()) => Ok(making),
        Err(TryLockError::WouldBlock) => Err(taken()),
        Err(TryLockError::Error(e)) => Err(error::unusable(path, e)),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".making");
    path.with_file_name(name)
}

fn fill(path: &Path, making: File) -> Result<()> {
    Builder::new().create_file(making).map(drop).map_err(|e| error::not_made(path, e))
}

/// Gives the file its own name, unless another process was first. Where a file cannot have a
/// second name, it is renamed.
fn name(beside: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(beside, path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
        Err(_) if !is_there(path) => fs::rename(beside, path),
        named => named,
    }
}
