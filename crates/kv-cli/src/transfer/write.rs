//! Writes what differs, many keys at a time.

use super::{
    compare::Difference,
    files::{Done, FolderWriter},
    plan::Plan,
    side::Place,
};
use crate::{
    exit::{Exit, Failure, Run},
    out::{Acts, note},
};
use kv_core::{Bytes, Error, ErrorKind, Key, Kv, Version};
use std::{collections::BTreeMap, mem};
use tokio::task::JoinSet;

/// The writes that are under way at a time.
const AT_A_TIME: usize = 64;
/// The conflicts that are told one by one.
const TOLD: u64 = 10;

/// The numbers of keys, by what was done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) created: u64,
    pub(super) replaced: u64,
    pub(super) deleted: u64,
    /// Keys that somebody else wrote between the look at them and the write.
    pub(super) conflicts: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.created += other.created;
        self.replaced += other.replaced;
        self.deleted += other.deleted;
        self.conflicts += other.conflicts;
    }
}

/// The values that keys are to have; `None` for a key that is to be gone.
pub(super) type Wanted = BTreeMap<Key, Option<Bytes>>;

/// The consequences of a write that conflicts with what somebody else has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// The key is left as it is, and nothing is deleted: others write there, and whoever runs the
    /// command again goes on with what differs then.
    Leave,
    /// The key is among those that the writer returns, for it is tried again, and other keys are
    /// deleted all the same: nothing tells a second time that they are gone.
    TryAgain,
}

/// The kinds of writes, which are counted apart.
#[derive(Clone, Copy, Debug)]
enum Does {
    Create,
    Replace,
    Delete,
}

/// A write that is under way.
struct Write {
    does: Does,
    key: Key,
    value: Option<Bytes>,
}

/// Writes to a place what differs. Each write is made only if the key is still as it was compared,
/// so that what others write meanwhile is never lost. Deletions wait for the end.
pub(super) struct Writer {
    to: To,
    extra: Vec<(Key, Version)>,
    tally: Tally,
    on_conflict: OnConflict,
    /// The writes that conflicted, if they are to be tried again.
    conflicted: Wanted,
    acts: Acts,
}

/// The outcome of a writer.
pub(super) struct Finished {
    pub(super) tally: Tally,
    /// The commit that was made of it, in a work tree.
    pub(super) commit: Option<String>,
    /// The writes that are to be tried again.
    pub(super) conflicted: Wanted,
}

enum To {
    Store { kv: Kv, running: JoinSet<(Write, Result<(), Error>)> },
    Folder(FolderWriter),
}

impl Writer {
    pub(super) fn new(to: &Place, on_conflict: OnConflict, acts: &Acts) -> Run<Self> {
        let to = match to {
            Place::Store(kv) => To::Store { kv: kv.clone(), running: JoinSet::new() },
            Place::Folder(folder) => To::Folder(FolderWriter::new(folder)),
            Place::Lines(_) => return Err(Failure::usage("the lines of an export are not written to")),
        };
        let (tally, acts) = (Tally::default(), acts.clone());
        Ok(Self { to, extra: Vec::new(), tally, on_conflict, conflicted: Wanted::new(), acts })
    }

    /// Writes a key that is missing or has another value, and notes one that may be deleted.
    ///
    /// An error other than a conflict may be that of an earlier write, and is the end: whoever
    /// runs the command again goes on with what differs then.
    pub(super) async fn take(&mut self, difference: Difference) -> Run<()> {
        let (does, key, value, at) = match difference {
            Difference::Missing { key, value } => (Does::Create, key, value, None),
            Difference::Other { key, value, at } => (Does::Replace, key, value, at),
            Difference::Extra { key, at } => {
                self.extra.extend(at.map(|at| (key, at)));
                return Ok(());
            }
        };
        self.make_room(AT_A_TIME - 1).await?;
        let write = Write { does, key, value: Some(value.clone()) };
        match &mut self.to {
            To::Store { kv, running } => {
                let put = kv.put(&write.key, value);
                let put = match at {
                    Some(at) => put.if_version(at),
                    None => put.if_missing(),
                };
                let put = put.into_future();
                running.spawn(async move { (write, put.await.map(drop)) });
            }
            To::Folder(folder) => {
                let done = folder.put(&write.key, &value, at)?;
                self.note(write, done);
            }
        }
        Ok(())
    }

    /// Returns the number of keys that wait to be deleted.
    pub(super) fn deletions(&self) -> u64 {
        self.extra.len() as u64
    }

    async fn delete(&mut self, key: Key, at: Version) -> Run<()> {
        self.make_room(AT_A_TIME - 1).await?;
        let write = Write { does: Does::Delete, key, value: None };
        match &mut self.to {
            To::Store { kv, running } => {
                let delete = kv.delete(&write.key).if_version(at).into_future();
                running.spawn(async move { (write, delete.await.map(drop)) });
            }
            To::Folder(folder) => {
                let done = folder.delete(&write.key, at)?;
                self.note(write, done);
            }
        }
        Ok(())
    }

    /// Counts a write that has ended.
    fn note(&mut self, write: Write, done: Done) {
        if matches!(done, Done::Yes) {
            self.acts.note();
        }
        match (done, write.does) {
            (Done::Yes, Does::Create) => self.tally.created += 1,
            (Done::Yes, Does::Replace) => self.tally.replaced += 1,
            (Done::Yes, Does::Delete) => self.tally.deleted += 1,
            (Done::Conflict(why), _) => {
                self.tally.conflicts += 1;
                let then = match self.on_conflict {
                    OnConflict::Leave => "left as it is",
                    OnConflict::TryAgain => "it is tried again",
                };
                if self.tally.conflicts <= TOLD {
                    note(&format!("{then}: {why}"));
                }
                if self.on_conflict == OnConflict::TryAgain {
                    self.conflicted.insert(write.key, write.value);
                }
            }
        }
    }

    /// Waits until no more writes than this are under way.
    async fn make_room(&mut self, most: usize) -> Run<()> {
        loop {
            let To::Store { running, .. } = &mut self.to else { return Ok(()) };
            if running.len() <= most {
                return Ok(());
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            let (write, answer) = ended.map_err(|e| Failure::here(format!("a write was broken off: {e}")))?;
            match answer {
                Ok(()) => self.note(write, Done::Yes),
                Err(e) if e.is_conflict() => self.note(write, Done::Conflict(e.to_string())),
                Err(e) => return Err(self.worst(e).await.into()),
            }
        }
    }

    /// Waits for what is under way, so that nothing is written behind an error, and returns the
    /// error that counts: one that leaves open what happened, if there is one.
    async fn worst(&mut self, mut worst: Error) -> Error {
        let To::Store { running, .. } = &mut self.to else { return worst };
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok((_, Ok(()))) => self.acts.note(),
                Ok((_, Err(e))) if e.kind() == ErrorKind::OutcomeUnknown => worst = e,
                _ => {}
            }
        }
        worst
    }

    /// Waits for what is under way, after an error, and deletes nothing. What was written into a
    /// work tree is committed, so that whoever runs the command again can go on.
    pub(super) async fn abandon(mut self) {
        if let Err(Failure::Store(e)) = self.make_room(0).await {
            note(&e.to_string());
        }
        if let To::Folder(folder) = self.to
            && let Err(failure) = folder.finish(false)
            && let Some((_, why)) = failure.words()
        {
            note(&why);
        }
    }

    /// Waits for all writes so far, and returns those that are to be tried again.
    pub(super) async fn settle(&mut self) -> Run<Wanted> {
        self.make_room(0).await?;
        Ok(mem::take(&mut self.conflicted))
    }

    /// Waits for all writes, and then deletes what is only in the place that is written, if that is
    /// planned: not after an error, beside a conflict only if that one is tried again, and not if
    /// there are more than so many of them.
    pub(super) async fn finish(mut self, plan: &Plan) -> Run<Finished> {
        if let Err(failure) = self.end(plan).await {
            self.abandon().await;
            return Err(failure);
        }
        let commit = match self.to {
            To::Store { .. } => None,
            To::Folder(folder) => folder.finish(true)?,
        };
        Ok(Finished { tally: self.tally, commit, conflicted: self.conflicted })
    }

    async fn end(&mut self, plan: &Plan) -> Run<()> {
        self.make_room(0).await?;
        if !plan.deletes || self.extra.is_empty() {
            return Ok(());
        }
        let extra = mem::take(&mut self.extra);
        if self.tally.conflicts > 0 && self.on_conflict == OnConflict::Leave {
            note(&format!("{} keys were not deleted, since others are writing here", extra.len()));
            return Ok(());
        }
        if let Some(most) = plan.max_delete.filter(|most| extra.len() > *most) {
            let many = extra.len();
            let why = format!("{many} keys would be deleted, and --max-delete is {most}; none was deleted");
            return Err(Failure::Found(Exit::FAILED, why));
        }
        for (key, at) in extra {
            self.delete(key, at).await?;
        }
        self.make_room(0).await
    }
}
