//! Follows the settings in the store: a watch tells that something was written, and a reading tells
//! what there is.

use crate::{
    opening::Opening,
    place::{Form, Place},
    snapshot::Snapshot,
    source,
};
use kv_core::{Key, Kv, Result, Version, Watch, WatchEvent};
use std::{collections::BTreeMap, future::pending, ops::Range, time::Duration};
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
    /// The last reading that was returned.
    returned: Option<Snapshot>,
}

/// The writes that came to be known since a reading was returned.
struct News {
    /// The moment of the first one.
    first: Instant,
    /// The moment of the last one.
    last: Instant,
    /// The versions that the watch has told since the last reading; `None` for a deletion.
    told: BTreeMap<Key, Option<Version>>,
}

impl Follower {
    pub(crate) fn new(
        opening: Opening,
        place: Place,
        quiet: Range<Duration>,
        within: Option<Duration>,
    ) -> Self {
        let (watch, news, read, returned) = (None, None, None, None);
        Self { opening, place, quiet, within, watch, news, read, returned }
    }

    pub(crate) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Waits until something was written and then nothing for the quiet time, and returns what
    /// there is; `None` when it is what was returned last. The first call returns what there is
    /// when the store is quiet.
    ///
    /// A watch may tell late. So a reading that shows writes which nobody has told yet is news
    /// itself: what was written behind them may be missing in it.
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
            let due = self.news.as_ref().map(|news| self.due(news));
            let Some(watch) = &mut self.watch else { continue };
            let told = tokio::select! {
                biased;
                () = until(due) => None,
                event = watch.event() => Some(event),
            };
            match told {
                None => {
                    if let Some(read) = self.read(&kv).await? {
                        return Ok(self.is_new(&read).then_some(read));
                    }
                }
                Some(Ok(event)) => self.hear(&event),
                Some(Err(e)) => {
                    self.watch = None;
                    return Err(e);
                }
            }
        }
    }

    /// Reads what there is; `None` when there are writes in it that were not told yet, and there is
    /// time left to see whether more come.
    async fn read(&mut self, kv: &Kv) -> Result<Option<Snapshot>> {
        let read = source::read(kv, &self.place, self.within).await?;
        let now = Instant::now();
        if let Some(news) = &mut self.news
            && now < later(news.first, self.quiet.end)
            && !is_told(&read, self.read.as_ref(), &news.told)
        {
            news.last = now;
            news.told.clear();
            self.read = Some(read);
            return Ok(None);
        }
        self.news = None;
        self.read = Some(read.clone());
        Ok(Some(read))
    }

    /// Notes what is returned, and tells whether it is something else than was returned last.
    fn is_new(&mut self, read: &Snapshot) -> bool {
        let before = self.returned.replace(read.clone());
        before.is_none_or(|before| !before.is_same(read))
    }

    /// Notes what the watch tells. What is older than the reading costs another reading at most,
    /// since the store may also have been set back.
    fn hear(&mut self, event: &WatchEvent) {
        let (key, version) = match event {
            WatchEvent::Put(entry) => (&entry.key, Some(entry.version)),
            WatchEvent::Delete { key, .. } => (key, None),
            WatchEvent::Synced => return,
        };
        if self.read.as_ref().and_then(|read| read.version(key)) != version {
            self.note().told.insert(key.clone(), version);
        } else if let Some(news) = &mut self.news {
            news.told.remove(key);
        }
    }

    fn note(&mut self) -> &mut News {
        let now = Instant::now();
        let news = self.news.get_or_insert_with(|| News { first: now, last: now, told: BTreeMap::new() });
        news.last = now;
        news
    }

    /// Returns when it is quiet, or has waited long enough for that.
    fn due(&self, News { first, last, .. }: &News) -> Instant {
        later(*last, self.quiet.start).min(later(*first, self.quiet.end))
    }
}

/// Tells whether a reading is what the watch has told since the one before.
fn is_told(read: &Snapshot, before: Option<&Snapshot>, told: &BTreeMap<Key, Option<Version>>) -> bool {
    let known = |key: &Key| match told.get(key) {
        Some(version) => *version,
        None => before.and_then(|before| before.version(key)),
    };
    let is_known = |key: &Key| known(key) == read.version(key);
    read.entries().iter().all(|entry| is_known(&entry.key))
        && told.keys().all(is_known)
        && before.is_none_or(|before| before.entries().iter().all(|entry| is_known(&entry.key)))
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
