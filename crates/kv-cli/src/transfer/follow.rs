//! Keeps a place in step with a store, change by change.

use super::{
    compare::{Comparison, Difference},
    plan::{Plan, Summary, count, show, summarize, transfer},
    side::Place,
    write::{Tally, Writer},
};
use crate::{
    exit::{Exit, Failure, Run},
    out::{Out, note},
};
use kv_core::{Bytes, Error, ErrorKind, Key, Kv, Watch, WatchEvent};
use std::{collections::BTreeMap, future::Future, time::Duration};
use tokio::time::sleep;

/// The changes that are carried over together at most.
const AT_A_TIME: usize = 256;
/// The pause after a failure that passes.
const PAUSE: Duration = Duration::from_secs(1);

/// What was told of keys and is not carried over: their values, or that they are gone.
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
    // It begins before the comparison, so that nothing falls between the two.
    let mut watch = from.watch_tree("").await?;
    let source = Place::Store(from.clone());
    transfer(&source, to, plan, out).await?;
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
    let mut comparison = Comparison::of(&source, to);
    let differ = count(&mut comparison, plan).await?;
    let same = comparison.same();
    summarize(&Summary { tally: sum, same, differ: Some(differ), commit: None, dry_run: false }, out)?;
    Ok(if differ == 0 { Exit::DONE } else { Exit::NO })
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
    let keys: Vec<_> = pending.keys().cloned().collect();
    let found = to.find(&keys).await?;
    let mut writer = Writer::new(to)?;
    for ((key, value), found) in pending.iter().zip(found) {
        let key = key.clone();
        let difference = match (value.clone(), found) {
            (Some(value), None) => Difference::Missing { key, value },
            (Some(value), Some(found)) if found.value != value => {
                Difference::Other { key, value, at: found.version }
            }
            (None, Some(found)) => Difference::Extra { key, at: found.version },
            _ => continue,
        };
        if !plan.concerns(&difference) {
            continue;
        }
        if plan.verbose {
            show(&difference, out)?;
        }
        if let Err(failure) = writer.take(difference).await {
            writer.abandon().await;
            return Err(failure);
        }
    }
    let (tally, _) = writer.finish(plan.deletes, plan.max_delete).await?;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        out::Buffer,
        transfer::{Folder, Role},
    };
    use kv_core::Directory;
    use std::process::Command;
    use tokio::sync::oneshot;

    const PLAN: Plan =
        Plan { replaces: true, deletes: true, max_delete: Some(10), dry_run: false, verbose: true };

    /// Follows until the source has been changed as `changes` does it and the place has it.
    async fn followed(to: Place, changes: impl AsyncFnOnce(&Kv)) -> (Exit, String) {
        let from = kv_memory::open("memory://").await.unwrap();
        from.put("a", "1").await.unwrap();
        let (buffer, (end, ended)) = (Buffer::default(), oneshot::channel::<()>());
        let mut out = Out::to_buffer(&buffer, false, false);
        let follows = async {
            let exit = follow(&from, &to, &PLAN, &mut out, || Ok(ended)).await.unwrap();
            out.flush().unwrap();
            exit
        };
        let changes = async {
            changes(&from).await;
            end.send(()).unwrap();
        };
        let (exit, ()) = tokio::join!(follows, changes);
        (exit, buffer.text())
    }

    #[tokio::test]
    async fn every_change_is_carried_over_and_a_failure_that_passes_ridden_out() {
        let to = kv_memory::open("memory://").await.unwrap();
        to.put("extra", "x").await.unwrap();
        let mut seen = to.watch_tree("").await.unwrap();
        let mut until = async |key: &str, value: Option<&str>| loop {
            match seen.event().await.unwrap() {
                WatchEvent::Put(entry) if entry.key.as_str() == key && entry.text() == value => return,
                WatchEvent::Delete { key: gone, .. } if gone.as_str() == key && value.is_none() => return,
                _ => {}
            }
        };
        let (exit, told) = followed(Place::Store(to.clone()), async |from| {
            until("extra", None).await;
            from.put("b", "2").await.unwrap();
            until("b", Some("2")).await;
            // The answer is lost of a write that is done.
            kv_memory::Faults::of(&to).unwrap().lose_answers(1);
            from.put("a", "3").await.unwrap();
            until("a", Some("3")).await;
            from.delete("b").await.unwrap();
            until("b", None).await;
        })
        .await;
        assert_eq!(exit, Exit::DONE, "{told}");
        assert!(
            told.starts_with(
                "+ a\n- extra\ncreated 1, replaced 0, deleted 1; 0 were the same; 0 differ now\n+ b\n"
            ),
            "{told}"
        );
        assert!(told.contains("~ a\n") && told.ends_with("; 1 were the same; 0 differ now\n"), "{told}");
        assert_eq!(to.list("").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn every_change_of_a_store_is_a_commit_of_a_work_tree() {
        let tree = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let output = Command::new("git").arg("-C").arg(tree.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        git(&["init", "--quiet"]);
        git(&["config", "user.name", "Ann"]);
        git(&["config", "user.email", "ann@example.org"]);
        let name = format!("git:{}", tree.path().display());
        let folder = Folder::named(&name, &Directory::root(), Role::To).unwrap().unwrap();
        let commits = async |count: usize| loop {
            let mut log = Command::new("git");
            let log = log.arg("-C").arg(tree.path()).args(["rev-list", "--count", "HEAD"]).output().unwrap();
            if String::from_utf8(log.stdout).unwrap().trim() == count.to_string() {
                return;
            }
            tokio::task::yield_now().await;
        };
        let (exit, told) = followed(Place::Folder(folder), async |from| {
            commits(1).await;
            from.put("b", "2").await.unwrap();
            commits(2).await;
            from.delete("a").await.unwrap();
            commits(3).await;
        })
        .await;
        assert_eq!(exit, Exit::DONE, "{told}");
        let log = git(&["log", "--reverse", "--format=%an: %B"]);
        let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "Ann: kv: created 1, replaced 0, deleted 0",
                "+ a",
                "Ann: kv: created 1, replaced 0, deleted 0",
                "+ b",
                "Ann: kv: created 0, replaced 0, deleted 1",
                "- a",
            ]
        );
    }
}
