//! `lock`, `elect`, `holder`.

use super::terms::{Patience, Times};
use crate::{
    exit::{Exit, Failure, Run},
    guarded::{self, End, Signals},
    lines::{Content, V},
    out::{Out, note},
    text,
};
use clap::Args;
use kv_core::{Guard, Holder, Key, Kv, Lock, WatchEvent};
use serde::Serialize;
use std::{ffi::OsString, process, time::Duration};

/// The terms on which a lock is held.
#[derive(Args, Debug)]
struct Terms {
    /// The value of the lock, which tells others who holds it; unless given, this machine and
    /// process
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    #[command(flatten)]
    times: Times,
}

impl Terms {
    /// Returns the time that a command has behind the loss of the lock.
    fn grace(&self, kv: &Kv) -> Run<Duration> {
        let capabilities = kv.capabilities();
        let locking = capabilities.lock.as_ref().ok_or_else(|| capabilities.unsupported("locks"))?;
        guarded::grace(&locking.ttl, self.times.ttl, self.times.grace)
    }

    fn lock(&self, kv: &Kv, name: &Key) -> Lock {
        let this = || {
            let system = rustix::system::uname();
            format!("{} pid {}", system.nodename().to_string_lossy(), process::id())
        };
        kv.new_lock(name).ttl(self.times.ttl).value(self.value.clone().unwrap_or_else(this))
    }
}

/// The arguments of `lock`.
#[derive(Args, Debug)]
pub(crate) struct LockArgs {
    /// The name of the lock, apart from the names of keys
    name: Key,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    patience: Patience,
    /// The command, which is run without a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn lock(args: LockArgs, kv: &Kv) -> Run {
    let grace = args.terms.grace(kv)?;
    let mut signals = Signals::catch()?;
    let lock = args.terms.lock(kv, &args.name);
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

/// The arguments of `elect`.
#[derive(Args, Debug)]
pub(crate) struct ElectArgs {
    /// The name of the election, which is that of a lock
    name: Key,
    #[command(flatten)]
    terms: Terms,
    /// The command that runs while this candidate leads, without a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A change of this candidate's part, or of the holder of a lock.
#[derive(Serialize)]
struct HolderLine<'a> {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    name: &'a str,
    /// The fencing token; null where nobody holds the lock.
    token: Option<u64>,
    #[serde(flatten)]
    content: Content<'a>,
}

pub(crate) async fn elect(args: ElectArgs, kv: &Kv, out: &mut Out) -> Run {
    let grace = args.terms.grace(kv)?;
    let mut signals = Signals::catch()?;
    let mut gone = Box::pin(out.reader_gone());
    loop {
        let guard = tokio::select! {
            biased;
            failure = &mut gone => return Err(failure),
            signal = signals.ending() => return Ok(Exit::of_signal(signal.as_raw())),
            guard = args.terms.lock(kv, &args.name).acquire() => guard?,
        };
        tell(&args, "elected", guard.token(), out)?;
        if args.command.is_empty() {
            tokio::select! {
                biased;
                failure = &mut gone => return Err(failure),
                signal = signals.ending() => {
                    return release(guard, Ok(Exit::of_signal(signal.as_raw()))).await;
                }
                why = guard.lost() => note(&why.to_string()),
            }
        } else {
            match guarded::run(&guard, grace, &args.command, &mut signals).await? {
                End::Itself(exit) => return release(guard, Ok(exit)).await,
                End::Lost(why) => note(&format!("the command was ended: {why}")),
            }
        }
        tell(&args, "lost", guard.token(), out)?;
    }
}

/// Tells of this candidate's part: on standard error where a command has the output.
fn tell(args: &ElectArgs, event: &'static str, token: u64, out: &mut Out) -> Run<()> {
    out.acts().note();
    let (name, content) = (args.name.as_str(), Content::default());
    let object = HolderLine { v: V, event: Some(event), name, token: Some(token), content };
    if !args.command.is_empty() {
        out.beside(&object, &format!("{event} {token}"));
        return Ok(());
    }
    if out.is_json() {
        out.object(&object)?;
    } else {
        out.line(&format!("{event}{}{token}", out.between()))?;
    }
    out.flush()
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
        return out.object(&HolderLine { v: V, event: None, name: name.as_str(), token, content });
    }
    match holder {
        Some(Holder { token, value, .. }) => {
            let rest = format!("{}{}", out.between(), text::on_one_line(value));
            out.shown(None, &token.to_string(), &rest)
        }
        None => out.line("free"),
    }
}
