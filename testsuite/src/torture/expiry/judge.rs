//! The rules for what reads may find of keys that end. Each key is written by one client alone,
//! one write after another.

use crate::torture::{
    field::Blow,
    workload::{Bar, Violation},
};
use kv_core::TtlRange;
use std::time::Duration;

/// The most violations that are told of one key; more of them say nothing new.
const TOLD: usize = 2;
/// The time that a server has after a stroke, beside the TTL, until keys and leases end in time
/// again, in microseconds: it elects its leader, and grants what lives its whole TTL anew.
const SETTLES: u64 = 3_000_000;
/// The time after the drop of a lease's handle in which a renewal may still be under way, in
/// microseconds: a stroke on links that begins within it holds the renewal back until the stroke
/// ends.
const UNDER_WAY: u64 = 2_000_000;

/// The life that a write gives the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The key is gone.
    Gone,
    /// The key stays.
    Forever,
    /// The key lives for this time, in microseconds.
    For(u64),
    /// The key lives under the lease of this number.
    Under(usize),
}

/// A write that was done, or may have been.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// The value.
    pub(super) id: u32,
    pub(super) life: Life,
    pub(super) began: u64,
    /// The moment of the answer; `None` when nobody knows whether and when the write was done. It
    /// is the last of its key then.
    pub(super) ended: Option<u64>,
}

/// The answer of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// Something whose value is not known.
    Something,
    Value(u32),
}

/// A read, or a condition of a write.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) client: String,
    /// The name of the call.
    pub(super) by: &'static str,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) found: Found,
    /// The number of writes that came before it; all others came after it. Known for looks of the
    /// writer alone.
    pub(super) after: Option<usize>,
}

/// A key, as it was written and seen.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) writes: Vec<Write>,
    pub(super) looks: Vec<Look>,
}

/// A lease, as its owner saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    /// The TTL as granted, in microseconds.
    pub(super) ttl: u64,
    /// The last moment at which it was seen to be held.
    pub(super) held: u64,
    /// The moment since which nobody renews it for certain: its handle was dropped or closed, or
    /// said that it was over, or its revocation was answered. Until that answer the handle may
    /// renew it.
    pub(super) dropped: Option<u64>,
    /// The moment at which it was known that the server had ended it.
    pub(super) revoked: Option<u64>,
    /// The revocation, if it was answered.
    pub(super) revocation: Option<Revocation>,
}

/// A call that revoked a lease, and was told whether the lease was still alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revocation {
    pub(super) began: u64,
    pub(super) ended: u64,
    /// The moment until which the lease lived at least, as its handle said before the call.
    pub(super) lives: u64,
    pub(super) was_alive: bool,
}

/// The facts by which the latest end of a key or a lease is known.
#[derive(Debug)]
pub(super) struct Times {
    /// The range of TTLs of keys, which tells how late their end may be.
    pub(super) of_keys: Option<TtlRange>,
    /// The range of TTLs of leases, which tells how late their end may be.
    pub(super) of_leases: Option<TtlRange>,
    /// The strokes that fell on servers and links.
    pub(super) blows: Vec<Blow>,
    /// The moment after which a write of unknown outcome was done, or never will be.
    pub(super) settled: u64,
}

impl Times {
    /// Returns the moment after which a key or lease that lived for this TTL from `from` on is
    /// gone for certain.
    fn over(&self, from: u64, ttl: u64, range: Option<&TtlRange>) -> u64 {
        let late = range.map_or(Duration::ZERO, |range| range.lateness(Duration::from_micros(ttl)));
        // Clocks may run apart by a hundredth.
        let mut over = from + (ttl + micros(late)) * 101 / 100;
        for blow in self.blows.iter().filter(|blow| is_on_server(blow)) {
            // The declared lateness holds while the server has a leader.
            if blow.began < over && blow.ended + SETTLES + ttl > from {
                over += blow.ended.saturating_sub(blow.began.max(from)) + SETTLES + ttl;
            }
        }
        over
    }

    /// Returns the last moment at which a renewal may have arrived that was under way when the
    /// lease was dropped.
    fn renewed(&self, dropped: u64) -> u64 {
        let links = self.blows.iter().filter(|blow| !is_on_server(blow) && blow.began <= dropped + UNDER_WAY);
        links.map(|blow| blow.ended).fold(dropped, u64::max)
    }

    /// Tells whether what was written may be gone at this moment.
    fn may_be_gone(&self, write: &Write, leases: &[Lease], at: u64) -> bool {
        match write.life {
            Life::Gone => true,
            Life::Forever => false,
            Life::For(ttl) => at >= write.began + ttl * 99 / 100,
            Life::Under(lease) => leases.get(lease).is_none_or(|lease| at > lease.held),
        }
    }

    /// Tells whether what was written is gone for certain at this moment.
    fn is_gone(&self, write: &Write, leases: &[Lease], at: u64) -> bool {
        match write.life {
            Life::Gone => true,
            Life::Forever => false,
            Life::For(ttl) => at > self.over(write.ended.unwrap_or(self.settled), ttl, self.of_keys.as_ref()),
            Life::Under(lease) => leases.get(lease).is_some_and(|lease| {
                let ends = lease.revoked.into_iter().chain(self.outlived(lease));
                ends.min().is_some_and(|end| at > end)
            }),
        }
    }

    /// Returns the moment after which a lease is over for certain, since nobody renews it; `None`
    /// while somebody may.
    pub(super) fn outlived(&self, lease: &Lease) -> Option<u64> {
        let renewed = self.renewed(lease.dropped?);
        Some(self.over(renewed, lease.ttl, self.of_leases.as_ref()))
    }

    /// Tells whether no further read is needed: what was found stays, when all is settled, or
    /// should have gone before this moment.
    pub(super) fn is_final(&self, history: &History, leases: &[Lease], found: Found, at: u64) -> bool {
        let Found::Value(id) = found else { return true };
        let write = history.writes.iter().find(|write| write.id == id && write.life != Life::Gone);
        write.is_none_or(|write| write.life == Life::Forever || self.is_gone(write, leases, at))
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn is_on_server(blow: &Blow) -> bool {
    blow.stroke.stops_members()
}

/// Judges all that was found of one key.
pub(super) fn judge(key: &str, history: &History, leases: &[Lease], times: &Times) -> Vec<Violation> {
    let wrong = history.looks.iter().filter_map(|look| {
        let what = blame(history, look, leases, times)?;
        Some(violation(format!("{key} {what}"), history, look, leases))
    });
    wrong.take(TOLD).collect()
}

/// Judges what revocations said: that the lease was alive, when it was over for certain before
/// the call, or that it was over, when it lived for certain until the answer. Between the two,
/// either is right.
pub(super) fn revocations(leases: &[Lease], times: &Times) -> Vec<Violation> {
    let wrong = leases.iter().enumerate().filter_map(|(number, lease)| {
        let Revocation { began, ended, lives, was_alive } = lease.revocation?;
        let says = if was_alive { "alive" } else { "over" };
        let why = match was_alive {
            true => {
                let over = times.outlived(lease).filter(|over| *over < began)?;
                format!("and nobody can have renewed it since; it was over {:?} before", gap(over, began))
            }
            false if lives > ended => format!("with {:?} left", gap(ended, lives)),
            false => return None,
        };
        let what = format!("the revocation of the lease {number} says that it was {says}, {why}");
        let label = format!("revokes the lease {number}: it was {says}");
        let call = Bar { client: "its owner".into(), label, began, ended: Some(ended) };
        Some(Violation { what, at: ended, calls: vec![lease.bar(number), call] })
    });
    wrong.collect()
}

fn gap(from: u64, to: u64) -> Duration {
    Duration::from_micros(to.saturating_sub(from))
}

impl Lease {
    fn bar(&self, number: usize) -> Bar {
        let label = format!("the lease {number} of {} ms: held, dropped, revoked", self.ttl / 1000);
        let ended = self.revoked.or(self.dropped);
        Bar { client: "the lease".into(), label, began: self.held, ended }
    }
}

/// Returns what is wrong with what was found, if anything is.
fn blame(history: &History, look: &Look, leases: &[Lease], times: &Times) -> Option<String> {
    let (writes, base) = match look.after {
        Some(count) => {
            let writes = history.writes.get(..count).unwrap_or(&history.writes);
            (writes, writes.iter().rposition(|write| write.ended.is_some()))
        }
        None => {
            let before = |write: &Write| write.ended.is_some_and(|ended| ended < look.began);
            (&history.writes[..], history.writes.iter().rposition(before))
        }
    };
    // These are the write that was in effect when the look began, and those that may have come
    // since.
    let mut possible = writes[base.unwrap_or(0)..].iter().filter(|write| write.began < look.ended);
    match look.found {
        Found::Nothing => {
            let may_be = base.is_none() || possible.any(|write| times.may_be_gone(write, leases, look.ended));
            (!may_be).then(|| "was not there, and must have been".to_owned())
        }
        Found::Something => {
            let may_be = possible.any(|write| !times.is_gone(write, leases, look.began));
            (!may_be).then(|| "was there, and must have been gone".to_owned())
        }
        Found::Value(id) => match possible.find(|write| write.id == id && write.life != Life::Gone) {
            None => Some(format!("was {id}, which it cannot have been")),
            Some(write) => {
                let is_late = times.is_gone(write, leases, look.began);
                is_late.then(|| format!("was still {id}, and must have been gone"))
            }
        },
    }
}

fn violation(what: String, history: &History, look: &Look, leases: &[Lease]) -> Violation {
    let label = |write: &Write| match write.life {
        Life::Gone => "deletes it".to_owned(),
        Life::Forever => format!("puts {}", write.id),
        Life::For(ttl) => format!("puts {} for {} ms", write.id, ttl / 1000),
        Life::Under(lease) => format!("puts {} under the lease {lease}", write.id),
    };
    let bar = |label: String, client: &str, began: u64, ended: Option<u64>| Bar {
        client: client.to_owned(),
        label,
        began,
        ended,
    };
    let before = history.writes.iter().filter(|write| write.began < look.ended);
    let mut calls: Vec<_> =
        before.clone().map(|write| bar(label(write), "its writer", write.began, write.ended)).collect();
    for write in before {
        if let Life::Under(number) = write.life
            && let Some(lease) = leases.get(number)
        {
            calls.push(lease.bar(number));
        }
    }
    calls.push(bar(format!("{}: {:?}", look.by, look.found), &look.client, look.began, Some(look.ended)));
    Violation { what, at: look.ended, calls }
}

#[cfg(test)]
mod tests;
