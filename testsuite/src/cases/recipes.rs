//! Recipes, when a process is paused, dies or is cut off, when the server restarts, when an answer
//! is lost, and when a future is dropped.

mod barriers;
mod counters;
mod elections;
mod groups;
mod holding;
mod id_blocks;
mod once;
mod registrations;
mod services;
mod shards;
mod ticks;
mod views;

use super::{
    locks::lock_ttl,
    outages::{Linked, linked, served},
    polled,
};
use crate::{
    Ended, Failure, Proxy, Trial, Verdict,
    another::Process,
    check::{holds, refused, same},
    lateness::Stopwatch,
};
use futures::future::BoxFuture;
use holding::{LockAll, Reader, Semaphore, Writer};
use kv_core::{Error, ErrorKind, Fence, Kv, Result, Watching};
use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

cases! {
    "recipe.election.paused": "the work of a leader that was paused beyond the TTL is not polled again, its late writes are refused, and it leads again later" => elections::paused,
    "recipe.election.killed": "when a leader dies, the next one leads within the TTL and its lateness, and observers see nobody else" => elections::killed,
    "recipe.election.cut_off": "a leader that is cut off knows of its loss before another leads; an observer that is cut off says nothing false" => elections::cut_off,
    "recipe.election.restart" (alone): "over a restart of the server the same term goes on, or a greater one follows" => elections::restart,
    "recipe.election.answer_lost": "a candidate whose answer is lost has one place in line, or none" => elections::answer_lost,
    "recipe.election.dropped": "a campaign that is dropped at any moment leaves the line" => elections::dropped,
    "recipe.registration.paused": "a registration that was paused goes, mends itself with its newest value, and stays away once it is deregistered" => registrations::paused,
    "recipe.registration.killed": "the registration of a process that died is gone within the TTL and its lateness" => registrations::killed,
    "recipe.registration.cut_off": "a registration that is cut off mends itself; a reader that is cut off keeps the set" => registrations::cut_off,
    "recipe.registration.restart" (alone): "no instance flaps whose TTL outlives a restart of the server, and the set is never empty" => registrations::restart,
    "recipe.registration.answer_lost": "a registration whose answer is lost is found again, once" => registrations::answer_lost,
    "recipe.registration.dropped": "a registration that is dropped at any moment leaves no key" => registrations::dropped,
    "recipe.service.paused": "the set of a process that was paused catches up" => services::paused,
    "recipe.service.cut_off": "a reader that is cut off keeps the set, which grows older, and catches up" => services::cut_off,
    "recipe.service.restart" (alone): "the set stays over a restart of the server, and catches up" => services::restart,
    "recipe.service.answer_lost": "the set is whole when it is open, whichever answers are lost" => services::answer_lost,
    "recipe.service.dropped": "a reader that is dropped at any moment of its opening leaves nothing" => services::dropped,
    "recipe.group.paused": "a member that was paused is gone for the others, and joins again by itself" => groups::paused,
    "recipe.group.killed": "a member that died is gone within the TTL and its lateness" => groups::killed,
    "recipe.group.cut_off": "a member that is cut off is gone for the others, sees them as they were, and joins again by itself" => groups::cut_off,
    "recipe.group.restart" (alone): "nobody leaves a group by a restart of the server that the leases outlive" => groups::restart,
    "recipe.group.answer_lost": "a member whose answer is lost is in the group once" => groups::answer_lost,
    "recipe.group.dropped": "a member that is dropped at any moment of its joining leaves" => groups::dropped,
    "recipe.view.paused": "a view of a process that was paused catches up" => views::paused,
    "recipe.view.cut_off": "a view that is cut off serves what it had, grows older, and catches up" => views::cut_off,
    "recipe.view.restart" (alone): "a view is never empty while the server restarts, and catches up" => views::restart,
    "recipe.view.answer_lost": "a view is whole when it is open, whichever answers are lost" => views::answer_lost,
    "recipe.view.dropped": "a view that is dropped at any moment of its opening leaves nothing" => views::dropped,
    "recipe.counter.paused": "a process that was paused while it counts counts each change once, or says of the one under way that it is unknown" => counters::paused,
    "recipe.counter.killed": "what a process that died has counted is there, and others count on" => counters::killed,
    "recipe.counter.cut_off": "a change over a cut link ends within its deadline, and is truly told" => counters::cut_off,
    "recipe.counter.restart" (alone): "a change while the server is away ends within its deadline, and is truly told; all count on afterwards" => counters::restart,
    "recipe.counter.answer_lost": "changes whose answers are lost are counted once" => counters::answer_lost,
    "recipe.counter.dropped": "a change that is dropped at any moment counts once, or not at all" => counters::dropped,
    "recipe.id_blocks.paused": "the block of a process that was paused stays its own" => id_blocks::paused,
    "recipe.id_blocks.killed": "what is left of the block of a process that died is given to nobody" => id_blocks::killed,
    "recipe.id_blocks.cut_off": "ids of the block are given out over a cut link, then an error within the deadline, and none twice" => id_blocks::cut_off,
    "recipe.id_blocks.restart" (alone): "over a restart of the server no id is given out twice" => id_blocks::restart,
    "recipe.id_blocks.answer_lost": "a block whose answer is lost is a gap, and nobody has it" => id_blocks::answer_lost,
    "recipe.id_blocks.dropped": "when the future is dropped at any moment no id is given out twice" => id_blocks::dropped,
    "recipe.semaphore.paused": "the permit of a process that was paused is another's, and its late writes are refused" => holding::paused::<Semaphore>,
    "recipe.semaphore.killed": "the permit of a process that died is free within the TTL and its lateness" => holding::killed::<Semaphore>,
    "recipe.semaphore.cut_off": "a holder that is cut off knows that its permit is lost before another has it" => holding::cut_off::<Semaphore>,
    "recipe.semaphore.restart" (alone): "over a restart of the server a permit is kept, or known to be lost, and never had by one too many" => holding::restart::<Semaphore>,
    "recipe.semaphore.answer_lost": "a permit whose answer is lost is had, or free after its TTL" => holding::answer_lost::<Semaphore>,
    "recipe.semaphore.dropped": "a wait for a permit that is dropped at any moment leaves nothing" => holding::dropped::<Semaphore>,
    "recipe.semaphore.deleted": "a holder whose permit's key is deleted or replaced is told, and its late writes are refused" => holding::deleted::<Semaphore>,
    "recipe.rwlock.paused": "a writer gets in when a reader was paused, and the reader's late writes are refused" => holding::paused::<Reader>,
    "recipe.rwlock.killed": "a writer gets in within the TTL and its lateness when a reader died" => holding::killed::<Reader>,
    "recipe.rwlock.cut_off": "a reader that is cut off knows of its loss before a writer is in" => holding::cut_off::<Reader>,
    "recipe.rwlock.restart" (alone): "over a restart of the server no writer is in beside a reader" => holding::restart::<Reader>,
    "recipe.rwlock.answer_lost": "a share whose answer is lost is had, or free after its TTL" => holding::answer_lost::<Reader>,
    "recipe.rwlock.dropped": "a reader that is dropped at any moment of its coming in keeps no writer out" => holding::dropped::<Reader>,
    "recipe.rwlock.deleted": "a reader whose key is deleted or replaced is told, and its late writes are refused" => holding::deleted::<Reader>,
    "recipe.rwlock_writer.paused": "readers get in when a writer was paused, and the writer's late writes are refused" => holding::paused::<Writer>,
    "recipe.rwlock_writer.killed": "readers get in within the TTL and its lateness when a writer died" => holding::killed::<Writer>,
    "recipe.rwlock_writer.cut_off": "a writer that is cut off knows of its loss before a reader is in" => holding::cut_off::<Writer>,
    "recipe.rwlock_writer.restart" (alone): "over a restart of the server no reader is in beside a writer" => holding::restart::<Writer>,
    "recipe.rwlock_writer.answer_lost": "a lock for writing whose answer is lost is had, or free after its TTL" => holding::answer_lost::<Writer>,
    "recipe.rwlock_writer.dropped": "a writer that is dropped at any moment of its coming in keeps no reader out" => holding::dropped::<Writer>,
    "recipe.lock_all.paused": "several locks of a process that was paused are another's, and its late writes are refused" => holding::paused::<LockAll>,
    "recipe.lock_all.killed": "several locks of a process that died are free within the TTL and its lateness" => holding::killed::<LockAll>,
    "recipe.lock_all.cut_off": "a holder of several locks that is cut off knows of its loss before another has one" => holding::cut_off::<LockAll>,
    "recipe.lock_all.restart" (alone): "over a restart of the server several locks are kept, or known to be lost, and none is another's beside" => holding::restart::<LockAll>,
    "recipe.lock_all.answer_lost": "several locks of which an answer is lost are had, or free after their TTL" => holding::answer_lost::<LockAll>,
    "recipe.lock_all.dropped": "a wait for several locks that is dropped at any moment gives all back" => holding::dropped::<LockAll>,
    "recipe.barrier.paused": "a wait at a barrier of a process that was paused ends when the barrier was lifted meanwhile" => barriers::wait_paused,
    "recipe.barrier.killed": "a barrier stays raised when who raised it, and waits at it, dies" => barriers::wait_killed,
    "recipe.barrier.cut_off": "a wait at a barrier that is cut off goes on when the barrier is lifted" => barriers::wait_cut_off,
    "recipe.barrier.restart" (alone): "a wait at a barrier rides out a restart of the server" => barriers::wait_restart,
    "recipe.barrier.answer_lost": "a barrier is as it was asked for when the call returns, whichever answers are lost" => barriers::set_answer_lost,
    "recipe.barrier.dropped": "a change of a barrier that is dropped at any moment is over with the next change" => barriers::set_dropped,
    "recipe.double_barrier.paused": "a member that is paused inside counts as gone, and knows it" => barriers::paused,
    "recipe.double_barrier.killed": "a member that dies inside counts as one that left" => barriers::killed,
    "recipe.double_barrier.cut_off": "a member that waits and is cut off goes in with the others in the end" => barriers::cut_off,
    "recipe.double_barrier.restart" (alone): "members that wait ride out a restart of the server" => barriers::restart,
    "recipe.double_barrier.answer_lost": "a member whose answer is lost goes in with the others, once" => barriers::answer_lost,
    "recipe.double_barrier.dropped": "a member that is dropped at any moment of its waiting leaves" => barriers::dropped,
    "recipe.double_barrier.deleted": "a member whose key is deleted is told when it is inside, and comes again when it waits" => barriers::deleted,
    "recipe.shards.paused": "the shards of a member that was paused are another's, their work is not polled again, and late writes are refused" => shards::paused,
    "recipe.shards.killed": "the shards of a member that died are owned again in time, and those of others stay" => shards::killed,
    "recipe.shards.cut_off": "a member that is cut off drops the work of a shard before another owns it" => shards::cut_off,
    "recipe.shards.restart" (alone): "over a restart of the server no shard has two owners, and each has one" => shards::restart,
    "recipe.shards.answer_lost": "a plan whose answer is lost is read again, and nothing is planned twice" => shards::answer_lost,
    "recipe.shards.dropped": "a member that is dropped hands its shards over" => shards::dropped,
    "recipe.once.paused": "when a process was paused another runs, and what the first would have written does not happen" => once::paused,
    "recipe.once.killed": "when a process died another runs within the TTL and its lateness, and nothing is half written" => once::killed,
    "recipe.once.cut_off": "when a process is cut off another runs, and it happens once" => once::cut_off,
    "recipe.once.restart" (alone): "what has happened does not happen again after a restart of the server" => once::restart,
    "recipe.once.answer_lost": "when an answer is lost it happens once" => once::answer_lost,
    "recipe.once.dropped": "when the future is dropped it happened, or it did not, and is not half done" => once::dropped,
    "recipe.ticks.paused": "the tick of a member that was paused is run again by another, and its late writes are refused" => ticks::paused,
    "recipe.ticks.killed": "the tick of a member that died is run again within the TTL and its lateness" => ticks::killed,
    "recipe.ticks.cut_off": "the work of a member that is cut off is dropped before another runs the tick again" => ticks::cut_off,
    "recipe.ticks.restart" (alone): "ticks go on after a restart of the server, with growing numbers" => ticks::restart,
    "recipe.ticks.answer_lost": "no tick is left out or run again when answers are lost" => ticks::answer_lost,
    "recipe.ticks.dropped": "the tick of a member that is dropped is run again at once" => ticks::dropped,
}

/// A capability of the store that a recipe needs.
#[derive(Clone, Copy)]
enum Need {
    /// Locks, and writes that depend on one.
    Fences,
    Locks,
    Leases,
    Watches,
    /// Transactions of four conditions and writes.
    Transactions,
}

/// Returns the verdict of a case about a recipe for which the store lacks something, when the store
/// was seen to refuse it; `None` when it lacks nothing.
async fn lacking<T: Debug>(
    t: &Trial,
    needs: &[Need],
    ask: impl AsyncFnOnce(Kv) -> Result<T>,
) -> Result<Option<Ended>, Failure> {
    let c = t.capabilities();
    let lacks = |need: &Need| match need {
        Need::Fences => {
            (!c.lock.as_ref().is_some_and(|l| l.fenced_writes)).then_some("writes that depend on a lock")
        }
        Need::Locks => c.lock.is_none().then_some("locks"),
        Need::Leases => c.lease.is_none().then_some("leases"),
        Need::Watches => (c.watch == Watching::Unsupported).then_some("watches"),
        Need::Transactions => (c.max_txn_ops < 4).then_some("transactions of four steps"),
    };
    let Some(what) = needs.iter().find_map(lacks) else { return Ok(None) };
    refused(format!("a recipe that needs {what}"), ask(t.open().await?).await, ErrorKind::Unsupported)?;
    Ok(Some(Ended::Ignored(format!("no {what}"))))
}

/// The time that a busy machine has for what is to happen behind an end.
const SLACK: Duration = Duration::from_secs(2);
/// The deadline of single requests over a link that is cut.
const EACH: Duration = Duration::from_secs(2);
/// A TTL whose end a case waits for. Who is woken two seconds late loses nothing within it.
const LIFE: Duration = Duration::from_secs(5);
/// A TTL that nothing of a case waits for.
const LONG: Duration = Duration::from_secs(60);

/// Returns a lock's TTL of this time or a little more, and the time within which what such a lock
/// protects is another's when its holder is gone.
fn lock_times(t: &Trial, at_least: Duration) -> (Duration, Duration) {
    let ttl = lock_ttl(t, at_least);
    let late = t.capabilities().lock.as_ref().map_or(ttl, |locking| locking.ttl.lateness(ttl));
    (ttl, ttl + late + SLACK)
}

/// Returns a TTL that locks and leases have, of this time or a little more, and the time within
/// which what they keep is gone when its owner is.
fn both_times(t: &Trial, at_least: Duration) -> (Duration, Duration) {
    let c = t.capabilities();
    let ranges = [c.lease.as_ref(), c.lock.as_ref().map(|locking| &locking.ttl)];
    let (mut ttl, ranges) = (at_least, ranges.into_iter().flatten());
    // What is granted for one of them may be less than the other's least.
    for range in ranges.clone().chain(ranges.clone()) {
        ttl = range.grant(ttl.min(range.greatest)).unwrap_or(ttl);
    }
    let late = ranges.map(|range| range.lateness(ttl)).max().unwrap_or_default();
    (ttl, ttl + late + SLACK)
}

/// Waits for what must come within this time after a process is gone, and checks that it did.
async fn in_time<T>(
    t: &Trial,
    most: Duration,
    what: &str,
    coming: impl Future<Output = T>,
) -> Result<T, Failure> {
    let watch = Stopwatch::start();
    let came = t.within(most + t.patience(), what, coming).await?;
    watch.took().at_most(what, most)?;
    Ok(came)
}

/// Checks that what gives back does not say that it was held: where the server's time is not known
/// well enough, it says that it does not know.
fn not_held(what: &str, given_back: Result<bool>) -> Result<(), Failure> {
    let fine = match &given_back {
        Ok(was_held) => !was_held,
        Err(e) => e.kind() == ErrorKind::OutcomeUnknown,
    };
    holds(format!("{what} says that it was not held, or `OutcomeUnknown`; found {given_back:?}"), fine)
}

/// Drops the work, made anew each time, after one poll, after two, and so on, until it is done
/// before it is dropped.
async fn dropped_at_each_poll<T, F>(t: &Trial, what: &str, mut work: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T>>,
{
    const MOST: usize = 400;
    for polls in 1..MOST {
        if let Some(done) = t.soon(what, polled(Box::pin(work()), polls)).await? {
            return Ok(done?);
        }
    }
    Err(format!("{what} was not done within {MOST} polls").into())
}

/// Runs the work over a link that loses one answer of the server, behind so many others, unless the
/// work has ended by then; it must end within this time.
async fn loses_answer<T>(
    t: &Trial,
    proxy: &Proxy,
    behind: usize,
    within: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    loses_answer_to(t, proxy, ("", behind), within, what, work).await
}

/// Does the same with the answer to a request that holds this text, behind so many others that hold
/// it.
async fn loses_answer_to<T>(
    t: &Trial,
    proxy: &Proxy,
    (request, behind): (&str, usize),
    within: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let mut work = Box::pin(work);
    let loses = async {
        for _ in 0..=behind {
            // Answers that are held move on with it.
            proxy.hold_answer_to(request);
            proxy.trapped().await;
        }
        if !request.is_empty() {
            // The server has a moment to do what it was asked for; a watch may have nothing to answer.
            let _ = tokio::time::timeout(Duration::from_millis(200), proxy.answered()).await;
        }
        proxy.reset().await;
        proxy.heal().await;
    };
    let early = tokio::select! {
        done = &mut work => Some(done),
        () = loses => None,
    };
    proxy.heal().await;
    match early {
        Some(done) => Ok(done),
        None => t.within(within, what, work).await,
    }
}

/// Checks that a call that ended in an outage says so, and that it ended in time; returns the error.
async fn fails_in_time<T: Debug>(
    t: &Trial,
    within: Duration,
    what: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<Error, Failure> {
    let watch = Stopwatch::start();
    let ended = t.within(within + t.patience(), what, call).await?;
    watch.took().at_most(&format!("the end of {what}, which has {within:?},"), within + SLACK)?;
    let Err(e) = ended else { return Err(format!("{what} has the answer {ended:?}").into()) };
    let expected = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::OutcomeUnknown];
    holds(format!("the error says that there is an outage; found {e:?}"), expected.contains(&e.kind()))?;
    Ok(e)
}

/// Counts the polls of work that must have ended, for it works under a token that is no longer the
/// newest.
#[derive(Clone, Default)]
struct Newest(Arc<(AtomicU64, AtomicUsize)>);

impl Newest {
    /// Notes the token of who has it now.
    fn is(&self, token: u64) {
        self.0.0.store(token, SeqCst);
    }

    /// Returns the work, which is counted when it is polled late.
    fn watches<T>(
        &self,
        token: u64,
        work: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let (this, mut work) = (self.clone(), Box::pin(work));
        Box::pin(poll_fn(move |cx| {
            if this.0.0.load(SeqCst) > token {
                this.0.1.fetch_add(1, SeqCst);
            }
            work.as_mut().poll(cx)
        }))
    }

    /// Checks that nothing was polled late.
    fn never_late(&self, what: &str) -> Result<(), Failure> {
        same(format!("how often {what} was polled when another had it"), self.0.1.load(SeqCst), 0)
    }
}

/// Does nothing, for ever.
async fn for_ever<T>() -> T {
    std::future::pending().await
}

/// Reads the text of a key.
async fn text(kv: &Kv, key: &str) -> Result<Option<String>> {
    super::text(kv, key).await
}
