//! Plans a request: its checks and its writes, by what is known of its keys.

use super::{
    known::INCARNATE,
    op::Op,
    own::never_before,
    request::{Request, Subject, is_forever},
};
use crate::{
    client::{
        multi::REQUEST,
        node::{MARK, Mark, OWNED},
    },
    core::Core,
    names::{
        Names,
        slot::{SLOTS, slot},
    },
};
use kv_core::{Bytes, Condition, Error, ErrorKind, Key, Result, driver::Write};
use std::collections::{BTreeMap, BTreeSet};
use zookeeper_client::CreateMode;

/// The purpose of an operation, which gives a refusal of it its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Slot(usize),
    Incarnation(u128),
    /// The store's own nodes.
    Own,
    Held(usize),
    Ancestor(String),
    Created(String),
    Known,
}

/// The effect of a write on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Nothing,
    Create,
    Set,
    /// The node is deleted and created anew.
    Replace,
    Remove,
    /// The node stays, as a directory.
    Empty,
}

/// Tells that the request cannot be planned before its keys are read anew.
pub(crate) struct Look;

/// The operations of a request, and their expected results.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<(Op, For)>,
    pub(crate) acts: Vec<Act>,
    pub(crate) were: Vec<bool>,
    /// The slots that the request counts up; and the counts that slots had when their keys were
    /// read.
    pub(crate) bumped: BTreeSet<usize>,
    pub(crate) epochs: [Option<i32>; SLOTS],
    /// The incarnation of the counts that was known before the request is sent, or that it makes.
    pub(crate) incarnation: Option<u128>,
    /// Set if the request relies on a key of which there is no count to check.
    pub(crate) is_unproved: bool,
    pub(crate) ancestors: Vec<String>,
    /// The nodes that are replaced whatever they are by now.
    replaced: BTreeSet<String>,
    /// The missing ancestors of nodes that are created.
    above: BTreeSet<String>,
}

impl Plan {
    pub(crate) fn new(
        core: &Core,
        request: &Request<'_>,
        subjects: &[Subject],
        fresh: bool,
    ) -> Result<Result<Self, Look>> {
        let mut plan = Self { incarnation: core.own.incarnation(), ..Self::default() };
        let subject = |key: &Key| subjects.iter().find(|subject| subject.key == *key);
        let made: Vec<_> = request.writes.iter().filter(|write| matches!(write, Write::Put { .. })).collect();
        let is_written = |key: &Key| request.writes.iter().any(|write| write.key() == key);
        // Creations by other tools are not counted: that a key was missing a while ago proves
        // nothing.
        let was_missing = |key: &Key| !fresh && subject(key).is_some_and(|subject| subject.node().is_none());
        for condition in request.conditions {
            if let Condition::Missing(key) = condition
                && !is_written(key)
                && was_missing(key)
            {
                return Ok(Err(Look));
            }
        }
        for write in request.writes {
            let Some(subject) = subject(write.key()) else { continue };
            let below = subject.key.as_directory();
            let has_children = subject.node().is_some_and(|node| node.children > 0)
                || made.iter().any(|other| other.key().is_below(&below));
            let act = match (write, subject.node()) {
                (Write::Put { .. }, _) if !is_forever(write) && has_children => return Ok(Err(Look)),
                (Write::Put { .. }, None) => Act::Create,
                (Write::Put { .. }, Some(node)) if node.ephemeral || !is_forever(write) => Act::Replace,
                (Write::Put { .. }, Some(_)) => Act::Set,
                // Only a look shows whether it still has children.
                (Write::Delete { .. }, Some(node)) if node.is_key && node.children > 0 && !fresh => {
                    return Ok(Err(Look));
                }
                (Write::Delete { .. }, Some(node)) if node.is_key => {
                    if has_children {
                        Act::Empty
                    } else {
                        Act::Remove
                    }
                }
                (Write::Delete { key }, _) if was_missing(key) => return Ok(Err(Look)),
                (Write::Delete { .. }, _) => Act::Nothing,
            };
            plan.acts.push(act);
            plan.were.push(subject.node().is_some_and(|node| node.is_key));
        }
        plan.creates(core, request, subjects);
        if plan.checks(core, request, subjects).is_err() {
            return Ok(Err(Look));
        }
        plan.writes(request, subjects);
        let acl = core.client.options.acl_size();
        let size: usize = plan.ops.iter().map(|(op, _)| op.size(acl)).sum();
        if size > REQUEST {
            let why = format!(
                "the request is {size} bytes long with all its names and ACLs, and a server takes {REQUEST}; write less at once"
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        Ok(Ok(plan))
    }

    fn push(&mut self, op: Op, why: For) {
        self.ops.push((op, why));
    }

    /// Finds the keys and directories that the request creates, and the slots that count their
    /// creations. Making a directory is counted too: its node may have been a key's, with the same
    /// data version.
    fn creates(&mut self, core: &Core, request: &Request<'_>, subjects: &[Subject]) {
        let mut created = BTreeSet::new();
        for (write, act) in request.writes.iter().zip(&self.acts) {
            let Some(subject) = subjects.iter().find(|subject| subject.key == *write.key()) else { continue };
            let was_directory = subject.node().is_some_and(|node| !node.is_key);
            if matches!(act, Act::Create | Act::Replace) {
                created.insert(&*subject.path);
            }
            if matches!(act, Act::Create | Act::Replace) || (*act == Act::Set && was_directory) {
                self.bumped.insert(slot(&subject.key));
            }
        }
        let is_there = |path: &str| {
            core.directories.knows(path) || subjects.iter().any(|s| s.path == path && s.node().is_some())
        };
        for path in created.iter().flat_map(|path| core.names.ancestors(path)) {
            if !created.contains(path) && !is_there(path) {
                self.bumped.extend(core.names.slot_of(path));
                self.above.insert(path.to_owned());
            }
        }
    }

    /// Adds the checks of everything that must be as it was seen, except for the nodes that are
    /// written.
    fn checks(&mut self, core: &Core, request: &Request<'_>, subjects: &[Subject]) -> Result<(), Look> {
        for (index, condition) in request.conditions.iter().enumerate() {
            if let Condition::Held(fence) = condition {
                let path = String::from_utf8_lossy(fence.proof()).into_owned();
                self.push(Op::Check { path, version: None }, For::Held(index));
            }
        }
        let act = |key: &Key| {
            let at = request.writes.iter().position(|write| write.key() == key)?;
            self.acts.get(at).copied()
        };
        let is_conditional = |key: &Key| {
            request.conditions.iter().any(|condition| match condition {
                Condition::Version(on, _) | Condition::Exists(on) | Condition::Missing(on) => on == key,
                Condition::Held(_) => false,
            })
        };
        let (mut relied, mut incarnations) = (BTreeSet::new(), BTreeSet::new());
        let mut known = Vec::new();
        for subject in subjects {
            let act = act(&subject.key);
            let Some(seen) = subject.seen else { continue };
            // The creation itself fails if the node exists; and a node that is replaced without a
            // condition may be any.
            let is_any = act == Some(Act::Replace) && !is_conditional(&subject.key);
            if is_any {
                self.replaced.insert(subject.path.clone());
            }
            match seen.epoch {
                _ if act == Some(Act::Create) || is_any => {}
                Some(epoch) => {
                    relied.insert(slot(&subject.key));
                    incarnations.insert(epoch.incarnation);
                    self.epochs[slot(&subject.key)] = Some(epoch.count);
                }
                // A deletion without a condition deletes whatever is there.
                None => self.is_unproved |= act != Some(Act::Remove) || is_conditional(&subject.key),
            }
            if let Some(node) = seen.node
                && matches!(act, None | Some(Act::Nothing))
            {
                known.push(Op::Check { path: subject.path.clone(), version: Some(node.version) });
            }
        }
        if incarnations.len() > 1 {
            // Some keys were seen before the counts were made anew.
            return Err(Look);
        }
        for seen in incarnations {
            self.incarnation = Some(seen);
            let path = core.names.incarnation(seen);
            self.push(Op::Check { path, version: Some(INCARNATE) }, For::Incarnation(seen));
        }
        if !self.bumped.is_empty() && !core.own.is_prepared() {
            for path in core.names.roots().filter(|path| !core.directories.knows(path)) {
                self.ancestors.push(path.to_owned());
            }
            for path in std::mem::take(&mut self.ancestors) {
                let op = Op::Create { path: path.clone(), data: Bytes::new(), mode: CreateMode::Persistent };
                self.push(op, For::Ancestor(path));
            }
            self.makes(core);
        }
        for slot in relied.union(&self.bumped).copied().collect::<Vec<_>>() {
            let (path, version) =
                (core.names.slot_node(slot), self.epochs[slot].filter(|_| relied.contains(&slot)));
            let op = match self.bumped.contains(&slot) {
                true => Op::Set { path, data: Bytes::from_static(OWNED), version },
                false => Op::Check { path, version },
            };
            self.push(op, For::Slot(slot));
        }
        self.ops.extend(known.into_iter().map(|op| (op, For::Known)));
        Ok(())
    }

    /// Makes the store's own nodes.
    fn makes(&mut self, core: &Core) {
        let (names, incarnation, data) = (&core.names, never_before(), Bytes::from_static(OWNED));
        let slots = (0..SLOTS).map(|slot| names.slot_node(slot));
        let last = names.incarnation(incarnation);
        for path in names.areas().into_iter().chain(slots).chain([last.clone()]) {
            let (data, mode) = (data.clone(), CreateMode::Persistent);
            self.push(Op::Create { path, data, mode }, For::Own);
        }
        for _ in 0..INCARNATE {
            self.push(Op::Set { path: last.clone(), data: data.clone(), version: None }, For::Own);
        }
        self.incarnation = Some(incarnation);
    }

    fn writes(&mut self, request: &Request<'_>, subjects: &[Subject]) {
        // Children are deleted before their parents and created after them: paths sort in that
        // order.
        let (mut gone, mut created, mut rest) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (write, act) in request.writes.iter().zip(&self.acts) {
            let Some(subject) = subjects.iter().find(|subject| subject.key == *write.key()) else { continue };
            let (path, node) = (&subject.path, subject.node());
            let value = match write {
                Write::Put { value, .. } => value.clone(),
                Write::Delete { .. } => Bytes::new(),
            };
            let mark = node.and_then(|node| node.mark);
            let version = node.map(|node| node.version);
            let mode = if is_forever(write) { CreateMode::Persistent } else { CreateMode::Ephemeral };
            let marked = value.is_empty() && is_forever(write);
            if matches!(act, Act::Remove | Act::Replace) {
                let version = version.filter(|_| !self.replaced.contains(path));
                gone.insert(path.clone(), (version, mark.is_some()));
            }
            match act {
                Act::Create | Act::Replace => {
                    created.insert(path.clone(), (value, mode, For::Created(path.clone())));
                    if marked {
                        let mark = (Bytes::from_static(MARK), mode, For::Created(path.clone()));
                        created.insert(Names::mark(path), mark);
                    }
                }
                Act::Set => {
                    rest.push(Op::Set { path: path.clone(), data: value, version });
                    if marked {
                        rest.extend(set_mark(path, mark));
                    }
                }
                Act::Empty => {
                    rest.push(Op::Set { path: path.clone(), data: value, version });
                    rest.extend(clear_mark(path, mark));
                }
                Act::Nothing | Act::Remove => {}
            }
        }
        for path in std::mem::take(&mut self.above) {
            self.ancestors.push(path.clone());
            created.insert(path.clone(), (Bytes::new(), CreateMode::Persistent, For::Ancestor(path)));
        }
        for (path, (version, has_mark)) in gone.into_iter().rev() {
            if has_mark {
                self.push(Op::Delete { path: Names::mark(&path), version: None }, For::Known);
            }
            self.push(Op::Delete { path, version }, For::Known);
        }
        self.ops.extend(rest.into_iter().map(|op| (op, For::Known)));
        for (path, (data, mode, why)) in created {
            self.push(Op::Create { path, data, mode }, why);
        }
    }
}

/// Returns the operation that marks an existing node as a key whose value is empty.
fn set_mark(path: &str, mark: Option<Mark>) -> Option<Op> {
    let (path, data) = (Names::mark(path), Bytes::from_static(MARK));
    match mark {
        None => Some(Op::Create { path, data, mode: CreateMode::Persistent }),
        Some(mark) if !mark.marks => Some(Op::Set { path, data, version: None }),
        Some(_) => None,
    }
}

/// Returns the operation that makes a marked node a directory again.
fn clear_mark(path: &str, mark: Option<Mark>) -> Option<Op> {
    let path = Names::mark(path);
    let mark = mark.filter(|mark| mark.marks)?;
    Some(match mark.has_children {
        true => Op::Set { path, data: Bytes::from_static(OWNED), version: None },
        false => Op::Delete { path, version: None },
    })
}
