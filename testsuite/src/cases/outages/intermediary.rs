//! Intermediaries that answer in the server's place: reverse proxies, ingresses, captive portals.

use super::*;
use crate::{
    cases::{
        locks::{lock_ttl, waits_in_line},
        put_all,
        watches::Follower,
    },
    check::{holds, same, still_held},
};
use kv_core::{WatchEvent, Watching};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

/// Answers of intermediaries: a name for messages, the status, the content's type, the content.
const ANSWERS: [(&str, &str, &str, &str); 6] = [
    ("a 404 of text", "404 Not Found", "text/plain", "404 page not found\n"),
    ("a page of HTML", "200 OK", "text/html", "<html><body>Welcome</body></html>"),
    ("a 400 of text", "400 Bad Request", "text/plain", "Bad request\n"),
    ("an empty 400", "400 Bad Request", "text/plain", ""),
    ("a 403 of text", "403 Forbidden", "text/plain", "Forbidden\n"),
    ("a 429", "429 Too Many Requests", "text/plain", "slow down\n"),
];

/// Runs the case where the backend speaks HTTP.
async fn speaking<F>(t: Trial, case: impl FnOnce(Trial, Linked) -> F) -> Verdict
where
    F: Future<Output = Result<(), Failure>>,
{
    if !t.harness().speaks_http() {
        return Ended::ignored(
            "the backend does not speak HTTP: what is not the server's is no answer at all",
        );
    }
    linked(t, case).await
}

/// Has the proxy answer like this from here on.
async fn answer(proxy: &Proxy, (_, status, kind, text): (&str, &str, &str, &str)) {
    let length = text.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}");
    proxy.answer_for_server(format!("{head}\r\nConnection: close\r\n\r\n{text}")).await;
}

pub(super) async fn calls(t: Trial) -> Verdict {
    speaking(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        let there = direct.put("d/there", "there").await?.version;
        for theirs in ANSWERS {
            answer(proxy, theirs).await;
            let what = theirs.0;
            let calls = reads(kv).into_iter().chain(writes(kv, there)).chain(acquisitions(kv));
            for (call, answer) in answers(&t, calls).await? {
                let Err(e) = answer else {
                    return Err(format!("{call} that {what} answers succeeds: {answer:?}").into());
                };
                let passes = !e.is_lasting() && !e.is_conflict();
                holds(format!("{call} that {what} answers fails by what may pass; found {e:?}"), passes)?;
            }
            proxy.heal().await;
            t.until("reads to succeed again", || async { Ok(kv.get("d/there").await.is_ok()) }).await?;
        }
        let left: Vec<_> =
            direct.list("d").await?.into_iter().map(|e| (e.key.to_string(), e.version)).collect();
        same(
            "what is there after writes that the server never heard of",
            left,
            [("d/there".to_owned(), there)],
        )
    })
    .await
}

pub(super) async fn watches(t: Trial) -> Verdict {
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("no watches");
    }
    speaking(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        put_all(direct, ["d/a", "d/b", "d/k"]).await?;
        let mut tree = Follower::of_tree(&t, kv, "d").await?;
        let mut key = Follower::of_key(&t, kv, "d/k").await?;
        for theirs in ANSWERS {
            answer(proxy, theirs).await;
            let what = theirs.0;
            let late = kv.watch_tree("d").await;
            let mut late =
                late.map_err(|e| format!("a watch that begins behind {what} waits for the server: {e:?}"))?;
            let told = async {
                loop {
                    let (watch, event) = tokio::select! {
                        event = tree.watch().event() => ("the tree", event),
                        event = key.watch().event() => ("the key", event),
                        event = late.event() => break ("a tree, begun late", event),
                    };
                    // The `Synced` after the end of the last answer may come only now.
                    if !matches!(event, Ok(WatchEvent::Synced)) {
                        break (watch, event);
                    }
                }
            };
            // The watches ask again and again, for this is longer than a request may take.
            if let Ok((watch, event)) = timeout(DEADLINE * 3, told).await {
                return Err(format!("{what} is told to the watch of {watch} as {event:?}").into());
            }
            proxy.heal().await;
            direct.put("d/k", what).await?;
            tree.agrees(direct, "d").await.map_err(|e| format!("after {what}: {e}"))?;
            key.agrees_with(direct, "d/k").await.map_err(|e| format!("after {what}: {e}"))?;
            let told = async {
                let mut keys = 0;
                while late.event().await?.key().is_some() {
                    keys += 1;
                }
                Ok::<_, Error>(keys)
            };
            let keys = t.soon("the snapshot of a watch that began late", told).await??;
            same(format!("keys that a watch which began behind {what} tells first"), keys, 3)?;
        }
        same("what broke the order", [tree.disorder, key.disorder].concat(), Vec::<String>::new())
    })
    .await
}

pub(super) async fn odd_names(t: Trial) -> Verdict {
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("no watches");
    }
    speaking(t, async |t, link| {
        let (proxy, prefix) = (&link.proxy, format!("{}café/", t.prefix()));
        let opened = t.harness().open_through(proxy, &prefix).await;
        let kv = opened.ok_or("the harness opens clients behind a proxy")??.with_deadline(DEADLINE);
        let direct = t.open_under(&prefix).await?;
        let mut tree = Follower::of_tree(&t, &kv, "ключи").await?;
        for status in ["400 Bad Request", "404 Not Found", "414 URI Too Long"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            proxy.answer_for_server(head).await;
            let mut late = kv.watch("ключи/late").await?;
            let told = async {
                loop {
                    let (watch, event) = tokio::select! {
                        event = tree.watch().event() => ("a tree", event),
                        event = late.event() => break ("a key, begun late", event),
                    };
                    // The `Synced` after the end of the last answer may come only now.
                    if !matches!(event, Ok(WatchEvent::Synced)) {
                        break (watch, event);
                    }
                }
            };
            if let Ok((watch, event)) = timeout(DEADLINE * 3, told).await {
                return Err(format!("an empty {status} is told to the watch of {watch} as {event:?}").into());
            }
            proxy.heal().await;
            direct.put("ключи/a", status).await?;
            tree.agrees(&direct, "ключи").await.map_err(|e| format!("after an empty {status}: {e}"))?;
            let first = t.soon("the first event of a watch that began late", late.event()).await??;
            same(
                format!("what a watch that began behind an empty {status} tells"),
                first,
                WatchEvent::Synced,
            )?;
        }
        direct.delete_tree("").await?;
        Ok(())
    })
    .await
}

pub(super) async fn holding(t: Trial) -> Verdict {
    let (locks, leases) = (t.capabilities().lock.is_some(), t.capabilities().lease.clone());
    if !locks && leases.is_none() {
        return Ended::ignored("no locks, no leases");
    }
    speaking(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        // A machine that stands still for a second must not end what is held: a third of the TTL
        // is left after the last of these answers.
        let ttl = lock_ttl(&t, Duration::from_secs(8));
        for some in ANSWERS.chunks(3) {
            let what = some.iter().map(|theirs| theirs.0).collect::<Vec<_>>().join(", ");
            let guard = match locks {
                true => Some(t.soon("a free lock", kv.new_lock("l").ttl(ttl).acquire()).await??),
                false => None,
            };
            let lease = match &leases {
                Some(range) => Some(kv.lease(range.grant(ttl.min(range.greatest))?).deadline(PATIENT).await?),
                None => None,
            };
            if let Some(lease) = &lease {
                kv.put("d/leased", "").lease(lease).deadline(PATIENT).await?;
            }
            // The next renewals, which are due after a third of the TTL, meet all of these
            // answers; then there is time for another renewal.
            let began = Instant::now();
            sleep_until(began + ttl.mul_f64(0.3)).await;
            for (theirs, tenths) in some.iter().zip(4_u32..) {
                answer(proxy, *theirs).await;
                sleep_until(began + ttl / 10 * tenths).await;
                let before = format!("behind {} before its time", theirs.0);
                if let Some(guard) = &guard {
                    still_held(format!("a lock is held {before}"), guard)?;
                }
                if let Some(lease) = &lease {
                    still_held(format!("a lease is held {before}"), lease)?;
                }
            }
            proxy.heal().await;
            // By then what is held would be lost, were it not renewed since.
            sleep_until(began + ttl).await;
            if let Some(guard) = guard {
                still_held(format!("a lock is renewed after {what}"), &guard)?;
                let holder = direct.lock_holder("l").await?.map(|holder| holder.token);
                same(format!("the holder after {what}"), holder, Some(guard.token()))?;
                holds(format!("a release after {what}"), guard.release().await?)?;
            }
            if let Some(lease) = lease {
                still_held(format!("a lease is renewed after {what}"), &lease)?;
                holds(format!("the key of a lease is there after {what}"), direct.exists("d/leased").await?)?;
                holds(format!("a revocation after {what}"), lease.revoke().await?)?;
            }
        }
        Ok(())
    })
    .await
}

pub(super) async fn waiting(t: Trial) -> Verdict {
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    speaking(t, async |t, link| {
        let Linked { kv, proxy, direct } = &link;
        // With this TTL the lock is held until all answers were heard.
        let long = lock_ttl(&t, Duration::from_secs(60));
        let lock = kv.new_lock("l").ttl(lock_ttl(&t, Duration::from_secs(10)));
        let guard = t.soon("a free lock", direct.new_lock("l").ttl(long).acquire()).await??;
        let mut waiting = JoinSet::new();
        waiting.spawn(lock.clone().acquire());
        waits_in_line(&t, kv, "l", 1).await?;
        for theirs in ANSWERS {
            answer(proxy, theirs).await;
            let what = theirs.0;
            // Its first request meets this answer.
            waiting.spawn(lock.clone().acquire());
            // This is longer than any request of the waiters' may take.
            let early = timeout(DEADLINE * 2, waiting.join_next()).await;
            holds(format!("waits for a lock go on behind {what}; found {early:?}"), early.is_err())?;
        }
        proxy.heal().await;
        let mut last = guard.token();
        holds("the lock was held until its release", guard.release().await?)?;
        while !waiting.is_empty() {
            let what = "a waiter to get the lock behind the answers";
            let got = t.within(t.patience() * 2, what, waiting.join_next()).await?;
            let got = got.ok_or("the wait was begun")??;
            let got = got.map_err(|e| format!("a wait ended by what was not the server's word: {e:?}"))?;
            still_held("a lock that was got is held", &got)?;
            holds("its token is above that of the one before", got.token() > last)?;
            last = got.token();
        }
        // The last one is given back while there is a link.
        let free = || async { Ok(direct.lock_holder("l").await.is_ok_and(|holder| holder.is_none())) };
        t.until("the lock to be free", free).await
    })
    .await
}
