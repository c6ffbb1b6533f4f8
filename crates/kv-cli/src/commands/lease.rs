//! `lease`: keys that are there as long as a command runs.

use super::terms::Times;
use crate::{
    exit::{Exit, Failure, Run},
    guarded::{self, Signals},
    lines::V,
    out::Out,
    text,
};
use clap::Args;
use kv_core::{Key, Kv, Lease};
use serde::Serialize;
use std::{ffi::OsString, time::Duration};

/// The arguments of `lease`.
#[derive(Args, Debug)]
pub(crate) struct LeaseArgs {
    /// Puts this key under the lease; the key ends at the first `=`. It can be given again
    #[arg(long, short, value_name = "KEY=VALUE")]
    put: Vec<OsString>,
    /// Puts no key that is there: ends with exit code 3
    #[arg(long, requires = "put")]
    if_missing: bool,
    #[command(flatten)]
    times: Times,
    /// The command, which is run without a shell; without one the lease is held until a signal
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A key that is put under the lease, with its value.
type Pair = (Key, Vec<u8>);

/// Splits `KEY=VALUE`. The message shows no value.
fn pair(text: &OsString) -> Run<Pair> {
    let bytes = text.as_encoded_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=');
    let at = at.ok_or_else(|| Failure::usage("what --put names has no `=`; it looks like KEY=VALUE"))?;
    let key = std::str::from_utf8(&bytes[..at]);
    let key = key.map_err(|_| Failure::usage("a key of --put is no UTF-8; names of keys are"))?;
    Ok((Key::parse(key)?, bytes[at + 1..].to_vec()))
}

#[derive(Serialize)]
struct LeaseLine<'a> {
    v: u8,
    event: &'static str,
    lease: &'a str,
    ttl_ms: u64,
}

pub(crate) async fn lease(args: LeaseArgs, kv: &Kv, out: &mut Out) -> Run {
    let pairs = args.put.iter().map(pair).collect::<Run<Vec<_>>>()?;
    let capabilities = kv.capabilities();
    let range = capabilities.lease.as_ref().ok_or_else(|| capabilities.unsupported("leases"))?;
    let grace = guarded::grace(range, args.times.ttl, args.times.grace)?;
    let mut signals = Signals::catch()?;
    let taken = tokio::select! {
        biased;
        signal = signals.ending() => return Ok(Exit::of_signal(signal.as_raw())),
        taken = take(kv, args.times.ttl, &pairs, args.if_missing) => taken,
    };
    let lease = match taken {
        Ok(lease) => lease,
        Err((partly, e)) => {
            let Some(Partly { lease, replaces }) = partly else { return Err(e.into()) };
            if replaces {
                out.acts().note();
            }
            return give_back(lease, Err(e.into())).await;
        }
    };
    let ended = if args.command.is_empty() {
        let replaces = !pairs.is_empty() && !args.if_missing;
        hold(&lease, replaces, &mut signals, out).await
    } else {
        guarded::run(&lease, grace, &args.command, &mut signals).await.and_then(guarded::End::exit)
    };
    give_back(lease, ended).await
}

/// A lease whose keys could not all be put.
struct Partly {
    lease: Lease,
    /// A key that was put may have replaced one, and goes with the lease.
    replaces: bool,
}

/// Takes a lease, and puts keys under it. A lease whose keys could not all be put comes with the
/// error, for the others go with it.
async fn take(
    kv: &Kv,
    ttl: Duration,
    pairs: &[Pair],
    if_missing: bool,
) -> Result<Lease, (Option<Partly>, kv_core::Error)> {
    let lease = kv.lease(ttl).await.map_err(|e| (None, e))?;
    for (number, (key, value)) in pairs.iter().enumerate() {
        let put = kv.put(key, value.clone()).lease(&lease);
        if let Err(e) = if if_missing { put.if_missing() } else { put }.await {
            return Err((Some(Partly { lease, replaces: number > 0 && !if_missing }), e));
        }
    }
    Ok(lease)
}

/// Holds a lease until a signal comes, or nobody reads what is told of it, or it is lost.
async fn hold(lease: &Lease, replaces: bool, signals: &mut Signals, out: &mut Out) -> Run {
    let gone = out.reader_gone();
    if let Err(failure) = tell(lease, "leased", out) {
        if replaces {
            out.acts().note();
        }
        return Err(failure);
    }
    tokio::select! {
        biased;
        failure = gone => Err(failure),
        signal = signals.ending() => Ok(Exit::of_signal(signal.as_raw())),
        why = lease.lost() => {
            tell(lease, "lost", out)?;
            Err(Failure::Found(Exit::LOST, why.to_string()))
        }
    }
}

fn tell(lease: &Lease, event: &'static str, out: &mut Out) -> Run<()> {
    let (id, ttl) = (lease.id().as_str(), lease.ttl());
    if out.is_json() {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        out.object(&LeaseLine { v: V, event, lease: id, ttl_ms })?;
    } else {
        let between = out.between();
        out.line(&format!("{event}{between}{id}{between}{}", text::of_duration(ttl)))?;
    }
    out.flush()
}

/// Revokes the lease, and with it its keys, and returns the end of what was done under it.
async fn give_back(lease: Lease, ended: Run) -> Run {
    let ttl = lease.ttl();
    guarded::released("the lease", "the keys of the lease go", ttl, lease.revoke().await, ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;

    #[tokio::test]
    async fn a_key_that_was_replaced_before_another_failed_is_not_nothing() {
        let kv = kv_memory::open("memory://").await.unwrap();
        let too_large = format!("b={}", "x".repeat(kv.capabilities().max_value + 1));
        for (if_missing, has_acted) in [(false, true), (true, false)] {
            if !if_missing {
                kv.put("a", "mine").await.unwrap();
            }
            let args = LeaseArgs {
                put: vec!["a=1".into(), too_large.clone().into()],
                if_missing,
                times: Times { ttl: Duration::from_secs(15), grace: None },
                command: Vec::new(),
            };
            let mut out = Out::to_buffer(&Buffer::default(), false, false);
            let failure = lease(args, &kv, &mut out).await.unwrap_err();
            assert_eq!((failure.exit(), out.acts().any()), (Exit::USAGE, has_acted));
            assert!(!kv.exists("a").await.unwrap(), "it goes with the lease");
        }
    }
}
