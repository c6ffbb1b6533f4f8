//! Writes what differs, many keys at a time.

use super::compare::Difference;
use crate::{
    exit::{Exit, Failure, Run},
    out::note,
};
use kv_core::{Delete, Error, ErrorKind, Key, Kv, Put, Version};
use tokio::task::JoinSet;

/// The writes that are under way at a time.
const AT_A_TIME: usize = 64;
/// The conflicts that are told one by one.
const TOLD: u64 = 10;

/// How many keys were treated how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) created: u64,
    pub(super) replaced: u64,
    pub(super) deleted: u64,
    /// Keys that somebody else wrote between the look at them and the write.
    pub(super) conflicts: u64,
}

/// What a write does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Create,
    Replace,
    Delete,
}

/// Writes to a store what differs. Each write is made only if the key is still as it was compared,
/// so that what others write meanwhile is never lost. Deletions wait for the end.
pub(super) struct Writer {
    to: Kv,
    running: JoinSet<(Does, Result<(), Error>)>,
    extra: Vec<(Key, Version)>,
    tally: Tally,
}

impl Writer {
    pub(super) fn new(to: Kv) -> Self {
        Self { to, running: JoinSet::new(), extra: Vec::new(), tally: Tally::default() }
    }

    /// Writes a key that is missing or has another value, and notes one that may be deleted.
    ///
    /// An error other than a conflict may be that of an earlier write, and is the end: whoever
    /// runs the command again goes on with what differs then.
    pub(super) async fn take(&mut self, difference: Difference) -> Run<()> {
        match difference {
            Difference::Missing { key, value } => {
                let put = self.to.put(key, value).if_missing();
                self.begin(Does::Create, put).await
            }
            Difference::Other { key, value, at } => {
                let put = self.to.put(key, value);
                let put = if let Some(at) = at { put.if_version(at) } else { put };
                self.begin(Does::Replace, put).await
            }
            Difference::Extra { key, at } => {
                self.extra.extend(at.map(|at| (key, at)));
                Ok(())
            }
        }
    }

    async fn begin(&mut self, does: Does, put: Put) -> Run<()> {
        self.make_room(AT_A_TIME - 1).await?;
        let put = put.into_future();
        self.running.spawn(async move { (does, put.await.map(drop)) });
        Ok(())
    }

    async fn begin_deletion(&mut self, delete: Delete) -> Run<()> {
        self.make_room(AT_A_TIME - 1).await?;
        let delete = delete.into_future();
        self.running.spawn(async move { (Does::Delete, delete.await.map(drop)) });
        Ok(())
    }

    /// Waits until no more writes than this are under way.
    async fn make_room(&mut self, most: usize) -> Run<()> {
        while self.running.len() > most {
            let Some(ended) = self.running.join_next().await else { return Ok(()) };
            let (does, answer) = ended.map_err(|e| Failure::here(format!("a write was broken off: {e}")))?;
            match answer {
                Ok(()) => match does {
                    Does::Create => self.tally.created += 1,
                    Does::Replace => self.tally.replaced += 1,
                    Does::Delete => self.tally.deleted += 1,
                },
                Err(e) if e.is_conflict() => {
                    self.tally.conflicts += 1;
                    if self.tally.conflicts <= TOLD {
                        note(&format!("left as it is: {e}"));
                    }
                }
                Err(e) => return Err(self.worst(e).await.into()),
            }
        }
        Ok(())
    }

    /// Waits for what is under way, so that nothing is written behind an error, and returns the
    /// error that counts: one that leaves open what happened, if there is one.
    async fn worst(&mut self, mut worst: Error) -> Error {
        while let Some(ended) = self.running.join_next().await {
            if let Ok((_, Err(e))) = ended
                && e.kind() == ErrorKind::OutcomeUnknown
            {
                worst = e;
            }
        }
        worst
    }

    /// Waits for what is under way, after an error that came from elsewhere, and deletes nothing.
    pub(super) async fn abandon(mut self) {
        if let Err(Failure::Store(e)) = self.make_room(0).await {
            note(&e.to_string());
        }
    }

    /// Waits for all writes, and then deletes what is only in the store that is written, if that is
    /// wanted: not after an error or a conflict, and not if there are more than so many of them.
    pub(super) async fn finish(mut self, delete: bool, most: Option<usize>) -> Run<Tally> {
        self.make_room(0).await?;
        if !delete || self.extra.is_empty() {
            return Ok(self.tally);
        }
        let extra = std::mem::take(&mut self.extra);
        if self.tally.conflicts > 0 {
            note(&format!("{} keys were not deleted, since others are writing here", extra.len()));
            return Ok(self.tally);
        }
        if let Some(most) = most.filter(|most| extra.len() > *most) {
            let many = extra.len();
            let why = format!("{many} keys would be deleted, and --max-delete is {most}; none was deleted");
            return Err(Failure::Found(Exit::FAILED, why));
        }
        for (key, at) in extra {
            let delete = self.to.delete(key).if_version(at);
            self.begin_deletion(delete).await?;
        }
        self.make_room(0).await?;
        Ok(self.tally)
    }
}
