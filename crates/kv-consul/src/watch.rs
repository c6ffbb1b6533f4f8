//! Watches: what is there, then what a poll tells.

use crate::{
    api::{Listing, Range},
    asker::held_by,
    http::Purpose,
    lock,
    names::below,
    poll::Joined,
    store::Inner,
};
use kv_core::{
    backend::{Backoff, Change, Emit, Told, Values, stream},
    *,
};
use std::{sync::Arc, time::Duration};

pub(crate) fn watch(inner: Arc<Inner>, target: &Target, within: Duration) -> WatchStream {
    let target = target.clone();
    stream(|out| async move {
        let range = match &target {
            Target::Key(key) => Range::Name(inner.names.name(key.as_str()).into()),
            Target::Tree(directory) => Range::Tree(below(&inner.names, directory).into()),
            Target::Holder(name) => Range::Tree(inner.names.line(name).into()),
        };
        let mut joined = Joined::new(&inner, range, &target, within)?;
        let (told, values) = (Told::default(), Values::default());
        let mut watched = Watched { inner, target, within, has_begun: false, out, told, values };
        loop {
            let listing = joined.listing().await?;
            watched.told.relist();
            match &watched.target {
                Target::Holder(name) => watched.tell_holder(&name.clone(), &listing).await?,
                _ => watched.tell(&listing).await?,
            }
            drop(listing);
            for event in watched.told.rest() {
                watched.send(event).await;
            }
            watched.has_begun = true;
            watched.send(WatchEvent::Synced).await;
            while let Change::Event(event) = joined.news().await? {
                if let Some(event) = watched.told.change(event) {
                    watched.send(event).await;
                }
            }
        }
    })
}

/// One watch, over all its listings.
struct Watched {
    inner: Arc<Inner>,
    target: Target,
    /// The time of each request.
    within: Duration,
    has_begun: bool,
    out: Emit<WatchEvent>,
    told: Told,
    values: Values,
}

impl Watched {
    /// What is there, or what of it differs from what was told.
    async fn tell(&mut self, listing: &Listing) -> Result<()> {
        for pair in &listing.pairs {
            let key = self.inner.names.parse(&pair.name).filter(|key| self.target.concerns(key));
            if let Some(key) = key {
                self.listed(Entry::new(key, pair.value()?, pair.version())).await;
            }
        }
        Ok(())
    }

    /// Whether the line of a lock may be read: one that is hidden looks empty.
    async fn check_rights(&self, line: &str) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            match lock::may_read(&self.inner, Purpose::Read, Deadline::after(self.within), line).await {
                Err(e) if !e.is_lasting() => backoff.pause().await,
                answer => return answer,
            }
        }
    }

    async fn tell_holder(&mut self, name: &Key, listing: &Listing) -> Result<()> {
        let line = self.inner.names.line(name);
        let waiting = listing.pairs.iter().filter(|pair| pair.name.starts_with(&line));
        let contenders = waiting.filter(|pair| lock::contends(&self.inner, pair).is_some());
        match contenders.min_by_key(|pair| pair.created) {
            Some(first) => self.listed(held_by(name.clone(), first)?).await,
            None if self.has_begun => {}
            None => self.check_rights(&line).await?,
        }
        Ok(())
    }

    async fn listed(&mut self, entry: Entry) {
        // Another write at the same index: of a history that came in the place of the one that was told.
        if self.told.version(&entry.key) == Some(entry.version)
            && self.values.differs(&entry.key, &entry.value)
            && let Some(event) = self.told.gone(&entry.key)
        {
            self.send(event).await;
        }
        for event in self.told.listed(entry) {
            self.send(event).await;
        }
    }

    async fn send(&mut self, event: WatchEvent) {
        self.values.told(&event);
        self.out.send(event).await;
    }
}
