//! The task that keeps a registered key there, and mends it.

use super::{
    line::{Line, read},
    state::{RegistrationState, Stop, Told, Wanted, superseded},
};
use crate::{
    patience::{backoff, ends},
    record,
};
use kv_core::{
    Entry, Error, ErrorKind, Key, Kv, Lease, Result, Version, Watch, WatchEvent, backend::Backoff,
};
use std::{
    future::pending,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

pub(super) struct Keeper {
    kv: Kv,
    key: Key,
    id: String,
    ttl: Duration,
    wanted: watch::Receiver<Wanted>,
    told: watch::Sender<Told>,
    /// The version that the first put of this registration gave the key; `None` until it is known.
    born: Option<Version>,
    /// The version that the present lease's last acknowledged put gave the key.
    placed: Option<Version>,
    /// True from the moment on in which another was seen to have registered the key.
    superseded: bool,
    /// The lease of before, which is lost, until the key is placed under the present one: what is
    /// lost by the own clock may still be seen.
    before: Option<Lease>,
    /// The present lease is over, as the server or the own clock says.
    is_over: bool,
    /// The watch of the key, from the first registration on: a hint to look again, and no more.
    watch: Option<Watch>,
}

impl Keeper {
    pub(super) fn new(
        kv: &Kv,
        key: &Key,
        id: &str,
        ttl: Duration,
        wanted: watch::Receiver<Wanted>,
        told: watch::Sender<Told>,
    ) -> Self {
        let (kv, key, id) = (kv.clone(), key.clone(), id.to_owned());
        let (born, placed, superseded, before, is_over, watch) = (None, None, false, None, false, None);
        Self { kv, key, id, ttl, wanted, told, born, placed, superseded, before, is_over, watch }
    }

    /// Keeps the key until the owner goes, or the registration ends by itself.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<Stop>) {
        let mut lease = None;
        let over = tokio::select! {
            biased;
            asked = &mut stopped => Err(asked.ok()),
            why = self.keep(&mut lease) => Ok(why),
        };
        // What is under way is dropped here. If it reaches the server later, it finds its lease
        // revoked, and puts nothing.
        let answer = match over {
            Ok(_) if self.superseded => return self.tell(RegistrationState::Superseded),
            Ok(why) => return self.tell(RegistrationState::Over(why)),
            Err(answer) => answer,
        };
        let gone = match &answer {
            Some(_) => revoke([lease, self.before.take()]).await,
            None => Ok(false), // the leases, if there are any, are revoked in the background
        };
        self.tell(RegistrationState::Over(Error::new(ErrorKind::LeaseLost, "it was deregistered")));
        if let Some(answer) = answer {
            drop(answer.send(gone));
        }
    }

    fn tell(&self, state: RegistrationState) {
        self.told.send_modify(|told| told.state = state);
    }

    /// Puts the key, again and again, as long as that can be mended; returns what cannot.
    async fn keep(&mut self, lease: &mut Option<Lease>) -> Error {
        let mut backoff: Backoff = backoff();
        loop {
            match self.once(lease, &mut backoff).await {
                Ok(()) => {}
                Err(e) if self.superseded || ends(&e) => return e,
                Err(e) => {
                    self.is_over |= e.kind() == ErrorKind::LeaseLost;
                    self.told.send_modify(|told| told.state = mending(&told.state, e));
                    backoff.pause().await;
                }
            }
        }
    }

    /// Sees to it that the key is there, with the newest value and under a lease that lives; then
    /// waits until one of these may have changed.
    async fn once(&mut self, slot: &mut Option<Lease>, backoff: &mut Backoff) -> Result<()> {
        if self.is_over || slot.as_ref().is_none_or(|lease| !lease.is_held()) {
            let lease = self.kv.lease(self.ttl).await?;
            (self.before, self.placed, self.is_over) = (slot.replace(lease), None, false);
        }
        let Some(lease) = slot.as_ref() else { return Ok(()) };
        let wanted = self.wanted.borrow_and_update().clone();
        let version = self.place(lease, &wanted).await?;
        self.before = None;
        self.told.send_if_modified(|told| {
            let was_so = told.written == wanted.change && matches!(told.state, RegistrationState::Registered);
            (told.state, told.written) = (RegistrationState::Registered, wanted.change);
            !was_so
        });
        backoff.reset();
        if self.watch.is_none() {
            self.watch = Some(self.kv.watch(&self.key).await?);
        }
        let Self { wanted, watch, .. } = self;
        let Some(hints) = watch else { return Ok(()) };
        let looks = tokio::select! {
            biased;
            lost = lease.lost() => return Err(lost),
            more = wanted.changed() => match more {
                Ok(()) => return Ok(()),
                Err(_) => pending().await, // the owner is gone, and `run` ends this
            },
            looks = changes_from(hints, version) => looks,
        };
        if looks.is_err() {
            *watch = None; // it has ended; what passes does not end the registration with it
        }
        looks
    }

    /// Puts the value under the lease, unless it stands there; returns its version.
    async fn place(&mut self, lease: &Lease, wanted: &Wanted) -> Result<Version> {
        let mut backoff = backoff();
        loop {
            let found = self.kv.get(&self.key).await?;
            let expected = match &found {
                None => None,
                Some(entry) if self.is_placed(entry, wanted)? => return Ok(entry.version),
                Some(entry) => Some(entry.version),
            };
            let line = Line::new(&self.id, self.born, wanted.change);
            let put = self.kv.put(&self.key, record::write(&line, &wanted.value)?).lease(lease);
            let put = match expected {
                Some(version) => put.if_version(version),
                None => put.if_missing(),
            };
            match put.await {
                Ok(written) => {
                    self.born.get_or_insert(written.version);
                    self.placed = Some(written.version);
                    return Ok(written.version);
                }
                Err(e) if e.is_conflict() => backoff.pause().await,
                Err(e) => return Err(e),
            }
        }
    }

    /// Tells whether the key is as wanted, by a put that was acknowledged under the present lease.
    /// It is an error if the key is another's for good.
    fn is_placed(&mut self, entry: &Entry, wanted: &Wanted) -> Result<bool> {
        let (line, born) = match read(entry).and_then(|(line, _)| Ok((line.born(entry)?, line))) {
            Ok((born, line)) => (line, born),
            // Whoever wrote that after us has taken the key; what was there before is left alone.
            Err(_) if self.born.is_some() => return Err(self.give_up()),
            Err(e) => return Err(e),
        };
        if line.id == self.id {
            // The answer to the first put may have been lost.
            self.born.get_or_insert(born);
            return Ok(self.placed == Some(entry.version) && line.change == wanted.change);
        }
        match self.born {
            Some(own) if born > own => Err(self.give_up()),
            _ => Ok(false),
        }
    }

    fn give_up(&mut self) -> Error {
        self.superseded = true;
        superseded()
    }
}

/// Revokes the leases that there are, and returns whether one of them was alive.
async fn revoke(leases: [Option<Lease>; 2]) -> Result<bool> {
    let mut was_alive = Ok(false);
    for lease in leases.into_iter().flatten() {
        let revoked = lease.revoke().await;
        was_alive = was_alive.and_then(|before| Ok(revoked? || before));
    }
    was_alive
}

/// Waits until the watch tells of something else than this version, and of nothing older, or was
/// away: a server that was put back to an older state counts on from there.
async fn changes_from(watch: &mut Watch, version: Version) -> Result<()> {
    loop {
        match watch.event().await? {
            WatchEvent::Put(entry) if entry.version <= version => {}
            // A deletion may be told with the version of the put before ours.
            WatchEvent::Put(_) | WatchEvent::Delete { .. } | WatchEvent::Synced => return Ok(()),
        }
    }
}

/// Returns the state in a failure, which goes on since the first one.
fn mending(before: &RegistrationState, error: Error) -> RegistrationState {
    let since = match before {
        RegistrationState::Mending { since, .. } => *since,
        _ => Instant::now(),
    };
    RegistrationState::Mending { since, error }
}
