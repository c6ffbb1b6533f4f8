//! Requests and bytes of a call, counted by the server, or by a proxy before it.

use crate::{
    cell::{Cell, Op},
    drive::Opened,
    side::Done,
};
use async_trait::async_trait;
use std::{collections::BTreeMap, time::Duration};

/// The number of single calls that are counted.
const CALLS: usize = 200;

/// The counts of a server since its start: requests by their names, and bytes both ways.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) requests: BTreeMap<String, f64>,
    pub(crate) received: Option<f64>,
    pub(crate) sent: Option<f64>,
}

/// A counter of requests and bytes.
#[async_trait]
pub(crate) trait Counter: Send + Sync {
    /// Returns the name of what is counted, and where.
    fn name(&self) -> &'static str;

    /// Returns the counts so far.
    async fn counts(&self) -> Done<Counts>;

    /// Returns the sides, ours first, if those that are counted are other clients than those that are
    /// measured.
    fn sides(&self) -> Option<&[Box<dyn Opened>]> {
        None
    }
}

/// The counts of one call of a side.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) cell: Cell,
    pub(crate) side: &'static str,
    pub(crate) a_call: Counts,
}

impl Counts {
    /// Returns the requests of all names.
    pub(crate) fn total(&self) -> f64 {
        self.requests.values().sum()
    }

    /// Returns what came since, divided by the number of calls.
    pub(crate) fn since(&self, before: &Self, calls: f64) -> Self {
        let less = |now: Option<f64>, then: Option<f64>| Some((now? - then.unwrap_or(0.0)) / calls);
        let requests = self.requests.iter().filter_map(|(name, now)| {
            let count = (now - before.requests.get(name).unwrap_or(&0.0)) / calls;
            // Less than one in two hundred calls is no part of a call.
            (count > 0.005).then(|| (name.clone(), count))
        });
        Self {
            requests: requests.collect(),
            received: less(self.received, before.received),
            sent: less(self.sent, before.sent),
        }
    }
}

/// Counts the calls of all kinds, one after another.
///
/// # Errors
/// A call or the counting failed.
pub(crate) async fn count(
    counter: &dyn Counter,
    sides: &[Box<dyn Opened>],
    ops: &[Op],
) -> Done<Vec<Counted>> {
    let sides = counter.sides().unwrap_or(sides);
    let mut all = Vec::new();
    for op in ops.iter().filter(|op| **op != Op::LockContended) {
        let size = if matches!(op, Op::List | Op::DeleteTree) { 100 } else { 0 };
        let cell = Cell { size, ..Cell::new(*op, 1) };
        for side in sides {
            let Some(mut round) = side.prepare(cell).await? else { continue };
            round.ready().await?;
            let earlier = counter.counts().await?;
            let before = counter.counts().await?;
            let counting = before.since(&earlier, 1.0);
            let mut calls = 0;
            // The keys of a directory that is deleted again would be counted as well.
            let wanted = if *op == Op::DeleteTree { 1 } else { CALLS };
            while calls < wanted {
                calls += usize::try_from(round.run(Duration::ZERO).await?.latencies.calls())?;
            }
            let after = counter.counts().await?.without(&counting);
            all.push(Counted { cell, side: side.name(), a_call: after.since(&before, calls as f64) });
        }
    }
    Ok(all)
}

impl Counts {
    /// Takes what counting took away.
    fn without(mut self, other: &Self) -> Self {
        for (name, count) in &other.requests {
            if let Some(own) = self.requests.get_mut(name) {
                *own -= count;
            }
        }
        self.received = self.received.map(|received| received - other.received.unwrap_or(0.0));
        self.sent = self.sent.map(|sent| sent - other.sent.unwrap_or(0.0));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: &[(&str, f64)], received: f64) -> Counts {
        let requests = requests.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Counts { requests, received: Some(received), sent: None }
    }

    #[test]
    fn a_call_is_what_came_since_without_the_counting() {
        let before = counts(&[("get", 10.0), ("info", 1.0)], 1_000.0);
        let after = counts(&[("get", 30.0), ("info", 2.0), ("time", 0.01)], 1_620.0);
        let a_call = after.without(&counts(&[("info", 1.0)], 20.0)).since(&before, 10.0);
        assert_eq!(a_call, counts(&[("get", 2.0)], 60.0));
        assert!((a_call.total() - 2.0).abs() < 1e-9);
    }
}
