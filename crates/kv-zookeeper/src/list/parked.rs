//! Keeps walks between two pages of a listing, so that a directory is read once for all of them.

use super::{left_out::LeftOut, place::Place};
use kv_core::{
    Consistency,
    backend::{AbortOnDrop, Mutex, unique},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Sets how long a walk is kept for the next page. Later, a page reads its directory anew.
const KEPT: Duration = Duration::from_secs(10);
/// The most walks that are kept; the oldest make room.
const MOST: usize = 16;

/// The walks that wait for their next page.
#[derive(Default)]
pub(crate) struct Parked(Arc<Mutex<Vec<Left>>>);

/// A walk as a page left it.
pub(super) struct Rest {
    /// The directory that is walked through, as the text that the names below it begin with. A
    /// page that differs from the walk in it, or in the next three, reads its directory anew.
    pub(super) start: String,
    pub(super) recursive: bool,
    pub(super) consistency: Consistency,
    /// The place with which the page ended.
    pub(super) last: String,
    pub(super) after: Option<String>,
    pub(super) places: BTreeMap<String, Place>,
    pub(super) left_out: Option<LeftOut>,
}

struct Left {
    id: u64,
    rest: Rest,
    _end: AbortOnDrop,
}

impl Parked {
    /// Keeps a walk, and returns the number by which it is taken.
    pub(super) fn park(&self, rest: Rest) -> u64 {
        let (id, walks) = (unique(), Arc::downgrade(&self.0));
        let end = tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            drop(walks.upgrade().and_then(|walks| take(&walks, id)));
        });
        let left = Left { id, rest, _end: AbortOnDrop::new(end.abort_handle()) };
        let mut walks = self.0.lock();
        let oldest = (walks.len() >= MOST).then(|| walks.remove(0));
        walks.push(left);
        drop(walks);
        // It may be large.
        drop(oldest);
        id
    }

    /// Takes the walk of this number, unless it was taken or has waited for too long.
    pub(super) fn take(&self, id: u64) -> Option<Rest> {
        take(&self.0, id).map(|left| left.rest)
    }
}

fn take(walks: &Mutex<Vec<Left>>, id: u64) -> Option<Left> {
    let mut walks = walks.lock();
    let at = walks.iter().position(|left| left.id == id)?;
    Some(walks.remove(at))
}
