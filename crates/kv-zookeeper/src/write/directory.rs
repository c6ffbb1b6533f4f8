//! Makes directories when keys are put in them, and clears them when they are empty.

use super::{
    known::INCARNATE,
    op::{Beside, Op, send},
    own::{are_there, prepare},
};
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
use std::collections::BTreeSet;
use zookeeper_client::CreateMode;

/// Makes directories and counts each as a creation. Others may make them at the same time.
pub(crate) async fn make(core: &Core, paths: &[String], deadline: Deadline) -> Result<()> {
    if !core.own.is_prepared() {
        prepare(core, None, deadline).await?;
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
            Op::Check { path: core.names.incarnation(epoch.incarnation), version: Some(INCARNATE) },
            Op::Check { path: core.names.slot_node(slot(&key)), version: Some(epoch.count) },
            Op::Delete { path: path.to_owned(), version: Some(node.version) },
        ];
        let beside = Beside { seen_on: [found.seen.generation].into(), ..Beside::default() };
        match send(core, Via::Any(&core.client), RetrySafety::Repeatable, deadline, ops.iter(), &beside).await
        {
            Ok(Ok(_)) => path = parent(path),
            // Another creation counted up the slot, or there is another connection: this directory
            // may still be empty.
            Ok(Err(Answer { said: Said::BadVersion, at: 1 | usize::MAX, .. })) if !deadline.has_passed() => {}
            _ => return,
        }
    }
}
