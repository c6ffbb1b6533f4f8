//! Deletions of whole directories.

use crate::{
    client::{answer::next, script},
    core::Core,
    list::below,
    version::nonce,
};
use kv_core::{
    Bytes, Directory, Result,
    backend::retry::RetrySafety,
    driver::{Batch, Cursor, WriteOptions},
};

/// The most keys that one step deletes.
const BATCH: usize = 500;

/// Deletes the first keys below a directory in one step, and tells whether there may be more.
pub(crate) async fn delete_tree(core: &Core, directory: &Directory, options: &WriteOptions) -> Result<Batch> {
    let (from, to) = below(directory);
    let arguments = [from.into(), to.into(), nonce().to_string().into(), BATCH.to_string().into()];
    let answer = core.run(RetrySafety::Write, options.deadline, &script::DELETE_TREE, [], arguments).await?;
    let mut answer = answer.list()?;
    let deleted = u64::try_from(next(&mut answer)?.number()?).unwrap_or_default();
    let looked_at = usize::try_from(next(&mut answer)?.number()?).unwrap_or_default();
    // Deleted keys are not found again, so that the next batch begins at the beginning.
    let more = (looked_at == BATCH).then(|| Cursor::new(Bytes::new()));
    Ok(Batch { deleted: Some(deleted), next: more })
}
