//! One candidate of an election: its names, and what it writes.

use crate::{
    json,
    names::{below, in_recipe, new_id},
    needs,
    patience::write_fenced,
    record::{self, Format},
};
use kv_core::{Bytes, Entry, Error, Fence, Key, Kv, Lock, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub(super) struct Seat {
    pub(super) kv: Kv,
    pub(super) name: Key,
    /// The key of what the leader says.
    pub(super) leader: Key,
    /// The id of the candidate, another one for each campaign.
    pub(super) id: String,
    pub(super) candidate: String,
    pub(super) value: Bytes,
    pub(super) ttl: Duration,
    /// The priority of the candidate; 0 for one without.
    pub(super) priority: i32,
}

/// The value of the lock, for operators.
#[derive(Serialize)]
struct Holds<'a> {
    v: Format,
    id: &'a str,
    candidate: &'a str,
}

/// The line in front of what the leader says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Says {
    v: Format,
    pub(super) term: u64,
    change: u64,
    id: String,
    pub(super) candidate: String,
}

/// Reads what a leader said.
pub(super) fn read(entry: &Entry) -> Result<(Says, Bytes)> {
    record::read(&entry.key, &entry.value)
}

impl Seat {
    pub(super) fn new(
        kv: &Kv,
        name: Result<Key>,
        candidate: &str,
        value: &Bytes,
        ttl: Duration,
        priority: i32,
    ) -> Result<Self> {
        let name = name.map_err(|e| in_recipe(e, kv, "election", None))?;
        let needed = needs::fences(kv, ttl).and_then(|()| below(&name, "leader"));
        let leader = needed.map_err(|e| in_recipe(e, kv, "election", Some(&name)))?;
        let id = new_id();
        let candidate = if candidate.is_empty() { id.clone() } else { candidate.to_owned() };
        Ok(Self { kv: kv.clone(), name, leader, id, candidate, value: value.clone(), ttl, priority })
    }

    pub(super) fn in_call(&self, error: Error) -> Error {
        in_recipe(error, &self.kv, "election", Some(&self.name))
    }

    /// Returns the lock whose holder may take office.
    pub(super) fn lock(&self) -> Lock {
        let holds = json::write(&Holds { v: Format, id: &self.id, candidate: &self.candidate });
        // It has nothing in it that could not be written.
        self.kv.new_lock(&self.name).ttl(self.ttl).value(holds.unwrap_or_default())
    }

    /// Writes what the leader says as its change of this number. It ends when the record stands, or
    /// with the term.
    pub(super) async fn say(&self, fence: &Fence, change: u64, value: &Bytes) -> Result<()> {
        let (term, id, candidate) = (fence.token(), self.id.clone(), self.candidate.clone());
        let record = record::write(&Says { v: Format, term, change, id, candidate }, value)?;
        let is_said = |entry: &Entry| {
            let (said, _) = read(entry)?;
            Ok(said.term == term && said.id == self.id && said.change >= change)
        };
        write_fenced(&self.kv, &self.leader, fence, &record, is_said).await.map(drop)
    }
}
