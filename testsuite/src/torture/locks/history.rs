//! All that was told of locks, put together.

use super::event::{Event, Unwritten};
use crate::torture::workload::Bar;
use kv_core::Version;
use std::collections::BTreeMap;

/// The client that looks at what is left when all is over.
pub(super) const END: &str = "the-end";
/// The beginning of the name by which a client takes every lock once more before it is closed.
pub(super) const LAST: &str = "last-turn-of-";

/// One try to get a lock.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) name: String,
    pub(super) client: String,
    pub(super) lock: usize,
    pub(super) began: u64,
    /// The moment at which it was granted, and its token; `None` when it was not granted, or
    /// nobody knows.
    pub(super) granted: Option<(u64, u64)>,
    /// The last moment of which it is known that the lock was held then or later, and the call
    /// that said so.
    pub(super) held: Option<(u64, String)>,
    /// The moment at which it was told that it does not have the lock, or gave up.
    pub(super) missed: Option<u64>,
    /// The moment at which its release had freed the lock.
    pub(super) released: Option<u64>,
}

impl Attempt {
    pub(super) fn bar(&self) -> Bar {
        let label = match self.granted {
            Some((_, token)) => format!("l{} under {token}", self.lock),
            None => format!("l{}, not granted", self.lock),
        };
        let ended = self.granted.map(|(at, _)| at);
        Bar { client: self.client.clone(), label, began: self.began, ended }
    }

    /// Returns the bar from its grant to the last moment at which it was held.
    pub(super) fn held_bar(&self) -> Option<Bar> {
        let ((began, token), (ended, by)) = (self.granted?, self.held.clone()?);
        let label = format!("holds l{} under {token}: {by}", self.lock);
        Some(Bar { client: self.client.clone(), label, began, ended: Some(ended.max(began)) })
    }
}

/// A fenced write that was acknowledged, or a read of one.
#[derive(Clone, Debug)]
pub(super) struct Fenced {
    pub(super) client: String,
    pub(super) lock: usize,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) version: Version,
    pub(super) token: u64,
    pub(super) is_write: bool,
}

impl Fenced {
    pub(super) fn bar(&self) -> Bar {
        let Self { client, lock, began, ended, version, token, is_write } = self.clone();
        let label = format!("{} {token} at {version} of l{lock}", if is_write { "wrote" } else { "found" });
        Bar { client, label, began, ended: Some(ended) }
    }
}

/// A read of the holder.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) client: String,
    pub(super) lock: usize,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) holder: Option<(u64, String)>,
}

impl Holder {
    pub(super) fn bar(&self) -> Bar {
        let label = match &self.holder {
            Some((token, value)) => format!("l{} is held by {value} under {token}", self.lock),
            None => format!("nobody holds l{}", self.lock),
        };
        Bar { client: self.client.clone(), label, began: self.began, ended: Some(self.ended) }
    }
}

/// The closing of a handle.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    pub(super) client: String,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) is_ok: Option<bool>,
}

impl Closing {
    pub(super) fn bar(&self) -> Bar {
        let label = self.is_ok.map_or("close", |is_ok| if is_ok { "close: ok" } else { "close: failed" });
        let ended = self.is_ok.map(|_| self.ended);
        Bar { client: self.client.clone(), label: label.into(), began: self.began, ended }
    }
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Synced,
    Put {
        token: u64,
        value: String,
    },
    Delete {
        version: Version,
    },
    /// The stream had ended, and another one begins.
    Anew,
}

/// The events that a watch of a lock's holder told.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) client: String,
    pub(super) lock: usize,
    pub(super) told: Vec<(u64, Told)>,
    /// The moment and the reason of its end, if it ended before it was dropped.
    pub(super) ended: Option<(u64, String)>,
}

impl Watched {
    /// Returns the token of the holder, or that there is none, by what was told; `None` when the
    /// watch never was in step.
    pub(super) fn fold(&self) -> Option<Option<u64>> {
        let mut holder = None;
        for (_, told) in &self.told {
            match told {
                Told::Synced => {}
                Told::Put { token, .. } => holder = Some(*token),
                Told::Delete { .. } | Told::Anew => holder = None,
            }
        }
        self.told.iter().any(|(_, told)| *told == Told::Synced).then_some(holder)
    }
}

/// All that was told, on the clock of the run.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The wall clock at the beginning of the run.
    pub(super) zero: u64,
    /// The attempts, in the order of asking.
    pub(super) attempts: Vec<Attempt>,
    pub(super) by_name: BTreeMap<String, usize>,
    pub(super) fenced: Vec<Fenced>,
    pub(super) holders: Vec<Holder>,
    pub(super) closings: Vec<Closing>,
    pub(super) watches: Vec<Watched>,
    /// The strokes that clients met: the client, and from when to when. Strokes that met none in particular have
    /// no name.
    pub(super) struck: Vec<(String, u64, u64)>,
    pub(super) wrong: Vec<(u64, String)>,
    pub(super) answered: u64,
    pub(super) unknown: u64,
    pub(super) failed: u64,
    /// The number of fenced writes that were refused because the lock was lost.
    pub(super) refused: u64,
}

impl History {
    /// Adds what a client told; the attempts of one client come in the order in which it told of
    /// them.
    pub(super) fn add(&mut self, client: &str, at: u64, event: Event) {
        let zero = self.zero;
        let run = |wall: u64| wall.saturating_sub(zero);
        let (at, client) = (run(at), client.to_owned());
        match event {
            Event::Asks { attempt: name, lock } => {
                self.by_name.insert(name.clone(), self.attempts.len());
                let (granted, held, missed, released) = (None, None, None, None);
                let began = at;
                self.attempts.push(Attempt { name, client, lock, began, granted, held, missed, released });
            }
            Event::Granted { attempt, token } => {
                self.answered += 1;
                self.change(at, &attempt, |attempt| attempt.granted = Some((at, token)));
            }
            Event::Missed { attempt, is_answer } => {
                if is_answer {
                    self.answered += 1;
                } else {
                    self.unknown += 1;
                }
                self.change(at, &attempt, |attempt| attempt.missed = Some(at));
            }
            Event::Held { attempt, by } => {
                self.change(at, &attempt, |attempt| {
                    if attempt.held.as_ref().is_none_or(|(last, _)| *last < at) {
                        attempt.held = Some((at, by));
                    }
                });
            }
            Event::Released { attempt } => {
                self.answered += 1;
                self.change(at, &attempt, |attempt| attempt.released = Some(at));
            }
            Event::Wrote { attempt, began, version } => {
                self.answered += 1;
                let Some((lock, token)) = self.under(at, &attempt) else { return };
                let (began, ended) = (run(began), at);
                self.fenced.push(Fenced { client, lock, began, ended, version, token, is_write: true });
            }
            Event::Unwritten { how, .. } => match how {
                Unwritten::Refused => {
                    self.answered += 1;
                    self.refused += 1;
                }
                Unwritten::Failed => self.failed += 1,
                Unwritten::Unknown => self.unknown += 1,
            },
            Event::Found { lock, began, version, token } => {
                self.answered += 1;
                let (began, ended) = (run(began), at);
                self.fenced.push(Fenced { client, lock, began, ended, version, token, is_write: false });
            }
            Event::Holder { lock, began, holder } => {
                self.answered += 1;
                self.holders.push(Holder { client, lock, began: run(began), ended: at, holder });
            }
            Event::Unread => self.failed += 1,
            Event::Closed { began, is_ok } => {
                self.closings.push(Closing { client, began: run(began), ended: at, is_ok });
            }
            Event::Struck { began } => self.struck.push((client, run(began), at)),
            Event::Wrong { what } => self.wrong.push((at, format!("{client}: {what}"))),
            Event::Ends => {}
        }
    }

    pub(super) fn attempt(&self, name: &str) -> Option<&Attempt> {
        self.attempts.get(*self.by_name.get(name)?)
    }

    fn change(&mut self, at: u64, name: &str, change: impl FnOnce(&mut Attempt)) {
        match self.by_name.get(name).and_then(|n| self.attempts.get_mut(*n)) {
            Some(attempt) => change(attempt),
            None => self.wrong.push((at, format!("the attempt {name} is told of, and was never begun"))),
        }
    }

    /// Returns the lock and the token of an attempt that writes.
    fn under(&mut self, at: u64, name: &str) -> Option<(usize, u64)> {
        let under = self.attempt(name).and_then(|attempt| Some((attempt.lock, attempt.granted?.1)));
        if under.is_none() {
            self.wrong.push((at, format!("the attempt {name} has written, and was never granted")));
        }
        under
    }

    /// Returns the attempts that were granted, each with the moment and the token.
    pub(super) fn grants(&self) -> impl Iterator<Item = (&Attempt, u64, u64)> {
        self.attempts.iter().filter_map(|attempt| attempt.granted.map(|(at, token)| (attempt, at, token)))
    }
}
