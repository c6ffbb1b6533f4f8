//! A bounded queue for one reader.

use super::Mutex;
use crate::{Error, Result, observe::Origin};
use std::{collections::VecDeque, fmt};
use tokio::{sync::Notify, time::Instant};

/// The most items, and the most bytes of values in them, that wait for a slow reader.
const MAX_ITEMS: usize = 4096;
const MAX_BYTES: usize = 1 << 20;

/// Holds what waits for one reader: 4,096 items and 1 MiB of values at most. Beyond that all of it
/// is dropped, and the reader receives in its place that it lagged, so that it lists again. One
/// item always fits, however large. Nothing that is pushed waits for the reader.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::backend::Inbox;
///
/// let inbox = Inbox::default();
/// inbox.push("a change", 100);
/// assert_eq!(inbox.next().await?, Some("a change"));
/// for _ in 0..5000 {
///     inbox.push("a change too many", 100);
/// }
/// assert_eq!(inbox.next().await?, None); // lagged: list again
/// # Ok(()) }
/// ```
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    arrived: Notify,
}

struct Queue<T> {
    items: VecDeque<Item<T>>,
    bytes: usize,
    /// Tells whether somebody observes how long items wait.
    is_timed: bool,
    has_lagged: bool,
    end: Option<Error>,
}

struct Item<T> {
    item: T,
    bytes: usize,
    /// The moment of its arrival; `None` where nobody observes how long items wait.
    since: Option<Instant>,
}

impl<T> Queue<T> {
    fn lag(&mut self) {
        self.items = VecDeque::new();
        self.bytes = 0;
        self.has_lagged = true;
    }

    fn has_space(&self, bytes: usize) -> bool {
        let fits = self.items.len() < MAX_ITEMS && self.bytes.saturating_add(bytes) <= MAX_BYTES;
        fits || self.items.is_empty()
    }
}

impl<T> Inbox<T> {
    /// Adds an item that holds this many bytes of values. While the reader has not received yet
    /// that it lagged, the item is dropped: the list that the reader takes then is newer.
    pub fn push(&self, item: T, bytes: usize) {
        let mut queue = self.queue.lock();
        if queue.has_lagged {
            return;
        }
        if queue.has_space(bytes) {
            queue.bytes += bytes;
            let since = queue.is_timed.then(Instant::now);
            queue.items.push_back(Item { item, bytes, since });
        } else {
            queue.lag();
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// Drops the items that wait and has the reader list again, since nobody knows what was not
    /// told. Items that are pushed after the reader received this arrive.
    pub fn lag(&self) {
        self.queue.lock().lag();
        self.arrived.notify_one();
    }

    /// Drops the items that wait, and the note that the reader lagged, for a reader that is about
    /// to list. An [`end`](Self::end) stays.
    pub fn clear(&self) {
        let mut queue = self.queue.lock();
        queue.lag();
        queue.has_lagged = false;
    }

    /// Ends the inbox with an error that lasts. The reader receives it behind the items that wait,
    /// each time that it asks.
    pub fn end(&self, error: Error) {
        self.queue.lock().end = Some(error);
        self.arrived.notify_one();
    }

    /// Waits for the next item; `None` when items were dropped, so that the reader has to list
    /// again. For one reader at a time.
    ///
    /// # Errors
    /// The error that [`end`](Self::end) was given.
    ///
    /// # Cancel safety
    /// Loses nothing when it is dropped.
    pub async fn next(&self) -> Result<Option<T>> {
        let observed = Origin::current();
        if observed.is_some() {
            self.queue.lock().is_timed = true;
        }
        loop {
            if let Some((next, since)) = self.take() {
                if let Some((origin, since)) = observed.zip(since) {
                    origin.lagged(since.elapsed());
                }
                return next;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes what is next, and when it came, where that is known.
    fn take(&self) -> Option<(Result<Option<T>>, Option<Instant>)> {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.has_lagged) {
            return Some((Ok(None), None));
        }
        if let Some(Item { item, bytes, since }) = queue.items.pop_front() {
            queue.bytes -= bytes;
            return Some((Ok(Some(item)), since));
        }
        queue.end.clone().map(|end| (Err(end), None))
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let queue = Queue { items: VecDeque::new(), bytes: 0, is_timed: false, has_lagged: false, end: None };
        Self { queue: Mutex::new(queue), arrived: Notify::new() }
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.lock();
        let (items, bytes) = (queue.items.len(), queue.bytes);
        f.debug_struct("Inbox").field("items", &items).field("bytes", &bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn waiting(inbox: &Inbox<usize>) -> usize {
        inbox.queue.lock().items.len()
    }

    #[test]
    fn what_is_too_much_is_dropped_and_told() {
        let inbox = Inbox::default();
        (0..MAX_ITEMS).for_each(|n| inbox.push(n, 1));
        assert_eq!(waiting(&inbox), MAX_ITEMS);
        inbox.push(MAX_ITEMS, 1);
        assert_eq!(waiting(&inbox), 0, "all or nothing");
        inbox.push(0, 1);
        assert_eq!(waiting(&inbox), 0, "the list is newer");
        assert!(matches!(inbox.take(), Some((Ok(None), None))));
        inbox.push(7, 1);
        assert!(matches!(inbox.take(), Some((Ok(Some(7)), None))));
        assert!(inbox.take().is_none());
    }

    #[test]
    fn bytes_are_bounded_and_one_item_always_fits() {
        let inbox = Inbox::default();
        inbox.push(1, 2 * MAX_BYTES);
        assert_eq!(waiting(&inbox), 1);
        inbox.push(2, 0);
        assert!(matches!(inbox.take(), Some((Ok(None), None))), "no second one beside it");
        inbox.push(3, MAX_BYTES);
        assert!(matches!(inbox.take(), Some((Ok(Some(3)), None))));
        inbox.push(4, MAX_BYTES);
        assert_eq!(waiting(&inbox), 1, "what was taken counts no more");
        inbox.lag();
        inbox.clear();
        assert!(inbox.take().is_none());
        inbox.push(5, MAX_BYTES);
        assert_eq!(waiting(&inbox), 1, "nor what was dropped");
    }

    #[test]
    fn the_end_is_received_behind_what_waits_and_again_and_again() {
        let inbox = Inbox::default();
        inbox.push(1, 0);
        inbox.end(Error::new(ErrorKind::PermissionDenied, "no"));
        assert!(matches!(inbox.take(), Some((Ok(Some(1)), None))));
        for _ in 0..2 {
            assert!(matches!(inbox.take(), Some((Err(e), _)) if e.kind() == ErrorKind::PermissionDenied));
        }
        inbox.lag();
        assert!(matches!(inbox.take(), Some((Ok(None), None))));
        assert!(matches!(inbox.take(), Some((Err(_), _))), "who lagged hears it too");
    }
}
