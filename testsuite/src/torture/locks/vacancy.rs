//! The time in which nobody has what somebody waits for.

use super::{
    history::{Attempt, History},
    judge::violation,
};
use crate::torture::workload::{Bar, Violation};
use std::time::Duration;

/// The client that waits all the time, and that nothing strikes.
pub(super) const HEIR: &str = "the-heir";
/// The index of the lock or the office that it waits for.
pub(super) const THRONE: usize = 0;
/// The microseconds within which what was dropped is given back in the background.
const GIVES_BACK: u64 = 1_000_000;

/// Checks that, while somebody waits, the next one is there within this time: behind the last
/// moment at which the one before is known to have been there, behind the last stroke that met one
/// who may have stood before it in the line, and behind each trouble of servers.
pub(super) fn vacancies(history: &History, within: Duration) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
    let mut grants: Vec<_> = history.grants().filter(|(attempt, ..)| attempt.lock == THRONE).collect();
    grants.sort_by_key(|(_, _, token)| *token);
    for two in grants.windows(2) {
        let ((before, since, _), (next, at, token)) = (two[0], two[1]);
        let Some(heir) = heir(history, at) else { continue };
        let held = before.held.as_ref().map_or(since, |(held, _)| *held);
        let gone = before.released.unwrap_or(held).max(held).max(since);
        let began = gone.max(heir.began);
        let mut strokes: Vec<_> = history
            .struck
            .iter()
            .filter(|(client, from, _)| may_be_before(history, client, *from, next))
            .map(|(_, from, to)| (*from, *to))
            .collect();
        strokes.sort_unstable();
        let by = strokes.iter().fold(began.saturating_add(within), |by, &(from, to)| {
            match from < by && to > began {
                true => by.max(to.saturating_add(within)),
                false => by,
            }
        });
        if at > by {
            let gap = Duration::from_micros(at - began);
            let what = format!("nobody had l{THRONE} for {gap:?} before {token}, and one waited");
            let calls = [Some(before.bar()), before.held_bar(), Some(heir.bar()), Some(next.bar())];
            wrong.push(violation(what, at, calls.into_iter().flatten().collect::<Vec<Bar>>()));
        }
    }
    wrong
}

/// Returns the attempt of the heir that waits until this moment, or is granted then.
fn heir(history: &History, at: u64) -> Option<&Attempt> {
    let waits = |attempt: &&Attempt| attempt.client == HEIR && attempt.began < at;
    let last = history.attempts.iter().rfind(waits)?;
    (last.missed.is_none() && last.granted.is_none_or(|(granted, _)| granted >= at)).then_some(last)
}

/// Tells whether a client that was struck at this moment may have been there, or in the line, before
/// the one who came next: it had asked, and what became of that is not known, or was not long ago.
fn may_be_before(history: &History, client: &str, struck: u64, next: &Attempt) -> bool {
    let is_open = |attempt: &Attempt| {
        let is_asked = attempt.lock == THRONE && attempt.began < struck && attempt.name != next.name;
        let known =
            [attempt.granted.map(|(at, _)| at), attempt.held.as_ref().map(|(at, _)| *at), attempt.missed];
        let known = known.into_iter().flatten().chain(attempt.released).max();
        is_asked && attempt.client == client && known.is_none_or(|known| struck < known + GIVES_BACK)
    };
    client.is_empty() || history.attempts.iter().any(is_open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::locks::event::Event;

    /// Makes a history in which the heir waits for who leads from 20 ms on: of lines with a client, a
    /// time in milliseconds and an event.
    fn wrong(lines: &[&str]) -> Vec<String> {
        const BEGIN: &[&str] = &[
            "a 10 asks a/0 0",
            "a 11 granted a/0 5",
            "b 15 asks b/0 0",
            "the-heir 20 asks the-heir/0 0",
            "a 30 held a/0 is_held",
        ];
        let mut history = History::default();
        for line in BEGIN.iter().chain(lines) {
            let mut words = line.splitn(3, ' ');
            let (client, at, event) = (words.next(), words.next(), words.next());
            let at: u64 = at.and_then(|at| at.parse().ok()).expect("a time");
            let event = match event.and_then(Event::parse).expect("an event") {
                Event::Struck { began } => Event::Struck { began: began * 1000 },
                event => event,
            };
            history.add(client.expect("a client"), at * 1000, event);
        }
        assert!(history.wrong.is_empty(), "{:?}", history.wrong);
        vacancies(&history, Duration::from_millis(100)).into_iter().map(|wrong| wrong.what).collect()
    }

    #[test]
    fn nobody_leads_for_too_long() {
        let late = ["nobody had l0 for 101ms before 6, and one waited"];
        assert_eq!(wrong(&["b 130 granted b/0 6"]), [""; 0]);
        assert_eq!(wrong(&["b 131 granted b/0 6"]), late);
        assert_eq!(wrong(&["a 29 struck 29", "b 131 granted b/0 6"]), late, "it was there after that");
        assert_eq!(wrong(&["a 40 released a/0", "b 140 granted b/0 6"]), [""; 0]);
    }

    #[test]
    fn nobody_waited() {
        let gone = ["the-heir 35 missed the-heir/0 false", "b 131 granted b/0 6"];
        assert_eq!(wrong(&gone), [""; 0]);
        let late =
            ["the-heir 35 missed the-heir/0 false", "the-heir 40 asks the-heir/1 0", "b 141 granted b/0 6"];
        assert_eq!(wrong(&late), ["nobody had l0 for 101ms before 6, and one waited"]);
    }

    #[test]
    fn who_was_struck_in_the_line_is_waited_for() {
        let killed = "b 50 struck 50";
        assert_eq!(wrong(&[killed, "the-heir 150 granted the-heir/0 6"]), [""; 0]);
        let late = ["nobody had l0 for 121ms before 6, and one waited"];
        assert_eq!(wrong(&[killed, "the-heir 151 granted the-heir/0 6"]), late);
        assert_eq!(
            wrong(&["c 50 struck 50", "the-heir 151 granted the-heir/0 6"]),
            late,
            "it was not in the line"
        );
        let twice = [killed, "a 149 struck 148", "the-heir 249 granted the-heir/0 6"];
        assert_eq!(wrong(&twice), [""; 0]);
    }
}
