//! Does writes, and checks what they depend on, in one request.
//!
//! The first attempt relies on what is remembered of the keys. The server checks that in the same
//! step as it writes. If it refuses, the keys are read anew and the request is tried again, until
//! the deadline or until a condition is seen to be false.

use super::{
    directory::make,
    op::{Beside, Sent, send},
    own::prepare,
    plan::{Act, For, Look, Plan},
    request::{Done, Request, Subject, first_false, subjects},
    settle::{Stamp, settle},
};
use crate::{
    client::{
        attempts::{Attempts, early},
        node::version,
        via::Via,
    },
    core::Core,
    error::{Answer, Problem, Said, failed},
    lease::life::Life,
    list::read,
    names::{Named, parent, slot::SLOTS},
};
use kv_core::{
    Condition, Consistency, Error, ErrorKind, Key, Result, Version,
    backend::retry::RetrySafety,
    driver::{Deadline, ReadOptions, Write},
};
use std::collections::BTreeSet;
use zookeeper_client::{Error as ClientError, MultiWriteResult};

/// Ancestors whose paths are longer than this together are made before the request, by requests of
/// their own.
const ANCESTORS: usize = 64 << 10;

/// Does a request: plans it, sends it, and reads the keys anew when the server refuses it.
pub(crate) async fn run(core: &Core, request: &Request<'_>) -> Result<Done> {
    let deadline = early(request.deadline);
    let mut subjects = subjects(core, request);
    let is_seen = |key: &Key| subjects.iter().any(|s| s.key == *key && s.seen.is_some());
    // A key that is put may be taken to be missing: the server refuses if it is not.
    let is_known = request
        .writes
        .iter()
        .all(|write| matches!(write, Write::Put { .. }) || is_seen(write.key()))
        && request.conditions.iter().all(|condition| match condition {
            Condition::Version(key, _) | Condition::Exists(key) => is_seen(key),
            Condition::Missing(key) => is_seen(key) || request.writes.iter().any(|write| write.key() == key),
            Condition::Held(_) => true,
        });
    // The answer of a member that is behind is as good as what is remembered.
    let mut look = (!is_known).then_some(Consistency::Stale);
    let (mut attempts, mut tries, mut unheld) = (Attempts::default(), 0, BTreeSet::new());
    // The connection on which the request was refused, in the order of all writes: whatever is read
    // there is as fresh as behind a barrier.
    let mut refused_on = None;
    loop {
        let fresh = look == Some(Consistency::Linearizable);
        if let Some(consistency) = look {
            let keys: Vec<_> = subjects.iter().map(|subject| &subject.key).collect();
            let options = ReadOptions::default().consistency(consistency).deadline(deadline);
            let found = read::look(core, &keys, &options, refused_on.take()).await?;
            if !fresh && found.iter().any(|found| found.seen.epoch.is_none()) {
                // Without a count of the slot the server has nothing to check the read by.
                look = Some(Consistency::Linearizable);
                continue;
            }
            for (subject, found) in subjects.iter_mut().zip(found) {
                subject.seen = Some(found.seen);
            }
        }
        if let Some(failed) = first_false(request.conditions, &subjects, &unheld) {
            if fresh {
                return Ok(Done::Refused(failed));
            }
            // Where the version is newer than what is remembered, a member may well know it.
            let is_newer = look.is_none() && is_newer(&request.conditions[failed], &subjects);
            look = Some(if is_newer { Consistency::Stale } else { Consistency::Linearizable });
            continue;
        }
        let plan = match Plan::new(core, request, &subjects, fresh) {
            Ok(Ok(plan)) => plan,
            Ok(Err(Look)) if !fresh => {
                look = Some(Consistency::Linearizable);
                continue;
            }
            Ok(Err(Look)) => {
                let why =
                    "a key with children has no TTL and no lease on ZooKeeper, and one with them no children";
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            Err(e) => return Err(e),
        };
        if fresh && request.conditions.is_empty() && plan.acts == [Act::Nothing] {
            // The key was missing when it was read.
            return Ok(Done::Committed { at: Version::new(0, 0), were: plan.were });
        }
        if plan.is_unproved && !request.writes.is_empty() {
            // The server has nothing to check that the keys are as they were read.
            prepare(core, None, deadline).await?;
            look = Some(Consistency::Linearizable);
            continue;
        }
        let beside = beside(core, &plan, &subjects);
        let answer = match commit(core, request, &plan, &subjects, &beside, deadline).await? {
            Ok(stamp) => {
                let (at, were) = (stamp.version, plan.were.clone());
                settle(core, request, &subjects, plan, stamp, deadline).await;
                return Ok(Done::Committed { at, were });
            }
            Err(answer) => answer,
        };
        refused_on = beside.sent_on.get().copied().filter(|_| answer.at != usize::MAX);
        let has_changed = again(core, &plan, answer, &mut unheld, deadline).await?;
        look = has_changed.then_some(Consistency::Linearizable);
        tries += 1;
        if deadline.has_passed() {
            let why = format!(
                "others changed the same keys all the time, {tries} times within {}",
                request.deadline
            );
            return Err(Error::new(ErrorKind::Timeout, why));
        }
        if tries > 2 {
            attempts.pause(deadline).await;
        }
    }
}

/// Returns whether a condition asks for a version that is newer than the one that is known.
fn is_newer(condition: &Condition, subjects: &[Subject]) -> bool {
    let Condition::Version(key, expected) = condition else { return false };
    let seen = subjects.iter().find(|subject| subject.key == *key).and_then(|subject| subject.seen);
    seen.and_then(|seen| seen.at()).is_none_or(|at| at < *expected)
}

/// Returns what belongs to the plan: what it relies on, and the look at the directory that a single
/// deletion may leave empty.
fn beside(core: &Core, plan: &Plan, subjects: &[Subject]) -> Beside {
    let seen_on = subjects.iter().filter_map(|subject| subject.seen).map(|seen| seen.generation).collect();
    let directory = emptied(core, plan, subjects);
    let asks = directory.map(|key| read::asks(core, &[&key])).unwrap_or_default();
    Beside { seen_on, asks, ..Beside::default() }
}

/// Returns the directory of the key that a plan deletes, and nothing else.
fn emptied(core: &Core, plan: &Plan, subjects: &[Subject]) -> Option<Key> {
    let ([Act::Remove], [subject]) = (&*plan.acts, subjects) else { return None };
    match core.names.parse(parent(&subject.path)) {
        Some(Named::Key(key)) => Some(key),
        _ => None,
    }
}

/// Sends the plan, and returns the server's results.
async fn commit(
    core: &Core,
    request: &Request<'_>,
    plan: &Plan,
    subjects: &[Subject],
    beside: &Beside,
    deadline: Deadline,
) -> Result<Result<Stamp, Answer>> {
    let long: usize = plan.ancestors.iter().map(String::len).sum();
    if long > ANCESTORS {
        make(core, &plan.ancestors, deadline).await?;
        return Ok(Err(Answer { said: Said::NodeExists, at: usize::MAX, is_repeat: false }));
    }
    if plan.ops.is_empty() {
        let (version, generation) = (Version::new(0, 0), core.known().generation());
        return Ok(Ok(Stamp { version, epochs: [None; SLOTS], generation, looked: None }));
    }
    let via = match &request.life {
        Life::Own { session, .. } => Via::Own(session),
        Life::Forever => Via::Any(&core.client),
    };
    let ops = plan.ops.iter().map(|(op, _)| op);
    let answer = send(core, via, RetrySafety::Write, deadline, ops, beside).await?;
    Ok(answer.map(|Sent { generation, results, got }| {
        let directory = emptied(core, plan, subjects).filter(|_| !got.is_empty());
        let looked = directory.and_then(|key| {
            let found = read::found(core, &[&key], generation, plan.incarnation, got).pop()?;
            Some((core.names.key(&key), found))
        });
        let mut stamp = Stamp { version: Version::new(0, 0), epochs: plan.epochs, generation, looked };
        for (result, (_, why)) in results.iter().zip(&plan.ops) {
            let (MultiWriteResult::SetData { stat } | MultiWriteResult::Create { stat, .. }) = result else {
                continue;
            };
            // Some servers answer creations without their stat; all of one request happen at one
            // zxid.
            stamp.version = stamp.version.max(version(stat));
            if let For::Slot(slot) = why {
                stamp.epochs[*slot] = Some(stat.version);
            }
        }
        stamp
    }))
}

/// Mends the cause of a refusal, and returns whether the keys must be read anew.
async fn again(
    core: &Core,
    plan: &Plan,
    answer: Answer,
    unheld: &mut BTreeSet<usize>,
    deadline: Deadline,
) -> Result<bool> {
    let Some((_, why)) = plan.ops.get(answer.at) else { return Ok(answer.said == Said::BadVersion) };
    match (why, answer.said) {
        (_, Said::NoChildrenForEphemerals) => Err(failed(ClientError::NoChildrenForEphemerals).error),
        (For::Held(index), _) => {
            unheld.insert(*index);
            Ok(true)
        }
        // The counts were deleted, or copied, and what was seen before proves nothing.
        (For::Incarnation(seen), _) => {
            if core.own.incarnation() == Some(*seen) {
                prepare(core, Some(*seen), deadline).await?;
            }
            Ok(true)
        }
        // Some of the store's own nodes are there, others are not.
        (For::Slot(_), Said::NoNode) | (For::Own, Said::NodeExists) => {
            prepare(core, None, deadline).await?;
            Ok(false)
        }
        (For::Ancestor(_), Said::NodeExists) => {
            learn(core, plan, deadline).await?;
            Ok(false)
        }
        (For::Created(path) | For::Ancestor(path), Said::NoNode) => {
            core.names
                .ancestors(path)
                .chain(core.names.roots())
                .for_each(|path| core.directories.forget(path));
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Learns which of the directories that were taken to be missing exist.
async fn learn(core: &Core, plan: &Plan, deadline: Deadline) -> Result<()> {
    let paths: Vec<_> = plan
        .ops
        .iter()
        .filter_map(|(_, why)| match why {
            For::Ancestor(path) => Some(path.as_str()),
            _ => None,
        })
        .collect();
    let there = Via::Any(&core.client)
        .call(RetrySafety::Read, deadline, |connection| {
            let paths = &paths;
            async move {
                let asked: Vec<_> = paths.iter().map(|path| connection.session.check_stat(path)).collect();
                let mut there = Vec::with_capacity(asked.len());
                for answer in asked {
                    there.push(answer.await?.is_some());
                }
                Ok::<_, Problem>(there)
            }
        })
        .await?;
    let there = there.unwrap_or_default();
    core.directories.are(paths.iter().zip(there).filter(|(_, there)| *there).map(|(path, _)| *path));
    Ok(())
}
