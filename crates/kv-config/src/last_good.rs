//! The file with the last settings that were valid.

use crate::{digest::Digest, fault::Fault, place::Place, snapshot::Snapshot};
use kv_core::{Entry, Error, ErrorKind, Result, backend::unique};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// The format of the file.
const FORMAT: u32 = 1;

/// The first line of the file. The second one is a list of keys with their values and versions.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    name: String,
    form: String,
    /// The digest of what comes behind this line.
    sum: String,
}

/// The part of the first line that a file of any format has: the number of the format.
#[derive(Deserialize)]
struct AnyHead {
    v: u32,
}

/// The file with the last settings that were valid. Clones are one.
#[derive(Clone)]
pub(crate) struct LastGood(Arc<Path>);

impl LastGood {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path.into())
    }

    /// Replaces the file in one step. Who may not read the settings in the store may not read the
    /// file either: it is its owner's alone.
    pub(crate) async fn save(&self, snapshot: &Snapshot) -> Result<()> {
        let bytes = write(snapshot).map_err(|fault| self.error(ErrorKind::Other, &fault.to_string()))?;
        let path = self.0.clone();
        let saved = spawn_blocking(move || replace(&path, &bytes)).await;
        match saved {
            Ok(saved) => saved.map_err(|e| self.failed("cannot be written", e)),
            Err(e) => Err(self.error(ErrorKind::Other, "was not written").with_cause(e)),
        }
    }

    /// Reads the settings of this place.
    pub(crate) async fn load(&self, place: &Place) -> Result<Snapshot> {
        let path = self.0.clone();
        let bytes = match spawn_blocking(move || fs::read(&path)).await {
            Ok(read) => read.map_err(|e| self.failed("cannot be read", e))?,
            Err(e) => return Err(self.error(ErrorKind::Other, "was not read").with_cause(e)),
        };
        let entries = read(&bytes, place);
        let entries = entries.map_err(|fault| self.error(ErrorKind::Corrupt, &fault.to_string()))?;
        Ok(Snapshot::new(place, entries, "file"))
    }

    #[cold]
    fn failed(&self, what: &str, error: io::Error) -> Error {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Other,
        };
        self.error(kind, what).with_cause(error)
    }

    #[cold]
    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("the last good file {:?} {what}", self.0))
    }
}

fn write(snapshot: &Snapshot) -> Result<Vec<u8>, Fault> {
    let unwritten = |_| Fault::new("cannot be written as JSON");
    let entries = serde_json::to_vec(snapshot.entries()).map_err(unwritten)?;
    let place = snapshot.place();
    let (name, form) = (place.name().to_owned(), place.form.as_str().to_owned());
    let head = Head { v: FORMAT, name, form, sum: Digest::of(&entries) };
    let mut bytes = serde_json::to_vec(&head).map_err(unwritten)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&entries);
    Ok(bytes)
}

fn read(bytes: &[u8], place: &Place) -> Result<Vec<Entry>, Fault> {
    let damaged = || Fault::new("is damaged; the next valid settings of the store replace it");
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let (line, entries) = (&bytes[..end], &bytes[end + 1..]);
    let AnyHead { v } = serde_json::from_slice(line).map_err(|_| damaged())?;
    if v != FORMAT {
        let why = format!("has the format {v}; this program knows {FORMAT}: run the release that wrote it");
        return Err(Fault::new(why));
    }
    let head: Head = serde_json::from_slice(line).map_err(|_| damaged())?;
    if head.name != place.name() || head.form != place.form.as_str() {
        let (name, form) = (place.name(), place.form.as_str());
        let why = format!(
            "is of the {} {:?}, not of the {form} {name:?}; give each its own file",
            head.form, head.name
        );
        return Err(Fault::new(why));
    }
    if head.sum != Digest::of(entries) {
        return Err(damaged());
    }
    serde_json::from_slice(entries).map_err(|_| damaged())
}

/// Writes a file beside this one, and renames it when it is on the disk.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = OsString::from(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{:016x}.new", unique()));
    let beside = path.with_file_name(name);
    let written = write_file(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What failed is told; that this fails too changes nothing.
        let _ = fs::remove_file(&beside);
    } else if let Some(folder) = path.parent() {
        // A crash may bring the old file back if this fails, which is whole as well.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    written
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
