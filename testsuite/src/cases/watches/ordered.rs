//! The order in which the changes of different keys are told.

use super::{Follower, all, watching};
use crate::{Ended, Failure, Trial, Verdict, check::holds};
use futures::FutureExt;
use kv_core::{Kv, WatchEvent};

/// The number of those who write side by side, and of the steps that each makes one by one.
const WRITERS: usize = 6;
const STEPS: usize = 24;
/// The size of some values: servers may tell that such a value was written, and not the value.
const LARGE: usize = 20_000;
/// The number of rounds, of which one has to be told without a new listing.
const ROUNDS: usize = 3;

pub(super) async fn commits(t: Trial) -> Verdict {
    if !t.capabilities().watch_ordered {
        return Ended::ignored("the server tells no order of the changes of different keys");
    }
    watching(t, async |t, kv| {
        let clients = [kv.clone(), t.open().await?, t.open().await?];
        for round in 0..ROUNDS {
            let Some(told) = told(&t, &clients, &format!("d/{round}")).await? else { continue };
            let mut last = [None::<usize>; WRITERS];
            for (writer, step) in told {
                let before = last.get_mut(writer).ok_or("a step of nobody was told")?;
                let what = format!("step {step} of writer {writer} is told behind step {before:?}");
                holds(what, before.is_none_or(|before| before < step))?;
                *before = Some(step);
            }
            return Ok(());
        }
        Err(format!("the watch listed anew in each of {ROUNDS} rounds").into())
    })
    .await
}

/// Has all writers make their steps, and returns the steps in the order in which a watch tells
/// them, each by its writer and its number. `None` where the watch listed anew meanwhile: a
/// listing is in no order.
async fn told(t: &Trial, clients: &[Kv; 3], directory: &str) -> Result<Option<Vec<(usize, usize)>>, Failure> {
    let mut follower = Follower::of_tree(t, &clients[0], directory).await?;
    // The watch is read when all is written, as by a reader that was busy.
    all(WRITERS, (0..WRITERS).map(|writer| steps(clients, directory, writer).boxed())).await?;
    let (end, mut came) = (format!("{directory}/end"), Vec::new());
    // A listing that tells the first mark has ended before the second one is told.
    for _ in 0..2 {
        let version = clients[0].put(&end, "a mark").await?.version;
        while follower.map.get(end.as_str()).is_none_or(|entry| entry.version < version) {
            came.push(follower.next().await?);
        }
    }
    let listed = came.contains(&WatchEvent::Synced);
    Ok((!listed).then(|| came.iter().filter_map(step).collect()))
}

/// Makes the steps of one writer, each by another client than the one before.
async fn steps(clients: &[Kv; 3], directory: &str, writer: usize) -> Result<(), Failure> {
    for step in 0..STEPS {
        let kv = &clients[(writer + step) % clients.len()];
        let size = if step.is_multiple_of(8) { LARGE } else { 0 };
        let value = format!("{writer}.{step}.{}", "x".repeat(size));
        match step % 4 {
            // The key of a deletion has the number of its step in its name.
            2 => {
                kv.put(format!("{directory}/{writer}.{}", step + 1), value).await?;
            }
            3 => {
                kv.delete(format!("{directory}/{writer}.{step}")).await?;
            }
            _ => {
                kv.put(format!("{directory}/{}", (writer + step) % 5), value).await?;
            }
        }
    }
    Ok(())
}

/// Returns the step that an event tells.
fn step(event: &WatchEvent) -> Option<(usize, usize)> {
    let text = match event {
        WatchEvent::Put(entry) => entry.text()?,
        WatchEvent::Delete { key, .. } => key.name(),
        WatchEvent::Synced => return None,
    };
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
