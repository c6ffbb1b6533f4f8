//! The clients that follow the tree.

use super::{
    Work,
    judge::{Event, Scope, Stream, difference},
};
use crate::{Failure, torture::patience::PATIENCE};
use kv_core::{Error, ErrorKind, Kv, Version, Watch, WatchEvent};
use std::{collections::BTreeMap, time::Duration};

const TREE: Scope = Scope::Tree("tree");
/// The keys that one client watches one by one.
const SINGLE: &[Scope] =
    &[Scope::Key("tree/dir"), Scope::Key("tree/c"), Scope::Key(super::BRIEF), Scope::Key(super::LIKE_OURS)];
/// The targets that may be watched anew.
const ANEW: &[Scope] =
    &[TREE, TREE, Scope::Tree("tree/dir"), Scope::Key("tree/dir"), Scope::Key("tree/dir/b")];

type Map = BTreeMap<String, (String, Version)>;

/// One reader of a stream.
pub(super) struct Follower {
    kv: Kv,
    watch: Watch,
    stream: Stream,
    fold: Map,
    is_over: bool,
    /// Tells whether the stream ended because its reader was denied it, which may happen.
    is_denied: bool,
}

impl Work<'_> {
    /// Follows the tree in several ways until the round is over; the streams go on.
    pub(super) async fn follow(&self) -> Result<Vec<Follower>, Failure> {
        let name = "watches";
        let (steady, slow, anew, single) = (
            self.field.client(name).await?,
            self.field.client(name).await?,
            self.field.client(name).await?,
            self.field.client(name).await?,
        );
        let singles = SINGLE.iter().map(|scope| self.steady(single.0.clone(), single.1.clone(), *scope));
        let (steady, slow, anew, singles) = tokio::join!(
            self.steady(steady.0, steady.1, TREE),
            self.slow(slow.0, slow.1),
            self.anew(anew.0, anew.1),
            futures::future::join_all(singles),
        );
        Ok([steady, slow, anew].into_iter().chain(singles).flatten().collect())
    }

    async fn steady(&self, name: String, kv: Kv, scope: Scope) -> Option<Follower> {
        let mut follower = self.begin(&name, &kv, scope).await?;
        while !self.field.is_over() && !follower.is_over {
            self.hear(&mut follower, Duration::from_millis(100)).await;
            self.again(&mut follower).await?;
        }
        Some(follower)
    }

    /// Begins the watch of a follower anew if it was denied; returns `None` when that fails.
    async fn again(&self, follower: &mut Follower) -> Option<()> {
        if follower.is_denied {
            let (client, scope) = (follower.stream.client.clone(), follower.stream.scope);
            let new = self.begin(&client, &follower.kv, scope).await?;
            self.log().streams.push(std::mem::replace(follower, new).stream);
        }
        Some(())
    }

    /// Follows the tree, and stands still for some seconds now and then.
    async fn slow(&self, name: String, kv: Kv) -> Option<Follower> {
        let mut chance = self.field.chance(&name);
        let mut follower = self.begin(&name, &kv, TREE).await?;
        while !self.field.is_over() && !follower.is_over {
            self.hear(&mut follower, Duration::from_millis(100)).await;
            self.again(&mut follower).await?;
            if chance.one_in(60) {
                tokio::time::sleep(chance.millis(1000, 4000)).await;
            }
        }
        Some(follower)
    }

    /// Begins anew now and then, some times before anything was told.
    async fn anew(&self, name: String, kv: Kv) -> Option<Follower> {
        let mut chance = self.field.chance(&name);
        loop {
            let mut follower = self.begin(&name, &kv, *chance.pick(ANEW)).await?;
            let life = if chance.one_in(4) { Duration::ZERO } else { chance.millis(0, 3000) };
            let end = self.field.now() + u64::try_from(life.as_micros()).unwrap_or_default();
            while !self.field.is_over() && !follower.is_over && self.field.now() < end {
                self.hear(&mut follower, Duration::from_millis(20)).await;
                self.again(&mut follower).await?;
            }
            if self.field.is_over() {
                return Some(follower);
            }
            self.log().streams.push(follower.stream);
        }
    }

    /// Begins to watch, which waits for nothing but the answer of the library.
    async fn begin(&self, name: &str, kv: &Kv, scope: Scope) -> Option<Follower> {
        let mut began = self.field.now();
        let watch = loop {
            let watch = match scope {
                Scope::Tree(directory) => kv.watch_tree(directory).await,
                Scope::Key(key) => kv.watch(key).await,
            };
            match watch {
                Ok(watch) => break watch,
                Err(e) if self.field.denies(&e) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(e) => {
                    self.absurd(format!("{name} cannot watch {scope:?}: {e}"));
                    return None;
                }
            }
            began = self.field.now();
        };
        let stream = Stream { client: name.to_owned(), scope, began, heard: Vec::new() };
        Some(Follower { kv: kv.clone(), watch, stream, fold: Map::new(), is_over: false, is_denied: false })
    }

    /// Reads one event, if one comes within this time; returns whether one did.
    async fn hear(&self, follower: &mut Follower, within: Duration) -> bool {
        match tokio::time::timeout(within, follower.watch.event()).await {
            Err(_) => false,
            Ok(Ok(event)) => {
                follower.told(self.field.now(), event);
                true
            }
            Ok(Err(e)) if self.field.denies(&e) => {
                follower.is_denied = true;
                false
            }
            Ok(Err(e)) => {
                follower.is_over = true;
                let Stream { client, scope, .. } = &follower.stream;
                self.absurd(format!("the stream of {scope:?} of {client} ended: {e}"));
                false
            }
        }
    }

    /// Has each stream arrive at what is there, and sees it end with its handle.
    pub(super) async fn catch_up(&self, followers: Vec<Follower>, observer: &Kv) {
        let arriving = followers.into_iter().map(async |mut follower| {
            if !follower.is_over {
                self.arrive(&mut follower, observer).await;
            }
            follower
        });
        // Some followers share a handle, which none closes before all have arrived.
        for mut follower in futures::future::join_all(arriving).await {
            if !follower.is_over {
                self.close(&mut follower).await;
            }
            self.log().streams.push(follower.stream);
        }
    }

    async fn arrive(&self, follower: &mut Follower, observer: &Kv) {
        let mut last = "nothing could be listed".to_owned();
        let arrived = async {
            loop {
                while self.hear(follower, Duration::from_millis(50)).await {}
                // A denial may end the stream late.
                if self.again(follower).await.is_none() {
                    return;
                }
                match listed(observer, follower.stream.scope)
                    .await
                    .map(|there| difference(&follower.fold, &there))
                {
                    Ok(None) => return,
                    Ok(Some(differs)) => last = differs,
                    Err(e) => last = e.to_string(),
                }
                if follower.is_over {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, arrived).await.is_err() {
            let Stream { client, scope, .. } = &follower.stream;
            self.absurd(format!(
                "the stream of {scope:?} of {client} does not arrive at what is there: {last}"
            ));
        }
    }

    async fn close(&self, follower: &mut Follower) {
        let _ = follower.kv.close().await;
        let ended = async {
            loop {
                if let Err(e) = follower.watch.event().await {
                    return e.kind();
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(5), ended).await.ok();
        if ended != Some(ErrorKind::Closed) {
            let client = &follower.stream.client;
            self.absurd(format!("{client} was closed, and its stream ended with {ended:?}"));
        }
    }
}

impl Follower {
    fn told(&mut self, at: u64, event: WatchEvent) {
        let event = match event {
            WatchEvent::Put(entry) => {
                let (key, value) =
                    (entry.key.to_string(), String::from_utf8_lossy(&entry.value).into_owned());
                self.fold.insert(key.clone(), (value.clone(), entry.version));
                Event::Put(key, value, entry.version)
            }
            WatchEvent::Delete { key, version } => {
                self.fold.remove(key.as_str());
                Event::Delete(key.to_string(), version)
            }
            WatchEvent::Synced => Event::Synced,
        };
        self.stream.heard.push((at, event));
    }
}

/// Returns what is there of the watched target.
async fn listed(kv: &Kv, scope: Scope) -> Result<Map, Error> {
    let entries = match scope {
        Scope::Tree(directory) => kv.list(directory).await?,
        Scope::Key(key) => kv.get(key).await?.into_iter().collect(),
    };
    let value = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Ok(entries.into_iter().map(|e| (e.key.to_string(), (value(&e.value), e.version))).collect())
}
