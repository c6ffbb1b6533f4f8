//! Keeps a place in step with a store, change by change.

use super::{
    compare::{Comparison, Difference},
    plan::{Plan, Summary, count, show, summarize},
    side::{Found, Place},
    write::{Beside, Tally, Writer},
};
use crate::{
    exit::{Exit, Failure, Run},
    out::{Out, note},
};
use kv_core::{Bytes, Error, ErrorKind, Key, Kv, Watch, WatchEvent};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};
use tokio::time::sleep;

/// The changes that are carried over together at most.
const AT_A_TIME: usize = 256;
/// The pause after a failure that passes.
const PAUSE: Duration = Duration::from_secs(1);

/// The changes that were told and are not carried over yet: the value of each key, or `None` for
/// one that is gone.
type Pending = BTreeMap<Key, Option<Bytes>>;

/// Carries over what differs, and then every change, until `stop` ends; and compares the two in the
/// end. Failures that pass are ridden out, on either side.
pub(crate) async fn follow<F: Future>(
    from: &Kv,
    to: &Place,
    plan: &Plan,
    out: &mut Out,
    stop: impl FnOnce() -> Run<F>,
) -> Run {
    let mut watch = from.watch_tree("").await?;
    let source = Place::Store(from.clone());
    begin(&mut watch, &source, to, plan, out).await?;
    out.flush()?;
    // In a history each change stands alone.
    let is_history = matches!(to, Place::Folder(folder) if folder.git.is_some());
    let most = if is_history { 1 } else { AT_A_TIME };
    let mut stop = Box::pin(stop()?);
    let (mut pending, mut sum) = (Pending::new(), Tally::default());
    loop {
        let is_behind = !pending.is_empty();
        tokio::select! {
            biased;
            _ = &mut stop => break,
            event = watch.event(), if pending.len() < most => {
                take(&mut pending, event?);
                while pending.len() < most && let Some(event) = at_hand(&mut watch).await {
                    take(&mut pending, event?);
                }
            }
            () = sleep(PAUSE), if is_behind => {}
        }
        match carry(&pending, to, plan, out).await {
            Ok(done) => {
                sum.add(done);
                pending.clear();
                out.flush()?;
            }
            // What happened is looked at again before anything is written again.
            Err(Failure::Store(e)) if passes(&e) => note(&format!("it is tried again: {e}")),
            Err(failure) => return Err(failure),
        }
    }
    let mut comparison = Comparison::telling(&source, to);
    let differ = count(&mut comparison, plan).await?;
    let (same, [left_out, _]) = (comparison.same(), comparison.left_out());
    let left_out = &left_out;
    let summary = Summary { tally: sum, same, left_out, differ: Some(differ), commit: None, dry_run: false };
    summarize(&summary, out)?;
    Ok(if differ == 0 { Exit::DONE } else { Exit::NO })
}

/// Makes the place as the store is when the watch is in step with it. The watch alone says what
/// there is: a listing beside it could show a key whose end the watch never tells, because that
/// came before the watch had seen the key.
async fn begin(watch: &mut Watch, source: &Place, to: &Place, plan: &Plan, out: &mut Out) -> Run<()> {
    let mut writer = Writer::new(to, out.acts())?;
    let same = match take_all(watch, to, plan, &mut writer, out).await {
        Ok(same) => same,
        Err(e) => {
            writer.abandon().await;
            return Err(e);
        }
    };
    let (tally, commit) = writer.finish(plan, Beside::Conflicts).await?;
    let mut comparison = Comparison::telling(source, to);
    let differ = Some(count(&mut comparison, plan).await?);
    let [left_out, _] = comparison.left_out();
    let commit = commit.as_deref();
    summarize(&Summary { tally, same, left_out: &left_out, differ, commit, dry_run: false }, out)
}

/// Hands the writer what the watch tells until it is in step, and then what only the place has.
/// Returns how many keys were the same.
async fn take_all(
    watch: &mut Watch,
    to: &Place,
    plan: &Plan,
    writer: &mut Writer,
    out: &mut Out,
) -> Run<u64> {
    let (mut there, mut pending, mut same) = (BTreeSet::new(), Pending::new(), 0);
    loop {
        let event = watch.event().await?;
        let is_synced = event == WatchEvent::Synced;
        match event {
            WatchEvent::Put(entry) => {
                there.insert(entry.key.clone());
                pending.insert(entry.key, Some(entry.value));
            }
            WatchEvent::Delete { key, .. } => {
                there.remove(&key);
                pending.remove(&key);
            }
            WatchEvent::Synced => {}
        }
        if is_synced || pending.len() >= AT_A_TIME {
            same += offer(&pending, to, plan, writer, out).await?;
            // A key that changes meanwhile comes again, behind its first write.
            writer.settle().await?;
            pending.clear();
        }
        if is_synced {
            break;
        }
    }
    let (mut side, mut extra) = (to.side(), 0);
    while let Some(Found { key, version, .. }) = side.next().await? {
        if !there.contains(&key) {
            extra += u64::from(plan.deletes);
            hand(Difference::Extra { key, at: version }, plan, writer, out).await?;
        }
    }
    plan.refuse_empty(there.is_empty(), extra)?;
    Ok(same)
}

fn passes(error: &Error) -> bool {
    error.is_transient() || error.kind() == ErrorKind::OutcomeUnknown
}

fn take(pending: &mut Pending, event: WatchEvent) {
    match event {
        WatchEvent::Put(entry) => drop(pending.insert(entry.key, Some(entry.value))),
        WatchEvent::Delete { key, .. } => drop(pending.insert(key, None)),
        WatchEvent::Synced => {}
    }
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
async fn carry(pending: &Pending, to: &Place, plan: &Plan, out: &mut Out) -> Run<Tally> {
    let mut writer = Writer::new(to, out.acts())?;
    if let Err(failure) = offer(pending, to, plan, &mut writer, out).await {
        writer.abandon().await;
        return Err(failure);
    }
    let (tally, _) = writer.finish(plan, Beside::Conflicts).await?;
    Ok(tally)
}

/// Hands the writer what differs of these keys, and returns how many are the same.
async fn offer(pending: &Pending, to: &Place, plan: &Plan, writer: &mut Writer, out: &mut Out) -> Run<u64> {
    let keys: Vec<_> = pending.keys().cloned().collect();
    let found = to.find(&keys).await?;
    let mut same = 0;
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
        hand(difference, plan, writer, out).await?;
    }
    Ok(same)
}

/// Hands the writer a difference, if it is one that is to go.
async fn hand(difference: Difference, plan: &Plan, writer: &mut Writer, out: &mut Out) -> Run<()> {
    if !plan.concerns(&difference) {
        return Ok(());
    }
    if plan.verbose {
        show(&difference, out)?;
    }
    writer.take(difference).await
}

#[cfg(test)]
mod tests;
