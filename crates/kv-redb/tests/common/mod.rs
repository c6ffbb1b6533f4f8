//! The harness of this backend: a file of this run.

use kv_core::{Bytes, Key, Kv, Result, driver::async_trait};
use kv_redb::Config;
use kv_testsuite::{Failure, Foreign, Harness};
use std::sync::Arc;
use tempfile::TempDir;

/// A file of this run, and a client that keeps it open: the cases open it again, and share it.
#[derive(Clone)]
pub(crate) struct File {
    folder: Arc<TempDir>,
    /// This client is never closed, so that the file stays open between the cases.
    _kept: Kv,
}

impl File {
    fn in_folder(folder: &TempDir) -> Config {
        Config::new(folder.path().join("conformance.redb"))
    }
}

#[async_trait]
impl Harness for File {
    fn name(&self) -> String {
        "redb".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        Self::in_folder(&self.folder).prefix(prefix).open().await
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(format!("redb://{}/conformance.redb?prefix={prefix}", self.folder.path().display()))
    }

    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        vec![("file", Config::new(self.folder.path().join("beside.redb")).prefix(prefix).open().await)]
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(self.clone()))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_redb::open(url).await)
    }
}

impl File {
    /// Returns a client and a key that make up the name: the prefix of the one, and the other. A
    /// name that does not end in a key cannot be written here: the file is open in this process,
    /// and redb has no tool of its own that knows tables like these.
    async fn around(&self, name: &str) -> Option<(Kv, Key)> {
        let (at, _) = name.char_indices().rev().find(|(at, _)| Key::from_stored(&name[*at..]).is_some())?;
        let kv =
            Self::in_folder(&self.folder).raw_prefix(&name[..at]).open().await.expect("the file is open");
        Key::from_stored(&name[at..]).map(|key| (kv, key))
    }
}

/// The foreign tool: clients of other prefixes.
#[async_trait]
impl Foreign for File {
    async fn put(&self, name: &str, value: Bytes) {
        if let Some((kv, key)) = self.around(name).await {
            kv.put(key, value).await.expect("a write");
        }
    }

    async fn get(&self, name: &str) -> Option<Bytes> {
        let (kv, key) = self.around(name).await?;
        kv.get(key).await.expect("a read").map(|entry| entry.value)
    }

    async fn delete(&self, name: &str) {
        if let Some((kv, key)) = self.around(name).await {
            kv.delete(key).await.expect("a write");
        }
    }
}

pub(crate) async fn suite() -> Result<File, Failure> {
    let folder = Arc::new(TempDir::new()?);
    let kept = File::in_folder(&folder).open().await?;
    Ok(File { folder, _kept: kept })
}
