//! The rules that a history of locks must keep.

use super::history::{Attempt, Closing, END, Fenced, History, LAST, Told, Watched};
use crate::torture::workload::{Bar, Violation};
use kv_core::Version;
use std::{collections::BTreeMap, time::Duration};

/// The promises of the store on which a judgement hangs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promises {
    /// The number of locks.
    pub(super) locks: usize,
    /// The time within which a lock is got when all troubles are over: its TTL, the lateness and a
    /// slack.
    pub(super) within: Duration,
    /// The time that a lock lives without a renewal.
    pub(super) ttl: Duration,
    /// The time within which a watch tells who holds a lock, if the lock is held so long.
    pub(super) arrives: Duration,
    /// Tells whether the store may lose what it acknowledged, so that two may have one lock.
    pub(super) is_lossy: bool,
    /// Tells whether reads see every write before them.
    pub(super) is_linearizable: bool,
}

/// Returns all that is wrong.
pub(super) fn judge(history: &History, promises: &Promises) -> Vec<Violation> {
    if promises.is_lossy {
        // What is left: the store refuses the older one's writes, and somebody gets the lock.
        return [tokens(history), fenced(history), progress(history, promises)].concat();
    }
    let wrong = history.wrong.iter().map(|(at, what)| violation(what.clone(), *at, Vec::new()));
    let mut all: Vec<_> = wrong.collect();
    all.extend(tokens(history));
    all.extend(exclusive(history));
    all.extend(fenced(history));
    if promises.is_linearizable {
        all.extend(holders(history));
    }
    history.watches.iter().for_each(|watch| all.extend(watched(history, watch, promises)));
    all.extend(progress(history, promises));
    all.extend(closings(history, promises));
    all
}

pub(super) fn violation(what: String, at: u64, calls: Vec<Bar>) -> Violation {
    Violation { what, at, calls }
}

/// Checks that an acquisition that began after another one of the same lock was answered has a
/// greater token, and that no token is granted twice.
pub(super) fn tokens(history: &History) -> Vec<Violation> {
    let (mut wrong, mut of_token, mut of_lock) = (Vec::new(), BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
    for (attempt, at, token) in history.grants() {
        if let Some(other) = of_token.insert((attempt.lock, token), attempt) {
            let what = format!("the token {token} of l{} was granted twice", attempt.lock);
            wrong.push(violation(what, at, vec![other.bar(), attempt.bar()]));
        }
        of_lock.entry(attempt.lock).or_default().push((attempt, at, token));
    }
    for (lock, mut grants) in of_lock {
        let mut answers = grants.clone();
        answers.sort_by_key(|(_, at, _)| *at);
        grants.sort_by_key(|(attempt, ..)| attempt.began);
        let (mut answers, mut newest) = (answers.into_iter().peekable(), None::<(u64, &Attempt)>);
        for (attempt, at, token) in grants {
            while let Some((earlier, _, of)) = answers.next_if(|(_, answered, _)| *answered < attempt.began) {
                if newest.is_none_or(|(greatest, _)| of > greatest) {
                    newest = Some((of, earlier));
                }
            }
            if let Some((of, earlier)) = newest.filter(|(of, _)| *of > token) {
                let what = format!("l{lock} was granted under {token} after it had been granted under {of}");
                wrong.push(violation(what, at, vec![earlier.bar(), attempt.bar()]));
            }
        }
    }
    wrong
}

/// Checks that nobody is told that it holds a lock after a newer acquisition was answered.
pub(super) fn exclusive(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (old, _, token) in history.grants() {
        let Some((held, by)) = &old.held else { continue };
        let newer = history.grants().filter(|(new, at, of)| new.lock == old.lock && *of > token && at < held);
        if let Some((new, _, of)) = newer.min_by_key(|(_, at, _)| *at) {
            let what =
                format!("l{} is held under {token}, says {by}, when it was granted under {of}", old.lock);
            let calls = [Some(old.bar()), old.held_bar(), Some(new.bar()), new.held_bar()];
            wrong.push(violation(what, *held, calls.into_iter().flatten().collect()));
        }
    }
    wrong
}

/// Checks that in the order of versions the tokens never go down, that each is one that was
/// granted, and that nobody writes under an old token when a newer acquisition, or its own
/// release, was answered before.
pub(super) fn fenced(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut in_order: Vec<&Fenced> = history.fenced.iter().collect();
    // A write comes before the reads that found it.
    in_order.sort_by_key(|fenced| (fenced.lock, fenced.version, !fenced.is_write, fenced.ended));
    for two in in_order.windows(2) {
        let (one, next) = (two[0], two[1]);
        if one.lock != next.lock || one.token == next.token {
            continue;
        }
        if one.version == next.version {
            let what = format!("the version {} of l{} has two tokens", one.version, one.lock);
            wrong.push(violation(what, next.ended, vec![one.bar(), next.bar()]));
        } else if one.token > next.token {
            let what = format!("{} lies over {}, of l{}", next.token, one.token, one.lock);
            wrong.push(violation(what, next.ended, vec![one.bar(), next.bar()]));
        }
    }
    for found in history.fenced.iter().filter(|fenced| !fenced.is_write) {
        let is_granted = |(attempt, _, token): (&Attempt, u64, u64)| {
            attempt.lock == found.lock && token == found.token && attempt.began <= found.ended
        };
        if !history.grants().any(is_granted) {
            let what = format!("{}, which nobody was granted, was found in l{}", found.token, found.lock);
            wrong.push(violation(what, found.ended, vec![found.bar()]));
        }
    }
    for write in history.fenced.iter().filter(|fenced| fenced.is_write) {
        let newer = history
            .grants()
            .filter(|(new, at, of)| new.lock == write.lock && *of > write.token && *at < write.began);
        if let Some((new, _, of)) = newer.min_by_key(|(_, at, _)| *at) {
            let what = format!(
                "a write under {} of l{} was acknowledged, which began when {of} had been granted",
                write.token, write.lock
            );
            let first = history.fenced.iter().filter(|f| f.is_write && f.lock == write.lock && f.token == of);
            let first = first.min_by_key(|first| first.ended).map(Fenced::bar);
            let calls = [Some(new.bar()), first, Some(write.bar())];
            wrong.push(violation(what, write.ended, calls.into_iter().flatten().collect()));
        }
        if let Some(released) = released(history, write.lock, write.token, write.began) {
            let what = format!("a write under {} of l{} began after its release", write.token, write.lock);
            let calls = [Some(released.bar()), released.held_bar(), Some(write.bar())];
            wrong.push(violation(what, write.ended, calls.into_iter().flatten().collect()));
        }
    }
    wrong
}

/// Returns the attempt that had this lock under this token, if its release was answered before
/// this moment.
fn released(history: &History, lock: usize, token: u64, before: u64) -> Option<&Attempt> {
    let mut grants = history.grants().filter(|(attempt, _, of)| attempt.lock == lock && *of == token);
    grants.find(|(attempt, ..)| attempt.released.is_some_and(|at| at < before)).map(|(attempt, ..)| attempt)
}

/// Returns what is wrong when somebody is told to hold a lock by this moment. A try that was not
/// granted may have held it all the same, and one that was granted may have had a place before,
/// which it lost.
fn named(history: &History, lock: usize, token: u64, value: &str, at: u64) -> Option<(String, Vec<Bar>)> {
    let Some(attempt) = history.attempt(value) else {
        return Some((format!("l{lock} is held by {value:?}, which is nobody"), Vec::new()));
    };
    if attempt.lock != lock {
        let what = format!("l{lock} is held by {value}, which asked for l{}", attempt.lock);
        return Some((what, vec![attempt.bar()]));
    }
    if attempt.began > at {
        return Some((format!("l{lock} was held by {value} before it asked"), vec![attempt.bar()]));
    }
    let mut others = history.grants().filter(|(other, _, of)| other.lock == lock && *of == token);
    let (other, ..) = others.find(|(other, ..)| other.name != attempt.name)?;
    let what = format!("l{lock} is held by {value} under {token}, which is the token of {}", other.name);
    Some((what, vec![attempt.bar(), other.bar()]))
}

/// Checks that a read names the one who holds the lock then.
pub(super) fn holders(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for read in &history.holders {
        if let Some((token, value)) = &read.holder {
            if let Some((what, mut calls)) = named(history, read.lock, *token, value, read.ended) {
                calls.push(read.bar());
                wrong.push(violation(what, read.ended, calls));
            }
            let newer = history
                .grants()
                .find(|(new, at, of)| new.lock == read.lock && *of > *token && *at < read.began);
            if let Some((new, ..)) = newer {
                let what = format!("l{} is held by {value}, when a newer holder is known", read.lock);
                wrong.push(violation(what, read.ended, vec![new.bar(), read.bar()]));
            }
            if let Some(released) = released(history, read.lock, *token, read.began) {
                let what = format!("l{} is held by {value} after its release", read.lock);
                wrong.push(violation(what, read.ended, vec![released.bar(), read.bar()]));
            }
        }
        let holder = history.grants().find(|(holder, at, token)| {
            let is_held =
                *at < read.began && holder.held.as_ref().is_some_and(|(held, _)| *held > read.ended);
            let is_named = read.holder.as_ref().is_some_and(|(of, _)| of == token);
            holder.lock == read.lock && is_held && !is_named
        });
        if let Some((holder, _, token)) = holder {
            let what = format!("l{} is held under {token}, and a read says otherwise", read.lock);
            let calls = [Some(holder.bar()), holder.held_bar(), Some(read.bar())];
            wrong.push(violation(what, read.ended, calls.into_iter().flatten().collect()));
        }
    }
    wrong
}

/// Checks that the tokens of a watch grow, and that only a new beginning tells one again; that
/// each is somebody's; that the watch goes on to the end, and tells who is the last to hold the
/// lock, and then that nobody does.
pub(super) fn watched(history: &History, watch: &Watched, promises: &Promises) -> Vec<Violation> {
    let Watched { client, lock, told, ended } = watch;
    let mut wrong = Vec::new();
    let bar = |at: u64, label: String| Bar { client: client.clone(), label, began: at, ended: Some(at) };
    if let Some((at, why)) = ended {
        wrong.push(violation(format!("the watch of l{lock} ended: {why}"), *at, vec![bar(*at, why.clone())]));
    }
    // The event that was told last, and whether it was told since the last `Synced`.
    let mut last: Option<(u64, Version, bool)> = None;
    for (at, told) in told {
        let (at, is_put, version) = match told {
            Told::Synced | Told::Anew => {
                last = last.map(|(at, version, _)| (at, version, false));
                continue;
            }
            Told::Put { token, value } => {
                if let Some((what, mut calls)) = named(history, *lock, *token, value, *at) {
                    calls.push(bar(*at, format!("{value} under {token}")));
                    wrong.push(violation(format!("a watch says that {what}"), *at, calls));
                }
                (*at, true, Version::new(*token, 0))
            }
            Told::Delete { version } => (*at, false, *version),
        };
        if let Some((before, newest, is_fresh)) = last {
            let went_back = version < newest || is_put && is_fresh && version == newest;
            if went_back {
                let what = format!("the watch of l{lock} told {version} after {newest}");
                let label = if is_put { format!("holder {version}") } else { format!("nobody, {version}") };
                let calls = vec![bar(before, newest.to_string()), bar(at, label)];
                wrong.push(violation(what, at, calls));
            }
        }
        last = Some((at, last.map_or(version, |(_, newest, _)| newest.max(version)), true));
    }
    let at = told.last().map_or(0, |(at, _)| *at);
    let last = history.grants().filter(|(attempt, ..)| attempt.lock == *lock && attempt.client == END).last();
    if let Some((attempt, since, token)) = last
        && let Some((until, _)) = attempt.held
        && Duration::from_micros(until.saturating_sub(since)) >= promises.arrives
        && !told.iter().any(|(_, told)| matches!(told, Told::Put { token: of, .. } if *of == token))
    {
        let what = format!("the watch of l{lock} never told the last holder");
        wrong.push(violation(
            what,
            at,
            [Some(attempt.bar()), attempt.held_bar()].into_iter().flatten().collect(),
        ));
    }
    let holder = match watch.fold() {
        Some(None) => return wrong,
        Some(Some(token)) => format!("the watch of l{lock} says at the end that it is held under {token}"),
        None => format!("the watch of l{lock} never was in step"),
    };
    wrong.push(violation(holder, at, Vec::new()));
    wrong
}

/// Checks that each lock can be got in time when all troubles are over: first while clients that
/// contended are open, so that nobody is left behind in a queue that its handle keeps, and then
/// when all are closed.
pub(super) fn progress(history: &History, promises: &Promises) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let of_the_end: fn(&Attempt) -> bool = |attempt| attempt.client == END;
    let while_open: fn(&Attempt) -> bool = |attempt| attempt.client.starts_with(LAST);
    let moments = [(while_open, "while its contenders were open"), (of_the_end, "when all were closed")];
    for (lock, (is_of, when)) in (0..promises.locks).flat_map(|lock| moments.map(|moment| (lock, moment))) {
        let mut tries =
            history.attempts.iter().filter(|attempt| attempt.lock == lock && is_of(attempt)).peekable();
        if tries.peek().is_none() {
            wrong.push(violation(format!("l{lock} was not tried {when}"), 0, Vec::new()));
        }
        for attempt in tries {
            let within =
                attempt.granted.map(|(at, _)| Duration::from_micros(at.saturating_sub(attempt.began)));
            let what = match within {
                Some(within) if within <= promises.within => continue,
                Some(within) => format!("l{lock} was got only {within:?} after it was asked for, {when}"),
                None => format!("l{lock} was not got {when}"),
            };
            wrong.push(violation(what, attempt.began, vec![attempt.bar()]));
        }
    }
    wrong
}

/// Checks that every handle is closed in the end and holds nothing after that, and that at the
/// very end nobody holds anything.
pub(super) fn closings(history: &History, promises: &Promises) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for closing in &history.closings {
        if closing.is_ok.is_none() {
            let what = format!("the close of {} was never answered", closing.client);
            wrong.push(violation(what, closing.began, vec![closing.bar()]));
        }
    }
    for read in &history.holders {
        let Some(holder) = read.holder.as_ref().and_then(|(_, value)| history.attempt(value)) else {
            continue;
        };
        let closed = history.closings.iter().find(|closing| closing.client == holder.client);
        // A lock that was lost before has nothing to give back, and may live on with a server that
        // comes back.
        let ttl = u64::try_from(promises.ttl.as_micros()).unwrap_or(u64::MAX);
        let was_lost = |closing: &Closing| {
            holder.held.as_ref().is_some_and(|(held, _)| held.saturating_add(ttl) < closing.began)
        };
        let is_over = |closing: &&Closing| closing.is_ok == Some(true) && closing.ended < read.began;
        if let Some(closing) = closed.filter(is_over).filter(|closing| !was_lost(closing)) {
            let what = format!("{} holds l{} after its close was answered", holder.client, read.lock);
            wrong.push(violation(what, read.ended, vec![holder.bar(), closing.bar(), read.bar()]));
        }
    }
    for lock in 0..promises.locks {
        let last = history.holders.iter().rfind(|read| read.lock == lock && read.client == END);
        match last {
            None => {
                let what = format!("nobody could be asked at the end who holds l{lock}");
                wrong.push(violation(what, 0, Vec::new()));
            }
            Some(read) if read.holder.is_some() => {
                let what = format!("l{lock} is held when all are closed");
                wrong.push(violation(what, read.ended, vec![read.bar()]));
            }
            Some(_) => {}
        }
    }
    wrong
}
