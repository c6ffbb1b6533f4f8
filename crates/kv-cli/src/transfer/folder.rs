//! A folder of files as a place of keys: the key `app/color` is the file `app/color`.
//!
//! A file system has no name that is a file and a folder. So the value of a key that has keys below
//! is in the file `.kv` of that folder: no key can have that name.

use super::{git::WorkTree, side::Found};
use crate::exit::{Failure, Run};
use kv_core::{Bytes, Directory, Key, Version};
use std::{
    collections::{BTreeMap, btree_map},
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// The segment that no key has.
pub(super) const RESERVED: &str = ".kv";

/// The part of a place in a transfer. One that is read must be there; one that is written may yet
/// have to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    From,
    To,
}

/// A folder, or the work tree of a git repository.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// The folder that was named.
    pub(super) base: PathBuf,
    /// The part of it that the keys are in.
    pub(super) root: PathBuf,
    pub(super) git: Option<WorkTree>,
}

impl Folder {
    /// Opens the folder that `dir:PATH` or `git:PATH` names; `None` for the name of anything else.
    pub(crate) fn named(name: &str, part: &Directory, role: Role) -> Run<Option<Self>> {
        let (path, is_git) = match (name.strip_prefix("dir:"), name.strip_prefix("git:")) {
            (Some(path), _) => (path, false),
            (_, Some(path)) => (path, true),
            _ => return Ok(None),
        };
        if path.is_empty() {
            return Err(Failure::usage(format!("{name} names no folder; it looks like {name}PATH")));
        }
        if path.starts_with('~') {
            let why =
                format!("a shell expands no ~ in {name}; write $HOME, or ./~ for a folder of that name");
            return Err(Failure::usage(why));
        }
        let base = PathBuf::from(path);
        let root = base.join(part.as_str());
        let git = is_git.then(|| WorkTree::open(&base)).transpose()?;
        if !is_git {
            match fs::metadata(&base) {
                Ok(found) if !found.is_dir() => {
                    return Err(Failure::usage(format!("{path} is no folder; {name} needs one")));
                }
                Err(e) if role == Role::From || e.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::usage(format!("the folder {path} cannot be read: {e}")));
                }
                _ => {}
            }
            if base.join(".git").exists() {
                let why = format!("{path} has a history, whose files are no keys; name it git:{path}");
                return Err(Failure::usage(why));
            }
        }
        Ok(Some(Self { base, root, git }))
    }

    /// Returns the file that has the value of a key, if there is one.
    pub(super) fn file_of(&self, key: &Key) -> Run<Option<PathBuf>> {
        let path = self.root.join(key.as_str());
        for path in [path.join(RESERVED), path] {
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_file() => return Ok(Some(path)),
                Ok(found) if !found.is_dir() => return Err(no_file(&path)),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(not_read(&path, &e)),
            }
        }
        Ok(None)
    }

    /// Looks at one key alone.
    pub(super) fn find(&self, key: &Key) -> Run<Option<Found>> {
        let Some(path) = self.file_of(key)? else { return Ok(None) };
        let (value, version) = read(&path)?;
        Ok(Some(Found { key: key.clone(), value, version: Some(version) }))
    }

    /// Returns all keys, each with its file.
    fn names(&self) -> Run<BTreeMap<Key, PathBuf>> {
        let paths = match &self.git {
            Some(git) => git.files(&self.root)?,
            None => walk(&self.root)?,
        };
        let mut names = BTreeMap::new();
        for path in paths {
            let key = key_of(path.strip_prefix(&self.root).unwrap_or(&path));
            // Without a key it has the value of the directory's own name, which is not in it.
            if let Some(key) =
                key.map_err(|why| Failure::here(format!("the file {}: {why}", path.display())))?
            {
                names.insert(key, path);
            }
        }
        Ok(names)
    }

    /// Begins to read it, in ascending order of the keys.
    pub(super) fn side(&self) -> Files {
        Files { folder: self.clone(), names: None }
    }
}

/// A folder that is being read.
pub(super) struct Files {
    folder: Folder,
    names: Option<btree_map::IntoIter<Key, PathBuf>>,
}

impl Files {
    pub(super) fn next(&mut self) -> Run<Option<Found>> {
        let names = match &mut self.names {
            Some(names) => names,
            none => none.insert(self.folder.names()?.into_iter()),
        };
        let Some((key, path)) = names.next() else { return Ok(None) };
        let (value, version) = read(&path)?;
        Ok(Some(Found { key, value, version: Some(version) }))
    }
}

/// Reads a file, and which state of it that is.
fn read(path: &Path) -> Run<(Bytes, Version)> {
    if !fs::symlink_metadata(path).map_err(|e| not_read(path, &e))?.is_file() {
        return Err(no_file(path));
    }
    let read = File::open(path).and_then(|mut file| {
        // The state is looked at first: a change while it is read makes another one.
        let version = state(&file.metadata()?);
        let mut value = Vec::new();
        file.read_to_end(&mut value)?;
        Ok((Bytes::from(value), version))
    });
    read.map_err(|e| not_read(path, &e))
}

/// Returns what changes with every write of a file, and stays when it is renamed: when it was
/// written, which file it is, and how long.
pub(super) fn state(metadata: &Metadata) -> Version {
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    let nanos = u64::try_from(metadata.mtime_nsec()).unwrap_or(0);
    let written = seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
    Version::new(written, metadata.ino() ^ metadata.len().rotate_left(32))
}

/// Returns all files below a folder. One that is not there has none.
fn walk(root: &Path) -> Run<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && folder == root => return Ok(files),
            entries => entries.map_err(|e| not_read(&folder, &e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| not_read(&folder, &e))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(|e| not_read(&folder, &e))?);
            if kind.is_dir() && !(folder == root && entry.file_name() == RESERVED) {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            } else if !kind.is_dir() {
                return Err(no_file(&path));
            }
        }
    }
    Ok(files)
}

/// Returns the key of a file by its path below the root; `None` for the root's own `.kv`.
fn key_of(path: &Path) -> Result<Option<Key>, String> {
    let path = if path.file_name() == Some(OsStr::new(RESERVED)) {
        path.parent().unwrap_or(Path::new(""))
    } else {
        path
    };
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err("its path is not below the folder".to_owned());
    }
    let name = path.to_str().ok_or("its name is no UTF-8, which names of keys are; rename it")?;
    // A name that other tools gave may be longer than one that a user may give.
    let key = Key::from_stored(name).map_or_else(|| Key::parse(name), Ok);
    let key = key.map_err(|e| format!("it can be no key: {}; rename or remove it", e.message()))?;
    if key.as_str() != name {
        return Err(format!("it would be the key {key:?}, which is another file's; rename it"));
    }
    Ok(Some(key))
}

fn not_read(path: &Path, e: &io::Error) -> Failure {
    Failure::here(format!("{} cannot be read: {e}", path.display()))
}

/// Makes the failure of a link or a device, which may lead out of the folder.
fn no_file(path: &Path) -> Failure {
    Failure::here(format!("{} is neither a file nor a folder, such as a link; remove it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_keys() {
        let key = |path: &str| key_of(Path::new(path)).map(|key| key.map(|key| key.to_string()));
        assert_eq!(key("app/color"), Ok(Some("app/color".to_owned())));
        assert_eq!(key("app/.kv"), Ok(Some("app".to_owned())));
        assert_eq!(key(".kv"), Ok(None));
        for (path, part) in [
            ("a /b", "rename or remove it"),
            ("a/.kv/b", "rename or remove it"),
            ("../a", "not below the folder"),
            ("a\u{1}", "rename or remove it"),
        ] {
            let why = key(path).unwrap_err();
            assert!(why.contains(part), "{path:?}: {why}");
        }
        use std::os::unix::ffi::OsStrExt;
        assert!(key_of(Path::new(OsStr::from_bytes(b"a\xff"))).unwrap_err().contains("no UTF-8"));
    }
}
