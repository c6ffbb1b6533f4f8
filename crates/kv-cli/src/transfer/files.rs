//! Writes keys into a folder, and commits them where it is a work tree.

use super::folder::{Folder, RESERVED, state};
use crate::exit::{Failure, Run};
use kv_core::{Key, Version};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
};

/// The keys that the message of a commit names.
const NAMED: usize = 100;

/// The outcome of a write.
#[derive(Debug)]
pub(super) enum Done {
    Yes,
    /// The file is not as it was when it was compared.
    Conflict(String),
}

/// A writer to a folder. Each file is replaced all at once, and only if it is still as it was
/// compared.
pub(super) struct FolderWriter {
    folder: Folder,
    /// The paths below the root that are another now.
    touched: Vec<PathBuf>,
    /// A line for each write, as the message of a commit shows it.
    told: Vec<String>,
}

impl FolderWriter {
    pub(super) fn new(folder: &Folder) -> Self {
        Self { folder: folder.clone(), touched: Vec::new(), told: Vec::new() }
    }

    /// Writes the file of a key: a new one, or one that is still in this state.
    pub(super) fn put(&mut self, key: &Key, value: &[u8], at: Option<Version>) -> Run<Done> {
        let before = self.folder.file_of(key)?;
        if let Some(conflict) = conflict(key, before.as_deref(), at)? {
            return Ok(conflict);
        }
        // They can hold commands, which whoever runs git there next would run.
        if key.segments().any(|segment| segment.eq_ignore_ascii_case(".git")) {
            let why = format!("the file of the key {key:?} would be one of git's own; rename the key");
            return Err(Failure::here(why));
        }
        self.make_folders(key)?;
        let path = self.folder.root.join(key.as_str());
        let path = if path.is_dir() { path.join(RESERVED) } else { path };
        let failed = |e: io::Error| Failure::here(format!("{} cannot be written: {e}", path.display()));
        let draft = self.draft().map_err(failed)?;
        let written = File::create(&draft).and_then(|mut file| {
            if let Some(before) = &before {
                file.set_permissions(fs::metadata(before)?.permissions())?;
            }
            file.write_all(value)?;
            fs::rename(&draft, &path)
        });
        if let Err(e) = written {
            let _ = fs::remove_file(&draft);
            return Err(failed(e));
        }
        self.touched.push(path);
        self.told.push(format!("{} {key}", if at.is_none() { '+' } else { '~' }));
        Ok(Done::Yes)
    }

    /// Deletes the file of a key that is still in this state, and the folders that are empty then.
    pub(super) fn delete(&mut self, key: &Key, at: Version) -> Run<Done> {
        let before = self.folder.file_of(key)?;
        if let Some(conflict) = conflict(key, before.as_deref(), Some(at))? {
            return Ok(conflict);
        }
        let Some(path) = before else { return Ok(Done::Yes) };
        fs::remove_file(&path)
            .map_err(|e| Failure::here(format!("{} cannot be deleted: {e}", path.display())))?;
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.folder.root) {
            // One that is not empty stays.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        self.touched.push(path);
        self.told.push(format!("- {key}"));
        Ok(Done::Yes)
    }

    /// Ends the writing, with a commit of what was written, and returns its name.
    pub(super) fn finish(self, is_whole: bool) -> Run<Option<String>> {
        // Another program may still have a draft in it.
        let _ = fs::remove_dir(self.folder.base.join(RESERVED));
        let Some(git) = &self.folder.git else { return Ok(None) };
        if self.touched.is_empty() {
            return Ok(None);
        }
        let count = |sign: char| self.told.iter().filter(|line| line.starts_with(sign)).count();
        let (created, replaced, deleted) = (count('+'), count('~'), count('-'));
        let broken = if is_whole { "" } else { "; it was broken off" };
        let mut message =
            format!("kv: created {created}, replaced {replaced}, deleted {deleted}{broken}\n\n");
        for line in self.told.iter().take(NAMED) {
            message.push_str(line);
            message.push('\n');
        }
        if let Some(more) = self.told.len().checked_sub(NAMED).filter(|more| *more > 0) {
            message.push_str(&format!("and {more} more\n"));
        }
        git.commit(&message, &self.touched).map(Some)
    }

    /// Makes the folders that the file of a key lies in. A file that has the name of one goes into
    /// it.
    fn make_folders(&mut self, key: &Key) -> Run<()> {
        let failed = |path: &Path, e: io::Error| {
            Failure::here(format!("the folder {} cannot be made: {e}", path.display()))
        };
        fs::create_dir_all(&self.folder.root).map_err(|e| failed(&self.folder.root, e))?;
        let mut path = self.folder.root.clone();
        let mut segments: Vec<_> = key.segments().collect();
        segments.pop();
        for segment in segments {
            path.push(segment);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_file() => {
                    let inner = path.join(RESERVED);
                    let draft = self.draft().map_err(|e| failed(&path, e))?;
                    let moved = fs::rename(&path, &draft)
                        .and_then(|()| fs::create_dir(&path))
                        .and_then(|()| fs::rename(&draft, &inner));
                    moved.map_err(|e| failed(&path, e))?;
                    self.touched.extend([path.clone(), inner]);
                }
                Ok(_) => {
                    let why = format!("{} is neither a file nor a folder; remove it", path.display());
                    return Err(Failure::here(why));
                }
                Err(_) => fs::create_dir(&path).map_err(|e| failed(&path, e))?,
            }
        }
        Ok(())
    }

    /// Returns the path of a file that is no key, from which it can be renamed to one that is.
    fn draft(&self) -> io::Result<PathBuf> {
        let folder = self.folder.base.join(RESERVED);
        fs::create_dir_all(&folder)?;
        Ok(folder.join(format!("draft-{}", process::id())))
    }
}

/// Tells whether a file is another than it was when it was compared.
fn conflict(key: &Key, file: Option<&Path>, at: Option<Version>) -> Run<Option<Done>> {
    let now = match file {
        None => None,
        Some(path) => {
            let found = fs::symlink_metadata(path);
            let found =
                found.map_err(|e| Failure::here(format!("{} cannot be read: {e}", path.display())))?;
            Some(state(&found))
        }
    };
    Ok((now != at).then(|| Done::Conflict(format!("somebody else has written the file of {key:?}"))))
}
