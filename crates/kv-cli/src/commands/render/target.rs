//! The file that is written: all at once, with its owner and its rights.

use super::owner::Owner;
use crate::{
    exit::{Failure, Run},
    out::{Out, note},
};
use clap::Args;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

/// The owner and the rights of a file.
#[derive(Args, Debug, Default)]
pub(super) struct Rights {
    /// The rights of the file, as 640; unless given, those that it has, or 644
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<u32>,
    /// The owner of the file, as USER, USER:GROUP or :GROUP, by names of /etc/passwd and /etc/group,
    /// or by numbers; unless given, the one that it has, or this user
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse)]
    owner: Option<Owner>,
}

impl Rights {
    /// Returns those of a file that nobody else may read.
    pub(super) fn own() -> Self {
        Self { mode: Some(0o600), owner: None }
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "the rights of a file look like 640".to_owned())
}

/// Returns the file that this path is, or a link to it. What is there and is no file is neither read
/// nor replaced: a device may have no end, and a pipe no other side.
pub(super) fn file(target: &Path) -> Run<PathBuf> {
    let shown = target.display();
    if target == Path::new("-") {
        return Err(Failure::usage("a file is rendered, and - is none; --dry-run prints it"));
    }
    match fs::metadata(target) {
        Ok(there) if !there.is_file() => {
            Err(Failure::usage(format!("{shown} is no regular file; --dry-run with another one prints it")))
        }
        Ok(_) => fs::canonicalize(target).map_err(|e| Failure::here(format!("{shown} cannot be found: {e}"))),
        Err(_) => Ok(target.to_owned()),
    }
}

/// Replaces the file if it is another than this and the check allows it; tells whether it was. One
/// that has this content has the owner and the rights that were asked for behind it, too.
pub(super) async fn replaced(
    target: &Path,
    rights: &Rights,
    new: &[u8],
    check: impl AsyncFnOnce(&Path) -> Run<()>,
    out: &Out,
) -> Run<bool> {
    let shown = target.display();
    let failed = |e: io::Error| Failure::here(format!("{shown} cannot be written: {e}"));
    let not_given = |e: io::Error| Failure::here(format!("{shown} cannot be given to its owner: {e}"));
    let path = file(target)?;
    let before = fs::metadata(&path).ok();
    let has = before.as_ref().map(Owner::of);
    if let Some((before, has)) = before.as_ref().zip(has)
        && fs::read(&path).is_ok_and(|old| old == new)
    {
        if let Some(owner) = rights.owner.map(|owner| owner.or(has)).filter(|owner| *owner != has) {
            owner.give(&path).map_err(not_given)?;
            out.acts().note();
        }
        if let Some(mode) = rights.mode.filter(|mode| before.mode() & 0o7777 != *mode) {
            fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
            out.acts().note();
        }
        return Ok(false);
    }
    let (draft, mut file) = Draft::beside(&path).map_err(failed)?;
    file.write_all(new).map_err(failed)?;
    match (rights.owner, has) {
        (Some(owner), has) => owner.or(has.unwrap_or_default()).give(&draft.0).map_err(not_given)?,
        // Without the right to give files away, the new one is this user's.
        (None, Some(has)) => {
            if let Err(e) = has.give(&draft.0) {
                // The group alone may be given by its members, and those who read the file may be in it.
                let has_group = has.group_alone().give(&draft.0).is_ok();
                let why = if has_group { "its owner" } else { "its owner and group" };
                note(&format!("{shown} now belongs to this user, since {why} cannot be kept: {e}"));
            }
        }
        (None, None) => {}
    }
    let has = before.map_or(0o644, |before| before.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(rights.mode.unwrap_or(has))).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    check(&draft.0).await?;
    fs::rename(&draft.0, &path).map_err(failed)?;
    out.acts().note();
    Ok(true)
}

/// A file that goes unless it was renamed.
struct Draft(PathBuf);

impl Draft {
    /// Makes a file beside this one, from which it can be renamed to it. Nobody else may read it
    /// before it has its rights: it may hold a secret.
    fn beside(target: &Path) -> io::Result<(Self, File)> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.kv-{}", process::id()));
        let make = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let made = match make() {
            // One that was killed had the number of this process, as in a container each has.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                make()
            }
            made => made,
        };
        made.map(|file| (Self(path), file))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draft_of_one_that_was_killed_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("conf");
        let (left, file) = Draft::beside(&target).unwrap();
        std::mem::forget((left, file));
        let (draft, file) = Draft::beside(&target).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o077, 0, "nobody else may open it");
        assert!(fs::read(&draft.0).unwrap().is_empty());
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
