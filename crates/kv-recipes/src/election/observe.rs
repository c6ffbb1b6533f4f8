//! The leader of an election, as others see it.

use super::seat::{Seat, read};
use crate::needs;
use kv_core::{Bytes, Entry, Error, Result, Watch, WatchEvent};
use std::fmt;

/// The leader of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// The number of the term, which grows with every term.
    pub term: u64,
    /// The name of the candidate that leads.
    pub candidate: String,
    /// The value that the leader has told last: by [`Election::value`](super::Election::value) when
    /// it took office, by [`Term::proclaim`](super::Term::proclaim) since.
    pub value: Bytes,
}

/// One piece of news about an election: its leader, or that nobody is known to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This one leads.
    Leader(Leader),
    /// The term that was told last is over, and nobody is known to lead.
    Vacant,
}

impl Leadership {
    /// Returns the leader; `None` when there is none.
    pub fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Leader(leader) => Some(leader),
            Self::Vacant => None,
        }
    }
}

/// Makes of a record what it says.
fn leader_of(entry: &Entry) -> Result<Leader> {
    let (says, value) = read(entry)?;
    Ok(Leader { term: says.term, candidate: says.candidate, value })
}

/// Reads who leads.
pub(super) async fn leader(seat: &Seat) -> Result<Option<Leader>> {
    // The two reads are not of one moment: a term may end between them.
    for _ in 0..3 {
        let Some(holder) = seat.kv.lock_holder(&seat.name).await? else { return Ok(None) };
        let Some(entry) = seat.kv.get(&seat.leader).await? else { return Ok(None) };
        let leader = leader_of(&entry)?;
        if leader.term == holder.token {
            return Ok(Some(leader));
        }
        if leader.term < holder.token {
            return Ok(None); // the holder has not taken office yet
        }
    }
    Ok(None)
}

/// The leaders of an election, from the present one on; made by
/// [`Election::observe`](super::Election::observe), which shows it.
///
/// First comes who leads now, or [`Vacant`](Leadership::Vacant); then every change that is seen: a
/// term that begins, a proclamation, a term that ends. A change that was over before it was seen
/// may be left out, the newest never. Outages are ridden out: an observer that is cut off hears
/// nothing meanwhile, and nothing false afterwards.
#[must_use = "nothing is observed until it is read"]
pub struct Leaders {
    holder: Watch,
    said: Watch,
    seen: Seen,
}

/// The newest state that the watches of the lock's holder and of the leader's record have told.
#[derive(Default)]
struct Seen {
    /// The token of the lock's holder.
    holder: Option<u64>,
    knows_holder: bool,
    said: Option<Leader>,
    knows_said: bool,
    unreadable: Option<Error>,
    told: Option<Leadership>,
}

impl Leaders {
    pub(super) async fn begin(seat: &Seat) -> Result<Self> {
        needs::watches(&seat.kv)?;
        let holder = seat.kv.lock_holder(&seat.name).watch().await?;
        let said = seat.kv.watch(&seat.leader).await?;
        Ok(Self { holder, said, seen: Seen::default() })
    }

    /// Returns the next news.
    ///
    /// # Errors
    /// [`Corrupt`](kv_core::ErrorKind::Corrupt) when what the leader says cannot be read, as by a
    /// program that is older than the leader's; the next call goes on. What ends a
    /// [watch](Watch::event), for good.
    ///
    /// # Cancel safety
    /// News that were not given are given by the next call.
    pub async fn next(&mut self) -> Result<Leadership> {
        loop {
            if let Some(news) = self.seen.news()? {
                return Ok(news);
            }
            tokio::select! {
                event = self.holder.event() => self.seen.of_holder(&event?),
                event = self.said.event() => self.seen.of_said(&event?),
            }
        }
    }
}

impl Seen {
    fn of_holder(&mut self, event: &WatchEvent) {
        match event {
            // The lower half of the version counts what the holder changes, and is no token.
            WatchEvent::Put(entry) => self.holder = Some(entry.version.parts().0),
            WatchEvent::Delete { .. } => self.holder = None,
            WatchEvent::Synced => self.knows_holder = true,
        }
    }

    fn of_said(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Put(entry) => match leader_of(entry) {
                Ok(leader) => self.said = Some(leader),
                Err(e) => (self.said, self.unreadable) = (None, Some(e)),
            },
            WatchEvent::Delete { .. } => self.said = None,
            WatchEvent::Synced => self.knows_said = true,
        }
    }

    /// Returns who leads, if that is news.
    fn news(&mut self) -> Result<Option<Leadership>> {
        if !(self.knows_holder && self.knows_said) {
            return Ok(None);
        }
        if let Some(e) = self.unreadable.take() {
            return Err(e);
        }
        let leads = self.said.as_ref().filter(|leader| Some(leader.term) == self.holder);
        let now = leads.map_or(Leadership::Vacant, |leader| Leadership::Leader(leader.clone()));
        if self.told.as_ref() == Some(&now) {
            return Ok(None);
        }
        self.told = Some(now.clone());
        Ok(Some(now))
    }
}

impl fmt::Debug for Leaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaders").field("told", &self.seen.told).finish_non_exhaustive()
    }
}
