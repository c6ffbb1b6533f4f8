//! Making a new file: whole, or not at all.

use super::file;
use kv_core::{Error, ErrorKind, Result};
use redb::Builder;
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Makes an empty store at this path, unless something is there. It is made beside it, under a name of its own, and named
/// when it is whole: a process that is killed meanwhile, or a disk that is full, leaves nothing that could not be opened.
pub(super) fn whole(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let beside = beside(path);
    let failed = |e| file::unusable(path, e);
    let making = File::options().read(true).write(true).create(true).truncate(false).open(&beside);
    let making = making.map_err(failed)?;
    match making.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let why = format!("{} is being made by another process; open it again", path.display());
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let made = fill(path, making).and_then(|()| name(&beside, path).map_err(failed));
    // Nothing of it stays, also when it has its name by now.
    let _ = fs::remove_file(&beside);
    made?;
    // A new file is only safe from a power cut when the folder that names it is.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".making");
    path.with_file_name(name)
}

fn fill(path: &Path, making: File) -> Result<()> {
    // What a process that was killed has left.
    making.set_len(0).map_err(|e| file::unusable(path, e))?;
    Builder::new().create_file(making).map(drop).map_err(|e| file::not_made(path, e))
}

/// Gives it its name, unless another process was first. A file system without second names has it renamed.
fn name(beside: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(beside, path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
        Err(_) if fs::symlink_metadata(path).is_err() => fs::rename(beside, path),
        named => named,
    }
}
