//! Follows the settings in the store: a watch tells that something was written, and a reading tells
//! what there is.

use crate::{
    opening::Opening,
    place::{Form, Place},
    snapshot::Snapshot,
    source,
};
use kv_core::{Key, Kv, Result, Watch, WatchEvent};
use std::{future::pending, ops::Range, time::Duration};
use tokio::time::{Instant, sleep_until};

/// A time that no program runs for.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Follows the settings of one place.
pub(crate) struct Follower {
    opening: Opening,
    place: Place,
    quiet: Range<Duration>,
    within: Option<Duration>,
    watch: Option<Watch>,
    /// The writes since the last reading; `None` when there were none.
    news: Option<News>,
    /// The last reading.
    read: Option<Snapshot>,
}

/// The moments of the first and the last write that were told since a reading.
#[derive(Clone, Copy)]
struct News {
    first: Instant,
    last: Instant,
}

impl Follower {
    pub(crate) fn new(
        opening: Opening,
        place: Place,
        quiet: Range<Duration>,
        within: Option<Duration>,
    ) -> Self {
        Self { opening, place, quiet, within, watch: None, news: None, read: None }
    }

    pub(crate) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Waits until something was written and then nothing for the quiet time, and returns what
    /// there is; `None` when it is what there was at the last reading. The first call returns what
    /// there is when the store is quiet.
    ///
    /// # Errors
    /// What opening, watching or reading gives. The next call tries again.
    pub(crate) async fn next(&mut self) -> Result<Option<Snapshot>> {
        let kv = self.opening.kv().await?;
        loop {
            if self.watch.is_none() {
                self.watch = Some(watch(&kv, &self.place, self.within).await?);
                self.note(); // nothing was told before
            }
            let due = self.news.map(|news| self.due(news));
            let Some(watch) = &mut self.watch else { continue };
            let told = tokio::select! {
                biased;
                () = until(due) => None,
                event = watch.event() => Some(event),
            };
            match told {
                None => return self.read(&kv).await,
                Some(Ok(event)) if self.is_news(&event) => self.note(),
                Some(Ok(_)) => {}
                Some(Err(e)) => {
                    self.watch = None;
                    return Err(e);
                }
            }
        }
    }

    async fn read(&mut self, kv: &Kv) -> Result<Option<Snapshot>> {
        let read = source::read(kv, &self.place, self.within).await?;
        self.news = None;
        if self.read.as_ref().is_some_and(|before| before.is_same(&read)) {
            return Ok(None);
        }
        self.read = Some(read.clone());
        Ok(Some(read))
    }

    fn note(&mut self) {
        let now = Instant::now();
        let first = self.news.map_or(now, |news| news.first);
        self.news = Some(News { first, last: now });
    }

    /// Returns when it is quiet, or has waited long enough for that.
    fn due(&self, News { first, last }: News) -> Instant {
        later(last, self.quiet.start).min(later(first, self.quiet.end))
    }

    /// Tells whether an event speaks of something else than the last reading. One that is older
    /// than the reading costs another reading at most, since the store may also have been set back.
    fn is_news(&self, event: &WatchEvent) -> bool {
        let held = |key: &Key| self.read.as_ref().and_then(|read| read.version(key));
        match event {
            WatchEvent::Put(entry) => held(&entry.key) != Some(entry.version),
            WatchEvent::Delete { key, .. } => held(key).is_some(),
            WatchEvent::Synced => false,
        }
    }
}

async fn watch(kv: &Kv, place: &Place, within: Option<Duration>) -> Result<Watch> {
    let watch = match place.form {
        Form::Tree => kv.watch_tree(&place.directory),
        _ => kv.watch(place.key()?),
    };
    match within {
        Some(within) => watch.deadline(within).await,
        None => watch.await,
    }
}

fn later(moment: Instant, by: Duration) -> Instant {
    moment.checked_add(by).unwrap_or(moment + FAR)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
