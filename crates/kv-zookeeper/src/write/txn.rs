//! Does writes, and checks what they depend on, in one request.
//!
//! The first attempt relies on what is remembered of the keys. The server checks that in the same
//! step as it writes. If it refuses, the keys are read anew and the request is tried again, until
//! the deadline or until a condition is seen to be false.

use super::{
    directory::{make, prepare},
    op::send,
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
    names::slot::SLOTS,
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
    loop {
        let fresh = look == Some(Consistency::Linearizable);
        if let Some(consistency) = look {
            let keys: Vec<_> = subjects.iter().map(|subject| &subject.key).collect();
            let options = ReadOptions::default().consistency(consistency).deadline(deadline);
            let found = read::look(core, &keys, &options).await?;
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
            look = Some(Consistency::Linearizable);
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
        let answer = match commit(core, request, &plan, &subjects, deadline).await? {
            Ok(at) => {
                let were = plan.were.clone();
                settle(core, request, &subjects, plan, &at, deadline).await;
                return Ok(Done::Committed { at: at.version, were });
            }
            Err(answer) => answer,
        };
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

/// Sends the plan, and returns the server's results.
async fn commit(
    core: &Core,
    request: &Request<'_>,
    plan: &Plan,
    subjects: &[Subject],
    deadline: Deadline,
) -> Result<Result<Stamp, Answer>> {
    let long: usize = plan.ancestors.iter().map(String::len).sum();
    if long > ANCESTORS {
        make(core, &plan.ancestors, deadline).await?;
        return Ok(Err(Answer { said: Said::NodeExists, at: usize::MAX, is_repeat: false }));
    }
    if plan.ops.is_empty() {
        let (version, generation) = (Version::new(0, 0), core.known().generation());
        return Ok(Ok(Stamp { version, epochs: [None; SLOTS], generation }));
    }
    let via = match &request.life {
        Life::Own { session, .. } => Via::Own(session),
        Life::Forever => Via::Any(&core.client),
    };
    let seen_on = subjects.iter().filter_map(|subject| subject.seen).map(|seen| seen.generation).collect();
    let ops = plan.ops.iter().map(|(op, _)| op);
    let answer = send(core, via, RetrySafety::Write, deadline, ops, &seen_on).await?;
    Ok(answer.map(|(generation, results)| {
        let mut stamp = Stamp { version: Version::new(0, 0), epochs: plan.epochs, generation };
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
        // Some of the store's own nodes are there, others are not.
        (For::Slot(_), Said::NoNode) | (For::Own, Said::NodeExists) => {
            prepare(core, deadline).await?;
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
