//! Watches that claim to tell each change.

use super::{Follower, watching};
use crate::{Ended, Failure, Trial, Verdict, check::same};
use kv_core::{Kv, Version, WatchEvent, Watching};

/// The number of writes that follow each other without a pause.
const WRITES: usize = 40;
/// The number of rounds, of which one has to be told without a new listing.
const ROUNDS: usize = 3;

pub(super) async fn burst(t: Trial) -> Verdict {
    if t.capabilities().watch == Watching::NewestState {
        return Ended::ignored("a watch tells the newest state of a key, and may skip those before it");
    }
    watching(t, async |t, kv| {
        let writer = t.open().await?;
        for round in 0..ROUNDS {
            let key = format!("d/{round}");
            let mut follower = Follower::of_key(&t, &kv, &key).await?;
            let (written, told) = futures::join!(write(&writer, &key), read(&mut follower));
            let (written, told) = (written?, told?);
            // A watch that lists anew tells what is there then.
            if let Some(told) = told {
                return same("the changes that a reader is told who keeps up", told, written);
            }
        }
        Err(format!("the watch listed anew in each of {ROUNDS} rounds").into())
    })
    .await
}

/// Writes the key again and again, and returns the version of each put, and `None` for each
/// deletion.
async fn write(kv: &Kv, key: &str) -> Result<Vec<Option<Version>>, Failure> {
    let mut written = Vec::with_capacity(WRITES);
    for n in 1..=WRITES {
        written.push(if n % 8 == 3 {
            kv.delete(key).await?;
            None
        } else {
            Some(kv.put(key, n.to_string()).await?.version)
        });
    }
    Ok(written)
}

/// Reads up to the last write, and returns the changes in the same form; `None` where the watch
/// listed anew meanwhile.
async fn read(follower: &mut Follower) -> Result<Option<Vec<Option<Version>>>, Failure> {
    let (mut told, mut is_whole) = (Vec::with_capacity(WRITES), true);
    loop {
        match follower.next().await? {
            WatchEvent::Put(entry) => {
                told.push(Some(entry.version));
                if entry.value == WRITES.to_string() {
                    return Ok(is_whole.then_some(told));
                }
            }
            WatchEvent::Delete { .. } => told.push(None),
            WatchEvent::Synced => is_whole = false,
        }
    }
}
