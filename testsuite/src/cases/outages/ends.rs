//! Releases and revocations whose answers are lost: a repeat finds nothing to give back, and that
//! is not the truth about the first attempt.

use super::*;
use crate::{cases::locks::lock_ttl, check::holds};
use tokio::task::JoinSet;

/// The longest time from a request that gives back to its effect. A request without an effect by
/// then was a read, which some backends make first.
const LOOK: Duration = Duration::from_secs(5);
/// The time that a backend has to ask again, if it does.
const AGAIN: Duration = Duration::from_secs(1);
/// A deadline that is longer than the link is away.
const LONG: Duration = Duration::from_secs(20);

/// Has the server do the release or revocation, and loses its answer, and those of repeats,
/// `losses` in all. Returns what the client says.
async fn lose(
    t: &Trial,
    link: &Linked,
    losses: usize,
    ending: impl Future<Output = Result<bool>> + Send + 'static,
    gone: impl AsyncFn(&Kv) -> Result<bool>,
) -> Result<Result<bool>, Failure> {
    let Linked { proxy, direct, .. } = link;
    let mut calls = JoinSet::new();
    proxy.hold_next_answer();
    calls.spawn(ending);
    loop {
        let trapped = async {
            tokio::select! {
                biased;
                () = proxy.trapped() => None,
                answer = calls.join_next() => answer,
            }
        };
        if let Some(answer) = t.soon("the request that gives back to pass the proxy", trapped).await? {
            return Err(format!("it was answered before anything was given back: {:?}", answer?).into());
        }
        if t.until_within(LOOK, "it to be given back", || gone(direct)).await.is_ok() {
            break;
        }
        // The trapped request was a read that the backend makes first; the one that gives back
        // comes behind its answer.
        proxy.hold_next_answer();
    }
    for _ in 1..losses {
        proxy.hold_next_answer();
        proxy.reset().await;
        // It depends on the backend whether anything is asked again.
        let _ = tokio::time::timeout(AGAIN, proxy.trapped()).await;
    }
    proxy.reset().await;
    proxy.heal().await;
    let answer = t.soon("the answer of what gave back and lost its connection", calls.join_next()).await?;
    Ok(answer.ok_or("it was begun")??)
}

/// Checks that the answer is `true`, or `OutcomeUnknown`.
fn honest(what: &str, answer: &Result<bool>) -> Result<(), Failure> {
    let fine = match answer {
        Ok(was_held) => *was_held,
        Err(e) => e.kind() == ErrorKind::OutcomeUnknown,
    };
    let expected = "`true`, for it was held until then, or `OutcomeUnknown`";
    holds(format!("{what} whose answer is lost gives {expected}; found {answer:?}"), fine)
}

pub(super) async fn lost_release(t: Trial) -> Verdict {
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    linked(t, async |t, link| {
        // No lock is lost within this TTL, and nothing is left on the server for long.
        let ttl = lock_ttl(&t, Duration::from_secs(15));
        for losses in [1, 2] {
            let acquire = link.kv.new_lock("l").ttl(ttl).deadline(LONG).acquire();
            let guard = t.soon("a free lock", acquire).await??;
            let free = async |kv: &Kv| Ok(kv.lock_holder("l").await?.is_none());
            let answer = lose(&t, &link, losses, guard.release(), free).await?;
            honest("a release", &answer)?;
        }
        // The handle is closed while there is a link, by which what locks share is given back.
        link.kv.close().await.or_else(|e| if of_an_outage(&e) { Ok(()) } else { Err(e.into()) })
    })
    .await
}

pub(super) async fn lost_revocation(t: Trial) -> Verdict {
    let Some(range) = t.capabilities().lease.clone() else { return Ended::ignored("no leases") };
    linked(t, async |t, link| {
        let ttl = range.greatest.min(range.least.max(Duration::from_secs(15)));
        for losses in [1, 2] {
            let lease = link.kv.lease(ttl).deadline(LONG).await?;
            link.kv.put("d/a", "").lease(&lease).deadline(LONG).await?;
            let gone = async |kv: &Kv| Ok(!kv.exists("d/a").await?);
            let answer = lose(&t, &link, losses, lease.revoke(), gone).await?;
            honest("a revocation", &answer)?;
        }
        link.kv.close().await.or_else(|e| if of_an_outage(&e) { Ok(()) } else { Err(e.into()) })
    })
    .await
}
