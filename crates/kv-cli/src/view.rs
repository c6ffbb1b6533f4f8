//! The keys below a directory as they are now, and when to act on their changes.

use crate::exit::Run;
use kv_core::{Bytes, Directory, Key, Kv, Watch, WatchEvent};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep_until};

/// The longest that changes which never stop put off what is done about them.
const AT_LATEST: Duration = Duration::from_secs(30);

/// The keys below a directory, by their names in it, kept in step with the store. Outages are
/// ridden out.
pub(crate) struct View {
    watch: Watch,
    keys: BTreeMap<Key, Bytes>,
}

/// The kinds of events that a view tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Change,
    Synced,
}

impl View {
    pub(crate) async fn open(kv: &Kv, directory: &Directory) -> Run<Self> {
        let watch = kv.within(directory)?.watch_tree("").await?;
        Ok(Self { watch, keys: BTreeMap::new() })
    }

    /// Returns the keys. Before [`synced`](Self::synced) some are missing.
    pub(crate) fn keys(&self) -> &BTreeMap<Key, Bytes> {
        &self.keys
    }

    /// Waits until all that is there is known. Cancel safe.
    pub(crate) async fn synced(&mut self) -> Run<()> {
        while self.next().await? != Told::Synced {}
        Ok(())
    }

    /// Waits for a change. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Run<()> {
        while self.next().await? != Told::Change {}
        Ok(())
    }

    async fn next(&mut self) -> Run<Told> {
        match self.watch.event().await? {
            WatchEvent::Put(entry) => drop(self.keys.insert(entry.key, entry.value)),
            WatchEvent::Delete { key, .. } => drop(self.keys.remove(&key)),
            WatchEvent::Synced => return Ok(Told::Synced),
        }
        Ok(Told::Change)
    }
}

/// A wait until nothing changes any more.
#[derive(Debug)]
pub(crate) struct Quiet {
    time: Duration,
    /// The first change that was not acted on, and when that is due.
    waits: Option<(Instant, Instant)>,
}

impl Quiet {
    /// Makes a wait that ends when nothing has changed for this time.
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, waits: None }
    }

    /// Notes a change, of which nobody is to hear for this time more.
    pub(crate) fn changed(&mut self, more: Duration) {
        let now = Instant::now();
        let first = self.waits.map_or(now, |(first, _)| first);
        let due = (now + self.time).min(first + self.time.max(AT_LATEST));
        self.waits = Some((first, due + more));
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }

    /// Waits until the changes that were noted are due. Cancel safe.
    pub(crate) async fn due(&mut self) {
        if let Some((_, due)) = self.waits {
            sleep_until(due).await;
            self.waits = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_put_off_by_those_that_follow_and_not_for_ever() {
        let second = Duration::from_secs(1);
        let mut quiet = Quiet::new(second);
        assert!(!quiet.is_waiting());
        quiet.changed(Duration::ZERO);
        let (first, due) = quiet.waits.unwrap();
        assert_eq!(due - first, second);
        quiet.waits = Some((first - Duration::from_millis(29_500), due));
        quiet.changed(Duration::ZERO);
        let (first, due) = quiet.waits.unwrap();
        assert_eq!(due - first, AT_LATEST);
        quiet.waits = Some((first, first));
        quiet.due().await;
        assert!(!quiet.is_waiting());
    }
}
