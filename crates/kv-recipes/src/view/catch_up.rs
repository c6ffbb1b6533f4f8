//! Waits until a view holds what the store has: one name in a version, or all that was there when
//! the wait began.

use super::Shared;
use crate::names::in_recipe;
use kv_core::{Error, ErrorKind, Key, Result, Version, driver::Deadline};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The first pause after which a name that the view lacks is looked up in the store.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The most names that are looked up at once.
const LOOKED_UP: usize = 100;

/// The changes that the view has to hear of before it holds everything.
#[derive(Default)]
struct Owed {
    /// The names that were there, each to be held in this version or what came after it.
    there: BTreeMap<Key, Version>,
    /// The names that were gone, or replaced, each no longer to be held in this version.
    gone: BTreeMap<Key, Version>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(super) async fn wait_for(&self, name: Key, version: Version) -> Result<()> {
        let owed = Owed { there: BTreeMap::from([(name, version)]), ..Owed::default() };
        self.limit(self.settle(owed)).await
    }

    pub(super) async fn synced_now(&self) -> Result<()> {
        self.limit(self.catch_up()).await
    }

    async fn limit(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let late = || {
            let why = format!("the view did not hear of everything within {:?}", self.within);
            in_recipe(Error::new(ErrorKind::Timeout, why), &self.kv, "view", None)
        };
        Deadline::after(self.within).limit(work).await.unwrap_or_else(|| Err(late()))
    }

    async fn catch_up(&self) -> Result<()> {
        let began = self.clock.now();
        // Only what is held before the listing begins can be missing there because it is gone:
        // what comes later may be newer than the listing.
        let held: Vec<_> = {
            let state = self.state.lock();
            state.entries().map(|entry| (entry.name.clone(), entry.version)).collect()
        };
        let mut owed = Owed::default();
        let mut listing = self.kv.list(&self.directory).entries();
        while let Some(entry) = listing.next().await {
            let entry = entry?;
            if let Some(name) = self.directory.strip(&entry.key) {
                owed.there.insert(name, entry.version);
            }
        }
        owed.gone.extend(held.into_iter().filter(|(name, _)| !owed.there.contains_key(name)));
        self.settle(owed).await?;
        self.state.lock().note_all_since(began);
        Ok(())
    }

    /// Waits until the view has heard of all that is owed.
    async fn settle(&self, mut owed: Owed) -> Result<()> {
        let (mut changed, mut pause) = (self.changed.subscribe(), FIRST_LOOK);
        let mut look = Instant::now() + pause;
        loop {
            changed.mark_unchanged();
            if self.is_settled(&mut owed)? {
                return Ok(());
            }
            tokio::select! {
                _ = changed.changed() => {} // the sender is ours
                () = sleep_until(look) => {
                    self.look_up(&mut owed).await?;
                    pause = (pause * 2).min(Duration::from_secs(1));
                    look = Instant::now() + pause;
                }
            }
        }
    }

    /// Strikes out what the view has heard of.
    fn is_settled(&self, owed: &mut Owed) -> Result<bool> {
        let state = self.state.lock();
        if let Some(why) = state.over() {
            return Err(why);
        }
        owed.there.retain(|name, least| state.version(name).is_none_or(|held| held < *least));
        owed.gone.retain(|name, old| state.version(name) == Some(*old));
        Ok(owed.there.is_empty() && owed.gone.is_empty())
    }

    /// Strikes out the names that the view lacks and that are gone from the store too: a watch need
    /// not tell what came and went in between.
    async fn look_up(&self, owed: &mut Owed) -> Result<()> {
        let lacking: Vec<_> = {
            let state = self.state.lock();
            let lacks = |name: &&Key| state.version(name).is_none();
            owed.there.keys().filter(lacks).take(LOOKED_UP).cloned().collect()
        };
        let keys = lacking.iter().map(|name| self.key(name)).collect::<Result<Vec<_>>>()?;
        let found = self.kv.get_many(keys).await?;
        for (name, _) in lacking.iter().zip(found).filter(|(_, entry)| entry.is_none()) {
            owed.there.remove(name);
        }
        Ok(())
    }
}
