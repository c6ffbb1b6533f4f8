//! A server that is restored from a copy older than what watches have told: its counter goes back.

use super::*;
use crate::{
    cases::{locks::lock_ttl, watches::Follower},
    check::{holds, same},
};
use kv_core::Watching;

/// The number of times that each key is written after the copy was made.
const WRITES: usize = 30;

/// Reads until the follower has this value of the key, or no value, for `None`.
async fn comes_to(
    t: &Trial,
    follower: &mut Follower,
    what: &str,
    key: &str,
    value: Option<&str>,
) -> Result<(), Failure> {
    let reading = async {
        while follower.map.get(key).and_then(|entry| entry.text()) != value {
            let event = follower.watch().event().await;
            let event = event.map_err(|e| format!("{what} ended: {e:?}"))?;
            follower.fold(&event);
        }
        Ok::<_, Failure>(())
    };
    // It may take a while to notice a connection that is silent for ever.
    t.within(t.patience() * 2, &format!("{what} to tell {value:?}"), reading).await?
}

pub(super) async fn restored(t: Trial) -> Verdict {
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("no watches");
    }
    let Some(server) = t.server() else { return Ended::ignored("the harness cannot stop the server") };
    let kv = t.open().await?;
    for key in ["c/a", "c/b", "c/old"] {
        kv.put(key, "copied").await?;
    }
    if !server.save().await {
        return Ended::ignored("the harness cannot copy the server's data");
    }
    t.until("reads to succeed again", || async { Ok(kv.get("c/a").await.is_ok()) }).await?;
    let locks = t.capabilities().lock.is_some();
    let mut tree = Follower::of_tree(&t, &kv, "c").await?;
    let mut key = Follower::of_key(&t, &kv, "c/b").await?;
    let mut holder =
        Follower::new(&t, "a watch", if locks { kv.lock_holder("l").watch() } else { kv.watch("x") }).await?;
    holder.synced().await?;
    for n in 0..WRITES {
        kv.put("c/a", n.to_string()).await?;
        kv.put("c/b", n.to_string()).await?;
    }
    kv.delete("c/old").await?;
    kv.put("c/new", "later").await?;
    let ttl = lock_ttl(&t, Duration::from_secs(5));
    let guard = match locks {
        true => Some(t.soon("a free lock", kv.new_lock("l").value("later").ttl(ttl).acquire()).await??),
        false => None,
    };
    tree.agrees(&kv, "c").await?;
    comes_to(&t, &mut key, "the watch of a key", "c/b", Some(&(WRITES - 1).to_string())).await?;
    if locks {
        comes_to(&t, &mut holder, "the watch of a holder", "l", Some("later")).await?;
    }

    server.restore_saved().await;
    t.until("reads to succeed again", || async { Ok(kv.get("c/a").await.is_ok()) }).await?;
    same("what the copy has", kv.get("c/b").await?.as_ref().and_then(|e| e.text()), Some("copied"))?;
    tree.agrees(&kv, "c").await.map_err(|e| format!("before anything is written: {e}"))?;
    comes_to(&t, &mut key, "the watch of a key", "c/b", Some("copied")).await?;
    if let Some(guard) = guard {
        let time = ttl + t.patience();
        t.within(time, "the loss of a lock that the copy does not have", guard.lost()).await?;
        holds("it is not held", !guard.is_held())?;
        comes_to(&t, &mut holder, "the watch of a holder", "l", None).await?;
    }
    for key in ["c/a", "c/b", "c/fresh"] {
        kv.put(key, "after").await?;
    }
    tree.agrees(&kv, "c").await?;
    comes_to(&t, &mut key, "the watch of a key", "c/b", Some("after")).await?;
    if locks {
        let again = t.soon("a free lock", kv.new_lock("l").value("after").ttl(ttl).acquire()).await??;
        comes_to(&t, &mut holder, "the watch of a holder", "l", Some("after")).await?;
        holds("it was held until it was released", again.release().await?)?;
        comes_to(&t, &mut holder, "the watch of a holder", "l", None).await?;
    }
    Ok(Ended::Kept)
}
