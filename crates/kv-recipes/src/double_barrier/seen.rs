//! The records of a double barrier: its members, and the last round that was opened.

use crate::{
    names::below,
    record::{self, Format},
};
use kv_core::{Directory, Entry, Key, Result, Version, WatchEvent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The directory of the members, below the name of the barrier.
const MEMBERS: &str = "members";
/// The key of the last round that was opened, below the name of the barrier.
pub(super) const OPENED: &str = "opened";

/// The line of a member: the round that it is in, or waits for.
#[derive(Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) v: Format,
    pub(super) round: u64,
}

/// The line of the last round that was opened.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) v: Format,
    pub(super) round: u64,
    /// The ids of those who went in.
    pub(super) members: Vec<String>,
}

/// The records of the members and of the last round, as they were read below the barrier's name.
#[derive(Default)]
pub(super) struct Seen {
    /// The rounds of the members, by their ids.
    pub(super) members: BTreeMap<String, u64>,
    pub(super) opened: Opened,
    /// The version of the record of the last round; `None` when there was none.
    pub(super) version: Option<Version>,
}

/// Returns the key of the member of this id.
pub(super) fn member(name: &Key, id: &str) -> Result<Key> {
    below(name, &format!("{MEMBERS}/{id}"))
}

pub(super) fn opened(entry: Option<&Entry>) -> Result<Opened> {
    let Some(entry) = entry else { return Ok(Opened::default()) };
    record::read(&entry.key, &entry.value).map(|(opened, _)| opened)
}

impl Seen {
    pub(super) fn set(&mut self, barrier: &Directory, key: &Key, entry: Option<&Entry>) -> Result<()> {
        let Some(name) = barrier.strip(key) else { return Ok(()) };
        if name.as_str() == OPENED {
            (self.opened, self.version) = (opened(entry)?, entry.map(|entry| entry.version));
        } else if name.parent().as_str() == MEMBERS {
            let id = name.name().to_owned();
            match entry {
                Some(entry) => {
                    let (Member { round, .. }, _) = record::read(&entry.key, &entry.value)?;
                    self.members.insert(id, round);
                }
                None => drop(self.members.remove(&id)),
            }
        }
        Ok(())
    }

    pub(super) fn fold(&mut self, barrier: &Directory, event: &WatchEvent) -> Result<()> {
        match event {
            WatchEvent::Put(entry) => self.set(barrier, &entry.key, Some(entry)),
            WatchEvent::Delete { key, .. } => self.set(barrier, key, None),
            WatchEvent::Synced => Ok(()),
        }
    }

    /// Returns the members of this round, by their ids.
    pub(super) fn of_round(&self, round: u64) -> impl Iterator<Item = &String> {
        self.members.iter().filter(move |(_, of)| **of == round).map(|(id, _)| id)
    }

    /// Tells whether this round is the next one, and can be opened.
    pub(super) fn can_open(&self, round: u64, members: usize) -> bool {
        let is_next = round.checked_sub(1) == Some(self.opened.round);
        is_next && self.of_round(round).count() >= members && self.members.values().all(|of| *of >= round)
    }

    pub(super) fn has_members_up_to(&self, round: u64) -> bool {
        self.members.values().any(|of| *of <= round)
    }
}
