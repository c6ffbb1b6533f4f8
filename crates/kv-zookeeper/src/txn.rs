//! Writes, and what they depend on, in one request.
//!
//! The first try relies on what is remembered of the keys. The server checks it in the same step as it writes; what it
//! refuses is read anew, and tried again until the deadline or until a condition is seen to be false.

use crate::{
    client::{Via, early},
    connect::Attempts,
    directory::{make, prepare},
    error::{Answer, Problem, Said, failed},
    names::SLOTS,
    node::version,
    plan::{Act, For, Look, Op, Plan, Subject},
    session::Ephemeral,
    settle::settle,
    store::Inner,
};
use kv_core::{backend::retry::RetrySafety, *};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use zookeeper_client::{Error as ClientError, MultiWriteResult};

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
    let deadline = early(request.deadline);
    let mut subjects = subjects(inner, request);
    let is_seen = |key: &Key| subjects.iter().any(|s| s.key == *key && s.seen.is_some());
    // What is to be made may be taken to be missing: the server says if it is not.
    let is_known = request
        .writes
        .iter()
        .all(|write| matches!(write, Write::Put { .. }) || is_seen(write.key()))
        && request.conditions.iter().all(|condition| match condition {
            Condition::Version(key, _) | Condition::Exists(key) => is_seen(key),
            Condition::Missing(key) => is_seen(key) || request.writes.iter().any(|write| write.key() == key),
            Condition::Held(_) => true,
        });
    // What a lagging member tells is as good as what is remembered.
    let mut look = (!is_known).then_some(Consistency::Stale);
    let (mut attempts, mut tries, mut unheld) = (Attempts::default(), 0, BTreeSet::new());
    loop {
        let fresh = look == Some(Consistency::Linearizable);
        if let Some(consistency) = look {
            let keys: Vec<_> = subjects.iter().map(|subject| &subject.key).collect();
            let options = ReadOptions::default().consistency(consistency).deadline(deadline);
            let found = inner.look(&keys, &options).await?;
            if !fresh && found.iter().any(|found| found.seen.epoch.is_none()) {
                // The server has nothing to check it by.
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
        let plan = match Plan::new(inner, request, &subjects, fresh) {
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
            // That it was missing was true when one looked.
            return Ok(Done::Committed { at: Version::new(0, 0), were: plan.were });
        }
        let answer = match commit(inner, request, &plan, &subjects, deadline).await? {
            Ok(at) => {
                let were = plan.were.clone();
                settle(inner, request, &subjects, plan, &at, deadline).await;
                return Ok(Done::Committed { at: at.version, were });
            }
            Err(answer) => answer,
        };
        let has_changed = again(inner, &plan, answer, &mut unheld, deadline).await?;
        look = has_changed.then_some(Consistency::Linearizable);
        tries += 1;
        if deadline.has_passed() {
            let why = format!(
                "others changed the same keys all the time, {tries} times within {:?}",
                request.deadline.within()
            );
            return Err(Error::new(ErrorKind::Timeout, why));
        }
        if tries > 2 {
            attempts.pause(deadline).await;
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

/// What a request that was done tells.
pub(crate) struct Stamp {
    pub(crate) version: Version,
    pub(crate) epochs: [Option<i32>; SLOTS],
    pub(crate) generation: u64,
}

async fn commit(
    inner: &Inner,
    request: &Request<'_>,
    plan: &Plan,
    subjects: &[Subject],
    deadline: Deadline,
) -> Result<Result<Stamp, Answer>> {
    let long: usize = plan.ancestors.iter().map(String::len).sum();
    if long > ANCESTORS {
        make(inner, &plan.ancestors, deadline).await?;
        return Ok(Err(Answer { said: Said::NodeExists, at: usize::MAX, is_repeat: false }));
    }
    if plan.ops.is_empty() {
        let (version, generation) = (Version::new(0, 0), inner.known.generation());
        return Ok(Ok(Stamp { version, epochs: [None; SLOTS], generation }));
    }
    let via = match &request.life {
        Life::Own { session, .. } => Via::Own(session),
        Life::Forever => Via::Any(&inner.client),
    };
    let seen_on = subjects.iter().filter_map(|subject| subject.seen).map(|seen| seen.generation).collect();
    let ops = plan.ops.iter().map(|(op, _)| op);
    let answer = send(inner, via, RetrySafety::Write, deadline, ops, &seen_on).await?;
    Ok(answer.map(|(generation, results)| {
        let mut stamp = Stamp { version: Version::new(0, 0), epochs: plan.epochs, generation };
        for (result, (_, why)) in results.iter().zip(&plan.ops) {
            let (MultiWriteResult::SetData { stat } | MultiWriteResult::Create { stat, .. }) = result else {
                continue;
            };
            // Some servers answer creations without their stat; all of one request happen at one zxid.
            stamp.version = stamp.version.max(version(stat));
            if let For::Slot(slot) = why {
                stamp.epochs[*slot] = Some(stat.version);
            }
        }
        stamp
    }))
}

/// Sends it, unless another connection stands than the one on which all was seen that it relies on. Also gives the
/// connection as which what comes of it may be remembered.
pub(crate) async fn send<'a>(
    inner: &Inner,
    via: Via<'_>,
    safety: RetrySafety,
    deadline: Deadline,
    ops: impl Iterator<Item = &'a Op> + Clone + Send + Sync,
    seen_on: &BTreeSet<u64>,
) -> Result<Result<(u64, Vec<MultiWriteResult>), Answer>> {
    let options = &inner.client.options;
    let sent = via.call(safety, deadline, |linked| {
        let ops = ops.clone();
        async move {
            let generation = match via {
                Via::Any(_) => linked.generation,
                Via::Own(_) => inner.known.generation(),
            };
            if seen_on.iter().any(|&on| on != generation) {
                return Ok(None);
            }
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
            Ok::<_, Problem>(Some((generation, done.await?)))
        }
    });
    let has_changed = Answer { said: Said::BadVersion, at: usize::MAX, is_repeat: false };
    Ok(sent.await?.and_then(|sent| sent.ok_or(has_changed)))
}

/// What to do about a refusal: whether the keys must be looked at again.
async fn again(
    inner: &Inner,
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
        .call(RetrySafety::Read, deadline, |linked| {
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
