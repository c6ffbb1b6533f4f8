//! The rules for what streams of events may tell.

use crate::torture::workload::{Bar, Violation};
use kv_core::Version;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The most violations that are told of one stream; more of them say nothing new.
const TOLD: usize = 5;
/// The most events, and the most writes, of a key that are shown with a violation.
const SHOWN: usize = 6;

/// The target of a watch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// All keys below this directory.
    Tree(&'static str),
    /// One key.
    Key(&'static str),
}

impl Scope {
    pub(super) fn concerns(self, key: &str) -> bool {
        match self {
            Self::Tree(directory) => key.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')),
            Self::Key(watched) => watched == key,
        }
    }
}

/// One write to one key, of a call of its own or of a transaction.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) client: String,
    pub(super) key: String,
    /// The value; `None` deletes.
    pub(super) value: Option<String>,
    /// The time to live that was asked for, in microseconds.
    pub(super) ttl: Option<u64>,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) fate: Fate,
}

/// The fate of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The write was done; a value got this version.
    Done(Option<Version>),
    Unknown,
    /// The write had no effect.
    Failed,
}

impl Write {
    /// Tells whether it may have taken effect after this moment.
    fn may_follow(&self, since: u64) -> bool {
        match self.fate {
            Fate::Done(_) => self.ended >= since,
            Fate::Unknown => true,
            Fate::Failed => false,
        }
    }

    /// Tells whether it may have ended the key, after one moment and before another.
    fn may_end(&self, since: u64, until: u64) -> bool {
        let ends_from = match (&self.value, self.ttl) {
            (None, _) => self.began,
            // Clocks may run apart by a hundredth.
            (Some(_), Some(ttl)) => self.began + ttl * 99 / 100,
            (Some(_), None) => return false,
        };
        ends_from <= until && self.may_follow(since)
    }

    fn bar(&self) -> Bar {
        let label = match (&self.value, self.ttl) {
            (Some(value), None) => format!("put {value} into {}: {:?}", self.key, self.fate),
            (Some(value), Some(_)) => format!("put {value} into {} for a while: {:?}", self.key, self.fate),
            (None, _) => format!("delete {}: {:?}", self.key, self.fate),
        };
        let ended = (self.fate != Fate::Unknown).then_some(self.ended);
        Bar { client: self.client.clone(), label, began: self.began, ended }
    }
}

/// All writes, by key.
#[derive(Debug, Default)]
pub(super) struct Writes {
    of: HashMap<String, Vec<Write>>,
    /// The index in `of` of the write of each value of a key.
    at: HashMap<(String, String), usize>,
}

impl Writes {
    pub(super) fn new(all: Vec<Write>) -> Self {
        let mut writes = Self::default();
        for write in all {
            let of = writes.of.entry(write.key.clone()).or_default();
            if let Some(value) = &write.value {
                writes.at.insert((write.key.clone(), value.clone()), of.len());
            }
            of.push(write);
        }
        writes
    }

    fn of(&self, key: &str) -> &[Write] {
        self.of.get(key).map_or(&[], Vec::as_slice)
    }

    fn of_value(&self, key: &str, value: &str) -> Option<&Write> {
        let at = self.at.get(&(key.to_owned(), value.to_owned()))?;
        self.of(key).get(*at)
    }
}

/// One event of a stream.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Put(String, String, Version),
    Delete(String, Version),
    Synced,
}

impl Event {
    fn key(&self) -> Option<&str> {
        match self {
            Self::Put(key, ..) | Self::Delete(key, _) => Some(key),
            Self::Synced => None,
        }
    }
}

/// One watch from its beginning to its end.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: String,
    pub(super) scope: Scope,
    /// The moment at which it was asked for.
    pub(super) began: u64,
    /// The events that it told, each with its moment.
    pub(super) heard: Vec<(u64, Event)>,
}

/// The times in which acknowledged writes may have been lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The time from the beginning of each of the strokes until all was put right.
    spans: Vec<(u64, u64)>,
    /// Tells whether a copy was put back, with its counter of versions, so that a version may be
    /// given twice.
    is_restored: bool,
}

impl Losses {
    /// Makes the losses of strokes, each with its beginning, its end, and whether it put a copy
    /// back.
    pub(super) fn new(strokes: impl IntoIterator<Item = (u64, u64, bool)>) -> Self {
        let mut losses = Self::default();
        for (began, ended, is_restored) in strokes {
            losses.spans.push((began, ended));
            losses.is_restored |= is_restored;
        }
        losses
    }

    /// Tells whether what was there at one moment may be gone at another for that reason.
    fn between(&self, since: u64, at: u64) -> bool {
        self.spans.iter().any(|(began, ended)| *began <= at && *ended >= since)
    }
}

/// The version that was told of each value, and the value of each version, in any stream.
#[derive(Debug, Default)]
pub(super) struct Versions {
    of_value: HashMap<(String, String), Version>,
    of_version: HashMap<(String, Version), String>,
}

impl Versions {
    /// Returns how this disagrees with what was told before, if it does.
    fn disagrees(&mut self, key: &str, value: &str, version: Version, fate: Fate) -> Option<String> {
        let known = match fate {
            Fate::Done(Some(known)) => known,
            _ => *self.of_value.entry((key.to_owned(), value.to_owned())).or_insert(version),
        };
        if known != version {
            return Some(format!("{value} was told of {key} at {version}, but has {known}"));
        }
        let other = self.of_version.entry((key.to_owned(), version)).or_insert_with(|| value.to_owned());
        (other != value).then(|| format!("{value} was told of {key} at {version}, which {other} has"))
    }
}

/// The last that was told of a key.
struct Last {
    version: Version,
    /// The number of the section, between two `Synced`, in which it was told.
    section: usize,
    is_there: bool,
    /// The moment at which the write of the last value that was told began.
    since: u64,
    /// The versions that were told of the key, and then taken back for an older one: they were
    /// lost.
    lost: HashSet<Version>,
}

/// Judges one stream. Where writes were lost meanwhile, that explains ends, and versions that go
/// back after an end; a version that was lost does not come again. The versions of values are
/// remembered from stream to stream.
pub(super) fn judge(
    stream: &Stream,
    writes: &Writes,
    versions: &mut Versions,
    losses: &Losses,
) -> Vec<Violation> {
    let (mut last, mut section, mut wrong) = (HashMap::<&str, Last>::new(), 0, Vec::new());
    for (nth, (at, event)) in stream.heard.iter().enumerate() {
        if wrong.len() >= TOLD {
            break;
        }
        let mut say = |what: String, key: &str| wrong.push(violation(what, *at, key, stream, nth, writes));
        if let Some(key) = event.key().filter(|key| !stream.scope.concerns(key)) {
            say(format!("{:?} told of {key}", stream.scope), key);
            continue;
        }
        match event {
            Event::Synced => {
                if section == 0 {
                    for (key, version) in writes.lasting(stream, losses, *at) {
                        let told = last.get(key).filter(|told| told.is_there && told.version >= version);
                        if told.is_none() {
                            let what = format!("in sync without {key} at {version}, which was there before");
                            say(what, key);
                        }
                    }
                }
                section += 1;
            }
            Event::Put(key, value, version) => {
                let Some(write) = writes.of_value(key, value) else {
                    say(format!("{value} was told of {key}, which nobody wrote there"), key);
                    continue;
                };
                if write.fate == Fate::Failed {
                    say(format!("{value} was told of {key}, a write that had failed"), key);
                }
                if write.began > *at {
                    say(format!("{value} was told of {key} before it was written"), key);
                }
                let before = last.remove(key.as_str());
                let goes_back = before.as_ref().filter(|told| told.version >= *version);
                if !losses.is_restored {
                    if let Some(what) = versions.disagrees(key, value, *version, write.fate) {
                        say(what, key);
                    }
                    if let Some(told) = goes_back
                        && (told.is_there || !losses.between(told.since, *at))
                    {
                        say(format!("{key} was told at {version}, after {}", told.version), key);
                    }
                    if before.as_ref().is_some_and(|told| told.lost.contains(version)) {
                        say(format!("{key} was told at {version} again, which was lost"), key);
                    }
                }
                let gone = goes_back.map(|told| told.version).filter(|gone| gone != version);
                let mut lost = before.map(|told| told.lost).unwrap_or_default();
                lost.extend(gone);
                let since = write.began;
                last.insert(key, Last { version: *version, section, is_there: true, since, lost });
            }
            Event::Delete(key, version) => {
                let before = last.remove(key.as_str());
                let since = before.as_ref().map_or(0, |told| told.since);
                if !losses.is_restored {
                    let is_twice =
                        |told: &Last| !told.is_there && told.section == section && told.version == *version;
                    match &before {
                        Some(told) if told.version > *version => {
                            say(
                                format!("the end of {key} was told at {version}, after {}", told.version),
                                key,
                            );
                        }
                        Some(told) if is_twice(told) => {
                            say(format!("the end of {key} was told twice, at {version}"), key);
                        }
                        _ => {}
                    }
                    let is_lost = losses.between(since, *at);
                    if !is_lost && !writes.of(key).iter().any(|write| write.may_end(since, *at)) {
                        say(format!("the end of {key} was told, which nobody can have deleted"), key);
                    }
                }
                let lost = before.map(|told| told.lost).unwrap_or_default();
                last.insert(key, Last { version: *version, section, is_there: false, since, lost });
            }
        }
    }
    wrong
}

impl Writes {
    /// Returns the keys that nobody ever ends, each with the newest version that was answered
    /// before the stream was asked for, and not lost until this moment.
    fn lasting(&self, stream: &Stream, losses: &Losses, at: u64) -> impl Iterator<Item = (&str, Version)> {
        let watched = self.of.iter().filter(|(key, _)| stream.scope.concerns(key));
        let lasting = watched.filter(|(_, of)| of.iter().all(|write| !write.may_end(0, u64::MAX)));
        lasting.filter_map(move |(key, of)| {
            let before = of.iter().filter(|write| write.ended < stream.began);
            let before = before.filter(|write| !losses.between(write.ended, at));
            let versions = before.filter_map(|write| match write.fate {
                Fate::Done(version) => version,
                _ => None,
            });
            Some((key.as_str(), versions.max()?))
        })
    }
}

/// Returns how what was told differs from what is there, if it does.
pub(super) fn difference(
    told: &BTreeMap<String, (String, Version)>,
    there: &BTreeMap<String, (String, Version)>,
) -> Option<String> {
    let missing = there.iter().filter(|(key, _)| !told.contains_key(*key));
    let missing = missing.map(|(key, (value, at))| format!("{key} is {value} at {at}, and was not told"));
    let other = told.iter().filter(|(key, is)| there.get(*key) != Some(*is));
    let other = other.map(|(key, (value, at))| match there.get(key) {
        Some((is, of)) => format!("{key} was told as {value} at {at}, and is {is} at {of}"),
        None => format!("{key} was told as {value} at {at}, and is gone"),
    });
    let all: Vec<_> = missing.chain(other).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Makes a violation, with the last events and writes of the key.
fn violation(what: String, at: u64, key: &str, stream: &Stream, nth: usize, writes: &Writes) -> Violation {
    let events = stream.heard[..=nth].iter().rev();
    let events = events.filter(|(_, event)| event.key().is_none_or(|of| of == key)).take(SHOWN);
    let mut calls: Vec<_> = events
        .map(|(at, event)| {
            let label = match event {
                Event::Put(key, value, version) => format!("told {value} of {key} at {version}"),
                Event::Delete(key, version) => format!("told the end of {key} at {version}"),
                Event::Synced => "in sync".to_owned(),
            };
            Bar { client: stream.client.clone(), label, began: *at, ended: Some(*at) }
        })
        .collect();
    let mut before: Vec<_> = writes.of(key).iter().filter(|write| write.began <= at).collect();
    before.sort_by_key(|write| write.began);
    calls.extend(before.iter().rev().take(SHOWN).map(|write| write.bar()));
    calls.sort_by_key(|bar| bar.began);
    Violation { what: format!("{}: {what}", stream.client), at, calls }
}

#[cfg(test)]
mod tests;
