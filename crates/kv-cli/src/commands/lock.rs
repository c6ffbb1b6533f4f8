//! `lock`, `holder`.

use super::terms::{Patience, Times, this_process};
use crate::{
    exit::{Exit, Failure, Run},
    guarded::{self, End, Signals},
    lines::{Content, V},
    out::Out,
    text,
};
use clap::Args;
use kv_core::{Guard, Holder, Key, Kv, WatchEvent};
use serde::Serialize;
use std::ffi::OsString;

/// The arguments of `lock`.
#[derive(Args, Debug)]
pub(crate) struct LockArgs {
    /// The name of the lock, apart from the names of keys
    name: Key,
    /// The value of the lock, which tells others who holds it; unless given, this machine and
    /// process
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// The command, which is run without a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn lock(args: LockArgs, kv: &Kv) -> Run {
    let capabilities = kv.capabilities();
    let locking = capabilities.lock.as_ref().ok_or_else(|| capabilities.unsupported("locks"))?;
    let grace = guarded::grace(&locking.ttl, args.times.ttl, args.times.grace)?;
    let mut signals = Signals::catch()?;
    let value = args.value.unwrap_or_else(this_process);
    let lock = kv.new_lock(&args.name).ttl(args.times.ttl).value(value);
    let acquire = async {
        match args.patience {
            Patience { at_once: true, .. } => lock.try_acquire().await,
            Patience { within: Some(within), .. } => lock.acquire_within(within).await,
            Patience { .. } => lock.acquire().await.map(Some),
        }
    };
    let acquired = tokio::select! {
        biased;
        signal = signals.ending() => return Ok(Exit::of_signal(signal.as_raw())),
        acquired = acquire => acquired?,
    };
    let Some(guard) = acquired else { return Err(held(kv, &args.name).await) };
    let end = guarded::run(&guard, grace, &args.command, &mut signals).await;
    release(guard, end.and_then(End::exit)).await
}

/// Says who holds the lock, as far as that is known.
async fn held(kv: &Kv, name: &Key) -> Failure {
    match kv.lock_holder(name).await {
        Ok(Some(Holder { value, .. })) => {
            Failure::no(format!("the lock {name:?} is held by another: {}", text::on_one_line(&value)))
        }
        _ => Failure::no(format!("the lock {name:?} is held by another, or others wait for it")),
    }
}

/// Releases the lock, and returns the end of what was done under it.
async fn release(guard: Guard, ended: Run) -> Run {
    let ttl = guard.ttl();
    guarded::released("the lock", "the lock is free", ttl, guard.release().await, ended)
}

/// The holder of a lock.
#[derive(Serialize)]
struct HolderLine<'a> {
    v: u8,
    name: &'a str,
    /// The fencing token; null where nobody holds the lock.
    token: Option<u64>,
    #[serde(flatten)]
    content: Content<'a>,
}

/// The arguments of `holder`.
#[derive(Args, Debug)]
pub(crate) struct HolderArgs {
    /// The name of the lock or election
    name: Key,
    /// Tells every change from now on, too
    #[arg(long, short)]
    watch: bool,
}

pub(crate) async fn holder(args: HolderArgs, kv: &Kv, out: &mut Out) -> Run {
    if args.watch {
        return watch(&args.name, kv, out).await;
    }
    let found = kv.lock_holder(&args.name).await?;
    let is_held = found.is_some();
    if is_held || out.is_json() {
        show(&args.name, found.as_ref(), out)?;
        return Ok(if is_held { Exit::DONE } else { Exit::NO });
    }
    Err(Failure::no(format!("nobody holds the lock {:?}", args.name)))
}

async fn watch(name: &Key, kv: &Kv, out: &mut Out) -> Run {
    let mut watch = kv.lock_holder(name).watch().await?;
    let mut gone = Box::pin(out.reader_gone());
    let (mut holder, mut is_synced) = (None, false);
    loop {
        let event = tokio::select! {
            biased;
            failure = &mut gone => return Err(failure),
            event = watch.event() => event?,
        };
        match event {
            WatchEvent::Put(entry) => holder = Some(Holder::new(entry.version.parts().0, entry.value)),
            WatchEvent::Delete { .. } => holder = None,
            // Whether somebody holds the lock is known from the first of these on; the later ones
            // tell nothing new.
            WatchEvent::Synced if is_synced => continue,
            WatchEvent::Synced => is_synced = true,
        }
        if is_synced {
            show(name, holder.as_ref(), out)?;
            out.flush()?;
        }
    }
}

fn show(name: &Key, holder: Option<&Holder>, out: &mut Out) -> Run<()> {
    if out.is_json() {
        let (token, value) = (holder.map(|holder| holder.token), holder.map(|holder| &*holder.value));
        let content = value.map(Content::of).unwrap_or_default();
        return out.object(&HolderLine { v: V, name: name.as_str(), token, content });
    }
    match holder {
        Some(Holder { token, value, .. }) => {
            let rest = format!("{}{}", out.between(), text::on_one_line(value));
            out.shown(None, &token.to_string(), &rest)
        }
        None => out.line("free"),
    }
}
