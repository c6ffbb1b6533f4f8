//! Lists and reads, each from one snapshot.

use crate::core::Core;
use kv_core::{
    Directory, Entry, Health, Key, Result,
    driver::{Cursor, Deadline, ListOptions, Page},
};

/// Returns the entry of the key.
pub(crate) async fn get(core: &Core, key: &Key, deadline: Deadline) -> Result<Option<Entry>> {
    let key = key.clone();
    core.read(deadline, move |s, prefix| s.get(prefix, &key)).await
}

/// Returns the entry of each key, all of one moment.
pub(crate) async fn get_many(core: &Core, keys: &[Key], deadline: Deadline) -> Result<Vec<Option<Entry>>> {
    let keys = keys.to_vec();
    core.read(deadline, move |s, prefix| s.get_many(prefix, &keys)).await
}

/// Tells whether the key is there, without reading its value.
pub(crate) async fn exists(core: &Core, key: &Key, deadline: Deadline) -> Result<bool> {
    let key = key.clone();
    core.read(deadline, move |s, prefix| s.exists(prefix, &key)).await
}

/// Returns one page of what lies below the directory.
pub(crate) async fn list(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
    deadline: Deadline,
) -> Result<Page> {
    let behind = from.and_then(Page::place).or_else(|| options.start_after.clone());
    let (directory, options) = (directory.clone(), options.clone());
    core.read(deadline, move |s, prefix| s.list(prefix, &directory, behind.as_ref(), &options)).await
}

/// Tells by a read whether the file serves.
pub(crate) async fn health(core: &Core, deadline: Deadline) -> Result<Health> {
    exists(core, &Key::parse("health")?, deadline).await?;
    Ok(Health::new("redb 4"))
}
