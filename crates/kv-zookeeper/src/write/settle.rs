//! Remembers what a request did, and clears the directories that it emptied.

use super::{
    directory::{clear, clear_all},
    known::{Epoch, Seen},
    plan::{Act, Plan},
    request::{Request, Subject, is_forever},
};
use crate::{
    client::node::{Mark, Node},
    core::Core,
    lease::life::Life,
    list::read::Found,
    names::{
        parent,
        slot::{SLOTS, slot},
    },
};
use kv_core::{
    Version,
    driver::{Deadline, Write},
};
use std::collections::BTreeSet;

/// The results of a request that was done.
pub(crate) struct Stamp {
    pub(crate) version: Version,
    pub(crate) epochs: [Option<i32>; SLOTS],
    pub(crate) generation: u64,
    /// The directory of a deleted key, as it was behind the deletion.
    pub(crate) looked: Option<(String, Found)>,
}

/// Remembers the written nodes, and clears directories that lost their last key.
pub(crate) async fn settle(
    core: &Core,
    request: &Request<'_>,
    subjects: &[Subject],
    plan: Plan,
    stamp: Stamp,
    deadline: Deadline,
) {
    core.directories.are(plan.ancestors.iter().map(String::as_str));
    if !plan.bumped.is_empty() && !core.own.is_prepared() {
        core.own.are_there(plan.incarnation);
    }
    let (known, mut emptied) = (core.known(), BTreeSet::new());
    for (write, act) in request.writes.iter().zip(&plan.acts) {
        let Some(subject) = subjects.iter().find(|subject| subject.key == *write.key()) else { continue };
        let empty = matches!(write, Write::Put { value, .. } if value.is_empty());
        let forever = is_forever(write);
        let marks = Mark { marks: true, has_children: false };
        let node = match (act, subject.node()) {
            (Act::Create | Act::Replace, _) => {
                if let (false, Life::Own { session, .. }) = (forever, &request.life) {
                    session.lies_in(parent(&subject.path));
                }
                Some(Node {
                    version: 0,
                    at: stamp.version,
                    ephemeral: !forever,
                    is_key: true,
                    mark: (empty && forever).then_some(marks),
                    children: 0,
                })
            }
            (Act::Set, Some(node)) => {
                let mark =
                    if empty { Some(Mark { marks: true, ..node.mark.unwrap_or(marks) }) } else { node.mark };
                Some(Node {
                    version: node.version.wrapping_add(1),
                    at: stamp.version,
                    is_key: true,
                    mark,
                    ..node
                })
            }
            (Act::Remove, _) => {
                core.directories.forget(&subject.path);
                emptied.insert(parent(&subject.path).to_owned());
                None
            }
            (Act::Empty, _) => {
                // Its last child may have been deleted meanwhile.
                emptied.insert(subject.path.clone());
                known.forget(&subject.key);
                continue;
            }
            _ => continue,
        };
        match stamp.epochs[slot(&subject.key)].zip(plan.incarnation) {
            Some((count, incarnation)) => {
                let epoch = Some(Epoch { incarnation, count });
                let seen = Seen { node, epoch, generation: stamp.generation };
                known.set(&subject.key, seen);
            }
            None => known.forget(&subject.key),
        }
    }
    if let Some((path, found)) = stamp.looked
        && emptied.remove(&path)
    {
        clear(core, &path, Some(found), deadline).await;
    }
    clear_all(core, &emptied, deadline).await;
}
