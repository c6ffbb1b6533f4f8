//! The plan of the shards: which member is to own which.

use crate::record::{self, Format};
use kv_core::{Bytes, Entry, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap};

/// The most shards: the plan of so many is a value that every store takes.
pub(super) const MOST: usize = 8192;

/// The value that a member registers: its name and its weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Is {
    pub(super) name: String,
    pub(super) weight: u32,
}

/// The members by their ids, each with its weight.
pub(super) type Weights = BTreeMap<String, u32>;

/// The plan: the id of the member that is to own each shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    v: Format,
    pub(super) owners: Vec<Option<String>>,
}

impl Plan {
    /// Reads the plan, which has to be one of so many shards.
    pub(super) fn read(entry: &Entry, shards: usize) -> Result<Self> {
        let (plan, _): (Self, _) = record::read(&entry.key, &entry.value)?;
        if plan.owners.len() == shards {
            return Ok(plan);
        }
        let (others, key) = (plan.owners.len(), &entry.key);
        let why = format!(
            "{shards} shards, and others use {others}; ask for as many, or delete {key:?} while no member lives"
        );
        Err(Error::new(ErrorKind::InvalidArgument, why))
    }

    pub(super) fn record(&self) -> Result<Bytes> {
        record::write(self, b"")
    }

    /// Returns the shards of a member.
    pub(super) fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = usize> + 'a {
        let owners = self.owners.iter().enumerate();
        owners.filter(move |(_, owner)| owner.as_deref() == Some(id)).map(|(shard, _)| shard)
    }

    /// Makes the plan for these members that follows another one: each member owns its share,
    /// rounded up or down, and what need not move stays.
    pub(super) fn after(before: Option<&Self>, shards: usize, members: &Weights) -> Self {
        let all: u64 = members.values().map(|weight| u64::from(*weight)).sum();
        if all == 0 {
            return Self { v: Format, owners: vec![None; shards] };
        }
        let mut held: BTreeMap<&str, Held> = BTreeMap::new();
        for (id, weight) in members {
            let (weight, shards) = (u64::from(*weight), shards as u64);
            let (least, most) = (shards * weight / all, (shards * weight).div_ceil(all));
            held.insert(id, Held { weight, least: least as usize, most: most as usize, shards: Vec::new() });
        }
        let mut free = Vec::new();
        for shard in 0..shards {
            let owner = before.and_then(|plan| plan.owners.get(shard)?.as_deref());
            match owner.and_then(|owner| held.get_mut(owner)) {
                Some(held) if held.shards.len() < held.most => held.shards.push(shard),
                _ => free.push(shard),
            }
        }
        for shard in free {
            // Whoever would be loaded least with one more, of those that may have one more: the
            // shares, rounded up, are enough for all.
            let may = held.values_mut().filter(|held| held.shards.len() < held.most);
            if let Some(held) = may.min_by_key(|held| held.load(1)) {
                held.shards.push(shard);
            }
        }
        // Those that have too little get from those that have the most.
        while let Some(poor) = held.iter().find(|(_, held)| held.shards.len() < held.least) {
            let poor = *poor.0;
            let rich = held.values_mut().filter(|held| held.shards.len() > held.least);
            let Some(moved) = rich.max_by_key(|held| held.load(0)).and_then(|held| held.shards.pop()) else {
                break;
            };
            if let Some(held) = held.get_mut(poor) {
                held.shards.push(moved);
            }
        }
        let mut owners = vec![None; shards];
        for (id, held) in &held {
            held.shards.iter().for_each(|shard| owners[*shard] = Some((*id).to_owned()));
        }
        Self { v: Format, owners }
    }
}

/// The shards that one member has while a plan is made, and the bounds of its share.
struct Held {
    weight: u64,
    /// Its share, rounded down and up.
    least: usize,
    most: usize,
    shards: Vec<usize>,
}

impl Held {
    /// Returns how loaded it is with so many shards more, for comparisons: the load, and for equals
    /// the greater weight first.
    fn load(&self, more: usize) -> (u64, Reverse<u64>) {
        // A thousandth of a shard is fine enough, and 8,192 million fit.
        let shards = (self.shards.len() + more) as u64;
        (shards * 1_000_000 / self.weight.max(1), Reverse(self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Weights};
    use kv_core::backend::unique;
    use std::collections::BTreeMap;

    fn counts(plan: &Plan) -> BTreeMap<&str, usize> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for owner in &plan.owners {
            *counts.entry(owner.as_deref().expect("each has an owner")).or_default() += 1;
        }
        counts
    }

    fn moved(one: &Plan, two: &Plan) -> usize {
        one.owners.iter().zip(&two.owners).filter(|(one, two)| one != two).count()
    }

    #[test]
    fn shares_are_even_and_only_those_of_the_dead_move() {
        for shards in [1, 7, 64, 256] {
            let mut members: Weights = (0..16).map(|n| (format!("m{n}"), 1)).collect();
            let mut plan = Plan::after(None, shards, &members);
            for _ in 0..200 {
                let before = members.len();
                if before > 1 && unique().is_multiple_of(2) {
                    let dead = members.keys().nth(unique() as usize % before).unwrap().clone();
                    members.remove(&dead);
                    let next = Plan::after(Some(&plan), shards, &members);
                    assert!(moved(&plan, &next) <= shards.div_ceil(before), "{shards} {before}");
                    for (was, is) in plan.owners.iter().zip(&next.owners) {
                        assert!(was == is || was.as_deref() == Some(&*dead), "a shard of the living moved");
                    }
                    plan = next;
                } else {
                    members.insert(format!("m{:x}", unique()), 1);
                    let next = Plan::after(Some(&plan), shards, &members);
                    assert!(moved(&plan, &next) <= shards.div_ceil(before + 1), "{shards} {before}");
                    plan = next;
                }
                let (least, most) = (shards / members.len(), shards.div_ceil(members.len()));
                let counts = counts(&plan);
                for id in members.keys() {
                    let count = counts.get(&**id).copied().unwrap_or(0);
                    assert!((least..=most).contains(&count), "{count} of {shards} among {}", members.len());
                }
                assert_eq!(Plan::after(Some(&plan), shards, &members), plan, "it stays as it is");
            }
        }
    }

    #[test]
    fn a_heavy_member_owns_its_share_rounded_up_and_no_more() {
        let small = (0..7).map(|n| (format!("small{n}"), 7));
        let members: Weights = small.chain([("heavy".into(), 51)]).collect();
        let plan = Plan::after(None, 10, &members);
        assert_eq!(counts(&plan)["heavy"], 6, "of 5.1: {plan:?}");
        assert!(counts(&plan).iter().all(|(id, count)| *id == "heavy" || *count == 1), "of 0.7: {plan:?}");
        assert_eq!(Plan::after(Some(&plan), 10, &members), plan, "it stays as it is");
    }

    #[test]
    fn weights_count_and_none_means_nothing() {
        let members = Weights::from([("a".into(), 1), ("b".into(), 2), ("c".into(), 5), ("d".into(), 0)]);
        let plan = Plan::after(None, 80, &members);
        assert_eq!(counts(&plan), BTreeMap::from([("a", 10), ("b", 20), ("c", 50)]));
        assert_eq!(plan.of("a").count(), 10);
        let none = Plan::after(Some(&plan), 80, &Weights::from([("d".into(), 0)]));
        assert!(none.owners.iter().all(Option::is_none));
    }
}
