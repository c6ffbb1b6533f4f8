//! Directories: made with what lies in them, and cleared when nothing does any more; and the store's own nodes.

use crate::{
    client::Via,
    error::{Answer, Problem, Said},
    feed::parent,
    names::{Named, Names, SLOTS, slot},
    node::OWNED,
    plan::Op,
    store::Inner,
    txn::send,
};
use kv_core::{backend::retry::RetrySafety, *};
use std::sync::atomic::Ordering;
use zookeeper_client::{CreateMode, Error as ClientError};

/// The slot of the key that a node below the root is, or would be.
pub(crate) fn slot_of(names: &Names, path: &str) -> Option<usize> {
    match names.parse(path)? {
        Named::Key(key) => Some(slot(&key)),
        Named::Lock(_) => None,
    }
}

/// Makes directories, whoever makes them too, and counts each as a creation.
pub(crate) async fn make(inner: &Inner, paths: &[String], deadline: Deadline) -> Result<()> {
    if !inner.is_prepared.load(Ordering::Relaxed) {
        prepare(inner, deadline).await?;
    }
    let create = inner.client.options.create(CreateMode::Persistent);
    let made = Via::Any(&inner.client).call(RetrySafety::Repeatable, deadline, |linked| {
        let create = create.clone();
        async move {
            let mut asked = Vec::with_capacity(paths.len());
            for path in paths {
                let mut writer = linked.session.new_multi_writer();
                if let Some(slot) = slot_of(&inner.names, path) {
                    writer.add_set_data(&inner.names.slot_node(slot), OWNED, None)?;
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
    expected(made.await?)?;
    inner.directories.are(paths.iter().map(String::as_str));
    Ok(())
}

/// Whoever made it, it is there; and one whose parent went is made when it is needed again.
fn are_there(made: Result<(), Problem>) -> Result<(), Problem> {
    match made {
        Err(Problem { error: ClientError::NodeExists | ClientError::NoNode, .. }) => Ok(()),
        made => made,
    }
}

fn expected(made: Result<(), Answer>) -> Result<()> {
    made.map_err(|answer| Error::new(ErrorKind::Other, format!("an answer that is not expected: {answer:?}")))
}

/// Makes what the store keeps for itself, and the nodes above it, whoever makes them too.
pub(crate) async fn prepare(inner: &Inner, deadline: Deadline) -> Result<()> {
    let roots: Vec<_> = inner.names.roots().map(str::to_owned).collect();
    all(inner, &roots, &[], deadline).await?;
    let own = [inner.names.own(), inner.names.area("epoch"), inner.names.area("lock")];
    let own: Vec<_> = own.into_iter().chain((0..SLOTS).map(|slot| inner.names.slot_node(slot))).collect();
    all(inner, &own, OWNED, deadline).await?;
    inner.is_prepared.store(true, Ordering::Relaxed);
    Ok(())
}

/// Makes nodes that hold this, each for itself, one behind the other and at once.
async fn all(inner: &Inner, paths: &[String], data: &[u8], deadline: Deadline) -> Result<()> {
    let create = inner.client.options.create(CreateMode::Persistent);
    let made = Via::Any(&inner.client).call(RetrySafety::Repeatable, deadline, |linked| {
        let create = create.clone();
        async move {
            let asked: Vec<_> = paths.iter().map(|path| linked.session.create(path, data, &create)).collect();
            for answer in asked {
                are_there(answer.await.map(drop).map_err(Problem::from))?;
            }
            Ok(())
        }
    });
    expected(made.await?)
}

/// Deletes a directory that holds nothing any more, and those above it, whether or not it still is there. Nothing is lost where it fails: a directory is
/// nothing that anyone sees.
pub(crate) async fn clear(inner: &Inner, path: &str, deadline: Deadline) {
    let mut path = path;
    while path.len() > inner.names.root().len() {
        // Nothing else lies below the root.
        let Some(Named::Key(key)) = inner.names.parse(path) else { return };
        // What another has just put there keeps the server from deleting it.
        let read = ReadOptions::default().consistency(Consistency::Stale).deadline(deadline);
        let Ok(found) = inner.look_one(&key, &read).await else { return };
        let Some(node) = found.seen.node else {
            path = parent(path);
            continue;
        };
        let Some(epoch) = found.seen.epoch else { return };
        if node.is_key || node.children > 0 || node.mark.is_some() {
            return;
        }
        inner.directories.forget(path);
        let ops = [
            Op::Check { path: inner.names.slot_node(slot(&key)), version: Some(epoch) },
            Op::Delete { path: path.to_owned(), version: Some(node.version) },
        ];
        let seen_on = [found.seen.generation].into();
        match send(inner, Via::Any(&inner.client), RetrySafety::Repeatable, deadline, ops.iter(), &seen_on)
            .await
        {
            Ok(Ok(_)) => path = parent(path),
            // Another creation counted up the slot, or another connection stands; this directory may still be empty.
            Ok(Err(Answer { said: Said::BadVersion, at: 0 | usize::MAX, .. })) if !deadline.has_passed() => {}
            _ => return,
        }
    }
}
