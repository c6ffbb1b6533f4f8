//! Watches: the stream is joined, then what is there is read, then come the changes.

use crate::{
    client::backoff,
    clock::Millis,
    ends::Place,
    item::is_foreign,
    list::query,
    lock,
    names::Names,
    store::Inner,
    stream::{End, Reading},
};
use kv_core::{
    backend::{Change, Emit, Outage, Subscription, Told, stream},
    *,
};
use std::{sync::Arc, time::Duration};

/// How many keys are read at once, with and without their values.
const VALUES: usize = 1000;
const KEYS: usize = 4000;
/// How many values are fetched at once.
const FETCHED: usize = 100;

pub(crate) fn watch(inner: Arc<Inner>, target: &Target, options: &WatchOptions) -> WatchStream {
    let (target, each_request) = (target.clone(), options.each_request);
    stream(move |out| async move {
        let mut watched = Watched { inner, target, each_request, told: Told::default(), lost: None };
        loop {
            let reading = watched.inner.feed.join()?;
            // What changes while it is read what is there waits here.
            let mut news = watched.inner.hub.subscribe(&watched.target);
            if let Err(end) = reading.live().await {
                ended(end)?;
                continue;
            }
            ended(watched.follow(&reading, &mut news, &out).await?)?;
        }
    })
}

/// Goes on where another reader can be had.
fn ended(end: End) -> Result<()> {
    match end {
        End::Lasting(why) => Err(why),
        End::Gone => Ok(()),
    }
}

/// One watch, over all its readings.
struct Watched {
    inner: Arc<Inner>,
    target: Target,
    each_request: Duration,
    told: Told,
    /// Of a holder that was told to be gone. A renewal that was under way when its time ended may bring its item back, which
    /// is nobody's by then: its holder has counted the time too.
    lost: Option<Version>,
}

impl Watched {
    /// Tells what is there and what changes, until the reader of the stream has ended.
    async fn follow(
        &mut self,
        reading: &Reading,
        news: &mut Subscription,
        out: &Emit<WatchEvent>,
    ) -> Result<End> {
        let (mut backoff, mut outage) = (backoff(), Outage::new("watch", "dynamodb"));
        loop {
            match self.read(reading, out).await {
                Ok(()) => {
                    backoff.reset();
                    outage.over();
                }
                Err(e) if e.is_lasting() => return Err(e),
                Err(e) => {
                    outage.failed(&e);
                    backoff.pause().await;
                    continue;
                }
            }
            out.send(WatchEvent::Synced).await;
            loop {
                let change = tokio::select! {
                    biased;
                    change = news.next() => change,
                    end = reading.over() => return Ok(end),
                };
                match change {
                    Change::Event(event) => {
                        if let Some(event) = self.change(event) {
                            out.send(event).await;
                        }
                    }
                    Change::Missed => break,
                }
            }
        }
    }

    /// The event owed for a change that the stream tells.
    fn change(&mut self, event: WatchEvent) -> Option<WatchEvent> {
        let event = match event {
            WatchEvent::Put(entry) if self.is_lost(entry.version) => return None,
            event => event,
        };
        let owed = self.owed(event);
        self.note(owed.as_ref());
        owed
    }

    fn is_lost(&self, version: Version) -> bool {
        matches!(self.target, Target::Holder(_)) && self.lost == Some(version)
    }

    fn note(&mut self, told: Option<&WatchEvent>) {
        if let Some(WatchEvent::Delete { version, .. }) = told {
            self.lost = Some(*version);
        }
    }

    fn owed(&mut self, event: WatchEvent) -> Option<WatchEvent> {
        match event {
            // What another tool wrote has no place in the order of versions.
            WatchEvent::Put(entry) if is_foreign(entry.version) => self.now(entry),
            event => self.told.change(event),
        }
    }

    /// The events owed for what was read. An older version is that of a table that went back.
    async fn tell(&mut self, entry: Entry, out: &Emit<WatchEvent>) {
        let owed = match is_foreign(entry.version) {
            true => Vec::from_iter(self.now(entry)),
            false => self.told.listed(entry).collect(),
        };
        for event in owed {
            out.send(event).await;
        }
    }

    /// The event owed for what is there for certain, and is newer than what was told, whatever its version.
    fn now(&mut self, entry: Entry) -> Option<WatchEvent> {
        if self.told.version(&entry.key).is_some_and(|told| told > entry.version) {
            self.told.gone(&entry.key);
        }
        self.told.put(entry)
    }

    fn deadline(&self) -> ReadOptions {
        ReadOptions::default().deadline(Deadline::after(self.each_request))
    }

    /// Tells what is there, or what differs from what was told.
    async fn read(&mut self, reading: &Reading, out: &Emit<WatchEvent>) -> Result<()> {
        self.told.relist();
        match self.target.clone() {
            Target::Tree(directory) => self.read_tree(&directory, reading, out).await?,
            Target::Key(key) => {
                let found =
                    self.inner.item(&self.inner.names.data, key.as_str(), &[], &self.deadline()).await?;
                if let Some(found) = self.inner.living(key.as_str(), found)? {
                    let ends = found.ends;
                    self.put(found.entry(key), ends, reading, out).await;
                }
            }
            Target::Holder(name) => {
                let found =
                    self.inner.item(&self.inner.names.locks, name.as_str(), &[], &self.deadline()).await?;
                let found = self.inner.holding(name.as_str(), found)?;
                if let Some((ends, holder)) = found.and_then(|found| Some((found.ends, lock::holder(found)?)))
                {
                    if let Some(ends) = ends {
                        reading.ends(Place::Lock(name.clone()), ends);
                    }
                    let entry = Entry::new(name, holder.value, Version::new(holder.token, 0));
                    if !self.is_lost(entry.version) {
                        self.tell(entry, out).await;
                    }
                }
            }
        }
        for event in self.told.rest() {
            self.note(Some(&event));
            out.send(event).await;
        }
        Ok(())
    }

    async fn read_tree(
        &mut self,
        directory: &Directory,
        reading: &Reading,
        out: &Emit<WatchEvent>,
    ) -> Result<()> {
        // Once most of it was told, values are fetched only of what differs.
        let with_values = self.told.keys().next().is_none();
        let mut range = Names::below(directory);
        loop {
            let most = if with_values { VALUES } else { KEYS };
            let (client, partition) = (self.inner.client.clone(), self.inner.names.data.clone());
            let page = query(&client, &partition, &range, Some(most), with_values, &self.deadline()).await?;
            let mut differs = Vec::new();
            for (name, found) in page.rows {
                let Some(key) = Names::parse(&name).filter(|key| key.is_below(directory)) else { continue };
                let Some(found) = self.inner.living(&name, Some(found))? else { continue };
                if with_values {
                    let ends = found.ends;
                    self.put(found.entry(key), ends, reading, out).await;
                } else if let Some(version) = found.version.filter(|v| self.told.version(&key) == Some(*v)) {
                    self.told.still(&key, version);
                    if let Some(ends) = found.ends {
                        reading.ends(Place::Data(key), ends);
                    }
                } else {
                    differs.push(key);
                }
            }
            for keys in differs.chunks(FETCHED) {
                let names = keys.iter().map(Key::as_str);
                let mut found = self.inner.items(&partition, names, &self.deadline()).await?;
                for key in keys {
                    if let Some(found) = self.inner.living(key.as_str(), found.remove(key.as_str()))? {
                        let ends = found.ends;
                        self.put(found.entry(key.clone()), ends, reading, out).await;
                    }
                }
            }
            match page.next {
                Some(start) => range.start = start,
                None => return Ok(()),
            }
        }
    }

    async fn put(
        &mut self,
        entry: Option<Entry>,
        ends: Option<Millis>,
        reading: &Reading,
        out: &Emit<WatchEvent>,
    ) {
        let Some(entry) = entry else { return };
        if let Some(ends) = ends {
            reading.ends(Place::Data(entry.key.clone()), ends);
        }
        self.tell(entry, out).await;
    }
}
