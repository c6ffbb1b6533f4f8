//! Watches of keys. Their changes come from listings, reads and messages. Keys that should have
//! ended are looked at.

use crate::{
    client::{answer::next, script},
    core::Core,
    list::{self, Ask, Row, Wanted, below},
    version,
    watch::{feed::Subscription, looks::AGAIN, notification::Notification},
};
use fred::types::Value;
use kv_core::{
    Directory, Entry, Key, Result, Version, WatchEvent,
    backend::{
        ExpiryQueue, Instant, Outage,
        retry::RetrySafety,
        watch::{self, Change, Detail, Listed, Listing, Source, WatchState},
    },
    driver::{Deadline, WatchOptions, WatchStream},
};
use std::{collections::HashSet, slice, sync::Arc, time::Duration};

/// The most keys of one request: one that reads values, one that asks whether keys have ended, and
/// a listing.
const MAX_VALUES: usize = 32;
const MAX_LIVES: usize = 500;
const MAX_ITEMS: usize = 1000;

fn number(version: Version) -> u64 {
    version.parts().0
}

/// Returns the greatest version of this number.
fn last_of(number: u64) -> Version {
    Version::new(number, u64::MAX)
}

/// The source of a watch of a key or a directory.
struct Keys {
    core: Arc<Core>,
    directory: Directory,
    /// The bounds of the list.
    bounds: (String, String),
    channel: String,
    each_request: Duration,
    published: Option<Subscription>,
    /// The moments at which keys end, unless they are renewed.
    expiries: ExpiryQueue<Key, Instant>,
    /// The keys whose end was found, and whose message has not come yet.
    ended: HashSet<Key>,
    /// The keys that have ended without a message.
    gone: Vec<Key>,
    outage: Outage,
}

/// Starts the watch of a key.
pub(crate) fn of_key(core: Arc<Core>, key: &Key, options: &WatchOptions) -> WatchStream {
    let (bound, channel) = (format!("[{key}"), core.names.on_key(key));
    start(core, Directory::root(), (bound.clone(), bound), channel, options)
}

/// Starts the watch of all keys below a directory.
pub(crate) fn of_tree(core: Arc<Core>, directory: &Directory, options: &WatchOptions) -> WatchStream {
    let channel = core.names.on_tree(directory);
    start(core, directory.clone(), below(directory), channel, options)
}

fn start(
    core: Arc<Core>,
    directory: Directory,
    bounds: (String, String),
    channel: String,
    options: &WatchOptions,
) -> WatchStream {
    watch::start(Keys {
        core,
        directory,
        bounds,
        channel,
        each_request: options.each_request,
        published: None,
        expiries: ExpiryQueue::default(),
        ended: HashSet::new(),
        gone: Vec::new(),
        outage: Outage::new("the look for keys that have ended", "redis"),
    })
}

impl Source for Keys {
    type Token = String;

    fn backend(&self) -> &'static str {
        "redis"
    }

    async fn subscribe(&mut self) -> Result<()> {
        (self.expiries, self.ended, self.gone) = (ExpiryQueue::default(), HashSet::new(), Vec::new());
        match &self.published {
            Some(published) if published.is_here() => published.clear(),
            _ => self.published = Some(self.core.feed.subscribed(self.channel.clone()).await?),
        }
        Ok(())
    }

    async fn list(&mut self, delivered: &WatchState, from: Option<&String>) -> Result<Listing<String>> {
        let wanted = match delivered.detail() {
            Detail::Values => Wanted::Values,
            Detail::Versions => Wanted::Keys,
        };
        let ask = Ask { children: false, wanted, lives: true, most: MAX_ITEMS };
        let bounds = (from.unwrap_or(&self.bounds.0).as_str(), self.bounds.1.as_str());
        let page = list::rows(&self.core, &self.directory, bounds, ask, self.deadline()).await?;
        let mut entries = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            let Row::Key(found) = row else { continue };
            self.expires(&found.key, found.left);
            entries.push(match wanted {
                Wanted::Values => Listed::Entry(Entry::new(found.key, found.value, found.version)),
                Wanted::Keys => Listed::Version(found.key, found.version),
            });
        }
        Ok(Listing::Page { entries, position: Some(last_of(page.last)), next: page.more })
    }

    async fn fetch(&mut self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let keys = &keys[..keys.len().min(MAX_VALUES)];
        let found = list::read(&self.core, keys, self.deadline()).await?;
        for (key, _) in keys.iter().zip(&found).filter(|(_, found)| found.is_none()) {
            self.expires(key, None);
        }
        Ok(found)
    }

    fn follows(&self, delivered: Version, found: Version) -> bool {
        version::follows(delivered, found)
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        loop {
            if let Some(key) = self.gone.pop() {
                return Ok(Change::Gone { key, last: None });
            }
            let due = self.core.sleep_until(self.expiries.first().map(|(at, _)| at));
            let Some(published) = &mut self.published else { return Ok(Change::Lagged) };
            let published = tokio::select! {
                biased;
                published = published.next() => Some(published?),
                () = due => None,
            };
            match published {
                Some(Some(Notification::Put { key, version, left, value: None }))
                    if !delivered.has(&key, version) =>
                {
                    self.expires(&key, left);
                    if let Some(change) = self.large(key, version, delivered).await? {
                        return Ok(change);
                    }
                }
                Some(Some(notification)) => {
                    if let Some(change) = self.change(notification, delivered) {
                        return Ok(change);
                    }
                }
                Some(None) => return Ok(Change::Lagged),
                None => self.look_at_due(delivered).await?,
            }
        }
    }
}

impl Keys {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    /// Returns the moment at which a key with this much life left has ended: the server ends it a
    /// moment after its time.
    fn ends_at(&self, left: Duration) -> Instant {
        self.core.clock.now() + left + Duration::from_millis(1)
    }

    /// Notes what is left of a key's life.
    fn expires(&mut self, key: &Key, left: Option<Duration>) {
        self.ended.remove(key);
        match left {
            Some(left) => self.expiries.set(key.clone(), self.ends_at(left)),
            None => self.expiries.remove(key),
        };
    }

    /// Returns the change that a message tells, unless it is known.
    fn change(&mut self, notification: Notification, delivered: &WatchState) -> Option<Change> {
        match notification {
            Notification::Put { key, version, left, .. } if delivered.has(&key, version) => {
                // A value that was read ahead of this message was told without its end, unless it
                // came from a list.
                if let Some(left) = left.filter(|_| delivered.version(&key) == Some(version)) {
                    self.expiries.set_earlier(key, self.ends_at(left));
                }
                None
            }
            Notification::Put { key, version, left, value } => {
                self.expires(&key, left);
                value.map(|value| Change::Event(WatchEvent::Put(Entry::new(key, value, version))))
            }
            Notification::Deleted { key, version } if delivered.version(&key)? <= version => {
                self.expires(&key, None);
                Some(Change::Event(WatchEvent::Delete { key, version }))
            }
            // An end that was found before a later write does not end what that wrote.
            Notification::Gone { key, number } if delivered.version(&key)? <= last_of(number) => {
                self.expires(&key, None);
                Some(Change::Gone { key, last: Some(last_of(number)) })
            }
            _ => None,
        }
    }

    /// Reads a value that was too large for the message of its put. What a later write has left
    /// there is told by the message of that one, in its turn: other keys were written in between.
    async fn large(&mut self, key: Key, version: Version, delivered: &WatchState) -> Result<Option<Change>> {
        let found = list::read(&self.core, slice::from_ref(&key), self.deadline()).await?.pop().flatten();
        Ok(match found {
            Some(entry) if number(entry.version) > number(version) => None,
            Some(entry) => Some(Change::Found(entry)),
            None => {
                // Another tool may have deleted it, which no message tells until somebody looks. A
                // key that was never told has no end to tell.
                match delivered.version(&key) {
                    Some(_) => drop(self.expiries.set(key, self.core.clock.now())),
                    None => self.expires(&key, None),
                }
                None
            }
        })
    }

    /// Asks the server whether the keys that should have ended have. It publishes the ends that it
    /// finds, so that each is told in its turn. Keys that another watch of the store has asked for
    /// are left to it for a while.
    async fn look_at_due(&mut self, delivered: &WatchState) -> Result<()> {
        let now = self.core.clock.now();
        let mut due = self.expiries.take(MAX_LIVES, |at| at <= now);
        let looks = self.core.feed.looks();
        let (ended, expiries) = (&self.ended, &mut self.expiries);
        due.retain(|key| {
            let is_ours = ended.contains(key) || looks.begin(key, now);
            if !is_ours {
                expiries.set(key.clone(), now + AGAIN);
            }
            is_ours
        });
        if due.is_empty() {
            return Ok(());
        }
        let arguments = due.iter().flat_map(|key| {
            let last = delivered.version(key).map_or(0, number);
            // An end that was found before, and whose message did not come, is published again.
            let again = if self.ended.contains(key) { "1" } else { "0" };
            [Value::from(key.as_str()), last.to_string().into(), again.into()]
        });
        let deadline = self.deadline();
        let answer = self.core.run(RetrySafety::Repeatable, deadline, &script::LIVES, [], arguments).await;
        let mut lives = match answer {
            Ok(answer) => answer.list()?,
            Err(e) if e.is_lasting() => return Err(e),
            // No change is lost by this failure.
            Err(e) => {
                self.outage.failed(&e);
                for key in due {
                    self.expiries.set(key, now + AGAIN);
                }
                return Ok(());
            }
        };
        self.outage.over();
        for key in due {
            match next(&mut lives)?.number()? {
                -2 => {
                    self.expiries.set(key.clone(), self.core.clock.now() + AGAIN);
                    self.ended.insert(key);
                }
                -3 => {
                    self.ended.remove(&key);
                    self.gone.push(key);
                }
                // The key was renewed, or made permanent.
                left => self.expires(&key, u64::try_from(left).ok().map(Duration::from_millis)),
            }
        }
        Ok(())
    }
}
