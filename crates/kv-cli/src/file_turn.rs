//! The turns of files that are stores: one process of this program has such a file at a time, and a
//! command that runs under a lock in it keeps the turn though the program is gone. The store itself
//! frees its file, and all locks in it, as soon as its process has ended.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The turns that this process has, by the files that lie beside the stores.
static TURNS: Mutex<Vec<(PathBuf, File)>> = Mutex::new(Vec::new());

/// Takes the turn of a store's file; returns whether this process has it now. It is given back when
/// this process, and all to whom it was handed, have ended.
///
/// # Errors
/// Those of the system: the file beside the store's cannot be made or opened.
pub(crate) fn take(store: &Path) -> io::Result<bool> {
    let path = beside(store)?;
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    if turns.iter().any(|(taken, _)| *taken == path) {
        return Ok(true);
    }
    // It is never deleted: who waits for a file that was deleted waits for nobody.
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => turns.push((path, file)),
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    Ok(true)
}

/// Returns the turns that this process has, to be handed to another one that is to keep them.
///
/// # Errors
/// The system has no more descriptors.
pub(crate) fn taken() -> io::Result<Vec<File>> {
    let turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.iter().map(|(_, file)| file.try_clone()).collect()
}

/// Returns the path of the file beside a store's: the store's with `.turn` behind it, in the folder
/// where the store's really lies.
fn beside(store: &Path) -> io::Result<PathBuf> {
    let real = match fs::canonicalize(store) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty());
            let name = store.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name)
        }
        found => found?,
    };
    let mut path = real.into_os_string();
    path.push(".turn");
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_taken_once_for_all_names_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.redb");
        assert!(take(&store).unwrap());
        fs::write(&store, "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&store, folder.path().join("b.redb")).unwrap();
        assert!(take(&folder.path().join("./a.redb")).unwrap());
        #[cfg(unix)]
        assert!(take(&folder.path().join("b.redb")).unwrap());
        let other = File::options().write(true).open(folder.path().join("a.redb.turn")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        let here = folder.path().to_owned();
        assert_eq!(taken().unwrap().len(), TURNS.lock().unwrap().len());
        assert!(TURNS.lock().unwrap().iter().filter(|(path, _)| path.starts_with(&here)).count() <= 1);
    }
}
