//! The rules for what the clients of registers saw.

use super::super::{
    field::{Blow, Field},
    linear::{self, Call, Id},
    stroke::Stroke,
    workload::{Bar, Seen, Violation},
};
use kv_core::{Linearizable, Version};
use std::collections::{BTreeMap, HashMap};

/// A value and its version, as a client was told.
pub(super) struct Told {
    pub(super) key: String,
    pub(super) id: Id,
    pub(super) version: Version,
    /// The moments at which the write began and was answered, where a write was told this.
    pub(super) written: Option<(u64, u64)>,
}

#[derive(Default)]
pub(super) struct Log {
    /// The calls of each group of registers.
    pub(super) calls: BTreeMap<String, Vec<Call>>,
    pub(super) told: Vec<Told>,
    pub(super) seen: Seen,
}

/// Judges all that was seen.
pub(super) fn judge(field: &Field, log: Log) -> Seen {
    let Log { calls, told, mut seen } = log;
    let durability = field.capabilities().durability;
    let losses: Vec<_> = field.blows().into_iter().filter(|blow| blow.stroke.may_lose(durability)).collect();
    let is_stale = field.capabilities().linearizable != Linearizable::Always;
    for (_, mut calls) in calls {
        if is_stale {
            calls = calls.into_iter().filter_map(|call| in_change(call, &losses)).collect();
        }
        let last = calls.iter().filter_map(|call| call.ended).max().unwrap_or_default();
        let first = calls.iter().map(|call| call.began).min().unwrap_or_default();
        for loss in losses.iter().filter(|loss| loss.began <= last && loss.ended >= first) {
            calls.push(Call {
                client: "the server".into(),
                label: loss.label.clone(),
                began: loss.began,
                ended: Some(loss.ended),
                when: vec![],
                writes: vec![],
                reverts: true,
            });
        }
        match linear::check(&calls) {
            linear::Verdict::Linearizable => {}
            linear::Verdict::Undecided => seen.undecided += 1,
            linear::Verdict::Violated { .. } => seen.violations.push(violation(&linear::shrunk(&calls))),
        }
    }
    // A copy that is put back brings its counter of versions with it.
    if losses.iter().all(|loss| loss.stroke != Stroke::Restore) {
        seen.violations.extend(versions(&told));
    }
    seen
}

/// Returns what a call says where a member that was replaced may go on to answer until it knows: a
/// read at that time says nothing, and a write may belong to a history that is lost, so that its
/// outcome is unknown.
fn in_change(call: Call, losses: &[Blow]) -> Option<Call> {
    let is_beside = |loss: &Blow| loss.began <= call.ended.unwrap_or(u64::MAX) && loss.ended >= call.began;
    match losses.iter().any(is_beside) {
        true if call.writes.is_empty() => None,
        true => Some(Call { ended: None, ..call }),
        false => Some(call),
    }
}

fn violation(calls: &[Call]) -> Violation {
    let at = match linear::check(calls) {
        linear::Verdict::Violated { call } => calls[call].ended.unwrap_or_default(),
        _ => 0,
    };
    let what = "no order of effects explains these answers".to_owned();
    let bar = |call: &Call| Bar {
        client: call.client.clone(),
        label: call.label.clone(),
        began: call.began,
        ended: call.ended,
    };
    Violation { what, at, calls: calls.iter().map(bar).collect() }
}

/// Checks that a value has one version, that a version of a key has one value, and that versions
/// grow from write to write.
fn versions(told: &[Told]) -> Vec<Violation> {
    let (mut of_value, mut of_version) = (HashMap::new(), HashMap::new());
    let (mut wrong, mut writes) = (Vec::new(), BTreeMap::<&str, Vec<_>>::new());
    let mut say = |what: String, at| wrong.push(Violation { what, at, calls: Vec::new() });
    for Told { key, id, version, written } in told {
        let at = written.map_or(0, |(_, ended)| ended);
        if *of_value.entry((key, id)).or_insert(version) != version {
            say(format!("{id} in {key} was told with two versions, one of them {version}"), at);
        }
        if *of_version.entry((key, version)).or_insert(id) != id {
            say(format!("the version {version} of {key} was told with two values, one of them {id}"), at);
        }
        if let Some((began, ended)) = written {
            writes.entry(key).or_default().push((*began, *ended, *version, *id));
        }
    }
    for (key, mut writes) in writes {
        writes.sort_unstable_by_key(|(began, ..)| *began);
        let mut ends: Vec<_> = writes.iter().map(|(_, ended, version, id)| (*ended, *version, *id)).collect();
        ends.sort_unstable_by_key(|(ended, ..)| *ended);
        let (mut before, mut newest) = (ends.into_iter().peekable(), None);
        for (began, ended, version, id) in writes {
            while let Some((_, earlier, of)) = before.next_if(|(ended, ..)| *ended < began) {
                newest = newest.max(Some((earlier, of)));
            }
            if newest.is_some_and(|(earlier, _)| earlier >= version) {
                say(format!("{id} was written into {key} at {version}, after {newest:?}"), ended);
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: Id, version: u64, written: Option<(u64, u64)>) -> Told {
        Told { key: "k".into(), id, version: Version::new(0, version), written }
    }

    #[test]
    fn versions_that_are_right_are_not_blamed() {
        let right = [
            told(1, 1, Some((0, 9))),
            told(2, 2, Some((10, 20))),
            told(3, 3, Some((15, 30))),
            told(2, 2, None),
        ];
        assert!(versions(&right).is_empty());
        // Either of two writes that are side by side may be the first.
        assert!(versions(&[told(1, 2, Some((0, 9))), told(2, 1, Some((5, 20)))]).is_empty());
    }

    #[test]
    fn a_version_that_matches_twice_is_seen() {
        assert_eq!(versions(&[told(1, 1, Some((0, 9))), told(2, 1, None)]).len(), 1);
    }

    #[test]
    fn a_value_with_two_versions_is_seen() {
        assert_eq!(versions(&[told(1, 1, Some((0, 9))), told(1, 2, None)]).len(), 1);
    }

    #[test]
    fn a_version_that_went_back_is_seen() {
        assert_eq!(versions(&[told(1, 5, Some((0, 9))), told(2, 4, Some((10, 20)))]).len(), 1);
    }
}
