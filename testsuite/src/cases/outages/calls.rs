//! Calls in an outage: what they say, and when.

use super::*;
use crate::{
    cases::{
        locks::lock_ttl,
        put_all,
        updates::{count, only_plain},
    },
    check::{holds, same},
    lateness::Stopwatch,
};
use kv_core::{
    Entry, Key, Outcome, Written,
    driver::{Deadline, Expect, ListOptions, PutOptions, ReadOptions, WriteOptions},
};
use std::time::Instant;
use tokio::{task::JoinSet, time::timeout};

/// The outcome of a write whose answer was lost.
struct Lost<T> {
    answer: Result<T>,
    /// The entry that another client found when the write had taken effect.
    effect: Option<Entry>,
    /// The version of what another client wrote after that.
    others: Version,
    /// The entry that is there in the end.
    end: Option<Entry>,
}

/// The longest time from a request of a write to its effect. A request without an effect by then
/// was a read, which some backends make before they write.
const LOOK: Duration = Duration::from_secs(1);

/// Has the server do a write of this key, and loses the answer; another client writes the key
/// before the link is whole.
async fn lose<T: Send + 'static>(
    t: &Trial,
    link: &Linked,
    key: &str,
    write: impl IntoFuture<Output = Result<T>, IntoFuture: Send + 'static>,
) -> Result<Lost<T>, Failure> {
    let Linked { kv, proxy, direct } = link;
    let before = direct.get(key).await?;
    proxy.hold_answer_to(key);
    let mut writing = JoinSet::new();
    writing.spawn(write.into_future());
    let named = format!("a request with the name {key:?} to pass the proxy");
    let answered = loop {
        let trapped = async {
            tokio::select! {
                biased;
                () = proxy.trapped() => None,
                answer = writing.join_next() => answer,
            }
        };
        if let Some(answer) = t.soon(&named, trapped).await? {
            break Some(answer);
        }
        let effect = t.until_within(LOOK, "the write to take effect on the server", || async {
            Ok(direct.get(key).await? != before)
        });
        if effect.await.is_ok() {
            break None;
        }
        // The trapped request was a read that the backend makes before it writes; the write comes
        // behind its answer.
        proxy.hold_answer_to(key);
    };
    let effect = direct.get(key).await?;
    let others = direct.put(key, "another's").await?.version;
    proxy.reset().await;
    proxy.heal().await;
    let answer = match answered {
        Some(answer) => Some(answer),
        None => t.soon("the answer of a write that lost its connection", writing.join_next()).await?,
    };
    let answer = answer.ok_or("the write was begun")??;
    // Whatever the client does to mend its connection has happened before these are answered.
    for _ in 0..5 {
        let _ = kv.get(key).await;
    }
    Ok(Lost { answer, effect, others, end: direct.get(key).await? })
}

/// Checks that the answer is `OutcomeUnknown`, or the truth.
fn honest<T: Debug>(what: &str, answer: &Result<T>, truth: impl Fn(&T) -> bool) -> Result<(), Failure> {
    let fine = match answer {
        Ok(answer) => truth(answer),
        Err(e) => e.kind() == ErrorKind::OutcomeUnknown,
    };
    holds(format!("{what} whose answer is lost is OutcomeUnknown; found {answer:?}"), fine)
}

fn wrote(effect: &Option<Entry>) -> impl Fn(&Written) -> bool {
    let version = effect.as_ref().map(|entry| entry.version);
    move |written| Some(written.version) == version
}

/// A deadline that is longer than the link is away.
const LONG: Duration = Duration::from_secs(5);

pub(super) async fn lost_reply(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let lost = lose(&t, &link, "lost-put", link.kv.put("lost-put", "mine").deadline(LONG)).await?;
        honest("a put", &lost.answer, wrote(&lost.effect))?;
        link.direct.put("lost-delete", "").await?;
        let lost = lose(&t, &link, "lost-delete", link.kv.delete("lost-delete").deadline(LONG)).await?;
        honest("a delete", &lost.answer, |deleted| *deleted)
    })
    .await
}

pub(super) async fn never_twice(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let kv = &link.kv;
        let lost = lose(&t, &link, "once-put", kv.put("once-put", "mine").deadline(LONG)).await?;
        let found = lost.end.map(|entry| (entry.value, entry.version));
        same(
            "what another wrote after a put whose answer was lost",
            found,
            Some(("another's".into(), lost.others)),
        )?;
        link.direct.put("once-delete", "").await?;
        let lost = lose(&t, &link, "once-delete", kv.delete("once-delete").deadline(LONG)).await?;
        let found = lost.end.map(|entry| entry.version);
        same("what another wrote after a delete whose answer was lost", found, Some(lost.others))
    })
    .await
}

pub(super) async fn lost_swap(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let kv = &link.kv;
        let create = kv.atomic_put("lost-create", "mine", None).deadline(LONG);
        let lost = lose(&t, &link, "lost-create", create).await?;
        honest("an atomic_put that creates", &lost.answer, wrote(&lost.effect))?;
        let there = link.direct.put("lost-replace", "").await?.version;
        let replace = kv.atomic_put("lost-replace", "mine", there).deadline(LONG);
        let lost = lose(&t, &link, "lost-replace", replace).await?;
        honest("an atomic_put that replaces", &lost.answer, wrote(&lost.effect))?;
        let there = link.direct.put("lost-removal", "").await?.version;
        let delete = kv.atomic_delete("lost-removal", there).deadline(LONG);
        let lost = lose(&t, &link, "lost-removal", delete).await?;
        honest("an atomic_delete", &lost.answer, |deleted| *deleted)
    })
    .await
}

pub(super) async fn lost_transaction(t: Trial) -> Verdict {
    if t.capabilities().max_txn_ops < 2 {
        return Ended::ignored("no transactions");
    }
    linked(t, async |t, link| {
        let kv = &link.kv;
        let steps = kv.transact().when_missing("lost-txn").then(kv.put("lost-txn", "mine")).deadline(LONG);
        let lost = lose(&t, &link, "lost-txn", steps).await?;
        let wrote = wrote(&lost.effect);
        honest("a transaction", &lost.answer, |outcome| {
            matches!(outcome, Outcome::Committed(written) if matches!(&written[..], [Some(w)] if wrote(w)))
        })
    })
    .await
}

pub(super) async fn lost_update(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        link.direct.put("lost-update", "1").await?;
        let update = link.kv.update("lost-update", count).deadline(LONG);
        let lost = lose(&t, &link, "lost-update", update).await?;
        let wrote = wrote(&lost.effect);
        honest("an update", &lost.answer, |updated| updated.written.as_ref().is_some_and(&wrote))?;
        let found = lost.end.map(|entry| entry.version);
        same("what another wrote after an update whose answer was lost", found, Some(lost.others))
    })
    .await
}

pub(super) async fn lost_update_found_out(t: Trial) -> Verdict {
    if let Some(ended) = only_plain(&t, &t.open().await?).await? {
        return Ok(ended);
    }
    linked(t, async |t, link| {
        link.direct.put("once-update", "1").await?;
        let update = link.kv.update("once-update", count).exactly_once().deadline(PATIENT);
        let lost = lose(&t, &link, "once-update", update).await?;
        let said = lost.answer.map(|updated| updated.value).map_err(|e| e.to_string());
        same(
            "what an update exactly once says whose answer was lost",
            said,
            Ok(Some(kv_core::Bytes::from("2"))),
        )?;
        let found = lost.end.map(|entry| entry.version);
        same("what another wrote after it", found, Some(lost.others))
    })
    .await
}

/// Lets a client notice that its connections are gone.
async fn notice(kv: &Kv) -> Result<(), Failure> {
    for _ in 0..3 {
        let read = kv.get("d/there").await;
        holds(format!("a read in an outage fails; found {read:?}"), read.is_err())?;
    }
    Ok(())
}

/// Checks that writes that cannot have left say so.
async fn never_sent(t: &Trial, kv: &Kv, there: Version) -> Result<(), Failure> {
    notice(kv).await?;
    for (what, answer) in answers(t, writes(kv, there)).await? {
        let fine = answer.as_ref().is_err_and(|e| e.is_transient());
        holds(format!("{what} that was never sent is Unavailable or Timeout; found {answer:?}"), fine)?;
    }
    Ok(())
}

pub(super) async fn link_refused(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        let there = direct.put("d/there", "there").await?.version;
        proxy.cut().await;
        never_sent(&t, kv, there).await?;
        proxy.heal().await;
        t.until("reads to succeed again", || async { Ok(kv.get("d/there").await.is_ok()) }).await?;
        let left: Vec<_> =
            direct.list("d").await?.into_iter().map(|e| (e.key.to_string(), e.version)).collect();
        same("what is there after writes that were never sent", left, [("d/there".to_owned(), there)])
    })
    .await
}

pub(super) async fn server_down_writes(t: Trial) -> Verdict {
    served(t, async |t, server, kv| {
        let there = kv.put("d/there", "there").deadline(PATIENT).await?.version;
        server.stop().await;
        never_sent(&t, &kv, there).await?;
        server.start().await;
        t.until("reads to succeed again", || async { Ok(kv.get("d/there").await.is_ok()) }).await?;
        let left = kv.list("d").deadline(PATIENT).await?;
        let left: Vec<_> = left.into_iter().map(|e| (e.key.to_string(), e.version)).collect();
        same("what is there after writes that were never sent", left, [("d/there".to_owned(), there)])
    })
    .await
}

pub(super) async fn frozen_write(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        proxy.freeze();
        let answer = kv.put("d/frozen", "").await;
        let error = answer.as_ref().err().map(Error::kind);
        holds(format!("a put over a frozen link fails; found {answer:?}"), error.is_some())?;
        proxy.heal().await;
        // A put that is still on its way arrives before the answers to these.
        for _ in 0..10 {
            let read = || async { Ok(kv.get("d/frozen").await.is_ok()) };
            t.until("reads to succeed again", read).await?;
        }
        let there = direct.exists("d/frozen").await?;
        let fine = error == Some(ErrorKind::OutcomeUnknown) || !there;
        holds(format!("a put that was answered with {answer:?} did not happen later"), fine)
    })
    .await
}

pub(super) async fn read_retried(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        put_all(direct, ["again-get", "again-exists", "again-many", "again-list/a"]).await?;
        let reads = [
            ("again-get", call(kv.get("again-get").deadline(LONG))),
            ("again-exists", call(kv.exists("again-exists").deadline(LONG))),
            ("again-many", call(kv.get_many(["again-many"]).deadline(LONG))),
            ("again-list", call(kv.list("again-list").deadline(LONG))),
        ];
        for (name, read) in reads {
            proxy.hold_answer_to(name);
            let mut reading = JoinSet::new();
            reading.spawn(read);
            t.soon(&format!("a request with the name {name:?} to pass the proxy"), proxy.trapped()).await?;
            proxy.reset().await;
            proxy.heal().await;
            let answer = t.soon("the answer of a read that lost its connection", reading.join_next()).await?;
            let answer = answer.ok_or("the read was begun")??;
            holds(format!("the read of {name:?} is asked again; found {answer:?}"), answer.is_ok())?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn read_after_cut(t: Trial) -> Verdict {
    linked(t, async |_, link| {
        let Linked { kv, proxy, direct } = &link;
        direct.put("d/there", "").await?;
        for _ in 0..5 {
            proxy.reset().await;
            for (what, read) in reads(&kv.clone().with_deadline(LONG)) {
                let answer = read.await;
                holds(format!("the first {what} after a cut succeeds; found {answer:?}"), answer.is_ok())?;
            }
        }
        Ok(())
    })
    .await
}

/// Checks that no call succeeds, finds nothing, or has a conflict.
async fn all_fail(t: &Trial, kv: &Kv, there: Version) -> Result<(), Failure> {
    let calls = reads(kv).into_iter().chain(writes(kv, there)).chain(acquisitions(kv));
    for (what, answer) in answers(t, calls).await? {
        let fine = answer.as_ref().is_err_and(of_an_outage);
        holds(
            format!("{what} in an outage is Unavailable, Timeout or OutcomeUnknown; found {answer:?}"),
            fine,
        )?;
    }
    Ok(())
}

pub(super) async fn cut_is_honest(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let there = link.direct.put("d/there", "there").await?.version;
        link.proxy.cut().await;
        all_fail(&t, &link.kv, there).await
    })
    .await
}

pub(super) async fn down_is_honest(t: Trial) -> Verdict {
    served(t, async |t, server, kv| {
        let there = kv.put("d/there", "there").deadline(PATIENT).await?.version;
        server.stop().await;
        all_fail(&t, &kv, there).await
    })
    .await
}

/// Checks that every call ends in time. All are made at once, so that none waits for another's
/// turn.
async fn in_time(kv: &Kv, there: Version) -> Result<(), Failure> {
    let mut calls = JoinSet::new();
    for (what, call) in reads(kv).into_iter().chain(writes(kv, there)).chain(acquisitions(kv)) {
        calls.spawn(async move {
            let began = Instant::now();
            let ended = timeout(DEADLINE + SLACK, call).await;
            (what, began.elapsed(), ended)
        });
    }
    while let Some(ended) = calls.join_next().await {
        let (what, took, answer) = ended?;
        let most = DEADLINE + SLACK;
        holds(
            format!("{what} with a deadline of {DEADLINE:?} ends within {most:?}; it took {took:?}"),
            answer.is_ok(),
        )?;
    }
    Ok(())
}

pub(super) async fn frozen_deadline(t: Trial) -> Verdict {
    linked(t, async |_, link| {
        let there = link.direct.put("d/there", "there").await?.version;
        link.proxy.freeze();
        in_time(&link.kv, there).await
    })
    .await
}

pub(super) async fn silent_deadline(t: Trial) -> Verdict {
    linked(t, async |_, link| {
        let there = link.direct.put("d/there", "there").await?.version;
        link.proxy.freeze_answers();
        in_time(&link.kv, there).await
    })
    .await
}

pub(super) async fn stopped_deadline(t: Trial) -> Verdict {
    served(t, async |_, server, kv| {
        let there = kv.put("d/there", "there").deadline(PATIENT).await?.version;
        server.stop().await;
        in_time(&kv, there).await
    })
    .await
}

pub(super) async fn paused_deadline(t: Trial) -> Verdict {
    served(t, async |_, server, kv| {
        let there = kv.put("d/there", "there").deadline(PATIENT).await?.version;
        server.pause().await;
        in_time(&kv, there).await
    })
    .await
}

pub(super) async fn store_deadline(t: Trial) -> Verdict {
    linked(t, async |_, link| {
        let store = link.kv.store();
        let key = Key::parse("d/a")?;
        link.proxy.freeze();
        let (read, write) = (
            ReadOptions::default().deadline(Deadline::after(DEADLINE)),
            WriteOptions::default().deadline(Deadline::after(DEADLINE)),
        );
        let list = ListOptions::default().read(read.clone());
        let put = PutOptions::default().deadline(Deadline::after(DEADLINE));
        let directory = key.as_directory();
        let none = Expect::Anything;
        let most = DEADLINE + SLACK;
        let ended = tokio::join!(
            timeout(most, store.get(&key, &read)),
            timeout(most, store.list(&directory, None, &list)),
            timeout(most, store.put(&key, "".into(), none, &put)),
            timeout(most, store.delete(&key, none, &write)),
        );
        let ended = [
            ("get", ended.0.is_ok()),
            ("list", ended.1.is_ok()),
            ("put", ended.2.is_ok()),
            ("delete", ended.3.is_ok()),
        ];
        for (what, ended) in ended {
            holds(format!("the store's {what} with a deadline of {DEADLINE:?} ends within {most:?}"), ended)?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn frozen_close(t: Trial) -> Verdict {
    linked(t, async |t, link| {
        let Linked { kv, proxy, .. } = &link;
        let guard = match &t.capabilities().lock {
            // A lock that could not be given back ends by its TTL.
            Some(_) => Some(kv.new_lock("l").ttl(lock_ttl(&t, Duration::from_secs(10))).acquire().await?),
            None => None,
        };
        let _watch = match t.capabilities().watch {
            kv_core::Watching::Unsupported => None,
            _ => Some(kv.watch("d/a").await?),
        };
        proxy.freeze();
        // Giving back and ending the connections have the deadline each.
        let most = DEADLINE * 2 + SLACK;
        // It depends on the server whether `close` says that something failed.
        let (watch, what) = (Stopwatch::start(), "the end of `close` over a frozen link");
        let closed = t.within(most + t.patience(), what, kv.close()).await?;
        watch.took().at_most(what, most)?;
        t.note(format!("`close` gave {closed:?}"));
        holds("no lock is held after `close`", !guard.is_some_and(|guard| guard.is_held()))
    })
    .await
}
