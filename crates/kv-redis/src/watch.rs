//! Watches: listen, read what is there, then tell what is published; what ends by itself is looked at when it is due.

use crate::{
    ends::Ends,
    feed::News,
    list::{Ask, Found, Row, Wanted, below},
    part::{Core, is_foreign},
    script::{self, next},
    tale::Tale,
};
use fred::types::Value;
use kv_core::{
    backend::{Backoff, Emit, Instant, Outage, Told, retry::RetrySafety, stream},
    *,
};
use std::{future::pending, sync::Arc, time::Duration};

/// How many keys are asked for at once: with values, and whether they have ended.
const VALUES: usize = 32;
const LIVES: usize = 500;
const FULL: usize = 1000;
/// When to look again at what could not be told yet.
const AGAIN: Duration = Duration::from_millis(200);

fn number(version: Version) -> u64 {
    version.parts().0
}

/// One watch of a key or directory.
struct Watched {
    core: Arc<Core>,
    target: Target,
    each_request: Duration,
    told: Told,
    ends: Ends,
    /// The last number given before the last reading: what was published of it, or of a smaller one, the reading has.
    floor: u64,
    /// Whether the first reading is done.
    has_read: bool,
    outage: Outage,
}

pub(crate) fn watch(core: Arc<Core>, target: &Target, options: &WatchOptions) -> WatchStream {
    let each_request = options.each_request;
    let mut watched = Watched {
        core,
        target: target.clone(),
        each_request,
        told: Told::default(),
        ends: Ends::default(),
        floor: 0,
        has_read: false,
        outage: Outage::new("a watch", "redis"),
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
                    News::Look => watched.look(&out).await?,
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

    /// Reads until it is done: rides out all that is not known to last.
    async fn look(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        let mut backoff = Backoff::default();
        while let Err(e) = self.read(out).await {
            self.ridden_out(e)?;
            backoff.pause().await;
        }
        self.outage.over();
        out.send(WatchEvent::Synced).await;
        Ok(())
    }

    fn ridden_out(&mut self, error: Error) -> Result<()> {
        if error.is_lasting() {
            return Err(error);
        }
        self.outage.failed(&error);
        Ok(())
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
        let mut floor = None;
        loop {
            let bounds = (from.as_str(), to.as_str());
            let rows = self.core.rows(&directory, bounds, ask, self.deadline()).await?;
            // The later pages know more.
            floor.get_or_insert(rows.last);
            let mut changed = Vec::new();
            for row in rows.rows {
                let Row::Key(found) = row else { continue };
                if self.differs(&found) {
                    match wanted {
                        Wanted::Values => self.listed(found, out).await,
                        Wanted::Keys => changed.push(found),
                    }
                }
            }
            for found in changed.chunks(VALUES) {
                self.fetch(found.iter().map(|found| (found.key.clone(), found.left)).collect(), out).await?;
            }
            match rows.more {
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
        // A server that went back begins from where it is by now.
        self.floor = floor.unwrap_or_default();
        self.has_read = true;
        Ok(())
    }

    /// Whether it is not what was told.
    fn differs(&mut self, found: &Found) -> bool {
        // One that was made of bytes is not in a listing of keys alone.
        let told = self.told.version(&found.key);
        let told = told.filter(|told| is_foreign(*told) && number(*told) == number(found.version));
        let differs = self.told.still(&found.key, told.unwrap_or(found.version));
        if !differs {
            let end = self.end_of(found.left);
            self.ends.set(&found.key, end);
        }
        differs
    }

    /// Tells what was published.
    async fn put(&mut self, found: Found, out: &Emit<WatchEvent>) {
        let Found { key, version, value, left } = found;
        let end = self.end_of(left);
        if let Some(event) = self.told.put(Entry::new(key.clone(), value, version)) {
            self.ends.set(&key, end);
            out.send(event).await;
        }
    }

    /// Tells what was read, also where the server went back to it.
    async fn listed(&mut self, found: Found, out: &Emit<WatchEvent>) {
        let Found { key, version, value, left } = found;
        let end = self.end_of(left);
        self.ends.set(&key, end);
        for event in self.told.listed(Entry::new(key, value, version)) {
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
                    self.listed(Found { key, version, value, left }, out).await
                }
                // It ended meanwhile. This is told in its turn, or found out.
                None if self.told.version(&key).is_some() => {
                    self.ends.set(&key, Some(self.core.clock.now() + AGAIN))
                }
                None => {}
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

    /// Whether the reading had this, or what came after it.
    fn is_known(&self, key: &Key, version: Version) -> bool {
        match self.told.version(key) {
            Some(told) => told >= version,
            None => number(version) <= self.floor,
        }
    }

    async fn follow(&mut self, tale: Tale, out: &Emit<WatchEvent>) -> Result<()> {
        match tale {
            Tale::Put { key, version, .. } if self.is_known(&key, version) => {}
            Tale::Put { key, version, left, value: Some(value) } => {
                self.put(Found { key, version, value, left }, out).await;
            }
            Tale::Put { key, left, value: None, .. } => {
                let mut backoff = Backoff::default();
                while let Err(e) = self.fetch(vec![(key.clone(), left)], out).await {
                    self.ridden_out(e)?;
                    backoff.pause().await;
                }
                self.outage.over();
            }
            Tale::Deleted { key, version } => {
                if let Some(event) = self.told.delete(key.clone(), version) {
                    self.ends.set(&key, None);
                    out.send(event).await;
                }
            }
            // One that was found before a later write ends nothing of that.
            Tale::Gone { key, number: of } => {
                if self.told.version(&key).is_some_and(|told| number(told) <= of) {
                    self.gone(&key, out).await;
                }
            }
            Tale::Held { .. } | Tale::Free { .. } | Tale::Front(_) => {}
        }
        Ok(())
    }

    /// Asks the server whether what should have ended has. It publishes what it finds, so that this is told in its turn.
    async fn look_at_due(&mut self, out: &Emit<WatchEvent>) -> Result<()> {
        let now = self.core.clock.now();
        let due = self.ends.due(now, LIVES);
        let arguments = due.iter().flat_map(|key| {
            let told = self.told.version(key).map_or(0, number);
            [Value::from(key.as_str()), told.to_string().into()]
        });
        let answer =
            self.core.run(RetrySafety::Repeatable, self.deadline(), &script::LIVES, [], arguments).await;
        let mut lives = match answer {
            Ok(answer) => answer.list()?,
            Err(e) => {
                due.iter().for_each(|key| self.ends.set(key, Some(now + AGAIN)));
                return self.ridden_out(e);
            }
        };
        self.outage.over();
        for key in due {
            let end = match next(&mut lives)?.number()? {
                -2 => Some(self.core.clock.now() + AGAIN),
                -3 => {
                    self.gone(&key, out).await;
                    continue;
                }
                // It was renewed, or made permanent.
                left => self.end_of(u64::try_from(left).ok().map(Duration::from_millis)),
            };
            self.ends.set(&key, end);
        }
        Ok(())
    }
}
