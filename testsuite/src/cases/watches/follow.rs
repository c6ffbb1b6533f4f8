//! A reader of a watch that checks what it is told.

use crate::{Failure, Trial};
use kv_core::{Entry, Key, Kv, Result, Version, Watch, WatchCall, WatchEvent};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Reads a watch, folds its events over a map, and checks their order.
pub(in crate::cases) struct Follower {
    t: Trial,
    what: String,
    watch: Watch,
    /// The entries that the events come to.
    pub(in crate::cases) map: BTreeMap<Key, Entry>,
    /// The last version that was told of each key, by a `Put` or by a `Delete`.
    last: HashMap<Key, Version>,
    /// The puts that were told since the last `Synced`.
    since: HashSet<(Key, Version)>,
    /// Breaches of the clause `watch.order`, for the cases about it.
    pub(in crate::cases) disorder: Vec<String>,
}

impl Follower {
    /// Begins a watch, and reads nothing yet.
    pub(in crate::cases) async fn new(t: &Trial, what: &str, watch: WatchCall) -> Result<Self, Failure> {
        Ok(Self {
            t: t.clone(),
            what: what.to_owned(),
            watch: t.soon(what, watch.into_future()).await??,
            map: BTreeMap::new(),
            last: HashMap::new(),
            since: HashSet::new(),
            disorder: Vec::new(),
        })
    }

    /// Watches a directory, and reads up to the first `Synced`.
    pub(in crate::cases) async fn of_tree(t: &Trial, kv: &Kv, directory: &str) -> Result<Self, Failure> {
        let what = format!("a watch of the directory {directory:?}");
        let mut follower = Self::new(t, &what, kv.watch_tree(directory)).await?;
        follower.synced().await?;
        Ok(follower)
    }

    /// Watches a key, and reads up to the first `Synced`.
    pub(in crate::cases) async fn of_key(t: &Trial, kv: &Kv, key: &str) -> Result<Self, Failure> {
        let what = format!("a watch of the key {key:?}");
        let mut follower = Self::new(t, &what, kv.watch(key)).await?;
        follower.synced().await?;
        Ok(follower)
    }

    /// Returns the watch itself.
    pub(in crate::cases) fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Reads the next event, which must come soon.
    pub(in crate::cases) async fn next(&mut self) -> Result<WatchEvent, Failure> {
        let what = format!("an event of {}", self.what);
        let event = self.t.soon(&what, self.watch.event()).await?;
        let event = event.map_err(|e| format!("{} gave an error: {e:?}", self.what))?;
        self.fold(&event);
        Ok(event)
    }

    /// Reads the next change, which must come soon. Another `Synced` is none: a backend may read again
    /// whenever it wants.
    pub(in crate::cases) async fn change(&mut self) -> Result<WatchEvent, Failure> {
        loop {
            match self.next().await? {
                WatchEvent::Synced => {}
                change => return Ok(change),
            }
        }
    }

    /// Notes an event that was read elsewhere.
    pub(in crate::cases) fn fold(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Put(entry) => {
                let Entry { key, version, .. } = entry;
                if self.last.get(key).is_some_and(|last| last > version) {
                    self.disorder.push(format!("{key:?} went back to {version:?} from {:?}", self.last[key]));
                }
                if !self.since.insert((key.clone(), *version)) {
                    self.disorder.push(format!("{key:?} came twice at {version:?}"));
                }
                self.last.insert(key.clone(), *version);
                self.map.insert(key.clone(), entry.clone());
            }
            WatchEvent::Delete { key, version } => {
                match self.map.remove(key) {
                    None => self.disorder.push(format!("{key:?} ended, which was not there")),
                    Some(entry) if entry.version > *version => self.disorder.push(format!(
                        "{key:?} ended at {version:?}, before {:?}, which was told of it",
                        entry.version
                    )),
                    Some(_) => {}
                }
                self.last.insert(key.clone(), *version);
            }
            WatchEvent::Synced => self.since.clear(),
        }
    }

    /// Reads up to the next `Synced`, and returns what came before it.
    pub(in crate::cases) async fn synced(&mut self) -> Result<Vec<WatchEvent>, Failure> {
        let mut before = Vec::new();
        loop {
            match self.next().await? {
                WatchEvent::Synced => return Ok(before),
                event => before.push(event),
            }
        }
    }

    /// Reads until the key is told at this version or a newer one, and returns the changes that
    /// came. Another `Synced` is none: a backend may read again whenever it wants.
    pub(in crate::cases) async fn told(
        &mut self,
        key: &str,
        version: Version,
    ) -> Result<Vec<WatchEvent>, Failure> {
        let mut came = Vec::new();
        while self.map.get(key).is_none_or(|entry| entry.version < version) {
            came.push(self.next().await?);
        }
        came.retain(|event| *event != WatchEvent::Synced);
        Ok(came)
    }

    /// Reads until the key is told to be gone, and returns the changes that came.
    pub(in crate::cases) async fn gone(&mut self, key: &str) -> Result<Vec<WatchEvent>, Failure> {
        let mut came = Vec::new();
        while self.map.contains_key(key) {
            came.push(self.next().await?);
        }
        came.retain(|event| *event != WatchEvent::Synced);
        Ok(came)
    }

    /// Returns every change that is told of what happened before the call: writes this key, which
    /// must be watched and nobody else's, and reads until it is told; twice, because changes that
    /// are told together may come in any order. The key's own events are left out.
    pub(in crate::cases) async fn rest(&mut self, kv: &Kv, key: &str) -> Result<Vec<WatchEvent>, Failure> {
        let mut came = Vec::new();
        for _ in 0..2 {
            let version = kv.put(key, "a mark").await?.version;
            came.extend(self.told(key, version).await?);
        }
        came.retain(|event| event.key().is_some_and(|k| k.as_str() != key));
        Ok(came)
    }

    /// Reads until the events of a watched key come to what is there. Nobody may write meanwhile.
    pub(in crate::cases) async fn agrees_with(&mut self, kv: &Kv, key: &str) -> Result<(), Failure> {
        let entry = kv.get(key).await?;
        while self.map.get(key) != entry.as_ref() {
            self.next().await?;
        }
        Ok(())
    }

    /// Reads until the events come to what the directory's listing shows. Nobody may write
    /// meanwhile.
    pub(in crate::cases) async fn agrees(&mut self, kv: &Kv, directory: &str) -> Result<(), Failure> {
        let listed = kv.list(directory).await?;
        let (t, what) = (self.t.clone(), format!("{} to come to what the listing shows", self.what));
        let reading = async {
            while !self.map.values().eq(&listed) {
                let event = self.watch.event().await;
                let event = event.map_err(|e| format!("{} gave an error: {e:?}", self.what))?;
                self.fold(&event);
            }
            Ok::<_, Failure>(())
        };
        if let Ok(read) = t.soon(&what, reading).await {
            return read;
        }
        let listed: BTreeMap<_, _> = listed.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let missed = listed.values().find(|entry| self.map.get(&entry.key) != Some(*entry));
        let extra = self.map.values().find(|entry| !listed.contains_key(&entry.key));
        let first = |entry: Option<&Entry>| {
            entry
                .map_or("none".into(), |e| format!("{:?} at {:?}, {} bytes", e.key, e.version, e.value.len()))
        };
        Err(format!(
            "{} does not come to what the listing shows: {} keys for {}; listed and not told: {}; told and not listed: {}",
            self.what,
            self.map.len(),
            listed.len(),
            first(missed),
            first(extra),
        )
        .into())
    }
}
