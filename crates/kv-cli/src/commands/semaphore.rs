//! `semaphore`: so many commands at once, and no more.

use super::terms::{Patience, Times};
use crate::{
    exit::{Exit, Failure, Run},
    guarded::{self, End, Signals},
};
use clap::Args;
use kv_core::{Condition, Key, Kv};
use kv_recipes::Semaphore;
use std::ffi::OsString;

/// The arguments of `semaphore`.
#[derive(Args, Debug)]
pub(crate) struct SemaphoreArgs {
    /// The name of the semaphore; what belongs to it are keys below it, and the lock of this name
    name: Key,
    /// The number of permits that are held at once at the most: the same in every command of this
    /// name
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    permits: u32,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// The command, which is run without a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn semaphore(args: SemaphoreArgs, kv: &Kv) -> Run {
    let SemaphoreArgs { name, permits, times, patience, command } = args;
    let capabilities = kv.capabilities();
    let range = capabilities.lease.as_ref().ok_or_else(|| capabilities.unsupported("leases"))?;
    let grace = guarded::grace(range, times.ttl, times.grace)?;
    let mut signals = Signals::catch()?;
    let permits = usize::try_from(permits).unwrap_or(usize::MAX);
    let semaphore = Semaphore::new(kv, &name, permits).ttl(times.ttl);
    let acquire = async {
        match patience {
            Patience { at_once: true, .. } => semaphore.try_acquire().await,
            Patience { within: Some(within), .. } => semaphore.acquire_within(within).await,
            Patience { .. } => semaphore.acquire().await.map(Some),
        }
    };
    let acquired = tokio::select! {
        biased;
        signal = signals.ending() => return Ok(Exit::of_signal(signal.as_raw())),
        acquired = Box::pin(acquire) => acquired?,
    };
    let Some(permit) = acquired else {
        let why = format!("all permits of {name:?} are held by others ({permits}), or others wait for one");
        return Err(Failure::no(why));
    };
    let end = guarded::run(&permit, grace, &command, &mut signals).await;
    // The lease that is given back knows nothing of a key that somebody has deleted.
    let found = kv.get(permit.key()).await.map(|found| found.map(|entry| entry.version));
    let condition = permit.condition();
    let was_held = permit.release().await.map(|was_held| match (found, condition) {
        (Ok(found), Condition::Version(_, version)) => was_held && found == Some(version),
        _ => was_held,
    });
    guarded::released("the permit", "the permit is free", times.ttl, was_held, end.and_then(End::exit))
}
