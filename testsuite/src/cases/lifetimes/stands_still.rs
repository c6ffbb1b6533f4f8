//! Handles of which one runtime stands still, as a small program's does between two `block_on`:
//! what lives there does not go on, and nobody elsewhere may wait for it.

use super::outlived::{give_back, kept, use_all};
use crate::{
    Ended, Failure, Trial, Verdict,
    cases::{
        locks::{in_line, lock_ttl},
        watches::Follower,
    },
    check::{holds, same},
};
use futures::FutureExt;
use kv_core::{Kv, Watching};
use std::{
    future::{Future, IntoFuture, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::{AbortHandle, yield_now},
};

/// The number of calls that are left half done: more than any backend lets be under way at once.
const CALLS: usize = 100;

type Work = Box<dyn FnOnce(&Runtime) + Send>;

/// A runtime with a thread of its own, which stands still but while it is given work.
struct Still {
    works: mpsc::Sender<Work>,
    ended: oneshot::Receiver<()>,
}

impl Still {
    fn new() -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (works, given) = mpsc::channel::<Work>();
        let (ends, ended) = oneshot::channel();
        std::thread::spawn(move || {
            for work in given {
                work(&runtime);
            }
            drop(runtime);
            // The case may have been given up.
            let _ = ends.send(());
        });
        Ok(Self { works, ended })
    }

    /// Runs the work, and stands still behind it, with all tasks that the work leaves.
    async fn run<T, W, F>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>>,
    {
        let (told, answer) = oneshot::channel();
        let work = move |runtime: &Runtime| {
            let _ = told.send(runtime.block_on(work()));
        };
        self.works.send(Box::new(work)).map_err(|_| "the thread of the other runtime has ended")?;
        answer.await.map_err(|_| "what ran in the other runtime panicked")?
    }

    /// Ends the runtime.
    async fn end(self) -> Result<(), Failure> {
        drop(self.works);
        self.ended.await.map_err(|_| "the thread of the other runtime panicked".into())
    }
}

/// The handle, the watch and the wait that a runtime leaves when it stands still.
struct Left {
    kv: Kv,
    /// A watch, which is read elsewhere from then on.
    tree: Option<Follower>,
    /// A wait in line for a lock.
    waits: Option<AbortHandle>,
}

/// Begins calls, and leaves each after its first poll.
async fn leave_calls(kv: &Kv) {
    let begun = Arc::<AtomicUsize>::default();
    for n in 0..CALLS {
        let (mut get, begun, mut is_new) = (kv.get(format!("d/{n}")).into_future(), begun.clone(), true);
        tokio::spawn(poll_fn(move |cx| {
            let answer = get.as_mut().poll(cx);
            if std::mem::take(&mut is_new) {
                begun.fetch_add(1, SeqCst);
            }
            answer.map(drop)
        }));
    }
    while begun.load(SeqCst) < CALLS {
        yield_now().await;
    }
}

/// Opens a handle, uses all of it, and leaves a watch, a wait for a lock, and calls.
async fn opened(t: Trial) -> Result<Left, Failure> {
    let kv = t.open().await?;
    give_back(use_all(&t, &kv, "in the one that will stand still").await?).await;
    short_lived(&t, &kv, "in the one that will stand still").await?;
    let tree = match t.capabilities().watch {
        Watching::Unsupported => None,
        _ => Some(Follower::of_tree(&t, &kv, "d").await?),
    };
    let mut waits = None;
    if t.capabilities().lock.is_some() {
        let mut waiting = kv.new_lock("waited").ttl(ttl_of(&t)).acquire().boxed();
        in_line(&t, &kv, ("waited", 1), &mut waiting).await?;
        waits = Some(tokio::spawn(waiting).abort_handle());
    }
    leave_calls(&kv).await;
    Ok(Left { kv, tree, waits })
}

fn ttl_of(t: &Trial) -> Duration {
    lock_ttl(t, Duration::from_secs(4))
}

/// Puts a key with a TTL, and reads it.
async fn short_lived(t: &Trial, kv: &Kv, turn: &str) -> Result<(), Failure> {
    if t.capabilities().ttl.is_some() {
        let key = format!("short/{turn}");
        // The TTL is one for all, so that whatever lives by it may be shared.
        let put = kv.put(&key, turn).ttl(t.short_ttl(Duration::from_secs(10)));
        put.await.map_err(|e| format!("a put with a TTL, {turn}: {e}"))?;
        same(format!("a key with a TTL, {turn}"), kv.get(&key).await?.is_some(), true)?;
    }
    Ok(())
}

pub(super) async fn others_go_on(t: Trial) -> Verdict {
    let (still, other) = (Still::new()?, t.open().await?);
    let theirs = match t.capabilities().lock {
        Some(_) => Some(t.soon("a free lock", other.new_lock("waited").ttl(ttl_of(&t)).acquire()).await??),
        None => None,
    };
    let there = t.clone();
    let Left { kv, tree, waits } = still.run(move || opened(there)).await?;
    // From here on nothing goes on in the other runtime.
    if let Some(mut tree) = tree {
        let version = other.put("d/moved", "").await?.version;
        tree.told("d/moved", version).await.map_err(|e| format!("a watch that goes on elsewhere: {e}"))?;
    }
    let turn = "beside one that stands still";
    let held = use_all(&t, &kv, turn).await?;
    short_lived(&t, &kv, turn).await?;
    if let Some((theirs, locking)) = theirs.zip(t.capabilities().lock.as_ref()) {
        holds("who else holds a lock keeps it", theirs.release().await?)?;
        // The lock may be given to the one who stands still, and that one does not renew it.
        let most = ttl_of(&t) + locking.ttl.lateness(ttl_of(&t)) + t.patience();
        let waiting = kv.new_lock("waited").ttl(ttl_of(&t)).acquire();
        let guard = t.within(most, "a lock for which one who stands still waits", waiting).await??;
        holds("it was held until it was released", guard.release().await?)?;
    }
    kept(&t, held).await?;
    let (there, theirs) = (t.clone(), kv.clone());
    still
        .run(move || async move {
            if let Some(waits) = waits {
                waits.abort();
            }
            give_back(use_all(&there, &theirs, "in the one that stood still").await?).await;
            short_lived(&there, &theirs, "in the one that stood still").await
        })
        .await?;
    t.note("the other runtime to end");
    still.end().await?;
    kv.close().await?;
    Ok(Ended::Kept)
}
