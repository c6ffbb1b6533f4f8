//! Writes, and what they depend on, in one request.
//!
//! The first try relies on what is remembered of the keys. The server checks it in the same step as it writes; what it
//! refuses is read anew, and tried again until the deadline or until a condition is seen to be false.

use crate::{
    client::{Backoff, Does, Via, before},
    error::{Answer, Problem, Said},
    names::{Names, SLOTS, slot},
    node::{MARK, Mark, Node, OWNED, Seen, version},
    session::Ephemeral,
    store::Inner,
    watch::parent,
};
use kv_core::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use zookeeper_client::{CreateMode, MultiWriteResult};

/// The bytes of a request that a server takes by its defaults.
pub(crate) const REQUEST: usize = 0xf_ffff;
/// Ancestors that are longer than this together are made before what they are made for.
const ANCESTORS: usize = 64 << 10;

/// What the keys that are written live by.
#[derive(Clone)]
pub(crate) enum Life {
    Forever,
    Own { session: Arc<Ephemeral>, ttl: Option<Duration> },
}

impl Life {
    fn is_forever(&self) -> bool {
        matches!(self, Self::Forever)
    }
}

fn is_forever(write: &Write) -> bool {
    matches!(write, Write::Delete { .. })
        || matches!(write, Write::Put { options, .. } if options.ttl.is_none() && options.lease.is_none())
}

/// One operation of a request.
#[derive(Clone, Debug)]
enum Op {
    Check { path: String, version: Option<i32> },
    Create { path: String, data: Bytes, mode: CreateMode },
    Set { path: String, data: Bytes, version: Option<i32> },
    Delete { path: String, version: Option<i32> },
}

/// What it is for, which tells what a refusal of it means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum For {
    Slot(usize),
    /// The store's own nodes.
    Own,
    Held(usize),
    Ancestor(String),
    Created(String),
    Known,
}

impl Op {
    fn size(&self) -> usize {
        64 + match self {
            Self::Check { path, .. } | Self::Delete { path, .. } => path.len(),
            Self::Create { path, data, .. } | Self::Set { path, data, .. } => path.len() + data.len(),
        }
    }
}

/// What a write makes of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    Create,
    Set,
    /// Its node is deleted and created anew.
    Replace,
    Remove,
    /// Its node stays, as a directory.
    Empty,
}

/// A key, and what is known of it.
struct Subject {
    key: Key,
    path: String,
    /// `None` where it is taken to be missing without a look.
    seen: Option<Seen>,
}

impl Subject {
    fn node(&self) -> Option<Node> {
        self.seen.and_then(|seen| seen.node)
    }
}

/// What cannot be decided without a look.
struct Look;

pub(crate) struct Request<'a> {
    pub(crate) conditions: &'a [Condition],
    pub(crate) writes: &'a [Write],
    pub(crate) life: Life,
    pub(crate) deadline: Deadline,
}

/// What became of it: for each write whether its key was there, and its version.
pub(crate) enum Done {
    Committed { at: Version, were: Vec<bool> },
    Refused(usize),
}

pub(crate) async fn run(inner: &Inner, request: &Request<'_>) -> Result<Done> {
    let deadline = before(request.deadline);
    let mut subjects = subjects(inner, request);
    let mut fresh = !request.writes.iter().all(|write| {
        // What is to be made may be taken to be missing: the server says if it is not.
        matches!(write, Write::Put { .. })
            || subjects.iter().any(|s| s.key == *write.key() && s.seen.is_some())
    });
    fresh |= request.conditions.iter().any(|condition| match condition {
        Condition::Version(key, _) | Condition::Exists(key) => {
            !subjects.iter().any(|s| s.key == *key && s.seen.is_some())
        }
        Condition::Missing(key) => {
            !subjects.iter().any(|s| s.key == *key && s.seen.is_some())
                && !request.writes.iter().any(|write| write.key() == key)
        }
        Condition::Held(_) => false,
    });
    let (mut backoff, mut tries, mut unheld) = (Backoff::default(), 0, BTreeSet::new());
    loop {
        if fresh {
            let keys: Vec<_> = subjects.iter().map(|subject| &subject.key).collect();
            let found = inner.look(&keys, &ReadOptions::default().deadline(deadline)).await?;
            for (subject, found) in subjects.iter_mut().zip(found) {
                subject.seen = Some(found.seen);
            }
        }
        if let Some(failed) = first_false(request.conditions, &subjects, &unheld) {
            if fresh {
                return Ok(Done::Refused(failed));
            }
            fresh = true;
            continue;
        }
        let plan = match Plan::new(inner, request, &subjects, fresh) {
            Ok(Ok(plan)) => plan,
            Ok(Err(Look)) if !fresh => {
                fresh = true;
                continue;
            }
            Ok(Err(Look)) => {
                let why =
                    "a key with children has no TTL and no lease on ZooKeeper, and one with them no children";
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            Err(e) => return Err(e),
        };
        let answer = match commit(inner, request, &plan, deadline).await? {
            Ok(at) => {
                let were = plan.were.clone();
                settle(inner, request, &subjects, plan, &at, deadline).await;
                return Ok(Done::Committed { at: version(at.zxid), were });
            }
            Err(answer) => answer,
        };
        fresh = again(inner, &plan, answer, &mut unheld, deadline).await?;
        tries += 1;
        if deadline.has_passed() {
            let why = format!(
                "others changed the same keys all the time, {tries} times within {:?}",
                request.deadline.within()
            );
            return Err(Error::new(ErrorKind::Timeout, why));
        }
        if tries > 2 {
            backoff.pause(deadline).await;
        }
    }
}

/// The keys of a request, each once, as they are remembered.
fn subjects(inner: &Inner, request: &Request<'_>) -> Vec<Subject> {
    let conditions = request.conditions.iter().filter_map(|condition| match condition {
        Condition::Version(key, _) | Condition::Exists(key) | Condition::Missing(key) => Some(key),
        Condition::Held(_) => None,
    });
    let keys: BTreeSet<_> = request.writes.iter().map(Write::key).chain(conditions).collect();
    let subject = |key: &Key| Subject {
        key: key.clone(),
        path: inner.names.key(key),
        // That a key is missing is remembered by nobody else.
        seen: inner.known.get(key).filter(|seen| seen.epoch.is_some()),
    };
    keys.into_iter().map(subject).collect()
}

fn first_false(conditions: &[Condition], subjects: &[Subject], unheld: &BTreeSet<usize>) -> Option<usize> {
    let at = |key: &Key| {
        let seen = subjects.iter().find(|subject| subject.key == *key).and_then(|subject| subject.seen);
        seen.and_then(|seen| seen.at())
    };
    conditions.iter().enumerate().position(|(index, condition)| match condition {
        Condition::Version(key, expected) => at(key) != Some(*expected),
        Condition::Exists(key) => at(key).is_none(),
        Condition::Missing(key) => at(key).is_some(),
        Condition::Held(_) => unheld.contains(&index),
    })
}

/// What is sent, and what comes of it.
#[derive(Default)]
struct Plan {
    ops: Vec<(Op, For)>,
    acts: Vec<Act>,
    were: Vec<bool>,
    /// Slots that the request counts up, and what others had when they were checked.
    bumped: BTreeSet<usize>,
    epochs: [Option<i32>; SLOTS],
    ancestors: Vec<String>,
}

impl Plan {
    fn new(
        inner: &Inner,
        request: &Request<'_>,
        subjects: &[Subject],
        fresh: bool,
    ) -> Result<Result<Self, Look>> {
        let mut plan = Self::default();
        let subject = |key: &Key| subjects.iter().find(|subject| subject.key == *key);
        let made: Vec<_> = request.writes.iter().filter(|write| matches!(write, Write::Put { .. })).collect();
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
                // Whether it still has children, one has to look.
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
                (Write::Delete { .. }, _) => Act::Nothing,
            };
            plan.acts.push(act);
            plan.were.push(subject.node().is_some_and(|node| node.is_key));
        }
        plan.checks(inner, request, subjects);
        plan.writes(inner, request, subjects);
        let size: usize = plan.ops.iter().map(|(op, _)| op.size()).sum();
        if size > REQUEST {
            let why = format!(
                "the request is {size} bytes long with all its names, and a server takes {REQUEST}; write less at once"
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        Ok(Ok(plan))
    }

    fn push(&mut self, op: Op, why: For) {
        self.ops.push((op, why));
    }

    /// What must be as it was seen, but for the nodes that are written.
    fn checks(&mut self, inner: &Inner, request: &Request<'_>, subjects: &[Subject]) {
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
        let mut relied = BTreeSet::new();
        let mut known = Vec::new();
        for subject in subjects {
            let act = act(&subject.key);
            if matches!(act, Some(Act::Create | Act::Replace)) {
                self.bumped.insert(slot(&subject.key));
            }
            let Some(seen) = subject.seen else { continue };
            // That a node is missing is told by its creation too.
            if seen.epoch.is_some() && act != Some(Act::Create) {
                relied.insert(slot(&subject.key));
                self.epochs[slot(&subject.key)] = seen.epoch;
            }
            if let Some(node) = seen.node
                && matches!(act, None | Some(Act::Nothing))
            {
                known.push(Op::Check { path: subject.path.clone(), version: Some(node.version) });
            }
        }
        if !self.bumped.is_empty() && !inner.is_prepared.load(Ordering::Relaxed) {
            for path in inner.names.roots().filter(|path| !inner.directories.knows(path)) {
                self.ancestors.push(path.to_owned());
            }
            for path in std::mem::take(&mut self.ancestors) {
                let op = Op::Create { path: path.clone(), data: Bytes::new(), mode: CreateMode::Persistent };
                self.push(op, For::Ancestor(path));
            }
            let own = [inner.names.own(), inner.names.area("epoch"), inner.names.area("lock")];
            for path in own.into_iter().chain((0..SLOTS).map(|slot| inner.names.slot_node(slot))) {
                let data = Bytes::from_static(OWNED);
                self.push(Op::Create { path, data, mode: CreateMode::Persistent }, For::Own);
            }
        }
        for slot in relied.union(&self.bumped).copied().collect::<Vec<_>>() {
            let (path, version) =
                (inner.names.slot_node(slot), self.epochs[slot].filter(|_| relied.contains(&slot)));
            let op = match self.bumped.contains(&slot) {
                true => Op::Set { path, data: Bytes::from_static(OWNED), version },
                false => Op::Check { path, version },
            };
            self.push(op, For::Slot(slot));
        }
        self.ops.extend(known.into_iter().map(|op| (op, For::Known)));
    }

    fn writes(&mut self, inner: &Inner, request: &Request<'_>, subjects: &[Subject]) {
        // Children go before their parents, and come behind them: paths are in that order.
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
        let mut ancestors = BTreeSet::new();
        for path in created.keys() {
            let missing = |path: &&str| !inner.directories.knows(path) && !created.contains_key(*path);
            let is_there = |path: &&str| subjects.iter().any(|s| s.path == **path && s.node().is_some());
            ancestors.extend(
                inner.names.ancestors(path).filter(missing).filter(|p| !is_there(p)).map(str::to_owned),
            );
        }
        for path in ancestors {
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

/// Marks a node that is there as a key whose value is empty.
fn set_mark(path: &str, mark: Option<Mark>) -> Option<Op> {
    let (path, data) = (Names::mark(path), Bytes::from_static(MARK));
    match mark {
        None => Some(Op::Create { path, data, mode: CreateMode::Persistent }),
        Some(mark) if !mark.marks => Some(Op::Set { path, data, version: None }),
        Some(_) => None,
    }
}

fn clear_mark(path: &str, mark: Option<Mark>) -> Option<Op> {
    let path = Names::mark(path);
    let mark = mark.filter(|mark| mark.marks)?;
    Some(match mark.has_children {
        true => Op::Set { path, data: Bytes::from_static(OWNED), version: None },
        false => Op::Delete { path, version: None },
    })
}

/// What a request that was done tells.
struct Stamp {
    zxid: i64,
    epochs: [Option<i32>; SLOTS],
}

async fn commit(
    inner: &Inner,
    request: &Request<'_>,
    plan: &Plan,
    deadline: Deadline,
) -> Result<Result<Stamp, Answer>> {
    let long: usize = plan.ancestors.iter().map(String::len).sum();
    if long > ANCESTORS {
        make(inner, &plan.ancestors, deadline).await?;
        return Ok(Err(Answer { said: Said::NodeExists, at: usize::MAX }));
    }
    if plan.ops.is_empty() {
        return Ok(Ok(Stamp { zxid: 0, epochs: [None; SLOTS] }));
    }
    let via = match &request.life {
        Life::Own { session, .. } => Via::Own(session),
        Life::Forever => Via::Any(&inner.client),
    };
    let answer = send(inner, via, Does::Write, deadline, plan.ops.iter().map(|(op, _)| op)).await?;
    Ok(answer.map(|results| {
        let mut stamp = Stamp { zxid: 0, epochs: plan.epochs };
        for (result, (_, why)) in results.iter().zip(&plan.ops) {
            let (MultiWriteResult::SetData { stat } | MultiWriteResult::Create { stat, .. }) = result else {
                continue;
            };
            // Some servers answer creations without their stat; all of one request happen at one zxid.
            stamp.zxid = stamp.zxid.max(stat.mzxid);
            if let For::Slot(slot) = why {
                stamp.epochs[*slot] = Some(stat.version);
            }
        }
        stamp
    }))
}

async fn send<'a>(
    inner: &Inner,
    via: Via<'_>,
    does: Does,
    deadline: Deadline,
    ops: impl Iterator<Item = &'a Op> + Clone + Send + Sync,
) -> Result<Result<Vec<MultiWriteResult>, Answer>> {
    let options = &inner.client.options;
    via.call(does, deadline, |linked| {
        let ops = ops.clone();
        async move {
            let mut writer = linked.session.new_multi_writer();
            for op in ops {
                match op {
                    Op::Check { path, version } => writer.add_check_version(path, version.unwrap_or(-1))?,
                    Op::Create { path, data, mode } => {
                        writer.add_create(path, data, &options.create(*mode))?
                    }
                    Op::Set { path, data, version } => writer.add_set_data(path, data, *version)?,
                    Op::Delete { path, version } => writer.add_delete(path, *version)?,
                }
            }
            let done = writer.commit();
            Ok::<_, Problem>(done.await?)
        }
    })
    .await
}

/// Makes directories one by one, whoever makes them too.
pub(crate) async fn make(inner: &Inner, paths: &[String], deadline: Deadline) -> Result<()> {
    for path in paths {
        let op = Op::Create { path: path.clone(), data: Bytes::new(), mode: CreateMode::Persistent };
        match send(inner, Via::Any(&inner.client), Does::Repeatable, deadline, std::iter::once(&op)).await? {
            Ok(_) | Err(Answer { said: Said::NodeExists, .. }) => inner.directories.are([path.as_str()]),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Makes what the store keeps for itself, and the nodes above it, whoever makes them too.
pub(crate) async fn prepare(inner: &Inner, deadline: Deadline) -> Result<()> {
    let roots: Vec<_> = inner.names.roots().map(str::to_owned).collect();
    make(inner, &roots, deadline).await?;
    let own = [inner.names.own(), inner.names.area("epoch"), inner.names.area("lock")];
    for path in own.into_iter().chain((0..SLOTS).map(|slot| inner.names.slot_node(slot))) {
        let op = Op::Create { path, data: Bytes::from_static(OWNED), mode: CreateMode::Persistent };
        // Whoever made it, it is there.
        let _ =
            send(inner, Via::Any(&inner.client), Does::Repeatable, deadline, std::iter::once(&op)).await?;
    }
    inner.is_prepared.store(true, Ordering::Relaxed);
    Ok(())
}

/// What to do about a refusal: whether the keys must be looked at again.
async fn again(
    inner: &Inner,
    plan: &Plan,
    answer: Answer,
    unheld: &mut BTreeSet<usize>,
    deadline: Deadline,
) -> Result<bool> {
    let Some((_, why)) = plan.ops.get(answer.at) else { return Ok(false) };
    match (why, answer.said) {
        (_, Said::NoChildrenForEphemerals) => {
            Err(crate::error::failed(zookeeper_client::Error::NoChildrenForEphemerals).1)
        }
        (For::Held(index), _) => {
            unheld.insert(*index);
            Ok(true)
        }
        // Some of the store's own nodes are there, others are not.
        (For::Slot(_), Said::NoNode) | (For::Own, Said::NodeExists) => {
            prepare(inner, deadline).await?;
            Ok(false)
        }
        (For::Ancestor(_), Said::NodeExists) => {
            learn(inner, plan, deadline).await?;
            Ok(false)
        }
        (For::Created(path) | For::Ancestor(path), Said::NoNode) => {
            inner
                .names
                .ancestors(path)
                .chain(inner.names.roots())
                .for_each(|path| inner.directories.forget(path));
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Which of the directories that were taken to be missing are there.
async fn learn(inner: &Inner, plan: &Plan, deadline: Deadline) -> Result<()> {
    let paths: Vec<_> = plan
        .ops
        .iter()
        .filter_map(|(_, why)| match why {
            For::Ancestor(path) => Some(path.as_str()),
            _ => None,
        })
        .collect();
    let there = Via::Any(&inner.client)
        .call(Does::Read, deadline, |linked| {
            let paths = &paths;
            async move {
                let asked: Vec<_> = paths.iter().map(|path| linked.session.check_stat(path)).collect();
                let mut there = Vec::with_capacity(asked.len());
                for answer in asked {
                    there.push(answer.await?.is_some());
                }
                Ok::<_, Problem>(there)
            }
        })
        .await?;
    let there = there.unwrap_or_default();
    inner.directories.are(paths.iter().zip(there).filter(|(_, there)| *there).map(|(path, _)| *path));
    Ok(())
}

/// Remembers what was written, and clears directories that lost their last key.
async fn settle(
    inner: &Inner,
    request: &Request<'_>,
    subjects: &[Subject],
    plan: Plan,
    stamp: &Stamp,
    deadline: Deadline,
) {
    inner.directories.are(plan.ancestors.iter().map(String::as_str));
    if !plan.bumped.is_empty() {
        inner.is_prepared.store(true, Ordering::Relaxed);
    }
    let mut emptied = BTreeSet::new();
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
                    mzxid: stamp.zxid,
                    czxid: stamp.zxid,
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
                    mzxid: stamp.zxid,
                    is_key: true,
                    mark,
                    ..node
                })
            }
            (Act::Remove, _) => {
                inner.directories.forget(&subject.path);
                emptied.insert(parent(&subject.path).to_owned());
                None
            }
            (Act::Empty, _) => {
                // Its last child may have gone meanwhile.
                emptied.insert(subject.path.clone());
                inner.known.forget(&subject.key);
                continue;
            }
            _ => continue,
        };
        match stamp.epochs[slot(&subject.key)] {
            Some(epoch) => inner.known.set(&subject.key, Seen { node, epoch: Some(epoch) }),
            None => inner.known.forget(&subject.key),
        }
    }
    for path in emptied.iter().rev() {
        clear(inner, path, deadline).await;
    }
}

/// Deletes a directory that holds nothing any more, and those above it. Nothing is lost where it fails: a directory is
/// nothing that anyone sees.
pub(crate) async fn clear(inner: &Inner, path: &str, deadline: Deadline) {
    let mut path = path;
    while path.len() > inner.names.root().len() && path.starts_with(inner.names.root()) {
        let Some(crate::names::Named::Key(key)) = inner.names.parse(path) else { return };
        // What another has just put there keeps the server from deleting it.
        let read = ReadOptions::default().consistency(Consistency::Stale).deadline(deadline);
        let Ok(found) = inner.look_one(&key, &read).await else { return };
        let (Some(node), Some(epoch)) = (found.seen.node, found.seen.epoch) else { return };
        if node.is_key || node.children > 0 || node.mark.is_some() {
            return;
        }
        inner.directories.forget(path);
        let ops = [
            Op::Check { path: inner.names.slot_node(slot(&key)), version: Some(epoch) },
            Op::Delete { path: path.to_owned(), version: Some(node.version) },
        ];
        match send(inner, Via::Any(&inner.client), Does::Repeatable, deadline, ops.iter()).await {
            Ok(Ok(_)) => path = parent(path),
            // Another creation counted up the slot; this directory may still be empty.
            Ok(Err(Answer { said: Said::BadVersion, at: 0 })) if !deadline.has_passed() => {}
            _ => return,
        }
    }
}

pub(crate) async fn put(
    inner: &Inner,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let life = inner.life(options, options.deadline).await?;
    let ttl = match &life {
        Life::Own { ttl, .. } => *ttl,
        Life::Forever => None,
    };
    if expect == Expect::Anything && life.is_forever() && !value.is_empty() {
        let is_missing = inner.known.get(key).is_some_and(|seen| seen.node.is_none());
        if !is_missing && let Some(at) = replace(inner, key, &value, options.deadline).await? {
            return Ok(Written::new(at, None));
        }
    }
    let request = Request {
        conditions: &condition(key, expect),
        writes: &[Write::Put { key: key.clone(), value, options: options.clone() }],
        life,
        deadline: options.deadline,
    };
    match run(inner, &request).await? {
        Done::Committed { at, .. } => Ok(Written::new(at, ttl)),
        Done::Refused(_) => Err(refused(inner, key, expect)),
    }
}

fn condition(key: &Key, expect: Expect) -> Vec<Condition> {
    match expect {
        Expect::Anything => vec![],
        Expect::Missing => vec![Condition::Missing(key.clone())],
        Expect::Version(at) => vec![Condition::Version(key.clone(), at)],
    }
}

fn refused(inner: &Inner, key: &Key, expect: Expect) -> Error {
    // As it was found a moment ago.
    let found = inner.known.get(key).and_then(|seen| seen.at());
    let other = || Error::new(ErrorKind::KeyModified, "another client wrote it meanwhile");
    match (expect, expect.check(found)) {
        (_, Err(e)) => e,
        (Expect::Missing, Ok(())) => Error::new(ErrorKind::KeyExists, "expected no key, found one"),
        _ => other(),
    }
}

/// Writes a node that is there, whatever it holds; its version, or `None` when it is not there.
async fn replace(inner: &Inner, key: &Key, value: &Bytes, deadline: Deadline) -> Result<Option<Version>> {
    let path = &inner.names.key(key);
    let answer = Via::Any(&inner.client)
        .call(Does::Write, deadline, |linked| async move {
            let done = linked.session.set_data(path, value, None);
            Ok::<_, Problem>(done.await?)
        })
        .await?;
    let Ok(stat) = answer else {
        inner.known.forget(key);
        return Ok(None);
    };
    let at = version(stat.mzxid);
    let before = inner.known.get(key).filter(|seen| seen.node.is_some_and(|node| node.czxid == stat.czxid));
    let epoch = before.and_then(|seen| seen.epoch);
    let mark = before.and_then(|seen| seen.node).and_then(|node| node.mark);
    // Nothing tells whether a child is a mark.
    if before.is_some() || stat.num_children == 0 {
        inner.known.set(key, Seen { node: Some(Node::new(false, &stat, mark)), epoch });
    } else {
        inner.known.forget(key);
    }
    if stat.ephemeral_owner == 0 {
        return Ok(Some(at));
    }
    // It had a TTL, and would go with its session: it is made anew, unless another client wrote it since.
    let request = Request {
        conditions: &[Condition::Version(key.clone(), at)],
        writes: &[Write::Put { key: key.clone(), value: value.clone(), options: PutOptions::default() }],
        life: Life::Forever,
        deadline,
    };
    match run(inner, &request).await {
        Ok(Done::Committed { at, .. }) => Ok(Some(at)),
        // It ended in between; a put makes it anew.
        Ok(Done::Refused(_))
            if inner.look_one(key, &ReadOptions::default().deadline(deadline)).await?.seen.at().is_none() =>
        {
            Ok(None)
        }
        Ok(Done::Refused(_)) => Ok(Some(at)),
        Err(e) => Err(crate::error::unknown(e)),
    }
}

pub(crate) async fn delete(inner: &Inner, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let request = Request {
        conditions: &condition(key, expect),
        writes: &[Write::Delete { key: key.clone() }],
        life: Life::Forever,
        deadline: options.deadline,
    };
    match run(inner, &request).await? {
        Done::Committed { were, .. } => Ok(were.first().copied().unwrap_or(false)),
        Done::Refused(_) => Err(refused(inner, key, expect)),
    }
}

pub(crate) async fn transact(
    inner: &Inner,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Outcome> {
    let Transaction { conditions, writes, .. } = transaction;
    let mut lives = writes.iter().filter(|write| !is_forever(write)).filter_map(|write| match write {
        Write::Put { options, .. } => Some(options),
        Write::Delete { .. } => None,
    });
    let first = lives.next();
    if lives.any(|other| first.is_some_and(|first| (first.ttl, &first.lease) != (other.ttl, &other.lease))) {
        let why = "on ZooKeeper the keys with a TTL or a lease that one transaction puts have the same one: one session owns \
                   what a request creates";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let life = match first {
        Some(put) => inner.life(put, options.deadline).await?,
        None => Life::Forever,
    };
    let ttl = match &life {
        Life::Own { ttl, .. } => *ttl,
        Life::Forever => None,
    };
    let request = Request { conditions: &conditions, writes: &writes, life, deadline: options.deadline };
    Ok(match run(inner, &request).await? {
        Done::Refused(condition) => Outcome::Refused { condition },
        Done::Committed { at, .. } => {
            let written = |write: &Write| {
                let ttl = ttl.filter(|_| !is_forever(write));
                matches!(write, Write::Put { .. }).then(|| Written::new(at, ttl))
            };
            Outcome::Committed(writes.iter().map(written).collect())
        }
    })
}
