//! The moment at which a holder loses a lock, over a link that was frozen.

use super::{holding::locked, *};
use crate::{cases::locks::lock_ttl, check::holds};
use kv_core::Guard;
use std::time::Instant;

/// A lock whose link was frozen right after it was got.
struct Frozen {
    guard: Guard,
    /// A moment before the lock was asked for: no renewal that succeeded began earlier.
    asked: Instant,
    /// A moment behind the freeze: no renewal that begins later succeeds.
    frozen: Instant,
}

async fn frozen(t: &Trial, link: &Linked) -> Result<Frozen, Failure> {
    let ttl = lock_ttl(t, Duration::from_secs(2));
    let asked = Instant::now();
    let guard = link.kv.new_lock("l").ttl(ttl).deadline(PATIENT).acquire().await?;
    link.proxy.freeze();
    Ok(Frozen { guard, asked, frozen: Instant::now() })
}

/// Waits until `is_held()` is false. A look is a fault where it is wrong at every moment of it.
async fn seen(frozen: &Frozen) -> Result<(), Failure> {
    let Frozen { guard, asked, frozen } = frozen;
    // The life counts from the start of the last renewal.
    let life = guard.ttl() - guard.ttl() / 10;
    loop {
        let began = Instant::now();
        let is_held = guard.is_held();
        let ended = Instant::now();
        if !is_held {
            let lived = ended - *asked;
            return holds(
                format!("a lock is held for {life:?} from its renewal on; it was for {lived:?} at most"),
                lived >= life,
            );
        }
        let late = began.saturating_duration_since(*frozen + life);
        let what = format!("a lock is lost {life:?} behind the freeze; it was held {late:?} later");
        holds(what, late.is_zero())?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn moment(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let frozen = frozen(&t, &link).await?;
        let time = frozen.guard.ttl() + t.patience();
        t.within(time, "the loss of a lock over a frozen link", seen(&frozen)).await?
    })
    .await
}

pub(super) async fn told(t: Trial) -> Verdict {
    locked(t, async |t, link| {
        let frozen = frozen(&t, &link).await?;
        let guard = &frozen.guard;
        let over = async {
            while guard.is_held() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            // All that was due by then runs, however late this program was woken.
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let told = async {
            tokio::select! {
                biased;
                _ = guard.lost() => true,
                () = over => false,
            }
        };
        let time = guard.ttl() + t.patience();
        let told = t.within(time, "the loss of a lock over a frozen link", told).await?;
        holds("`lost()` is ready within 250 ms of the loss", told)?;
        holds("a lock whose loss is told is not held", !guard.is_held())
    })
    .await
}
