//! Outages: links that are cut, slow or frozen, servers that stop, die, hang and come back.

mod calls;
mod ends;
mod frozen;
mod holding;
mod intermediary;
mod restored;
mod unpolled;
mod waiting;
mod watching;

use crate::{Ended, Failure, Proxy, Server, Trial, Verdict};
use futures::{FutureExt, future::BoxFuture};
use kv_core::{Error, ErrorKind, Kv, Result, Version};
use std::{
    fmt::Debug,
    future::{Future, IntoFuture},
    sync::Arc,
    time::Duration,
};

cases! {
    "error.unknown/lost-reply": "a write whose answer is lost is `OutcomeUnknown`, or truly answered" => calls::lost_reply,
    "error.unknown/never-twice": "a write whose answer is lost is not sent again: what another wrote since survives" => calls::never_twice,
    "error.unknown/refused": "a write that no connection could be made for is `Unavailable` or `Timeout`, and never happens" => calls::link_refused,
    "error.unknown/frozen": "a write over a frozen link that is said to have had no effect has none later either" => calls::frozen_write,
    "error.unknown/server-down" (alone): "a write while the server is down is `Unavailable` or `Timeout`, and never happens" => calls::server_down_writes,
    "error.unknown/read-retried": "a read whose answer is lost is asked again within the deadline" => calls::read_retried,
    "error.unknown/read-after-cut": "the first read after lost connections succeeds" => calls::read_after_cut,
    "error.honest/lost-reply": "a compare-and-swap whose answer is lost is no conflict, and no success but the true one" => calls::lost_swap,
    "error.honest/lost-transaction": "a transaction whose answer is lost is neither refused nor a success but the true one" => calls::lost_transaction,
    "error.honest/link-cut": "no call over a cut link gives success, \"missing\" or a conflict" => calls::cut_is_honest,
    "error.honest/server-down" (alone): "no call to a server that is down gives success, \"missing\" or a conflict" => calls::down_is_honest,
    "update/lost-reply": "an update whose answer is lost is `OutcomeUnknown`, or truly answered, and is not made again" => calls::lost_update,
    "update.exactly_once/lost-reply": "an update exactly once whose answer is lost finds out that it was done, and is not made again" => calls::lost_update_found_out,
    "error.deadline/link-frozen": "every call over a frozen link ends within its deadline" => calls::frozen_deadline,
    "error.deadline/answers-lost": "every call ends within its deadline when only the answers are lost" => calls::silent_deadline,
    "error.deadline/server-stopped" (alone): "every call to a server that is down ends within its deadline" => calls::stopped_deadline,
    "error.deadline/server-paused" (alone): "every call to a server that hangs ends within its deadline" => calls::paused_deadline,
    "error.deadline/unpolled-outage": "calls and watches that an outage has met, and that nobody polls, hold up no call after it" => unpolled::after_an_outage,
    "error.deadline/store": "the store keeps the deadline itself, also when nobody cuts it off" => calls::store_deadline,
    "close/link-frozen": "`close` ends within the deadline when the server does not answer, and loses the guards at once" => calls::frozen_close,
    "watch.survives/cut": "a watch goes on after its link was cut" => watching::survives_cut,
    "watch.survives/freeze": "a watch goes on after its link was frozen" => watching::survives_freeze,
    "watch.survives/dead-link": "a watch notices a connection that went silent for ever, and goes on by another" => watching::survives_dead_link,
    "watch.survives/begun": "a watch that begins while the server is away begins when it is back" => watching::survives_begun,
    "watch.survives/restart" (alone): "a watch goes on after a restart of the server" => watching::survives_restart,
    "watch.survives/kill" (alone): "a watch goes on after the server was killed and started" => watching::survives_kill,
    "watch.survives/pause" (alone): "a watch goes on after the server hung" => watching::survives_pause,
    "watch.gapless/outage": "what happened while the link was cut is told" => watching::gapless_cut,
    "watch.gapless/freeze": "what happened while the link was frozen is told" => watching::gapless_freeze,
    "watch.gapless/restart" (alone): "what happened around a restart of the server is told" => watching::gapless_restart,
    "watch.gapless/restored" (alone): "on a server that was restored from an older copy a watch comes to what is there, and tells what is written then" => restored::restored,
    "watch.order/outage": "after an outage only what differs is told, then `Synced`" => watching::order_after_outage,
    "lock.known_loss/frozen": "over a frozen link `is_held()` is true as long as it may be, and false from then on" => frozen::moment,
    "lock.known_loss/told": "`lost()` is ready within 250 ms of the loss" => frozen::told,
    "lock.known_loss/one-failure": "a renewal that fails is no loss: it is retried" => holding::one_failure,
    "lock.known_loss/release": "a release after the loss says that it was not held" => holding::late_release,
    "lock.exclusive/cut-off": "another gets the lock of a holder who is cut off only when that one knows" => holding::exclusive_cut_off,
    "lock.exclusive/restart" (alone): "a restart of the server gives a lock to no second holder" => holding::exclusive_restart,
    "lock.freed/cut-off": "the lock of a holder who is cut off is free within its TTL and lateness" => holding::freed_cut_off,
    "lock.freed/lost": "a lock that its holder knows to be lost is free in time, although the holder is connected again" => holding::freed_when_lost,
    "lock.fenced/cut-off": "writes of a holder who was cut off and replaced are refused" => holding::fenced_cut_off,
    "lock.fenced/restart" (alone): "the token grows over a restart of the server" => holding::token_restart,
    "lock.cancel/lost-reply": "an acquisition whose answer is lost is got, or leaves the lock free after its TTL" => holding::lost_acquisition,
    "lock.cancel/lost-place": "a place in line that a lost connection costs is taken anew" => holding::lost_place,
    "lock.survives/outage" (alone): "a wait in line rides out a server that hangs, restarts or is killed, and gets the lock in the end" => waiting::outage,
    "lease.alive/dead-link": "a lock and a lease outlive a connection that went silent for ever: a renewal that is not answered is sent by another" => holding::dead_link,
    "lease.alive/short-deadline": "a lock and a lease of a handle whose deadline is shorter than an answer takes are kept alive" => holding::short_deadline,
    "lease.alive/short-cut": "a cut shorter than its TTL does not end a lease" => holding::lease_short_cut,
    "lease.alive/revoked-after-cut": "a lease is revoked, and a lock released, also right behind a cut" => holding::ended_after_cut,
    "lock.release/lost_answer": "a release whose answer is lost says that the lock was held, or `OutcomeUnknown`: never that others may have had it" => ends::lost_release,
    "lease.revoke/lost_answer": "a revocation whose answer is lost says that the lease was alive, or `OutcomeUnknown`" => ends::lost_revocation,
    "lease.alive/cut-off": "a lease that cannot be renewed is known to be lost, and its keys go" => holding::lease_cut_off,
    "outage.intermediary/calls": "an answer that something else gives in the server's place is an error that may pass: no success, no \"missing\", no refusal for good" => intermediary::calls,
    "outage.intermediary/watches": "watches ride out what answers in the server's place: nothing is told meanwhile, and none ends" => intermediary::watches,
    "outage.intermediary/odd_names": "an empty answer in the server's place is not taken for a refusal of odd names: their watches ride it out" => intermediary::odd_names,
    "outage.intermediary/holding": "locks and leases are not lost before their time while something else answers in the server's place" => intermediary::holding,
    "outage.intermediary/waiting": "waits for a lock ride out what answers in the server's place, in line and behind it, and get the lock in the end" => intermediary::waiting,
    "version.opaque/restart" (alone): "data and versions survive a restart of the server; stale versions match no more" => holding::versions_restart,
}

/// A client behind a proxy, and one that goes straight to the server.
pub(super) struct Linked {
    pub(super) kv: Kv,
    pub(super) proxy: Proxy,
    pub(super) direct: Kv,
}

/// The reason for which a case about a link is not run.
pub(super) const NO_LINK: &str = "embedded, or behind TLS: nothing to stand between";

/// Runs the case where there is a network; the client's own deadline is short.
pub(super) async fn linked<F>(t: Trial, case: impl FnOnce(Trial, Linked) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    let Some(opened) = t.open_behind_proxy().await else {
        return Ended::ignored(NO_LINK);
    };
    let (kv, proxy) = opened?;
    let link = Linked { kv: kv.with_deadline(DEADLINE), proxy, direct: t.open().await? };
    // The connection must be up before it fails.
    link.kv.get("up").deadline(PATIENT).await?;
    Box::pin(case(t, link)).await?;
    Ok(Ended::Kept)
}

/// Runs the case, alone, where the server can be taken away; the client's own deadline is short.
pub(super) async fn served<F>(t: Trial, case: impl FnOnce(Trial, Arc<dyn Server>, Kv) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    let Some(server) = t.server() else {
        return Ended::ignored(match t.harness().address() {
            None => NO_LINK,
            Some(_) => "the harness cannot stop the server",
        });
    };
    let kv = t.open().await?.with_deadline(DEADLINE);
    kv.get("up").deadline(PATIENT).await?;
    case(t, server, kv).await?;
    Ok(Ended::Kept)
}

/// The deadline of calls that are to fail.
const DEADLINE: Duration = Duration::from_millis(600);
/// The deadline of calls that prepare the case, on a machine that is busy.
const PATIENT: Duration = Duration::from_secs(20);
/// The time that a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);

type Call = BoxFuture<'static, Result<String>>;

/// Returns the call, with its answer as text.
fn call<T: Debug>(call: impl IntoFuture<Output = Result<T>, IntoFuture: Send + 'static>) -> Call {
    call.into_future().map(|answer| answer.map(|answer| format!("{answer:?}"))).boxed()
}

/// Returns one of each call that reads.
fn reads(kv: &Kv) -> Vec<(&'static str, Call)> {
    let mut calls = vec![
        ("get", call(kv.get("d/there"))),
        ("exists", call(kv.exists("d/there"))),
        ("get_many", call(kv.get_many(["d/there", "d/missing"]))),
        ("list", call(kv.list("d"))),
    ];
    if kv.capabilities().lock.is_some() {
        calls.push(("lock_holder", call(kv.lock_holder("l"))));
    }
    if kv.capabilities().health {
        calls.push(("health", call(kv.health())));
    }
    calls
}

/// Returns one of each call that writes, all of different keys but for `d/there`.
fn writes(kv: &Kv, there: Version) -> Vec<(&'static str, Call)> {
    let c = kv.capabilities();
    let mut calls = vec![
        ("put", call(kv.put("d/new-1", ""))),
        ("atomic_put that creates", call(kv.atomic_put("d/new-2", "", None))),
        ("atomic_put that replaces", call(kv.atomic_put("d/there", "replaced", there))),
        ("atomic_delete", call(kv.atomic_delete("d/there", there))),
        ("delete", call(kv.delete("d/there"))),
        ("delete_tree", call(kv.delete_tree("d"))),
    ];
    if c.max_txn_ops > 1 {
        let steps = kv.transact().when_missing("d/missing").then(kv.put("d/new-3", ""));
        calls.push(("transact", call(steps)));
    }
    calls
}

/// Returns one of each call that asks for a lock or a lease without a wait in line.
fn acquisitions(kv: &Kv) -> Vec<(&'static str, Call)> {
    let c = kv.capabilities();
    let mut calls = Vec::new();
    if let Some(locking) = &c.lock {
        let ttl = locking.ttl.least.max(Duration::from_secs(1));
        calls.push(("try_acquire", call(kv.new_lock("try").ttl(ttl).try_acquire())));
    }
    if let Some(range) = &c.lease {
        calls.push(("lease", call(kv.lease(range.least.max(Duration::from_secs(1))))));
    }
    calls
}

/// Makes these calls at once, and returns their answers.
async fn answers(
    t: &Trial,
    calls: impl IntoIterator<Item = (&'static str, Call)>,
) -> Result<Vec<(&'static str, Result<String>)>, Failure> {
    let calls = calls.into_iter().map(|(what, call)| call.map(move |answer| (what, answer)).boxed());
    t.soon("the answers of calls in an outage", futures::future::join_all(calls.collect::<Vec<_>>())).await
}

/// Tells whether the error is of a kind that an outage gives.
fn of_an_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown)
}
