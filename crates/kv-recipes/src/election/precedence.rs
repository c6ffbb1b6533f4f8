//! The order of candidates that have a priority.

use super::seat::read;
use crate::{json, record, record::Format, registration};
use kv_core::{Directory, Entry, Key, Result, WatchEvent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The directory of the candidates that wait, below the election's name.
pub(super) const CANDIDATES: &str = "candidates";
/// The key of the nomination, below the election's name.
pub(super) const NOMINEE: &str = "nominee";

/// The value that a candidate registers while it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rank {
    pub(super) candidate: String,
    pub(super) priority: i32,
    /// The last nomination of this candidate that it has seen: its term and number.
    pub(super) ready: Option<(u64, u64)>,
}

/// The candidate that the leader of a term nominates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nomination {
    pub(super) v: Format,
    pub(super) term: u64,
    /// The number of the nomination in its term.
    pub(super) number: u64,
    /// The id of the candidate; `None` when the nomination was taken back.
    pub(super) id: Option<String>,
}

/// Reads what a candidate has registered.
pub(super) fn rank(entry: &Entry) -> Result<Rank> {
    let (_, rank) = registration::read(entry)?;
    json::read(&entry.key, &rank)
}

pub(super) fn nomination(entry: &Entry) -> Result<Nomination> {
    record::read(&entry.key, &entry.value).map(|(nomination, _)| nomination)
}

/// The candidates, the nomination and the last term of an election, as they were read below its
/// name. A record that cannot be read is left out: the records decide nothing but who steps aside
/// for whom.
#[derive(Debug, Default)]
pub(super) struct Field {
    /// The living candidates, by their ids.
    ranks: BTreeMap<String, Rank>,
    nomination: Option<Nomination>,
    /// The last term in which somebody took office.
    term: Option<u64>,
}

impl Field {
    pub(super) fn of(election: &Directory, entries: &[Entry]) -> Self {
        let mut field = Self::default();
        entries.iter().for_each(|entry| field.set(election, &entry.key, Some(entry)));
        field
    }

    /// Takes up what a watch of the election's directory tells.
    pub(super) fn fold(&mut self, election: &Directory, event: &WatchEvent) {
        match event {
            WatchEvent::Put(entry) => self.set(election, &entry.key, Some(entry)),
            WatchEvent::Delete { key, .. } => self.set(election, key, None),
            WatchEvent::Synced => {}
        }
    }

    fn set(&mut self, election: &Directory, key: &Key, entry: Option<&Entry>) {
        let Some(name) = election.strip(key) else { return };
        match name.as_str() {
            "leader" => self.term = entry.and_then(|entry| read(entry).ok()).map(|(says, _)| says.term),
            NOMINEE => self.nomination = entry.and_then(|entry| nomination(entry).ok()),
            _ if name.parent().as_str() == CANDIDATES => {
                let id = name.name().to_owned();
                match entry.and_then(|entry| rank(entry).ok()) {
                    Some(rank) => drop(self.ranks.insert(id, rank)),
                    None => drop(self.ranks.remove(&id)),
                }
            }
            _ => {}
        }
    }

    /// Tells whether no living candidate comes before this one.
    pub(super) fn is_first(&self, id: &str, priority: i32) -> bool {
        match self.nominee() {
            Some((nominee, _)) => nominee == id,
            None => self.ranks.iter().all(|(other, rank)| other == id || rank.priority <= priority),
        }
    }

    /// Returns the nomination of this candidate that counts, if there is one.
    pub(super) fn nominates(&self, id: &str) -> Option<(u64, u64)> {
        self.nominee().filter(|(nominee, _)| *nominee == id).map(|(_, nomination)| nomination)
    }

    /// Returns the candidate that is nominated, with the term and number of the nomination. It
    /// counts if it was made in the last term, and the candidate lives.
    fn nominee(&self) -> Option<(&str, (u64, u64))> {
        let Nomination { term, number, id, .. } = self.nomination.as_ref()?;
        let id = id.as_deref().filter(|id| self.term == Some(*term) && self.ranks.contains_key(*id))?;
        Some((id, (*term, *number)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Nomination, Rank};
    use crate::record::Format;

    fn field(ranks: &[(&str, i32)], nominated_in: Option<u64>) -> Field {
        let rank = |priority: i32| Rank { candidate: String::new(), priority, ready: None };
        let ranks = ranks.iter().map(|(id, priority)| ((*id).to_owned(), rank(*priority))).collect();
        let nomination = |term| Nomination { v: Format, term, number: 1, id: Some("n".into()) };
        Field { ranks, nomination: nominated_in.map(nomination), term: Some(7) }
    }

    #[test]
    fn a_greater_priority_comes_first_and_equals_do_not_step_aside() {
        let field = field(&[("a", 1), ("b", 5), ("c", 5)], None);
        assert!(!field.is_first("a", 1) && field.is_first("b", 5) && field.is_first("c", 5));
        assert!(field.is_first("not registered yet", 5));
        assert!(Field::default().is_first("a", i32::MIN));
    }

    #[test]
    fn a_nominee_comes_before_all_as_long_as_it_lives_and_the_term_is_the_last() {
        let all = [("a", 9), ("n", 0)];
        let nominated = field(&all, Some(7));
        assert!(nominated.is_first("n", 0) && !nominated.is_first("a", 9));
        assert_eq!((nominated.nominates("n"), nominated.nominates("a")), (Some((7, 1)), None));
        for void in [field(&all, Some(6)), field(&all[..1], Some(7)), field(&all, None)] {
            assert!(void.is_first("a", 9) && void.nominates("n").is_none());
        }
    }
}
