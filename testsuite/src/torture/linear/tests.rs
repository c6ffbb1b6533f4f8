//! Histories that are right, and others that are wrong on purpose.

use super::*;

fn call(client: &str, began: u64, ended: impl Into<Option<u64>>) -> Call {
    Call {
        client: client.into(),
        label: String::new(),
        began,
        ended: ended.into(),
        when: vec![],
        writes: vec![],
        reverts: false,
    }
}

fn put(client: &str, began: u64, ended: impl Into<Option<u64>>, id: Id) -> Call {
    Call { writes: vec![(0, Some(id))], ..call(client, began, ended) }
}

fn swap(client: &str, began: u64, ended: impl Into<Option<u64>>, from: Id, to: Id) -> Call {
    Call { when: vec![(0, Is::At(from))], ..put(client, began, ended, to) }
}

fn says(client: &str, began: u64, ended: u64, is: Is) -> Call {
    Call { when: vec![(0, is)], ..call(client, began, ended) }
}

fn get(client: &str, began: u64, ended: u64, id: Id) -> Call {
    says(client, began, ended, Is::At(id))
}

fn delete(client: &str, began: u64, ended: impl Into<Option<u64>>) -> Call {
    Call { writes: vec![(0, None)], ..call(client, began, ended) }
}

fn is_right(calls: &[Call]) {
    assert_eq!(check(calls), Verdict::Linearizable, "{calls:#?}");
}

fn is_wrong(calls: &[Call]) {
    assert!(matches!(check(calls), Verdict::Violated { .. }), "{calls:#?}");
    let shrunk = shrunk(calls);
    assert!(matches!(check(&shrunk), Verdict::Violated { .. }), "shrunk to {shrunk:#?}");
    assert!(shrunk.len() <= calls.len());
}

#[test]
fn nothing_is_right() {
    is_right(&[]);
    is_right(&[says("a", 0, 1, Is::Missing)]);
}

#[test]
fn a_read_that_goes_back_is_seen() {
    let writes = [put("a", 0, 10, 1), put("a", 20, 30, 2)];
    is_right(&[writes.to_vec(), vec![get("b", 40, 50, 2)]].concat());
    is_wrong(&[writes.to_vec(), vec![get("b", 40, 50, 1)]].concat());
    // Side by side with the write, either may be read, but not the new one and then the old.
    is_right(&[writes.to_vec(), vec![get("b", 22, 24, 1), get("b", 26, 28, 2)]].concat());
    is_wrong(&[writes.to_vec(), vec![get("b", 22, 24, 2), get("c", 26, 28, 1)]].concat());
}

#[test]
fn a_write_that_was_acknowledged_and_is_gone_is_seen() {
    is_wrong(&[put("a", 0, 10, 1), says("b", 20, 30, Is::Missing)]);
    is_wrong(&[put("a", 0, 10, 1), put("b", 20, 30, 2), get("c", 40, 50, 1)]);
}

#[test]
fn a_value_that_nobody_wrote_is_seen() {
    is_wrong(&[put("a", 0, 10, 1), get("b", 20, 30, 7)]);
    // The value of a write that failed is not in the history either.
    is_wrong(&[get("b", 20, 30, 1)]);
}

#[test]
fn two_that_replace_the_same_version_are_seen() {
    is_right(&[put("a", 0, 10, 1), swap("b", 20, 40, 1, 2), says("c", 30, 50, Is::NotAt(1))]);
    is_wrong(&[put("a", 0, 10, 1), swap("b", 20, 40, 1, 2), swap("c", 30, 50, 1, 3)]);
}

#[test]
fn a_refusal_without_a_reason_is_seen() {
    is_wrong(&[put("a", 0, 10, 1), says("b", 20, 40, Is::NotAt(1))]);
    is_wrong(&[put("a", 0, 10, 1), delete("a", 20, 30), says("b", 40, 50, Is::There)]);
}

#[test]
fn an_unknown_outcome_may_be_either_and_late() {
    let unknown = put("a", 0, None, 1);
    is_right(&[unknown.clone(), says("b", 10, 20, Is::Missing), says("b", 30, 40, Is::Missing)]);
    is_right(&[unknown.clone(), says("b", 10, 20, Is::Missing), get("b", 30, 40, 1)]);
    // The write happens not before it began, and not twice.
    is_wrong(&[get("b", 0, 5, 1), put("a", 10, None, 1)]);
    is_wrong(&[unknown, get("b", 10, 20, 1), put("c", 30, 40, 2), get("b", 50, 60, 1)]);
}

#[test]
fn an_unknown_transaction_may_be_seen_in_one_register_and_overwritten_in_another() {
    let unknown = Call { writes: vec![(0, None), (1, Some(9))], ..call("a", 20, None) };
    let create = Call { when: vec![(0, Is::Missing)], ..put("b", 50, 60, 4) };
    let other = |began, id| Call { writes: vec![(1, Some(id))], ..call("c", began, began + 10) };
    let swap = Call { when: vec![(1, Is::At(3))], ..other(70, 5) };
    is_right(&[put("a", 0, 10, 1), unknown.clone(), other(30, 3), create.clone(), swap.clone()]);
    // Between the two writes of the other register nothing may have come.
    let late = Call { began: 45, ..unknown };
    is_wrong(&[put("a", 0, 10, 1), late, other(30, 3), create, swap]);
}

#[test]
fn an_unknown_swap_happens_only_where_it_may() {
    let begin = [put("a", 0, 10, 1), put("a", 20, 30, 2)];
    is_wrong(&[begin.to_vec(), vec![swap("b", 40, None, 1, 3), get("c", 50, 60, 3)]].concat());
    is_right(&[begin.to_vec(), vec![swap("b", 15, None, 1, 3), get("c", 50, 60, 2)]].concat());
}

#[test]
fn half_a_transaction_is_seen() {
    let both = Call { writes: vec![(0, Some(1)), (1, Some(2))], ..call("a", 0, 10) };
    let reads = |zero: Is, one: Is| Call { when: vec![(0, zero), (1, one)], ..call("b", 20, 30) };
    is_right(&[both.clone(), reads(Is::At(1), Is::At(2))]);
    is_wrong(&[both.clone(), reads(Is::At(1), Is::Missing)]);
    // Two reads come one after the other while it happens: the second must not be older than the
    // first.
    let one = |began, register, is| Call { when: vec![(register, is)], ..call("b", began, began + 1) };
    is_right(&[both.clone(), one(2, 0, Is::Missing), one(5, 1, Is::At(2))]);
    is_wrong(&[both, one(2, 0, Is::At(1)), one(5, 1, Is::Missing)]);
}

#[test]
fn two_transactions_that_each_missed_the_other_are_seen() {
    // Write skew: each saw both registers empty, and wrote one of them.
    let skew = |client: &str, writes: usize| Call {
        when: vec![(0, Is::Missing), (1, Is::Missing)],
        writes: vec![(writes, Some(writes as Id + 1))],
        ..call(client, 0, 10)
    };
    is_right(&[skew("a", 0)]);
    is_wrong(&[skew("a", 0), skew("b", 1)]);
}

#[test]
fn what_was_put_back_may_be_any_moment_before_and_none_other() {
    let restored = Call { reverts: true, ..call("server", 40, 50) };
    let begin = vec![put("a", 0, 10, 1), put("a", 20, 30, 2), restored];
    for is in [Is::Missing, Is::At(1), Is::At(2)] {
        is_right(&[begin.clone(), vec![says("b", 60, 70, is)]].concat());
    }
    is_wrong(&[begin.clone(), vec![get("b", 60, 70, 3)]].concat());
    // It is one moment, which all see.
    is_wrong(&[begin, vec![get("b", 60, 70, 1), get("b", 80, 90, 2)]].concat());
}

#[test]
fn what_is_shown_ends_at_the_violation() {
    let mut calls = vec![put("a", 0, 10, 1), get("b", 20, 30, 1), put("a", 40, 50, 2), get("c", 60, 70, 1)];
    calls.extend((0..50).map(|n| get("b", 100 + 10 * n, 105 + 10 * n, 2)));
    is_wrong(&calls);
    let shrunk = shrunk(&calls);
    assert!(shrunk.iter().all(|call| call.began < 100), "{shrunk:#?}");
    assert!(shrunk.len() <= 3, "{shrunk:#?}");
}

/// Makes effects in one order, each between the beginning and the answer of its call: such a
/// history is right, whatever the order of answers.
#[test]
fn long_histories_that_are_right_are_not_blamed() {
    for seed in 0..15 {
        let calls = random(seed, 300, |_, _| {});
        is_right(&calls);
    }
}

/// Makes one answer of such a history older than what was there when its call began.
#[test]
fn one_stale_answer_among_hundreds_is_seen() {
    let mut found = 0;
    for seed in 0..15 {
        let mut stale = false;
        let calls = random(seed, 300, |calls, before| {
            // The last read says what was there five writes ago.
            if let (Some(read), Some(old)) = (calls.last_mut(), before) {
                read.when = vec![(0, old)];
                stale = true;
            }
        });
        if stale {
            assert!(matches!(check(&calls), Verdict::Violated { .. }), "seed {seed}");
            found += 1;
        }
    }
    assert!(found > 10);
}

/// Returns the answers of a correct register; the last call is a read that began when all others
/// were answered.
fn random(seed: u64, count: u64, twist: impl FnOnce(&mut Vec<Call>, Option<Is>)) -> Vec<Call> {
    let mut chance = super::super::chance::Chance::new(seed, "history");
    let (mut calls, mut held, mut past) = (Vec::new(), None, Vec::new());
    for n in 0..count {
        // The call takes effect at 1000 + 10 n.
        let at = 1000 + 10 * n;
        let began = at - 1 - chance.below(60) as u64;
        let ended = Some(at + 1 + chance.below(60) as u64);
        let client = format!("c{}", n % 7);
        let id = u32::try_from(n).unwrap_or_default() + 1;
        let is = held.map_or(Is::Missing, Is::At);
        let new = match chance.below(6) {
            0 | 1 => {
                calls.push(put(&client, began, ended, id));
                Some(id)
            }
            2 => {
                // The outcome is unknown: the write happened, or did not.
                let happened = chance.one_in(2);
                calls.push(put(&client, began, None, id));
                if happened { Some(id) } else { held }
            }
            3 => {
                calls.push(delete(&client, began, ended));
                None
            }
            _ => {
                calls.push(says(&client, began, at + 5, is));
                held
            }
        };
        if new != held {
            past.push(is);
        }
        held = new;
    }
    let is = held.map_or(Is::Missing, Is::At);
    // Whatever has an unknown outcome may come late: the end is a write whose value nobody else
    // has.
    let end = 1000 + 10 * count + 100;
    calls.push(put("end", end, end + 1, 1_000_000));
    calls.push(get("end", end + 2, end + 3, 1_000_000));
    let known = |is: &Is| {
        let Is::At(id) = is else { return false };
        calls.iter().any(|c| c.ended.is_some() && c.writes.contains(&(0, Some(*id))))
    };
    let old = past.iter().rev().chain([&is]).find(|is| known(is)).copied();
    twist(&mut calls, old);
    calls
}
