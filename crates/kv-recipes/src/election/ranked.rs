//! Campaigns of candidates with a priority, and how a leader hands over.

use super::{
    precedence::{CANDIDATES, Field, NOMINEE, Nomination, Rank, nomination, rank},
    seat::Seat,
    term::{Office, Term},
};
use crate::{
    Registration, json,
    names::below,
    patience::{backoff, ends, until_lost, write_fenced},
    record::{self, Format},
};
use futures_core::future::BoxFuture;
use kv_core::{Directory, Entry, ErrorKind, Guard, Result, WatchEvent, backend::apart, driver::Deadline};
use std::{future::pending, sync::Arc, time::Duration};

/// Waits until this candidate leads. While it waits it is registered, and it stands in the lock's
/// line only while nobody comes before it: so nobody has to step aside later, but where the news of
/// a candidate comes late.
pub(super) async fn campaign(seat: &Arc<Seat>) -> Result<Term> {
    let mut rank = Rank { candidate: seat.candidate.clone(), priority: seat.priority, ready: None };
    let key = below(&seat.name, &format!("{CANDIDATES}/{}", seat.id))?;
    let waits = Registration::new(&seat.kv, key).ttl(seat.ttl).json(&rank).register().await?;
    let mut over = std::pin::pin!(waits.over());
    let election = seat.name.as_directory();
    let mut watch = seat.kv.watch_tree(&election).await?;
    let (mut field, mut is_known, mut backoff) = (Field::default(), false, backoff());
    let mut line: Option<BoxFuture<'static, Result<Guard>>> = None;
    loop {
        if is_known {
            match field.is_first(&seat.id, seat.priority) {
                false => line = None,
                true if line.is_none() => line = Some(Box::pin(seat.lock().acquire())),
                true => {}
            }
            let asked = field.nominates(&seat.id);
            if asked.is_some() && asked != rank.ready {
                rank.ready = asked;
                waits.want(json::write(&rank)?)?;
            }
        }
        let guard = tokio::select! {
            biased;
            why = &mut over => return Err(why),
            event = watch.event() => {
                let event = event?;
                is_known |= event == WatchEvent::Synced;
                field.fold(&election, &event);
                continue;
            }
            guard = turn(&mut line) => guard?,
        };
        line = None;
        // What the watch has not told yet may put another before this candidate.
        let look = is_first_now(seat, &election);
        match until_lost(|| guard.is_held(), guard.lost(), look).await {
            Ok(Ok(true)) => {
                if let Some(term) = Term::begin(seat, guard).await? {
                    return Ok(term); // what was registered goes in the background
                }
            }
            Ok(Err(e)) if ends(&e) => return Err(e),
            Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
            Ok(Ok(false) | Err(_)) | Err(_) => drop(guard.release().await),
        }
        backoff.pause().await;
    }
}

/// Waits for the turn in the line, if this candidate stands in it.
async fn turn(line: &mut Option<BoxFuture<'static, Result<Guard>>>) -> Result<Guard> {
    match line {
        Some(turn) => turn.await,
        None => pending().await,
    }
}

async fn is_first_now(seat: &Seat, election: &Directory) -> Result<bool> {
    let entries = seat.kv.list(election).await?;
    Ok(Field::of(election, &entries).is_first(&seat.id, seat.priority))
}

impl Term {
    /// Waits until a candidate with a greater priority than the leader's waits, and returns the
    /// candidate's name; a leader without a priority has 0. The leader may resign then.
    ///
    /// # Errors
    /// [`LockLost`](ErrorKind::LockLost) when the term is over; what ends a
    /// [watch](kv_core::Watch::event).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    pub async fn outranked(&self) -> Result<String> {
        let wait = self.until_outranked();
        let outranked = until_lost(|| self.is_held(), self.lost(), wait).await;
        outranked.flatten().map_err(|e| self.0.seat.in_call(e))
    }

    async fn until_outranked(&self) -> Result<String> {
        let seat = &self.0.seat;
        let mut watch = seat.kv.watch_tree(below(&seat.name, CANDIDATES)?).await?;
        loop {
            let WatchEvent::Put(entry) = watch.event().await? else { continue };
            match rank(&entry) {
                Ok(rank) if rank.priority > seat.priority => return Ok(rank.candidate),
                _ => {}
            }
        }
    }

    /// Nominates a candidate as the next leader: all others step aside for it. Returns whether the
    /// nominee has answered within this time that it stands ready. Then [`resign`](Self::resign),
    /// or end the work of [`lead`](super::Election::lead), and the nominee leads.
    ///
    /// If the answer is `false`, because no candidate of that name waits or it did not answer, the
    /// nomination is taken back, and this leader goes on. All candidates of the election must have
    /// a [priority](super::Election::priority), 0 will do: others step aside for nobody. A nominee
    /// that dies is forgotten; a nomination ends with the next term. Of several candidates of one
    /// name the first by id is meant.
    ///
    /// # Errors
    /// [`LockLost`](ErrorKind::LockLost) when the term is over; those of
    /// [`Kv::list`](kv_core::Kv::list), and the server's lasting refusals.
    ///
    /// # Cancel safety
    /// The nomination may stand when the future is dropped: until the next nomination, or the next
    /// term.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::Election;
    /// use std::time::Duration;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let election = Election::new(&kv, "app/leader").priority(0);
    /// let term = election.clone().candidate("old").campaign().await?;
    /// assert!(!term.nominate("new", Duration::from_secs(5)).await?, "nobody of that name waits");
    ///
    /// let waits = ["other", "new"].map(|name| {
    ///     let election = election.clone().candidate(name);
    ///     tokio::spawn(async move { election.campaign().await })
    /// });
    /// while !term.nominate("new", Duration::from_secs(5)).await? {}
    /// term.resign().await?;
    /// let [other, new] = waits;
    /// assert_eq!(new.await.unwrap()?.candidate(), "new");
    /// # other.abort();
    /// # Ok(()) }
    /// ```
    #[doc(alias = "yield_to")]
    #[doc(alias = "hand_over")]
    pub async fn nominate(&self, candidate: &str, within: Duration) -> Result<bool> {
        let (term, candidate) = (self.another(), candidate.to_owned());
        // Later nominations wait for it, polled or not.
        let nominated = apart(async move {
            let nominate = term.nominate_within(&candidate, Deadline::after(within));
            let nominated = until_lost(|| term.is_held(), term.lost(), nominate).await;
            nominated.flatten().map_err(|e| term.0.seat.in_call(e))
        });
        nominated.await
    }

    async fn nominate_within(&self, candidate: &str, deadline: Deadline) -> Result<bool> {
        let Office { seat, nomination, .. } = &*self.0;
        let candidates = below(&seat.name, CANDIDATES)?;
        let waiting = seat.kv.list(&candidates).await?;
        let is_meant = |entry: &&Entry| rank(entry).is_ok_and(|rank| rank.candidate == candidate);
        let Some(meant) = waiting.iter().find(is_meant) else { return Ok(false) };
        let mut number = nomination.lock().await;
        *number += 1;
        self.write_nomination(*number, Some(meant.key.name())).await?;
        let ready = deadline.limit(self.until_ready(meant, *number)).await;
        if let Some(Ok(true)) = ready {
            return Ok(true);
        }
        *number += 1;
        self.write_nomination(*number, None).await?;
        ready.unwrap_or(Ok(false))
    }

    async fn write_nomination(&self, number: u64, id: Option<&str>) -> Result<()> {
        let (term, seat) = (self.number(), &self.0.seat);
        let record = Nomination { v: Format, term, number, id: id.map(str::to_owned) };
        let is_done = |entry: &Entry| {
            let found = nomination(entry)?;
            Ok(found.term == term && found.number >= number)
        };
        let (key, record) = (below(&seat.name, NOMINEE)?, record::write(&record, b"")?);
        write_fenced(&seat.kv, &key, self.fence(), &record, is_done).await.map(drop)
    }

    /// Waits for the nominee's answer: `false` when it is gone.
    async fn until_ready(&self, nominee: &Entry, number: u64) -> Result<bool> {
        let (seat, asked) = (&self.0.seat, Some((self.number(), number)));
        let mut watch = seat.kv.watch(&nominee.key).await?;
        let mut was_there = false;
        loop {
            match watch.event().await? {
                WatchEvent::Put(entry) if rank(&entry).is_ok_and(|rank| rank.ready == asked) => {
                    return Ok(true);
                }
                WatchEvent::Put(_) => was_there = true,
                WatchEvent::Delete { .. } => return Ok(false),
                WatchEvent::Synced if !was_there => return Ok(false),
                WatchEvent::Synced => {}
            }
        }
    }
}
