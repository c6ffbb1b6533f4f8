//! The one member that plans.

use super::{
    member::Member,
    plan::{Is, Plan, Weights},
};
use crate::{
    Service,
    patience::{backoff, ends, until_lost},
};
use kv_core::{ErrorKind, Guard, Result, Version, Watch, WatchEvent};
use std::{convert::Infallible, time::Duration};
use tokio::time::sleep;

/// The time for which changes of the members are put together, so that those that start at once
/// are planned for at once.
const QUIET: Duration = Duration::from_millis(300);

/// Waits until this member plans, and plans as long as it holds the lock.
pub(super) async fn plan(member: &Member) -> Result<Infallible> {
    let mut backoff = backoff();
    loop {
        let guard = member.kv.new_lock(&member.name).ttl(member.ttl).acquire().await?;
        match until_lost(|| guard.is_held(), guard.lost(), plan_under(member, &guard)).await {
            Ok(Err(e)) if ends(&e) => return Err(e),
            Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
            Ok(Err(_)) | Err(_) => {}
        }
        drop(guard);
        backoff.pause().await;
    }
}

/// Plans anew whenever the members have changed, and when somebody else has written the plan or
/// deleted it.
async fn plan_under(member: &Member, guard: &Guard) -> Result<Infallible> {
    let members: Service<Is> = Service::open(&member.kv, member.members()?).await?;
    let mut plans = member.kv.watch(member.plan()?).await?;
    loop {
        sleep(QUIET).await;
        // The changes are counted from before this look at the members, which takes up all that
        // went before it.
        let mut changes = members.changes();
        let living = members.instances();
        let weights = living.iter().map(|is| (is.key.name().to_owned(), is.value.weight));
        let weights: Weights = weights.filter(|(_, weight)| *weight > 0).collect();
        // Where nobody is known to live, this member itself is not: it is being registered again.
        let stands = match weights.is_empty() {
            true => None,
            false => Some(write(member, guard, &weights).await?),
        };
        tokio::select! {
            change = changes.next() => drop(change?),
            other = until_other(&mut plans, stands) => other?,
        }
    }
}

/// Waits until the plan may be another than the one of this version.
async fn until_other(plans: &mut Watch, stands: Option<Version>) -> Result<()> {
    loop {
        match plans.event().await? {
            WatchEvent::Put(entry) if stands.is_some_and(|version| entry.version <= version) => {}
            WatchEvent::Put(_) | WatchEvent::Delete { .. } => return Ok(()),
            WatchEvent::Synced => {}
        }
    }
}

/// Writes the plan for these members, unless it stands there; returns the version of the plan.
async fn write(member: &Member, guard: &Guard, weights: &Weights) -> Result<Version> {
    let mut backoff = backoff();
    loop {
        match try_to_write(member, guard, weights).await {
            Err(e) if !ends(&e) && e.kind() != ErrorKind::LockLost => backoff.pause().await,
            ended => return ended,
        }
    }
}

/// Tries once. A try whose answer was lost comes too late for any later one: each expects the
/// version that it has read, and the next one begins with what it finds.
async fn try_to_write(member: &Member, guard: &Guard, weights: &Weights) -> Result<Version> {
    let (key, shards) = (member.plan()?, member.shards);
    let found = member.kv.get(&key).await?;
    let before = found.as_ref().map(|entry| Plan::read(entry, shards)).transpose()?;
    let next = Plan::after(before.as_ref(), shards, weights);
    let put = member.kv.put(&key, next.record()?).fenced(guard);
    let put = match found {
        Some(entry) if before.as_ref() == Some(&next) => return Ok(entry.version),
        Some(entry) => put.if_version(entry.version),
        None => put.if_missing(),
    };
    Ok(put.await?.version)
}
