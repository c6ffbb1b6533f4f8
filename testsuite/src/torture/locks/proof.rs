//! Histories that are wrong on purpose, and right ones.

use super::{
    event::{self, Event},
    history::{END, History, LAST, Told, Watched},
    judge::{self, Promises},
};
use crate::torture::workload::Violation;
use kv_core::Version;
use std::time::Duration;

/// Makes a history from lines, each of a client, a time and an event.
fn history(lines: &[&str]) -> History {
    let mut history = History::default();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (client, at, event) = (words.next(), words.next(), words.next());
        let at = at.and_then(|at| at.parse().ok()).expect("a time");
        let event = event.and_then(Event::parse).unwrap_or_else(|| panic!("an event: {line}"));
        history.add(client.expect("a client"), at, event);
    }
    assert!(history.wrong.is_empty(), "{:?}", history.wrong);
    history
}

/// Two contenders that hold one lock one after the other.
const TURNS: &[&str] = &[
    "a 10 asks a/0 0",
    "a 20 granted a/0 5",
    "a 30 held a/0 is_held",
    "b 15 asks b/0 0",
    "a 40 held a/0 release",
    "b 50 granted b/0 6",
    "b 60 held b/0 is_held",
];

fn turns(more: &[&str]) -> History {
    history(&[TURNS, more].concat())
}

fn none(wrong: &[Violation]) {
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn one(wrong: &[Violation], says: &str) {
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].what.contains(says), "{wrong:?}");
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let lines = [
        "asks a/0 1",
        "granted a/0 7",
        "missed a/0 true",
        "held a/0 is_held",
        "released a/0",
        "wrote a/0 3 7",
        "unwritten a/0 3 refused",
        "unwritten a/0 3 failed",
        "unwritten a/0 3 unknown",
        "found 1 3 7 5",
        "nobody 1 3",
        "holder 1 3 7 a/0",
        "unread",
        "closed 3 ok",
        "closed 3 failed",
        "closed 3 never",
        "struck 3",
        "wrong put \"a b\": what",
        "ends",
    ];
    for line in lines {
        let event = Event::parse(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(event.to_string(), line);
        let printed = format!("{}\n", event::line(9, &event));
        assert_eq!(event::read(&printed), [(9, event)], "{line}");
    }
    assert_eq!(Event::parse("granted a/0"), None);
}

#[test]
fn of_what_a_process_printed_the_broken_end_is_left_out_and_a_panic_is_not() {
    let printed = "words\ntold 5 asks a/0 1\nthread 'x' panicked at y\ntold 6 granted a/0 4";
    let read = event::read(printed);
    assert_eq!(read.len(), 2, "{read:?}");
    assert!(matches!(&read[1].1, Event::Wrong { what } if what.contains("panicked")));
}

#[test]
fn tokens_that_grow_are_not_blamed() {
    none(&judge::tokens(&turns(&[])));
    // Either of two that are side by side may be the first; and another lock has tokens of its
    // own.
    none(&judge::tokens(&history(&[
        "a 10 asks a/0 0",
        "b 15 asks b/0 0",
        "a 20 granted a/0 6",
        "b 21 granted b/0 5",
    ])));
    none(&judge::tokens(&turns(&["c 70 asks c/0 1", "c 80 granted c/0 5"])));
}

#[test]
fn a_token_that_is_granted_twice_is_seen() {
    one(&judge::tokens(&turns(&["c 15 asks c/0 0", "c 80 granted c/0 6"])), "twice");
}

#[test]
fn a_token_that_is_less_than_an_earlier_one_is_seen() {
    one(
        &judge::tokens(&turns(&["c 55 asks c/0 0", "c 80 granted c/0 3"])),
        "after it had been granted under 6",
    );
}

#[test]
fn holders_one_after_the_other_are_not_blamed() {
    none(&judge::exclusive(&turns(&[])));
    // An older grant may be answered late, and the lock be lost by then.
    none(&judge::exclusive(&turns(&["c 5 asks c/0 0", "c 90 granted c/0 4"])));
}

#[test]
fn two_holders_at_once_are_seen() {
    one(&judge::exclusive(&turns(&["a 55 held a/0 is_held"])), "says is_held");
    one(&judge::exclusive(&turns(&["a 55 held a/0 release"])), "says release");
}

#[test]
fn reads_of_the_holder_that_are_right_are_not_blamed() {
    let right = [
        "b 80 released b/0",
        "r 32 holder 0 31 5 a/0",
        "r 45 nobody 0 25",
        "r 56 holder 0 55 6 b/0",
        "r 90 nobody 0 61",
    ];
    none(&judge::holders(&turns(&right)));
    // `c` was granted the lock, and never heard of it.
    none(&judge::holders(&turns(&["c 70 asks c/0 0", "c 75 missed c/0 false", "r 80 holder 0 72 7 c/0"])));
    // `a` had a place before the one that it got at last.
    none(&judge::holders(&turns(&["r 16 holder 0 15 4 a/0"])));
}

#[test]
fn reads_of_the_holder_that_are_wrong_are_seen() {
    one(&judge::holders(&turns(&["r 52 nobody 0 51"])), "says otherwise");
    one(&judge::holders(&turns(&["r 27 nobody 0 26"])), "says otherwise");
    one(&judge::holders(&turns(&["r 80 holder 0 70 5 a/0"])), "newer holder is known");
    one(&judge::holders(&turns(&["r 80 holder 0 70 9 c/0"])), "which is nobody");
    one(&judge::holders(&turns(&["b 80 released b/0", "r 95 holder 0 81 6 b/0"])), "after its release");
    one(&judge::holders(&turns(&["r 80 holder 1 70 9 b/0"])), "which asked for l0");
    one(&judge::holders(&turns(&["r 12 holder 0 11 6 b/0"])), "before it asked");
    let taken = ["c 5 asks c/0 0", "r 80 holder 0 70 6 c/0"];
    one(&judge::holders(&turns(&taken)), "which is the token of b/0");
}

#[test]
fn fenced_writes_in_the_order_of_tokens_are_not_blamed() {
    let right = [
        "a 25 wrote a/0 22 100",
        "r 26 found 0 24 100 5",
        "a 43 released a/0",
        "a 90 unwritten a/0 70 refused",
        "b 58 wrote b/0 51 101",
        "r 80 found 0 52 100 5",
        // The write began before the newer acquisition was answered, and was done before it.
        "a 95 wrote a/0 42 100.1",
    ];
    none(&judge::fenced(&turns(&right)));
    // The read found a write whose answer was lost.
    none(&judge::fenced(&turns(&["a 40 unwritten a/0 22 unknown", "r 80 found 0 70 100 5"])));
}

#[test]
fn tokens_that_go_down_in_the_order_of_versions_are_seen() {
    let below = ["b 58 wrote b/0 51 100", "r 80 found 0 70 101 5"];
    one(&judge::fenced(&turns(&below)), "5 lies over 6");
    one(&judge::fenced(&turns(&["b 58 wrote b/0 51 100", "a 70 wrote a/0 45 101"])), "5 lies over 6");
    one(&judge::fenced(&turns(&["b 58 wrote b/0 51 100", "r 80 found 0 70 100 5"])), "has two tokens");
}

#[test]
fn a_late_write_that_is_acknowledged_is_seen() {
    let late = ["b 58 wrote b/0 51 101", "a 70 wrote a/0 59 100"];
    one(&judge::fenced(&turns(&late)), "a write under 5 of l0 was acknowledged");
    one(&judge::fenced(&turns(&["b 80 released b/0", "b 95 wrote b/0 81 101"])), "began after its release");
}

#[test]
fn a_token_that_nobody_was_granted_is_seen_where_it_was_written() {
    one(&judge::fenced(&turns(&["r 80 found 0 70 100 9"])), "which nobody was granted");
}

fn put(at: u64, token: u64, value: &str) -> (u64, Told) {
    (at, Told::Put { token, value: value.into() })
}

fn delete(at: u64, token: u64) -> (u64, Told) {
    (at, Told::Delete { version: Version::new(token, 0) })
}

fn synced(at: u64) -> (u64, Told) {
    (at, Told::Synced)
}

fn watched(told: &[(u64, Told)]) -> Vec<Violation> {
    let end = [
        format!("{END} 100 asks e/0 0"),
        format!("{END} 110 granted e/0 8"),
        format!("{END} 119 held e/0 is_held"),
    ];
    let more: Vec<&str> = ["d 70 asks d/0 0"].into_iter().chain(end.iter().map(String::as_str)).collect();
    let watch = Watched { client: "w".into(), lock: 0, told: told.to_vec(), ended: None };
    judge::watched(&turns(&more), &watch, &promises(1))
}

#[test]
fn watches_that_tell_what_happens_are_not_blamed() {
    let all = [
        synced(1),
        put(21, 5, "a/0"),
        delete(41, 5),
        put(51, 6, "b/0"),
        // After an outage the holder is told again; and `d` never heard that it was granted.
        synced(55),
        put(56, 6, "b/0"),
        synced(57),
        delete(65, 6),
        put(75, 7, "d/0"),
        put(111, 8, "e/0"),
        delete(120, 8),
    ];
    none(&watched(&all));
    // States between may be skipped, also by a deletion.
    none(&watched(&[put(22, 5, "a/0"), synced(23), delete(65, 6), put(111, 8, "e/0"), delete(120, 9)]));
}

#[test]
fn watches_that_go_back_are_seen() {
    let last = [put(111, 8, "e/0"), delete(120, 8)];
    let told = |told: &[(u64, Told)]| watched(&[&[synced(1)], told, &last].concat());
    one(&told(&[put(51, 6, "b/0"), put(52, 5, "a/0")]), "told 5 after 6");
    one(&told(&[put(51, 6, "b/0"), delete(52, 5)]), "told 5 after 6");
    one(&told(&[put(51, 6, "b/0"), delete(52, 6), put(53, 6, "b/0")]), "told 6 after 6");
    one(&told(&[put(51, 6, "b/0"), synced(52), put(53, 5, "a/0")]), "told 5 after 6");
}

#[test]
fn watches_that_tell_of_nobody_are_seen() {
    let last = [put(111, 8, "e/0"), delete(120, 8)];
    let told = |told: &[(u64, Told)]| watched(&[&[synced(1)], told, &last].concat());
    one(&told(&[put(51, 6, "x/0")]), "which is nobody");
    one(&told(&[put(76, 6, "d/0")]), "which is the token of b/0");
    one(&told(&[put(12, 6, "b/0")]), "before it asked");
}

#[test]
fn watches_that_stand_still_or_end_are_seen() {
    one(&watched(&[synced(1), put(51, 6, "b/0"), delete(60, 6)]), "never told the last holder");
    one(&watched(&[synced(1), put(111, 8, "e/0")]), "held under 8");
    one(&watched(&[put(111, 8, "e/0"), delete(120, 8)]), "never was in step");
    let ended = Watched { ended: Some((9, "timeout".into())), told: vec![synced(1)], ..Watched::default() };
    one(&judge::watched(&turns(&[]), &ended, &promises(1)), "ended: timeout");
}

fn promises(locks: usize) -> Promises {
    Promises {
        locks,
        within: Duration::from_micros(100),
        is_lossy: false,
        ttl: Duration::from_micros(50),
        arrives: Duration::from_micros(9),
        is_linearizable: true,
    }
}

fn at_the_end(lines: &[&str]) -> History {
    let name = |line: &&str| line.replace("END", END).replace("LAST", LAST);
    let lines: Vec<String> = lines.iter().map(name).collect();
    turns(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The lock that is got within 100 µs, by a client that is open and when all are closed.
const LAST_TURNS: [&str; 4] =
    ["LASTa 70 asks LASTa/0 0", "LASTa 170 granted LASTa/0 7", "END 300 asks e/0 0", "END 390 granted e/0 8"];

#[test]
fn a_lock_that_is_got_in_time_is_not_blamed() {
    none(&judge::progress(&at_the_end(&LAST_TURNS), &promises(1)));
}

#[test]
fn a_lock_that_does_not_get_free_is_seen() {
    let wrong = |end: &[&str], says: &str| {
        let history = at_the_end(&[&LAST_TURNS[..2], end].concat());
        one(&judge::progress(&history, &promises(1)), says);
    };
    wrong(&["END 300 asks e/0 0", "END 401 granted e/0 8"], "101µs after it was asked for, when all were");
    wrong(&["END 300 asks e/0 0"], "l0 was not got when all were closed");
    wrong(&[], "l0 was not tried when all were closed");
}

#[test]
fn a_contender_that_is_left_behind_in_a_queue_is_seen() {
    let wrong = |turns: &[&str], says: &str| {
        let history = at_the_end(&[turns, &LAST_TURNS[2..]].concat());
        one(&judge::progress(&history, &promises(1)), says);
    };
    let late = ["LASTa 70 asks LASTa/0 0", "LASTa 171 granted LASTa/0 7"];
    wrong(&late, "101µs after it was asked for, while its contenders were open");
    wrong(&["LASTa 70 asks LASTa/0 0"], "l0 was not got while its contenders were open");
    wrong(&[], "l0 was not tried while its contenders were open");
    // Each client takes its turn, and another lock is no answer for this one.
    let second = ["LASTb 200 asks LASTb/0 0", "LASTb 300 missed LASTb/0 true"];
    wrong(&[&LAST_TURNS[..2], &second].concat(), "l0 was not got while its contenders were open");
    wrong(&["LASTa 70 asks LASTa/0 1", "LASTa 170 granted LASTa/0 7"], "l0 was not tried while");
}

#[test]
fn handles_that_close_are_not_blamed() {
    let closed =
        ["a 90 closed 80 ok", "r 88 holder 0 87 7 a/0", "b 95 closed 80 failed", "r 99 holder 0 98 6 b/0"];
    let closed = [&closed[..], &["END 120 nobody 0 110"]].concat();
    none(&judge::closings(&at_the_end(&closed), &promises(1)));
    // `a` had lost the lock long before.
    let lost = ["a 190 closed 180 ok", "r 199 holder 0 198 5 a/0", "END 220 nobody 0 210"];
    none(&judge::closings(&at_the_end(&lost), &promises(1)));
}

#[test]
fn a_close_that_is_not_answered_or_leaves_something_is_seen() {
    let free = "END 120 nobody 0 110";
    one(&judge::closings(&at_the_end(&["a 90 closed 80 never", free]), &promises(1)), "never answered");
    let left = ["a 90 closed 80 ok", "r 99 holder 0 98 5 a/0", free];
    one(&judge::closings(&at_the_end(&left), &promises(1)), "after its close");
    one(
        &judge::closings(&at_the_end(&["END 120 holder 0 110 6 b/0"]), &promises(1)),
        "held when all are closed",
    );
    one(&judge::closings(&at_the_end(&[free]), &promises(2)), "who holds l1");
}

const END_TURNS: [&str; 5] = [
    "LASTa 190 asks LASTa/0 0",
    "LASTa 195 granted LASTa/0 19",
    "END 200 asks e/0 0",
    "END 210 granted e/0 20",
    "END 220 nobody 0 215",
];

#[test]
fn all_judges_are_asked() {
    let all = |lines: &[&str], says: &str| {
        let wrong = judge::judge(&at_the_end(&[lines, &END_TURNS].concat()), &promises(1));
        assert_eq!(says.is_empty(), wrong.is_empty(), "{wrong:?}");
        assert!(wrong.iter().any(|wrong| wrong.what.contains(says)) || says.is_empty(), "{wrong:?}");
    };
    all(&[], "");
    all(&["c 15 asks c/0 0", "c 80 granted c/0 6"], "twice");
    all(&["a 55 held a/0 is_held"], "says is_held");
    all(&["r 52 nobody 0 51"], "says otherwise");
    all(&["b 58 wrote b/0 51 101", "a 70 wrote a/0 59 100"], "was acknowledged");
    all(&["a 90 closed 80 never"], "never answered");
    let last = judge::judge(&at_the_end(&END_TURNS[2..]), &promises(1));
    one(&last, "while its contenders were open");
    let mut told = at_the_end(&END_TURNS);
    told.watches.push(Watched { client: "w".into(), ..Watched::default() });
    assert!(!judge::judge(&told, &promises(1)).is_empty());
    told.watches.clear();
    told.wrong.push((1, "what".into()));
    one(&judge::judge(&told, &promises(1)), "what");
    one(&judge::judge(&told, &Promises { locks: 0, ..promises(1) }), "what");
}
