//! Watches of the holder of a lock.

use crate::{
    core::Core,
    lock::holder::{OWN, Seen, held, look},
    watch::{feed::Subscription, notification::Notification},
};
use kv_core::{
    Key, Result, Version, WatchEvent,
    backend::{
        Backoff, Instant, Outage,
        watch::{self, Change, Listed, Listing, Source, WatchState},
    },
    driver::{Deadline, WatchOptions, WatchStream},
};
use std::{sync::Arc, time::Duration};

/// Returns the greatest version of a holder of this number.
fn last_of(number: u64) -> Version {
    Version::new(number.saturating_mul(OWN).saturating_add(OWN - 1), u64::MAX)
}

/// The source of a watch of a lock's holder.
struct Holding {
    core: Arc<Core>,
    name: Key,
    each_request: Duration,
    published: Option<Subscription>,
    /// The moment at which the holder's session ends, unless it is renewed: a holder that died
    /// sends no message.
    expiry: Option<Instant>,
    /// All holders up to this number were found to be gone: messages about them come late.
    gone: u64,
    failures: Backoff,
    outage: Outage,
}

/// Starts the watch of a lock's holder.
pub(crate) fn watch(core: Arc<Core>, name: &Key, options: &WatchOptions) -> WatchStream {
    watch::start(Holding {
        core,
        name: name.clone(),
        each_request: options.each_request,
        published: None,
        expiry: None,
        gone: 0,
        failures: Backoff::default(),
        outage: Outage::new("the look at a lock's holder", "redis"),
    })
}

impl Source for Holding {
    type Token = ();

    fn backend(&self) -> &'static str {
        "redis"
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.expiry = None;
        match &self.published {
            Some(published) if published.is_here() => published.clear(),
            _ => {
                let channel = self.core.names.on_lock(&self.name);
                self.published = Some(self.core.feed.subscribed(channel).await?);
            }
        }
        Ok(())
    }

    async fn list(&mut self, _: &WatchState, _: Option<&()>) -> Result<Listing<()>> {
        let seen = self.look().await?;
        let known = seen.holder.as_ref().map_or(seen.last, |(_, number, _)| *number);
        let entries = seen.holder.map(|(holder, ..)| Listed::Entry(holder.entry(self.name.clone())));
        let entries = entries.into_iter().collect();
        Ok(Listing::Page { entries, position: Some(last_of(known)), next: None })
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        loop {
            let due = self.core.sleep_until(self.expiry);
            let Some(published) = &mut self.published else { return Ok(Change::Lagged) };
            let published = tokio::select! {
                biased;
                published = published.next() => Some(published?),
                () = due => None,
            };
            let change = match published {
                Some(Some(notification)) => self.change(notification, delivered)?,
                Some(None) => Some(Change::Lagged),
                None => self.look_again().await?,
            };
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }
}

impl Holding {
    fn expires(&mut self, left: Option<Duration>) {
        self.expiry = left.map(|left| self.core.clock.now() + left + Duration::from_millis(1));
    }

    async fn look(&mut self) -> Result<Seen> {
        let seen = look(&self.core, &self.name, Deadline::after(self.each_request)).await?;
        self.expires(seen.holder.as_ref().map(|(.., left)| *left));
        self.gone = if seen.holder.is_none() { seen.last } else { 0 };
        Ok(seen)
    }

    /// Returns the change that a message tells, unless it is known: the message may have been
    /// published long before the list.
    fn change(&mut self, notification: Notification, delivered: &WatchState) -> Result<Option<Change>> {
        let known = delivered.version(&self.name);
        Ok(match notification {
            Notification::Held { left, number, brought } if number > self.gone => {
                let entry = held(number, &brought)?.entry(self.name.clone());
                let is_known = delivered.has(&self.name, entry.version);
                if !is_known || known == Some(entry.version) {
                    self.expires(Some(left));
                }
                (!is_known).then_some(Change::Event(WatchEvent::Put(entry)))
            }
            Notification::Free { number } if known.is_some_and(|known| known <= last_of(number)) => {
                self.expires(None);
                Some(Change::Gone { key: self.name.clone(), last: Some(last_of(number)) })
            }
            _ => None,
        })
    }

    /// Looks whether the holder has died. No change is lost if the look fails.
    async fn look_again(&mut self) -> Result<Option<Change>> {
        let seen = match self.look().await {
            Ok(seen) => seen,
            Err(e) if e.is_lasting() => return Err(e),
            Err(e) => {
                self.outage.failed(&e);
                self.expiry = Some(self.core.clock.now() + self.failures.delay());
                return Ok(None);
            }
        };
        self.failures.reset();
        self.outage.over();
        Ok(Some(match seen.holder {
            Some((holder, ..)) => Change::Found(holder.entry(self.name.clone())),
            None => Change::Gone { key: self.name.clone(), last: None },
        }))
    }
}
