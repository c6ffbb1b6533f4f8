//! Makes directories when keys are put in them, clears them when they are empty, and makes the
//! store's own nodes.

use super::op::{Beside, Op, send};
use crate::{
    client::{node::OWNED, via::Via},
    core::Core,
    error::{Answer, Problem, Said},
    list::read::{Found, look_one},
    names::{Named, parent, slot::slot},
};
use kv_core::{
    Consistency, Result,
    backend::retry::RetrySafety,
    driver::{Deadline, ReadOptions},
};
use std::{collections::BTreeSet, sync::atomic::Ordering};
use zookeeper_client::{CreateMode, Error as ClientError};

/// Makes directories and counts each as a creation. Others may make them at the same time.
pub(crate) async fn make(core: &Core, paths: &[String], deadline: Deadline) -> Result<()> {
    if !core.is_prepared.load(Ordering::Relaxed) {
        prepare(core, deadline).await?;
    }
    let create = core.client.options.create(CreateMode::Persistent);
    let made = Via::Any(&core.client).call(RetrySafety::Repeatable, deadline, |connection| {
        let create = create.clone();
        async move {
            let mut asked = Vec::with_capacity(paths.len());
            for path in paths {
                let mut writer = connection.session.new_multi_writer();
                if let Some(slot) = core.names.slot_of(path) {
                    writer.add_set_data(&core.names.slot_node(slot), OWNED, None)?;
                }
                writer.add_create(path, b"", &create)?;
                asked.push(writer.commit());
            }
            for answer in asked {
                are_there(answer.await.map(drop).map_err(Problem::from))?;
            }
            Ok(())
        }
    });
    made.await?.map_err(Answer::unexpected)?;
    core.directories.are(paths.iter().map(String::as_str));
    Ok(())
}

/// Takes it for success that the node exists already, or that its parent is gone: it is made when
/// it is needed again.
fn are_there(made: Result<(), Problem>) -> Result<(), Problem> {
    match made {
        Err(Problem { error: ClientError::NodeExists | ClientError::NoNode, .. }) => Ok(()),
        made => made,
    }
}

/// Makes the store's own nodes, and the nodes above them. Others may make them at the same time.
pub(crate) async fn prepare(core: &Core, deadline: Deadline) -> Result<()> {
    let roots: Vec<_> = core.names.roots().map(str::to_owned).collect();
    make_each(core, &roots, &[], deadline).await?;
    let own: Vec<_> = core.names.own_nodes().collect();
    make_each(core, &own, OWNED, deadline).await?;
    core.is_prepared.store(true, Ordering::Relaxed);
    Ok(())
}

/// Makes nodes with this data, each by a request of its own, sent one behind the other without
/// waiting.
async fn make_each(core: &Core, paths: &[String], data: &[u8], deadline: Deadline) -> Result<()> {
    let create = core.client.options.create(CreateMode::Persistent);
    let made = Via::Any(&core.client).call(RetrySafety::Repeatable, deadline, |connection| {
        let create = create.clone();
        async move {
            let asked: Vec<_> =
                paths.iter().map(|path| connection.session.create(path, data, &create)).collect();
            for answer in asked {
                are_there(answer.await.map(drop).map_err(Problem::from))?;
            }
            Ok(())
        }
    });
    made.await?.map_err(Answer::unexpected)
}

/// Clears several directories as [`clear`] does, the deepest first.
pub(crate) async fn clear_all(core: &Core, paths: &BTreeSet<String>, deadline: Deadline) {
    for path in paths.iter().rev() {
        clear(core, path, None, deadline).await;
    }
}

/// Deletes an empty directory, and then those above it that are empty, whether or not the
/// directory itself still exists. The directory may have been looked at already. Nothing is lost
/// where this fails: nobody sees an empty directory.
pub(crate) async fn clear(core: &Core, path: &str, looked: Option<Found>, deadline: Deadline) {
    let (mut path, mut looked) = (path, looked);
    while path.len() > core.names.root().len() {
        // Nothing else lies below the root.
        let Some(Named::Key(key)) = core.names.parse(path) else { return };
        // A stale read is enough: the server refuses to delete the node if another client has just
        // put something there.
        let read = ReadOptions::default().consistency(Consistency::Stale).deadline(deadline);
        let found = match looked.take() {
            Some(found) => found,
            None => match look_one(core, &key, &read).await {
                Ok(found) => found,
                Err(_) => return,
            },
        };
        let Some(node) = found.seen.node else {
            path = parent(path);
            continue;
        };
        let Some(epoch) = found.seen.epoch else { return };
        if node.is_key || node.children > 0 || node.mark.is_some() {
            return;
        }
        core.directories.forget(path);
        let ops = [
            Op::Check { path: core.names.slot_node(slot(&key)), version: Some(epoch) },
            Op::Delete { path: path.to_owned(), version: Some(node.version) },
        ];
        let beside = Beside { seen_on: [found.seen.generation].into(), ..Beside::default() };
        match send(core, Via::Any(&core.client), RetrySafety::Repeatable, deadline, ops.iter(), &beside).await
        {
            Ok(Ok(_)) => path = parent(path),
            // Another creation counted up the slot, or there is another connection: this directory
            // may still be empty.
            Ok(Err(Answer { said: Said::BadVersion, at: 0 | usize::MAX, .. })) if !deadline.has_passed() => {}
            _ => return,
        }
    }
}
