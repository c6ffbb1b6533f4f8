//! The states of a watch: subscribe, list, fetch, follow, and list again.

use super::{Change, Listed, Listing, Source, WatchState};
use crate::{
    Entry, Error, ErrorKind, Key, Result, Version, WatchEvent,
    backend::{Backoff, Emit, Here, Outage},
};
use std::{slice, time::Duration, vec};
use tokio::{runtime::Handle, time::Instant};

/// A watch that followed changes for so long begins anew with the shortest pause before a list.
const LASTED: Duration = Duration::from_secs(5);
/// After so many failures in a row at one page, or at one key that changed, all is read anew.
const MAX_PAGE_FAILURES: u32 = 2;
const MAX_KEY_FAILURES: u32 = 4;

/// The state of a watch.
enum State<T> {
    /// Changes are not heard, or some of them were lost.
    Subscribe,
    /// The page that begins here is asked for.
    List { from: Option<T> },
    /// The values that a page left out are read.
    Fetch { keys: vec::IntoIter<Key>, next: Option<T> },
    /// The list is complete.
    Follow,
    /// One key has changed, and is read.
    Read { key: Key },
}

/// One watch, over all its lists.
pub(super) struct Watch<S: Source> {
    source: S,
    out: Emit<WatchEvent>,
    delivered: WatchState,
    state: State<S::Token>,
    /// The runtime in which the source subscribed.
    here: Here,
    /// Tells whether the next list has to give values, since versions are in doubt.
    doubt: bool,
    outage: Outage,
    failures: Backoff,
    failed_in_a_row: u32,
    lists: Backoff,
    synced: Option<Instant>,
}

impl<S: Source> Watch<S> {
    pub(super) fn new(source: S, out: Emit<WatchEvent>) -> Self {
        Self {
            out,
            delivered: WatchState::new(),
            state: State::Subscribe,
            here: Here::now(),
            doubt: false,
            outage: Outage::new("watch", source.backend()),
            failures: Backoff::default(),
            failed_in_a_row: 0,
            lists: Backoff::default(),
            synced: None,
            source,
        }
    }

    /// Goes from state to state until an error lasts.
    pub(super) async fn run(mut self) -> Result<()> {
        loop {
            match self.step().await {
                Ok(()) => self.failed_in_a_row = 0,
                Err(error) if error.is_lasting() => return Err(error),
                Err(error) => {
                    self.failed(&error);
                    rest(Here::now(), self.failures.pause()).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<()> {
        match self.state {
            State::Subscribe => self.subscribe().await,
            State::List { .. } => self.list().await,
            State::Fetch { .. } => self.fetch().await,
            State::Follow => self.follow().await,
            State::Read { .. } => self.read().await,
        }
    }

    /// Notes a failure. A page or a key is asked for again, until it has failed so often that the
    /// list that it is a part of may be gone.
    fn failed(&mut self, error: &Error) {
        self.outage.failed(error);
        self.failed_in_a_row += 1;
        let is_over = match self.state {
            State::Subscribe | State::Follow => true,
            State::List { .. } | State::Fetch { .. } => self.failed_in_a_row >= MAX_PAGE_FAILURES,
            State::Read { .. } => self.failed_in_a_row >= MAX_KEY_FAILURES,
        };
        if is_over {
            self.state = State::Subscribe;
        }
    }

    fn recovered(&mut self) {
        self.outage.over();
        self.failures.reset();
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.here = Here::now();
        let is_bound = self.source.is_bound();
        if unless_moved(is_bound, self.here, self.source.subscribe()).await?.is_none() {
            return Ok(());
        }
        self.delivered.begin_list(self.doubt);
        self.state = State::List { from: None };
        Ok(())
    }

    async fn list(&mut self) -> Result<()> {
        let State::List { from } = &self.state else { return Ok(()) };
        let is_bound = self.source.is_bound();
        let listing = self.source.list(&self.delivered, from.as_ref());
        let Some(listing) = unless_moved(is_bound, self.here, listing).await? else {
            self.state = State::Subscribe;
            return Ok(());
        };
        let Listing::Page { entries, position, next } = listing else {
            self.doubt = true;
            self.list_again().await;
            return Ok(());
        };
        self.delivered.at(position);
        let mut owed = Vec::new();
        for listed in entries {
            match listed {
                Listed::Entry(entry) => self.observe(entry).await,
                Listed::Version(key, version) if !self.delivered.observe_version(&key, version) => {}
                Listed::Version(key, _) | Listed::Name(key) => owed.push(key),
            }
        }
        self.state = State::Fetch { keys: owed.into_iter(), next };
        Ok(())
    }

    /// Reads some of the values that a page left out. After all of them come the next page, or the
    /// end.
    async fn fetch(&mut self) -> Result<()> {
        let State::Fetch { keys, next } = &mut self.state else { return Ok(()) };
        if keys.as_slice().is_empty() {
            self.delivered.end_page();
            return match next.take() {
                Some(next) => {
                    self.state = State::List { from: Some(next) };
                    Ok(())
                }
                None => self.finish().await,
            };
        }
        let is_bound = self.source.is_bound();
        let found = unless_moved(is_bound, self.here, self.source.fetch(keys.as_slice())).await?;
        let Some(found) = found else {
            self.state = State::Subscribe;
            return Ok(());
        };
        if found.is_empty() {
            let why = format!("a fetch of {} keys answered for none", keys.len());
            return Err(Error::new(ErrorKind::Other, why));
        }
        // A key that is gone by now is not part of the list: its end is told with the others'.
        let read = keys.by_ref().take(found.len()).count();
        for entry in found.into_iter().take(read).flatten() {
            self.observe(entry).await;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.doubt = self.delivered.is_doubtful();
        for event in self.delivered.finish_list() {
            self.out.send(event).await;
        }
        self.delivered.end_list();
        if self.doubt {
            self.list_again().await;
            return Ok(());
        }
        self.recovered();
        self.synced = Some(Instant::now());
        self.state = State::Follow;
        self.out.send(WatchEvent::Synced).await;
        Ok(())
    }

    async fn follow(&mut self) -> Result<()> {
        let is_bound = self.source.is_bound();
        let next = self.source.next(&self.delivered);
        let Some(change) = unless_moved(is_bound, self.here, next).await? else {
            self.state = State::Subscribe;
            return Ok(());
        };
        match change {
            Change::Event(event) => {
                let source = &self.source;
                if let Some(event) = self.delivered.change(event, |a, b| source.follows(a, b)) {
                    self.out.send(event).await;
                }
            }
            Change::Found(entry) => self.found(entry).await,
            Change::Gone { key, last } => self.gone(&key, last).await,
            Change::Changed(key) => self.state = State::Read { key },
            Change::Lagged => self.list_again().await,
        }
        Ok(())
    }

    /// Reads the one key that has changed.
    async fn read(&mut self) -> Result<()> {
        let State::Read { key } = &self.state else { return Ok(()) };
        let key = key.clone();
        let is_bound = self.source.is_bound();
        let found = unless_moved(is_bound, self.here, self.source.fetch(slice::from_ref(&key))).await?;
        let Some(found) = found else {
            self.state = State::Subscribe;
            return Ok(());
        };
        self.recovered();
        self.state = State::Follow;
        match found.into_iter().next() {
            Some(Some(entry)) => self.found(entry).await,
            Some(None) => self.gone(&key, None).await,
            None => return Err(Error::new(ErrorKind::Other, format!("a fetch of {key:?} had no answer"))),
        }
        Ok(())
    }

    async fn found(&mut self, entry: Entry) {
        self.observe(entry).await;
        if self.delivered.is_restored() {
            // The server went back, and nobody knows which other keys differ from what was told.
            self.doubt = true;
            self.list_again().await;
        }
    }

    async fn gone(&mut self, key: &Key, last: Option<Version>) {
        if let Some(event) = self.delivered.gone(key, last) {
            self.out.send(event).await;
        }
    }

    async fn observe(&mut self, entry: Entry) {
        let source = &self.source;
        let owed = self.delivered.observe(entry, |a, b| source.follows(a, b));
        for event in owed.into_iter().flatten() {
            self.out.send(event).await;
        }
    }

    /// Has the list taken again after a pause at random, so that many watches that lost one server
    /// do not all list at once, and one that loses its changes again and again does not list all
    /// the time.
    async fn list_again(&mut self) {
        self.state = State::Subscribe;
        if self.synced.take().is_some_and(|since| since.elapsed() > LASTED) {
            self.lists.reset();
        }
        // Without a runtime there are no timers, and no crowd of clients.
        if Handle::try_current().is_ok() {
            rest(Here::now(), self.lists.pause()).await;
        }
    }
}

/// Waits for the source; `None` as soon as another runtime than `here` polls the watch, where the
/// source is bound to its own. What was asked for there may never come: that runtime may have
/// ended, or stand still.
async fn unless_moved<T>(
    is_bound: bool,
    here: Here,
    asked: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    tokio::select! {
        biased;
        () = here.left(), if is_bound => Ok(None),
        answer = asked => answer.map(Some),
    }
}

/// Pauses, until another runtime than `here` polls the watch: the timers of the first one may have
/// ended with it, or stand still.
async fn rest(here: Here, pause: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = here.left() => {}
        () = pause => {}
    }
}
