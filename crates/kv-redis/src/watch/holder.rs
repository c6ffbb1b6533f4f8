//! Who holds a lock, read and watched.

use crate::{
    client::script::{self, Answer, next},
    core::Core,
    error::corrupt,
    watch::{feed::Subscription, notification::Notification},
};
use kv_core::{
    Bytes, Deadline, Entry, Error, ErrorKind, Holder, Key, Result, Version, WatchEvent, WatchOptions,
    WatchStream,
    backend::{
        Backoff, Instant, Outage,
        retry::RetrySafety,
        watch::{self, Change, Listed, Listing, Source, WatchState},
    },
};
use std::{future::pending, sync::Arc, time::Duration};

/// How many values the part of a token has that is the acquisition's own. A number of the server's,
/// its microseconds, times this stays below what a token can be for five centuries.
pub(crate) const OWN: u64 = 1 << 10;

/// The token of a contender of this number.
pub(crate) fn token(number: u64, own: u64) -> Result<u64> {
    let token = number.checked_mul(OWN).and_then(|token| token.checked_add(own));
    token.ok_or_else(|| {
        let why = format!(
            "a line has the number {number}, which this library never gives; delete its contender there"
        );
        Error::new(ErrorKind::Corrupt, why)
    })
}

/// A holder, by its number and what it brought.
fn held(number: u64, brought: &Bytes) -> Result<Holder> {
    let end = brought.iter().position(|byte| *byte == b'\n');
    let own = end.and_then(|end| std::str::from_utf8(&brought[..end]).ok()?.parse::<u64>().ok());
    match (end, own) {
        (Some(end), Some(own)) if own < OWN => Ok(Holder::new(token(number, own)?, brought.slice(end + 1..))),
        _ => Err(corrupt("what a lock's holder brought is none of ours")),
    }
}

/// What a look at a lock finds.
pub(crate) struct Seen {
    /// The holder, its number, and what is left of its session.
    pub(crate) holder: Option<(Holder, u64, Duration)>,
    /// Whoever holds it later has a greater number.
    last: u64,
}

/// Looks who holds the lock.
pub(crate) async fn look(core: &Core, name: &Key, deadline: Deadline) -> Result<Seen> {
    let arguments = [name.as_str().into()];
    let answer =
        core.run(RetrySafety::Read, deadline, &script::HOLDER, core.names.lock(name), arguments).await?;
    let mut answer = answer.list()?;
    let number = next(&mut answer)?.some().map(Answer::unsigned).transpose()?;
    let brought = next(&mut answer)?.bytes()?;
    // A session without an end was given none by us.
    let left = u64::try_from(next(&mut answer)?.number()?).unwrap_or(u64::from(u32::MAX));
    let last = next(&mut answer)?.unsigned()?;
    let holder = number.map(|number| {
        let holder = held(number, &brought)?;
        Ok::<_, Error>((holder, number, Duration::from_millis(left)))
    });
    Ok(Seen { holder: holder.transpose()?, last })
}

/// The version of a holder, by its token.
fn version(token: u64) -> Version {
    Version::new(token, 0)
}

/// The greatest version of a holder of this number.
fn last_of(number: u64) -> Version {
    version(number.saturating_mul(OWN).saturating_add(OWN - 1))
}

/// What the server tells of a lock's holder.
struct Holding {
    core: Arc<Core>,
    name: Key,
    each_request: Duration,
    published: Option<Subscription>,
    /// When the holder's session ends, unless it is renewed: one that died tells nobody.
    expiry: Option<Instant>,
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
            Some(published) => published.clear(),
            None => {
                let channel = self.core.names.on_lock(&self.name);
                self.published = Some(self.core.feed.subscribed(channel).await?);
            }
        }
        Ok(())
    }

    async fn list(&mut self, _: &WatchState, _: Option<&()>) -> Result<Listing<()>> {
        let seen = self.look().await?;
        let known = seen.holder.as_ref().map_or(seen.last, |(_, number, _)| *number);
        let entries = seen.holder.map(|(holder, ..)| Listed::Entry(self.entry(holder)));
        let entries = entries.into_iter().collect();
        Ok(Listing::Page { entries, position: Some(last_of(known)), next: None })
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        loop {
            let (clock, expiry) = (&self.core.clock, self.expiry);
            let due = async {
                match expiry {
                    Some(at) => clock.sleep_until(at).await,
                    None => pending().await,
                }
            };
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
    fn entry(&self, holder: Holder) -> Entry {
        Entry::new(self.name.clone(), holder.value, version(holder.token))
    }

    fn expires(&mut self, left: Option<Duration>) {
        self.expiry = left.map(|left| self.core.clock.now() + left + Duration::from_millis(1));
    }

    async fn look(&mut self) -> Result<Seen> {
        let seen = look(&self.core, &self.name, Deadline::after(self.each_request)).await?;
        self.expires(seen.holder.as_ref().map(|(.., left)| *left));
        Ok(seen)
    }

    /// What is published as a change, unless it is known: others may have published it long before
    /// the list.
    fn change(&mut self, notification: Notification, delivered: &WatchState) -> Result<Option<Change>> {
        let known = delivered.version(&self.name);
        Ok(match notification {
            Notification::Held { left, number, brought } => {
                let entry = self.entry(held(number, &brought)?);
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

    /// Looks whether the holder has died. No change is lost where that fails.
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
            Some((holder, ..)) => Change::Found(self.entry(holder)),
            None => Change::Gone { key: self.name.clone(), last: None },
        }))
    }
}
