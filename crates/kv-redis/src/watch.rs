//! Watches: listen, read what is there, then tell what is published; what ends by itself is looked at when it is due.

use crate::{
    client::Does,
    feed::{News, Subscription, Tale},
    list::{Ask, Found, Row, Wanted, below},
    lock,
    part::{Core, is_foreign, unique},
    script::{self, next},
};
use fred::types::Value;
use kv_core::{
    backend::{Emit, Instant, Told, stream},
    *,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

/// How many keys are asked for at once: with values, and whether they have ended.
const VALUES: usize = 32;
const LIVES: usize = 500;
const FULL: usize = 1000;

/// Pauses between attempts: longer and longer, and not all at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        let most = 50 << self.0.min(4);
        self.0 += 1;
        tokio::time::sleep(Duration::from_millis(most / 2 + unique() % (most / 2))).await;
    }

    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// When keys end that have an end.
#[derive(Default)]
struct Ends {
    at: HashMap<Key, Instant>,
    /// With those that have another end by now.
    order: BinaryHeap<Reverse<(Instant, Key)>>,
}

impl Ends {
    fn set(&mut self, key: &Key, at: Option<Instant>) {
        match at {
            None => drop(self.at.remove(key)),
            Some(at) => {
                self.at.insert(key.clone(), at);
                self.order.push(Reverse((at, key.clone())));
                // What is written again and again leaves an end each time.
                if self.order.len() > 2 * self.at.len() + 64 {
                    self.order = self.at.iter().map(|(key, at)| Reverse((*at, key.clone()))).collect();
                }
            }
        }
    }

    fn is_current(&self, at: Instant, key: &Key) -> bool {
        self.at.get(key) == Some(&at)
    }

    /// The next end.
    fn first(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, key))) = self.order.peek() {
            if self.is_current(*at, key) {
                return Some(*at);
            }
            self.order.pop();
        }
        None
    }

    /// Some of the keys that should have ended by now.
    fn due(&mut self, now: Instant) -> Vec<Key> {
        let mut due = Vec::new();
        while due.len() < LIVES && self.first().is_some_and(|at| at <= now) {
            if let Some(Reverse((_, key))) = self.order.pop() {
                self.at.remove(&key);
                due.push(key);
            }
        }
        due
    }
}

/// One watch of a key or directory.
struct Watched {
    core: Arc<Core>,
    target: Target,
    each_request: Duration,
    told: Told,
    ends: Ends,
    /// Whether the first reading is done.
    has_read: bool,
}

pub(crate) fn watch(core: Arc<Core>, target: &Target, options: &WatchOptions) -> WatchStream {
    let each_request = options.each_request;
    let mut watched = Watched {
        core,
        target: target.clone(),
        each_request,
        told: Told::default(),
        ends: Ends::default(),
        has_read: false,
    };
    stream(move |out| async move {
        let channel = match &watched.target {
            Target::Tree(directory) => watched.core.names.on_tree(directory),
            Target::Key(key) | Target::Holder(key) => watched.core.names.on_key(key),
        };
        let mut news = watched.core.feed.subscribe(channel);
        loop {
            let next_end = watched.ends.first();
            let clock = watched.core.clock.clone();
            let due = async {
                match next_end {
                    Some(at) => clock.sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                news = news.next() => match news {
                    News::Look => {
                        watched.read_until_done(&out).await?;
                        out.send(WatchEvent::Synced).await;
                    }
                    News::Refused(e) => return Err(e),
                    News::Tale(tale) => watched.follow(tale, &out).await?,
                },
                () = due => watched.look_at_due(&out).await?,
            }
        }
    })
}

impl Watched {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    fn end_of(&self, left: Option<Duration>) -> Option<Instant> {
        // The server ends a key a moment after its time.
        left.map(|left| self.core.clock.now() + left + Duration::from_millis(1))
    }

    /// Rides out what may pass.
    async fn read_until_done(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            match self.read(out).await {
                Ok(()) => return Ok(()),
                Err(e) if e.is_transient() => backoff.pause().await,
                Err(e) => return Err(e),
            }
        }
    }

    /// Tells what is there, or what differs from what was told.
    async fn read(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        let wanted = if self.has_read { Wanted::Keys } else { Wanted::Values };
        let (directory, (mut from, to)) = match &self.target {
            Target::Tree(directory) => (directory.clone(), below(directory)),
            Target::Key(key) | Target::Holder(key) => {
                (Directory::root(), (format!("[{key}"), format!("[{key}")))
            }
        };
        let ask = Ask { children: false, wanted, lives: true, most: FULL };
        self.told.relist();
        loop {
            let bounds = (from.as_str(), to.as_str());
            let (rows, more) = self.core.rows(&directory, bounds, ask, self.deadline()).await?;
            let mut changed = Vec::new();
            for row in rows {
                let Row::Key(found) = row else { continue };
                if self.differs(&found, out).await {
                    match wanted {
                        Wanted::Values => self.put(found, out).await,
                        Wanted::Keys => changed.push(found),
                    }
                }
            }
            for found in changed.chunks(VALUES) {
                self.fetch(found.iter().map(|found| (found.key.clone(), found.left)).collect(), out).await?;
            }
            match more {
                Some(more) => from = more,
                None => break,
            }
        }
        for event in self.told.rest() {
            if let Some(key) = event.key() {
                self.ends.set(key, None);
            }
            out.send(event).await;
        }
        self.has_read = true;
        Ok(())
    }

    /// Whether it is not what was told. What a failover took back is told to be gone first.
    async fn differs(&mut self, found: &Found, out: &Emit<WatchEvent>) -> bool {
        let number = |version: Version| version.parts().0;
        if let Some(told) = self.told.version(&found.key) {
            // One that was made of bytes is not in a listing of keys alone.
            if is_foreign(told) && number(told) == number(found.version) {
                self.told.still(&found.key, told);
                return false;
            }
            if told > found.version
                && number(told) > number(found.version)
                && let Some(event) = self.told.gone(&found.key)
            {
                out.send(event).await;
            }
        }
        let differs = self.told.still(&found.key, found.version);
        if !differs {
            let end = self.end_of(found.left);
            self.ends.set(&found.key, end);
        }
        differs
    }

    async fn put(&mut self, found: Found, out: &Emit<WatchEvent>) {
        let Found { key, version, value, left } = found;
        let end = self.end_of(left);
        if let Some(event) = self.told.put(Entry::new(key.clone(), value, version)) {
            self.ends.set(&key, end);
            out.send(event).await;
        }
    }

    /// Reads values.
    async fn fetch(&mut self, keys: Vec<(Key, Option<Duration>)>, out: &Emit<WatchEvent>) -> Result<()> {
        let names: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
        let found = self.core.read(&names, self.deadline()).await?;
        for ((key, left), found) in keys.into_iter().zip(found) {
            match found {
                Some(Entry { value, version, .. }) => {
                    self.put(Found { key, version, value, left }, out).await
                }
                // It ended meanwhile, and this is told.
                None => self.gone(&key, out).await,
            }
        }
        Ok(())
    }

    async fn gone(&mut self, key: &Key, out: &Emit<WatchEvent>) {
        self.ends.set(key, None);
        if let Some(event) = self.told.gone(key) {
            out.send(event).await;
        }
    }

    async fn follow(&mut self, tale: Tale, out: &Emit<WatchEvent>) -> Result<()> {
        match tale {
            Tale::Put { key, version, left, value: Some(value) } => {
                self.put(Found { key, version, value, left }, out).await;
            }
            Tale::Put { key, version, left, value: None } => {
                if self.told.version(&key).is_some_and(|told| told >= version) {
                    return Ok(());
                }
                let mut backoff = Backoff::default();
                while let Err(e) = self.fetch(vec![(key.clone(), left)], out).await {
                    if !e.is_transient() {
                        return Err(e);
                    }
                    backoff.pause().await;
                }
            }
            Tale::Deleted { key, version } => {
                if let Some(event) = self.told.delete(key.clone(), version) {
                    self.ends.set(&key, None);
                    out.send(event).await;
                }
            }
            Tale::Gone { key } => self.gone(&key, out).await,
            Tale::Held { .. } | Tale::Free | Tale::Front(_) => {}
        }
        Ok(())
    }

    /// Asks the server whether what should have ended has.
    async fn look_at_due(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        let now = self.core.clock.now();
        let due = self.ends.due(now);
        let arguments = due.iter().map(|key| Value::from(key.as_str()));
        let answer = self.core.run(Does::Repeatable, self.deadline(), &script::LIVES, [], arguments).await;
        let mut lives = match answer {
            Ok(answer) => answer.list()?,
            Err(e) if e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown => {
                let later = now + Duration::from_millis(200);
                due.iter().for_each(|key| self.ends.set(key, Some(later)));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for key in due {
            match next(&mut lives)?.number()? {
                -2 => self.gone(&key, out).await,
                // It was renewed, or made permanent.
                left => {
                    let end = self.end_of(u64::try_from(left).ok().map(Duration::from_millis));
                    self.ends.set(&key, end);
                }
            }
        }
        Ok(())
    }
}

/// Whom a watch has told to hold the lock.
struct Holding {
    name: Key,
    token: Option<u64>,
}

impl Holding {
    async fn now(&mut self, holder: Option<Holder>, out: &Emit<WatchEvent>) {
        let before = std::mem::replace(&mut self.token, holder.as_ref().map(|holder| holder.token));
        let event = match (before, holder) {
            (Some(before), Some(holder)) if before == holder.token => return,
            (_, Some(holder)) => {
                let at = Version::new(holder.token, 0);
                WatchEvent::Put(Entry::new(self.name.clone(), holder.value, at))
            }
            (Some(before), None) => {
                WatchEvent::Delete { key: self.name.clone(), version: Version::new(before, 0) }
            }
            (None, None) => return,
        };
        out.send(event).await;
    }
}

/// [`Store::watch`] of a [`Target::Holder`].
pub(crate) fn holder(core: Arc<Core>, name: &Key, options: &WatchOptions) -> WatchStream {
    let each_request = options.each_request;
    let mut holding = Holding { name: name.clone(), token: None };
    stream(move |out| async move {
        let mut news: Subscription = core.feed.subscribe(core.names.on_lock(&holding.name));
        let (mut end, mut synced) = (None, false);
        loop {
            let due = async {
                match end {
                    Some(at) => core.clock.sleep_until(at).await,
                    None => pending().await,
                }
            };
            let news = tokio::select! {
                biased;
                news = news.next() => Some(news),
                // A holder that died tells nobody.
                () = due => None,
            };
            let (holder, left, is_reading) = match news {
                Some(News::Refused(e)) => return Err(e),
                Some(News::Tale(Tale::Held { left, number, brought })) => {
                    (Some(lock::held(number, brought)?), Some(left), false)
                }
                Some(News::Tale(Tale::Free)) => (None, None, false),
                Some(News::Tale(_)) => continue,
                Some(News::Look) | None => {
                    let is_look = news.is_some();
                    match lock::holder(&core, &holding.name, Deadline::after(each_request)).await {
                        Ok(Some((holder, left))) => (Some(holder), Some(left), is_look),
                        Ok(None) => (None, None, is_look),
                        Err(e) if e.is_transient() => {
                            end = Some(core.clock.now() + Duration::from_millis(200));
                            synced &= !is_look;
                            continue;
                        }
                        Err(e) => return Err(e),
                    }
                }
            };
            holding.now(holder, &out).await;
            end = left.map(|left| core.clock.now() + left + Duration::from_millis(1));
            if is_reading || !synced {
                out.send(WatchEvent::Synced).await;
                synced = true;
            }
        }
    })
}
