//! Keeps a place in step with a store, change by change.

use super::{
    compare::{Comparison, Difference},
    kept::{AT_A_TIME as TOGETHER, Kept},
    plan::{Plan, Summary, count, show, summarize},
    side::{Found, Place},
    write::{Finished, OnConflict, Tally, Wanted, Writer},
};
use crate::{
    exit::{Exit, Failure, Run},
    out::{Out, note},
};
use kv_core::{Error, ErrorKind, Kv, Watch, WatchEvent, backend::Backoff};
use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    mem,
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// The changes that are carried over together at most.
const AT_A_TIME: usize = 256;
/// The pause after a failure that passes.
const PAUSE: Duration = Duration::from_secs(1);

/// The keys whose write conflicted with somebody else's, and the moment at which they are tried
/// again: until they are as the store has them, or a newer change of them comes.
struct Conflicts {
    keys: Wanted,
    due: Instant,
    pauses: Backoff,
}

impl Conflicts {
    fn new() -> Self {
        Self { keys: Wanted::new(), due: Instant::now(), pauses: Backoff::default() }
    }

    /// Takes up the conflicts of the writes that were made last.
    fn add(&mut self, conflicted: Wanted) {
        match (self.keys.is_empty(), conflicted.is_empty()) {
            (true, true) => self.pauses.reset(),
            // A pause is not put off by later conflicts, which may come again and again.
            (true, false) => self.due = Instant::now() + self.pauses.delay(),
            _ => {}
        }
        self.keys.extend(conflicted);
    }

    /// Hands on up to `most` keys, those first whose names come first.
    fn hand_on(&mut self, pending: &mut Wanted, most: usize) {
        while pending.len() < most
            && let Some((key, value)) = self.keys.pop_first()
        {
            // What was told since then is newer.
            pending.entry(key).or_insert(value);
        }
    }
}

/// Carries over what differs, and then every change, until `stop` ends; and compares the two in the
/// end. Failures that pass are ridden out, on either side; a write that conflicts is tried again.
pub(crate) async fn follow<F: Future>(
    from: &Kv,
    to: &Place,
    plan: &Plan,
    out: &mut Out,
    stop: impl FnOnce() -> Run<F>,
) -> Run {
    let mut watch = from.watch_tree("").await?;
    let source = Place::Store(from.clone());
    let mut conflicts = Conflicts::new();
    conflicts.add(begin(&mut watch, &source, to, plan, out).await?);
    out.flush()?;
    // In a history each change stands alone.
    let is_history = matches!(to, Place::Folder(folder) if folder.git.is_some());
    let most = if is_history { 1 } else { AT_A_TIME };
    let mut stop = Box::pin(stop()?);
    // What was told and is not carried over yet.
    let (mut pending, mut sum) = (Wanted::new(), Tally::default());
    loop {
        let is_behind = !pending.is_empty();
        tokio::select! {
            biased;
            _ = &mut stop => break,
            event = watch.event(), if pending.len() < most => {
                take(&mut pending, &mut conflicts, event?);
                while pending.len() < most && let Some(event) = at_hand(&mut watch).await {
                    take(&mut pending, &mut conflicts, event?);
                }
            }
            () = sleep_until(conflicts.due), if !conflicts.keys.is_empty() && pending.len() < most => {
                conflicts.hand_on(&mut pending, most);
            }
            () = sleep(PAUSE), if is_behind => {}
        }
        match carry(&pending, &source, to, plan, out).await {
            Ok(done) => {
                sum.add(done.tally);
                pending.clear();
                conflicts.add(done.conflicted);
                out.flush()?;
            }
            // What happened is looked at again before anything is written again.
            Err(Failure::Store(e)) if passes(&e) => note(&format!("it is tried again: {e}")),
            Err(failure) => return Err(failure),
        }
    }
    let mut comparison = Comparison::telling(&source, to);
    let differ = count(&mut comparison, &source, plan).await?;
    let (same, [left_out, _]) = (comparison.same(), comparison.left_out());
    let left_out = &left_out;
    let summary = Summary { tally: sum, same, left_out, differ: Some(differ), commit: None, dry_run: false };
    summarize(&summary, out)?;
    Ok(if differ == 0 { Exit::DONE } else { Exit::NO })
}

/// Makes the place as the store is when the watch is in step with it. The watch alone says what
/// there is: a listing beside it could show a key whose end the watch never tells, because that
/// came before the watch had seen the key. Returns the writes that are to be tried again.
async fn begin(watch: &mut Watch, source: &Place, to: &Place, plan: &Plan, out: &mut Out) -> Run<Wanted> {
    let mut writer = Writer::new(to, OnConflict::TryAgain, out.acts())?;
    let (same, mut again) = match take_all(watch, source, to, plan, &mut writer, out).await {
        Ok(taken) => taken,
        Err(e) => {
            writer.abandon().await;
            return Err(e);
        }
    };
    let Finished { tally, commit, conflicted } = writer.finish(plan).await?;
    again.extend(conflicted);
    let mut comparison = Comparison::telling(source, to);
    let differ = Some(count(&mut comparison, source, plan).await?);
    let [left_out, _] = comparison.left_out();
    let commit = commit.as_deref();
    summarize(&Summary { tally, same, left_out: &left_out, differ, commit, dry_run: false }, out)?;
    Ok(again)
}

/// Hands the writer what the watch tells until it is in step, and then what only the place has.
/// Returns how many keys were the same, and the writes that are to be tried again.
async fn take_all(
    watch: &mut Watch,
    from: &Place,
    to: &Place,
    plan: &Plan,
    writer: &mut Writer,
    out: &mut Out,
) -> Run<(u64, Wanted)> {
    let (mut there, mut pending, mut same, mut again) = (BTreeSet::new(), Wanted::new(), 0, Wanted::new());
    loop {
        let event = watch.event().await?;
        let is_synced = event == WatchEvent::Synced;
        match event {
            WatchEvent::Put(entry) => {
                again.remove(&entry.key);
                there.insert(entry.key.clone());
                pending.insert(entry.key, Some(entry.value));
            }
            WatchEvent::Delete { key, .. } => {
                again.remove(&key);
                there.remove(&key);
                pending.remove(&key);
            }
            WatchEvent::Synced => {}
        }
        if is_synced || pending.len() >= AT_A_TIME {
            same += offer(&pending, from, to, plan, writer, out).await?;
            // A key that changes meanwhile comes again, behind its first write.
            again.extend(writer.settle().await?);
            pending.clear();
        }
        if is_synced {
            break;
        }
    }
    let (mut side, mut kept, mut extra) = (to.side(), Kept::default(), VecDeque::new());
    // Without deletions, what is only there stays.
    let mut is_over = !plan.deletes;
    while !is_over {
        let found = side.next().await?;
        is_over = found.is_none();
        let found = found.filter(|found| !there.contains(&found.key));
        extra.extend(found.map(|Found { key, version, .. }| Difference::Extra { key, at: version }));
        if is_over || extra.len() >= TOGETHER {
            hand(mem::take(&mut extra), from, plan, &mut kept, writer, out).await?;
        }
    }
    kept.tell();
    plan.refuse_empty(there.is_empty(), writer.deletions())?;
    Ok((same, again))
}

fn passes(error: &Error) -> bool {
    error.is_transient() || error.kind() == ErrorKind::OutcomeUnknown
}

fn take(pending: &mut Wanted, conflicts: &mut Conflicts, event: WatchEvent) {
    let (key, value) = match event {
        WatchEvent::Put(entry) => (entry.key, Some(entry.value)),
        WatchEvent::Delete { key, .. } => (key, None),
        WatchEvent::Synced => return,
    };
    conflicts.keys.remove(&key);
    pending.insert(key, value);
}

/// Returns the next event if it is there already.
async fn at_hand(watch: &mut Watch) -> Option<kv_core::Result<WatchEvent>> {
    tokio::select! {
        biased;
        event = watch.event() => Some(event),
        () = std::future::ready(()) => None,
    }
}

/// Carries changes over, in a work tree as a commit.
async fn carry(pending: &Wanted, from: &Place, to: &Place, plan: &Plan, out: &mut Out) -> Run<Finished> {
    let mut writer = Writer::new(to, OnConflict::TryAgain, out.acts())?;
    let offered = offer(pending, from, to, plan, &mut writer, out).await;
    let allowed = match offered {
        Ok(_) => refuse_emptied(from, plan, writer.deletions()).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = allowed {
        writer.abandon().await;
        return Err(failure);
    }
    writer.finish(plan).await
}

/// Refuses deletions where the source has lost all its keys, unless that was wanted. What was told
/// so far may be the first of many deletions, so that the source itself is asked.
async fn refuse_emptied(from: &Place, plan: &Plan, deletions: u64) -> Run<()> {
    if deletions == 0 || plan.may_empty() {
        return Ok(());
    }
    plan.refuse_empty(from.is_empty().await?, deletions)
}

/// Hands the writer what differs of these keys, and returns how many are the same.
async fn offer(
    pending: &Wanted,
    from: &Place,
    to: &Place,
    plan: &Plan,
    writer: &mut Writer,
    out: &mut Out,
) -> Run<u64> {
    let keys: Vec<_> = pending.keys().cloned().collect();
    let found = to.find(&keys).await?;
    let (mut same, mut differences) = (0, VecDeque::new());
    for ((key, value), found) in pending.iter().zip(found) {
        let key = key.clone();
        let difference = match (value.clone(), found) {
            (Some(value), None) => Difference::Missing { key, value },
            (Some(value), Some(found)) if found.value != value => {
                Difference::Other { key, value, at: found.version }
            }
            (None, Some(found)) => Difference::Extra { key, at: found.version },
            _ => {
                same += 1;
                continue;
            }
        };
        differences.push_back(difference);
    }
    let mut kept = Kept::default();
    hand(differences, from, plan, &mut kept, writer, out).await?;
    kept.tell();
    Ok(same)
}

/// Hands the writer those of these differences that are to go.
async fn hand(
    mut differences: VecDeque<Difference>,
    from: &Place,
    plan: &Plan,
    kept: &mut Kept,
    writer: &mut Writer,
    out: &mut Out,
) -> Run<()> {
    differences.retain(|difference| plan.concerns(difference));
    kept.take(from, &mut differences).await?;
    for difference in differences {
        if plan.verbose {
            show(&difference, out)?;
        }
        writer.take(difference).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
