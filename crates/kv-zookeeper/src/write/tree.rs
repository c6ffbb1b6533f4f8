//! Deletes trees: many nodes a request, the deepest first.

use super::directory::clear_all;
use crate::{
    client::{multi::BATCH, via::Via},
    core::Core,
    error::{Answer, Problem, Said},
    list::{Visited, Walk, cursor::place},
    names::{Names, parent},
};
use kv_core::{
    Directory, Key, Result,
    backend::retry::{RetrySafety, outcome_unknown},
    driver::{Batch, Cursor, Deadline, Expect, ReadOptions, WriteOptions},
};
use std::collections::BTreeSet;

/// The most nodes that one batch deletes, and about the most bytes of their data: the batch reads
/// the data too, within its deadline.
const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// Deletes one batch of a tree: [`Store::delete_tree`](kv_core::driver::Store::delete_tree).
pub(crate) async fn delete_tree(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &WriteOptions,
) -> Result<Batch> {
    let deadline = options.deadline;
    let from = place(from, directory)?;
    let after = from.as_ref().map(|note| note.after.clone());
    let read = ReadOptions::default().deadline(deadline);
    let mut walk = match from {
        Some(note) => Walk::resume(core, directory, true, note, &read),
        None => Walk::new(core, directory, true, None, &read),
    };
    let nodes = walk.nodes(MOST, MOST_BYTES).await?;
    let next = nodes.last().filter(|_| !walk.is_over()).map(|last| last.name.clone());
    let next = next.map(|last| walk.cursor(last, true));
    // There may be more below the last node, and so below its ancestors.
    let last = nodes.last().filter(|_| next.is_some()).map(|last| format!("{}/", last.name));
    // Directories that earlier batches had to leave because something below them comes in this
    // batch.
    let above = core.names.directory(directory);
    let here: BTreeSet<_> = nodes.iter().map(|node| node.path.as_str()).collect();
    let parents = nodes.iter().map(|node| parent(&node.path)).filter(|path| !here.contains(path));
    let mut left: BTreeSet<_> = parents.filter(|path| *path != above).map(str::to_owned).collect();
    left.extend(after.map(|after| core.names.node(&after)));
    left.extend((next.is_none() && !directory.is_root()).then_some(above));
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    for node in nodes.into_iter().rev() {
        let has_more = last.as_ref().is_some_and(|last| last.starts_with(&format!("{}/", node.name)));
        if has_more { cut.push(node) } else { whole.push(node) }
    }
    forget(core, &whole);
    let deleted = delete(core, &whole, &cut, deadline).await?;
    clear_all(core, &left, deadline).await;
    Ok(Batch { deleted: Some(deleted), next })
}

/// Deletes these nodes, and the keys of those that may have to stay. Returns the number of deleted
/// keys.
async fn delete(core: &Core, whole: &[Visited], cut: &[Visited], deadline: Deadline) -> Result<u64> {
    // Where one of several is refused, others may be gone by then.
    let refused = |among: usize| move |e| if among > 1 { outcome_unknown(e) } else { e };
    let parts: Vec<_> = whole.chunks(BATCH).collect();
    let done = at_once(core, &parts, deadline).await.map_err(refused(parts.len()))?;
    let (mut deleted, refused) = (0, refused(whole.len() + cut.len()));
    for (nodes, is_done) in parts.into_iter().zip(done) {
        if is_done {
            deleted += nodes.iter().filter(|node| node.node.is_key).count() as u64;
            continue;
        }
        for (node, was_deleted) in nodes.iter().zip(one_by_one(core, nodes, deadline).await.map_err(refused)?)
        {
            match was_deleted {
                true => deleted += u64::from(node.node.is_key),
                // Another client put something below it meanwhile.
                false => deleted += one(core, node, deadline).await.map_err(refused)?,
            }
        }
    }
    for node in cut {
        deleted += one(core, node, deadline).await.map_err(refused)?;
    }
    Ok(deleted)
}

/// Forgets what is known of nodes that may be gone.
fn forget(core: &Core, nodes: &[Visited]) {
    let known = core.known();
    for Visited { name, .. } in nodes {
        core.directories.forget(&core.names.node(name));
        if let Some(key) = Key::from_stored(name) {
            known.forget(&key);
        }
    }
}

/// Deletes of each part all nodes, or none: `false` where one of them cannot be deleted. The
/// requests are sent one behind the other without waiting, and are done in that order.
async fn at_once(core: &Core, parts: &[&[Visited]], deadline: Deadline) -> Result<Vec<bool>> {
    let done = Via::Any(&core.client)
        .call(RetrySafety::Write, deadline, |connection| async move {
            let mut asked = Vec::with_capacity(parts.len());
            for nodes in parts {
                let mut writer = connection.session.new_multi_writer();
                for Visited { path, node, .. } in *nodes {
                    if node.mark.is_some_and(|mark| !mark.has_children) {
                        writer.add_delete(&Names::mark(path), None)?;
                    }
                    writer.add_delete(path, None)?;
                }
                asked.push(writer.commit());
            }
            let mut done = Vec::with_capacity(asked.len());
            for answer in asked {
                done.push(match answer.await.map_err(Problem::from) {
                    Ok(_) => true,
                    Err(Problem { error, at }) if Answer::of(&error, at).is_some() => false,
                    Err(problem) => return Err(problem),
                });
            }
            Ok(done)
        })
        .await?;
    done.map_err(Answer::unexpected)
}

/// Deletes each of these nodes by a request of its own, and returns for each whether it was
/// deleted.
async fn one_by_one(core: &Core, nodes: &[Visited], deadline: Deadline) -> Result<Vec<bool>> {
    let done = Via::Any(&core.client)
        .call(RetrySafety::Write, deadline, |connection| async move {
            let mut asked = Vec::with_capacity(nodes.len());
            for Visited { path, node, .. } in nodes {
                let mark = Names::mark(path);
                let marked = node.mark.filter(|mark| !mark.has_children && node.children == 0);
                let mut writer = connection.session.new_multi_writer();
                if marked.is_some() {
                    writer.add_delete(&mark, None)?;
                }
                writer.add_delete(path, None)?;
                asked.push(writer.commit());
            }
            let mut gone = Vec::with_capacity(asked.len());
            for answer in asked {
                gone.push(match answer.await.map_err(Problem::from) {
                    Ok(_) => true,
                    Err(Problem { error, at }) => match Answer::of(&error, at).map(|answer| answer.said) {
                        Some(Said::NoNode | Said::NotEmpty | Said::BadVersion) => false,
                        _ => return Err(Problem { error, at }),
                    },
                });
            }
            Ok(gone)
        })
        .await?;
    done.map_err(Answer::unexpected)
}

/// Deletes a key whose node may have to stay, and returns the number of deleted keys.
async fn one(core: &Core, node: &Visited, deadline: Deadline) -> Result<u64> {
    let Some(key) = Key::from_stored(&node.name).filter(|_| node.node.is_key) else { return Ok(0) };
    let options = WriteOptions::default().deadline(deadline);
    super::delete(core, &key, Expect::Anything, &options).await.map(u64::from)
}
