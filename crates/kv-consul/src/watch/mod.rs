//! Makes watches, whose source is what a poll lists and tells.

mod fates;
pub(crate) mod joined;
mod poller;
pub(crate) mod polls;
mod refusal;
mod widths;

use crate::{
    client::{
        Purpose,
        api::{Listing as Answer, Range},
    },
    core::Core,
    lock::line::{first, held_by, may_read},
    names::below,
};
use joined::Joined;
use kv_core::{
    Entry, Key, Result,
    backend::watch::{self, Change, Listed, Listing, Source, WatchState},
    driver::{Deadline, Target, WatchStream},
};
use std::{sync::Arc, time::Duration};

/// Does [`Store::watch`](kv_core::driver::Store::watch).
pub(crate) fn watch(core: Arc<Core>, target: &Target, within: Duration) -> WatchStream {
    watch::start(Watched { core, target: target.clone(), within, joined: None, has_begun: false })
}

/// One watch, which shares its poll with all that watch the same names.
struct Watched {
    core: Arc<Core>,
    target: Target,
    /// Limits the time of each request.
    within: Duration,
    joined: Option<Joined>,
    /// Tells whether a list was given.
    has_begun: bool,
}

impl Watched {
    fn join(&self) -> Result<Joined> {
        let names = &self.core.names;
        let range = match &self.target {
            Target::Key(key) => Range::Name(names.name(key.as_str()).into()),
            Target::Tree(directory) => Range::Tree(below(names, directory).into()),
            Target::Holder(name) => Range::Tree(names.line(name).into()),
        };
        Joined::new(&self.core, range, &self.target, self.within)
    }

    /// Returns the poll that the watch is in; joins another one, if that has ended.
    fn joined(&mut self) -> Result<&mut Joined> {
        match self.joined.take().filter(Joined::is_told) {
            Some(joined) => Ok(self.joined.insert(joined)),
            None => {
                let joined = self.join()?;
                Ok(self.joined.insert(joined))
            }
        }
    }

    fn entries(&self, answer: &Answer) -> Result<Vec<Listed>> {
        let mut entries = Vec::new();
        for pair in &answer.pairs {
            let key = self.core.names.parse(&pair.name).filter(|key| self.target.concerns(key));
            if let Some(key) = key {
                entries.push(Listed::Entry(Entry::new(key, pair.value()?, pair.version())));
            }
        }
        Ok(entries)
    }

    /// Returns the holder of the lock. Where nobody is seen at first, it asks whether the queue
    /// may be read: a hidden queue looks empty.
    async fn holder(&self, name: &Key, answer: &Answer) -> Result<Vec<Listed>> {
        let line = self.core.names.line(name);
        let waiting = answer.pairs.iter().filter(|pair| pair.name.starts_with(&line));
        if let Some(first) = first(&self.core.names, waiting) {
            return Ok(vec![Listed::Entry(held_by(name.clone(), first)?)]);
        }
        if !self.has_begun {
            may_read(&self.core, Purpose::Read, Deadline::after(self.within), &line).await?;
        }
        Ok(Vec::new())
    }
}

impl Source for Watched {
    /// No token: the server answers a listing whole.
    type Token = ();

    fn backend(&self) -> &'static str {
        "consul"
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.joined()?.clear();
        Ok(())
    }

    async fn list(&mut self, _: &WatchState, _: Option<&()>) -> Result<Listing<()>> {
        let answer = self.joined()?.listing().await?;
        let entries = match &self.target {
            Target::Holder(name) => self.holder(name, &answer).await?,
            _ => self.entries(&answer)?,
        };
        self.has_begun = true;
        // The page has no position: in a server that was restored from an older copy, what is new
        // may be below the index.
        Ok(Listing::Page { entries, position: None, next: None })
    }

    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        match &mut self.joined {
            Some(joined) => joined.news().await.map(Change::from),
            None => Ok(Change::Lagged),
        }
    }
}
