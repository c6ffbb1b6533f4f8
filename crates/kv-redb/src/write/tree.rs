//! The deletion of a whole tree, in one commit.

use crate::{core::Core, engine::Batch};
use kv_core::{
    Directory, Key, Result,
    driver::{Batch as Deleted, WriteOptions},
};

/// Deletes all keys below the directory; tells how many there were.
pub(crate) async fn delete_tree(
    core: &Core,
    directory: &Directory,
    options: &WriteOptions,
) -> Result<Deleted> {
    let prefix = core.view.prefix.clone();
    let start = format!("{prefix}{}", directory.start());
    let is_key =
        move |name: &str| name.get(prefix.len()..).is_some_and(|rest| Key::from_stored(rest).is_some());
    let work = move |batch: &mut Batch<'_>| batch.delete_below(&start, is_key).map(Ok);
    let deleted = core.write(options.deadline, 0, work).await?;
    Ok(Deleted { deleted: Some(deleted), next: None })
}
