//! Polls a range, as the task behind a poll: it asks, and tells what differs.

mod gone;
mod rest;

use super::{
    polls::{Join, Within},
    refusal::Refusal,
};
use crate::{
    client::{
        GRACE,
        api::{self, Listing, Pair, Range},
    },
    core::Core,
    lock::line::{contends, held_by, version},
    names::lock_of,
};
use kv_core::{
    Entry, Error, ErrorKind, Key, Result, Version, WatchEvent,
    backend::{Backoff, Hub, Outage},
    driver::Deadline,
};
use rest::Rest;
use std::{collections::HashMap, hash::RandomState, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

/// Limits how long the server holds a poll while nothing changes. It is not longer, because the
/// server does not wake a poll of a directory when one above it is deleted whole and something was
/// deleted in it before, because the server never tells that a link is dead, and because it holds
/// a poll that we gave up for as long.
const WAIT: Duration = Duration::from_secs(10);
/// Limits the same while other polls wait for their turn.
const TURN: Duration = Duration::from_secs(1);
/// Divides the wait: the server adds a sixteenth of it, so that not all polls end at once.
const JITTER: u32 = 16;
/// Sets how long users who were told to read anew are waited for.
const GATHER: Duration = Duration::from_millis(50);

/// The poller of one range, with the range as it was told last.
pub(super) struct Poller {
    core: Arc<Core>,
    range: Range,
    hub: Hub,
    refusals: broadcast::Sender<Refusal>,
    within: Within,
    joining: mpsc::UnboundedReceiver<Join>,
    /// Holds the users who wait for a listing.
    waiting: Vec<Join>,
    known: HashMap<String, Known>,
    hashes: RandomState,
    /// Holds the version of each lock's holder.
    holders: HashMap<Key, Version>,
    pass: u64,
    /// Holds the server's index of the newest answer.
    index: u64,
    /// Holds until when users who were told to read anew are waited for: one answer serves them
    /// all.
    gathers: Option<Instant>,
}

/// One name, as it was in the newest answer.
struct Known {
    modified: u64,
    /// Holds the digest of the value: a server that is restored from a copy of another history may
    /// have another value at the same index.
    digest: u64,
    /// Holds the number of the newest answer in which the name was.
    pass: u64,
}

impl Poller {
    pub(super) fn new(
        core: Arc<Core>,
        range: Range,
        hub: Hub,
        refusals: broadcast::Sender<Refusal>,
        within: Within,
        joining: mpsc::UnboundedReceiver<Join>,
    ) -> Self {
        Self {
            core,
            range,
            hub,
            refusals,
            within,
            joining,
            waiting: Vec::new(),
            known: HashMap::new(),
            hashes: RandomState::new(),
            holders: HashMap::new(),
            pass: 0,
            index: 0,
            gathers: None,
        }
    }

    /// Polls until nobody uses the poll any more.
    pub(super) async fn run(mut self) {
        let (mut backoff, mut outage) = (Backoff::default(), Outage::new("watch", "consul"));
        let (mut is_first, mut unknown) = (true, None::<Instant>);
        loop {
            // After an outage the range is read without an index: the server's may have gone back,
            // and the server would wait until it reaches ours.
            let mut ended = self.welcome(Telling::Nobody).await;
            if ended.is_ok() {
                backoff.reset();
                outage.over();
                unknown = None;
                if !std::mem::take(&mut is_first) {
                    // All users are told that an outage is over, and what differs.
                    self.missed();
                }
                ended = self.follow().await;
            }
            let Err(e) = ended else { return };
            if self.core.polls.end_unused(&self.range) {
                return;
            }
            unknown = match e.kind() {
                ErrorKind::Unauthenticated => unknown.or_else(|| Some(Instant::now())),
                _ => None,
            };
            let may_pass = !is_first && unknown.is_some_and(|since| since.elapsed() < GRACE);
            let is_refused = match e.kind() {
                // A path that was taken before is taken still.
                ErrorKind::InvalidKey => is_first && self.is_path_refused().await,
                _ => e.is_lasting() && !may_pass,
            };
            if is_refused {
                self.refuse(&e);
            } else {
                outage.failed(&e);
            }
            backoff.pause().await;
        }
    }

    /// Asks for the range; with an index, for an answer as soon as the range may have changed
    /// since.
    fn ask(&self, behind: Option<u64>) -> impl Future<Output = Result<Arc<Listing>>> + Send + 'static {
        let (core, range, within) = (self.core.clone(), self.range.clone(), self.within.get());
        async move {
            let turns = core.client.pool()?.turns();
            let _turn = if behind.is_some() { turns.poll().await } else { turns.look().await };
            let (wait, within) = match behind {
                Some(index) => {
                    let wait = if turns.is_crowded() { TURN } else { WAIT };
                    (Some((index, wait)), wait + wait / JITTER + within)
                }
                None => (None, within),
            };
            api::range(&core.client, &range, wait, Deadline::after(within)).await.map(Arc::new)
        }
    }

    /// Tells whether it is an agent that refuses the path of the range. It does so without a word,
    /// as something in between may: so an agent is heard first, and asked for the range again.
    fn is_path_refused(&self) -> impl Future<Output = bool> + Send + 'static {
        let (core, within, again) = (self.core.clone(), self.within.get(), self.ask(None));
        async move {
            api::leader(&core.client, Deadline::after(within)).await.is_ok()
                && matches!(again.await, Err(e) if e.kind() == ErrorKind::InvalidKey)
        }
    }

    /// Polls until the link breaks, or the poll is ended, for nobody uses it any more.
    async fn follow(&mut self) -> Result<()> {
        let mut rest = Rest::default();
        loop {
            let poll = self.ask(Some(self.index.max(1)));
            let began = Instant::now();
            // An answer that may be older than one which was told meanwhile is dropped.
            if let Some(listing) = self.until(poll).await? {
                let (answered, listing) = (Instant::now(), listing?);
                let has_news = self.tell(&listing, Telling::All).await?;
                let rest = rest.behind(answered - began, listing.bytes, answered.elapsed(), has_news);
                self.until(tokio::time::sleep(rest)).await?;
            }
            // It is looked at behind the rest: those who waited for this answer leave then.
            if self.core.polls.end_unused(&self.range) {
                return Ok(());
            }
        }
    }

    /// Waits until `ready` is done, and welcomes users who join meanwhile; `None` when one did.
    async fn until<T>(&mut self, ready: impl Future<Output = T> + Send) -> Result<Option<T>> {
        let mut ready = std::pin::pin!(ready);
        let mut is_overtaken = false;
        loop {
            tokio::select! {
                biased;
                done = &mut ready => return Ok(Some(done).filter(|_| !is_overtaken)),
                Some(join) = self.joining.recv() => {
                    self.waiting.push(join);
                    if let Some(until) = self.gathers.take() {
                        tokio::time::sleep_until(until).await;
                    }
                    self.welcome(Telling::All).await?;
                    is_overtaken = true;
                }
            }
        }
    }

    /// Reads what is there now, for all users who have just joined.
    async fn welcome(&mut self, telling: Telling) -> Result<()> {
        while let Ok(join) = self.joining.try_recv() {
            self.waiting.push(join);
        }
        let listing = self.ask(None).await?;
        self.tell(&listing, telling).await?;
        for join in self.waiting.drain(..) {
            // The user who asked may be gone.
            let _ = join.send(Ok(listing.clone()));
        }
        Ok(())
    }

    /// Tells all users of the poll an error that may end their watches.
    fn refuse(&mut self, error: &Error) {
        let refusal = Refusal::of_all(error);
        while let Ok(join) = self.joining.try_recv() {
            self.waiting.push(join);
        }
        for join in self.waiting.drain(..) {
            let _ = join.send(Err(refusal.clone()));
        }
        // Users who do not wait for a listing ask again, and hear the refusal.
        let _ = self.refusals.send(refusal);
    }

    /// Tells what differs from the answer before, and returns whether anything does.
    async fn tell(&mut self, listing: &Listing, telling: Telling) -> Result<bool> {
        self.pass += 1;
        for pair in &listing.pairs {
            if let Some(known) = self.known.get_mut(&pair.name) {
                known.pass = self.pass;
            }
        }
        // The state behind this line changes once the server has said all that it is asked here.
        let is_less = self.forget_gone(telling).await?;
        let mut went_back = listing.index < self.index;
        let mut changed: Vec<&Pair> = Vec::new();
        for pair in &listing.pairs {
            let (modified, digest) = (pair.modified, pair.digest(&self.hashes));
            let now = Known { modified, digest, pass: self.pass };
            match self.known.get_mut(&pair.name) {
                Some(known) if known.modified == modified && known.digest == digest => {}
                Some(known) => {
                    went_back |= modified <= known.modified;
                    *known = now;
                    changed.push(pair);
                }
                None if self.core.names.parse(&pair.name).is_some() => {
                    self.known.insert(pair.name.clone(), now);
                    changed.push(pair);
                }
                // Another tool wrote this name, which is no key.
                None => {}
            }
        }
        self.index = listing.index;
        went_back |= self.tell_holders(listing, telling)?;
        let has_news = is_less || !changed.is_empty();
        if telling == Telling::Nobody {
            return Ok(has_news);
        }
        changed.sort_by_key(|pair| pair.modified);
        for pair in changed {
            if let Some(key) = self.core.names.parse(&pair.name) {
                self.hub.publish(&WatchEvent::Put(Entry::new(key, pair.value()?, pair.version())));
            }
        }
        if went_back {
            // The server was restored from a copy, or forgot old deletions: versions may be lower
            // than those told.
            self.missed();
        }
        Ok(has_news)
    }

    /// Has all users read anew. They do so one by one, each after a random pause.
    fn missed(&mut self) {
        self.gathers = Some(Instant::now() + GATHER);
        self.hub.missed();
    }

    /// Tells which locks have another holder, the contender that was created first, or a holder
    /// with another value. Returns whether a holder is older than the one that was told, which is
    /// so when the server's index went back.
    fn tell_holders(&mut self, listing: &Listing, telling: Telling) -> Result<bool> {
        let mut lines: HashMap<Key, &Pair> = HashMap::new();
        let locks = self.core.names.locks();
        for pair in listing.pairs.iter().filter(|pair| pair.name.starts_with(&locks)) {
            let Some(lock) = contends(&self.core.names, pair).as_ref().and_then(lock_of) else { continue };
            let before = lines.entry(lock).or_insert(pair);
            if pair.created < before.created {
                *before = pair;
            }
        }
        let before = std::mem::take(&mut self.holders);
        self.holders = lines.iter().map(|(lock, pair)| (lock.clone(), version(pair))).collect();
        if telling == Telling::Nobody {
            return Ok(false);
        }
        for (lock, version) in &before {
            if !lines.contains_key(lock) {
                let (key, version) = (lock.clone(), *version);
                self.hub.publish_holder(&WatchEvent::Delete { key, version });
            }
        }
        let mut went_back = false;
        for (lock, pair) in lines {
            let (told, now) = (before.get(&lock), version(pair));
            went_back |= told.is_some_and(|told| *told > now);
            if told != Some(&now) {
                self.hub.publish_holder(&WatchEvent::Put(held_by(lock, pair)?));
            }
        }
        Ok(went_back)
    }
}

/// The users who are told what differs: all, or nobody, where all of them read everything anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    All,
    Nobody,
}
