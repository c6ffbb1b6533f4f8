//! Reads: each a snapshot of its own, on its caller's thread where all that it needs is in memory,
//! and else on a thread that may block.

use super::{
    blocking::blocking,
    common::Engine,
    disk,
    fixed::{Read, Reading},
    format::Inline,
    snapshot::Snapshot,
};
use crate::{error, names};
use kv_core::{
    Bytes, Directory, Entry, Item, Key, Position, Result, Version,
    driver::{Deadline, ListOptions, Page},
};
use std::{
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

/// The most items of one page.
const ITEMS: usize = 1_000;
/// A page takes no further entry when its values are this many bytes already.
const BYTES: usize = 1 << 20;

/// The most rows that a read looks at on its caller's thread.
const ROWS_HERE: usize = 4_096;
/// The largest value that a read copies on its caller's thread.
const VALUE_HERE: usize = 64 << 10;

impl Engine {
    /// Reads from one snapshot: at once where all pages are in memory, and else as
    /// [`read_aside`](Self::read_aside) does.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Deadline,
        work: impl Fn(&Snapshot<'_>) -> Read<T> + Send + Sync + 'static,
    ) -> Result<T> {
        match self.read_here(&work) {
            Some(found) => Ok(found),
            // In a box: this future is large, and rarely needed.
            None => Box::pin(self.read_aside(deadline, work)).await,
        }
    }

    /// Reads without waiting for anything; `None` where that cannot be, or did not succeed.
    pub(super) fn read_here<T>(&self, work: &impl Fn(&Snapshot<'_>) -> Read<T>) -> Option<T> {
        let snapshot = self.snapshot_here()?;
        let read = AssertUnwindSafe(|| disk::here(|| work(&snapshot)));
        catch_unwind(read).ok()?.ok()
    }

    /// Reads on a thread that may block. A read that meets a failed disk waits until the writer has
    /// opened the file again.
    pub(super) async fn read_aside<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Deadline,
        work: impl Fn(&Snapshot<'_>) -> Read<T> + Send + Sync + 'static,
    ) -> Result<T> {
        self.aside.fetch_add(1, Ordering::Relaxed);
        let work = Arc::new(work);
        let read = async {
            let (mut looked, mut gone) = (self.looked.subscribe(), self.gone.subscribe());
            let mut again = true;
            loop {
                looked.borrow_and_update();
                let (engine, work) = (self.clone(), work.clone());
                let once = move |permit| {
                    blocking(move || {
                        // The permit is given back when the read has ended, also when its caller
                        // is gone.
                        let _permit = permit;
                        error::caught(&engine.path, || {
                            let found = engine.snapshot().and_then(|snapshot| {
                                engine.warm(&snapshot);
                                work(&snapshot)
                            });
                            Ok(found)
                        })
                    })
                };
                let found = match self.readers.at_once() {
                    Some(permit) => Some(once(permit).await?),
                    None => self.readers.apart(deadline, once).await?,
                };
                let Some(found) = found else { return Err(error::no_answer(deadline)) };
                let failed = match found {
                    Ok(value) => return Ok(value),
                    Err(Reading::Refused(e)) => return Err(e),
                    Err(Reading::Failed(e)) => e,
                    // It is on a thread of its own already.
                    Err(Reading::Long) => continue,
                };
                if !error::needs_reopening(&failed) || !std::mem::take(&mut again) {
                    return Err(error::failed(&self.path, &failed));
                }
                self.look.notify_one();
                tokio::select! {
                    _ = looked.changed() => {}
                    _ = gone.wait_for(|gone| *gone) => return Err(error::closed()),
                }
            }
        };
        deadline.limit(read).await.unwrap_or_else(|| Err(error::no_answer(deadline)))
    }

    /// Reads all pages of a small file, unless they are in memory: reads that follow need no thread
    /// of their own then.
    fn warm(&self, snapshot: &Snapshot<'_>) {
        let Some(warming) = snapshot.fixed.residence.warming() else { return };
        let fixed = snapshot.fixed.clone();
        let touch = move || {
            let touched = catch_unwind(AssertUnwindSafe(|| fixed.touch()));
            warming.end(matches!(touched, Ok(Ok(()))));
        };
        tokio::task::spawn_blocking(touch);
    }
}

impl Snapshot<'_> {
    /// Returns the value of a row. A value that is not in the row is found by its version or
    /// token.
    pub(super) fn value(&self, number: u64, inline: Inline<'_>) -> Read<Bytes> {
        if let Some(value) = inline {
            return Ok(Bytes::copy_from_slice(value));
        }
        let value = self.fixed.large.get(number)?;
        let value = value.ok_or_else(|| redb::Error::Corrupted(format!("no value of version {number}")))?;
        if self.is_here && value.value().len() > VALUE_HERE {
            return Err(Reading::Long);
        }
        Ok(Bytes::copy_from_slice(value.value()))
    }

    pub(crate) fn get_many(&self, prefix: &str, keys: &[Key]) -> Read<Vec<Option<Entry>>> {
        if self.is_here && keys.len() > ROWS_HERE {
            return Err(Reading::Long);
        }
        keys.iter().map(|key| self.get(prefix, key)).collect()
    }

    pub(crate) fn get(&self, prefix: &str, key: &Key) -> Read<Option<Entry>> {
        let Some(row) = self.fixed.data.get(&*names::with(prefix, key))? else { return Ok(None) };
        let (version, expiry, lease, value) = row.value();
        if !self.lives(expiry, lease)? {
            return Ok(None);
        }
        Ok(Some(Entry::new(key.clone(), self.value(version, value)?, Version::new(version, 0))))
    }

    pub(crate) fn exists(&self, prefix: &str, key: &Key) -> Read<bool> {
        let Some(row) = self.fixed.data.get(&*names::with(prefix, key))? else { return Ok(false) };
        let (_, expiry, lease, _) = row.value();
        self.lives(expiry, lease)
    }

    /// Returns one page of what lies below the directory, behind this place.
    pub(crate) fn list(
        &self,
        prefix: &str,
        directory: &Directory,
        behind: Option<&Position>,
        options: &ListOptions,
    ) -> Read<Page> {
        let data = &self.fixed.data;
        let base = format!("{prefix}{}", directory.start());
        let behind = behind.map(Position::start);
        let behind = behind.as_deref();
        let most = options.limit.unwrap_or(ITEMS).min(ITEMS);
        let (mut page, mut bytes, mut rows) = (Page::default(), 0, 0);
        // The names that the page leaves out, and how many of them lie before its last item: what
        // comes behind that is noted by the next page.
        let (mut left_out, mut before_last) = (Vec::new(), 0);
        let mut start = match behind.map(|place| format!("{prefix}{place}")) {
            Some(place) if place > base => Bound::Excluded(place),
            _ => Bound::Included(base.clone()),
        };
        // Each round ends with the directory, or at a child directory, which the next round jumps
        // over.
        'seek: loop {
            let from = start.as_ref().map(String::as_str);
            for row in data.range::<&str>((from, Bound::Unbounded))? {
                rows += 1;
                if self.is_here && rows > ROWS_HERE {
                    return Err(Reading::Long);
                }
                let (name, row) = row?;
                let name = name.value();
                if !name.starts_with(&base) {
                    break 'seek;
                }
                let (number, expiry, lease, value) = row.value();
                let Some(key) = names::key(&name[prefix.len()..]) else {
                    left_out.extend(options.left_out.is_wanted().then(|| name.to_owned()));
                    continue;
                };
                if key.is_internal() || !self.lives(expiry, lease)? {
                    continue;
                }
                let child = if options.recursive { None } else { directory.child_of(&key) };
                let wanted =
                    child.as_ref().is_none_or(|c| behind.is_none_or(|b| format!("{c}").as_str() > b));
                if wanted && (page.items.len() >= most || bytes >= BYTES) {
                    page.next = page.items.last().map(|item| Page::behind(&item.position()));
                    break 'seek;
                }
                if let Some(child) = child {
                    start = Bound::Included(format!("{prefix}{}0", child.as_str()));
                    if wanted {
                        page.items.push(Item::Directory(child));
                    }
                    continue 'seek;
                }
                before_last = left_out.len();
                let version = Version::new(number, 0);
                page.items.push(if options.keys_only {
                    Item::Key(key, version)
                } else {
                    let value = self.value(number, value)?;
                    bytes += value.len();
                    Item::Entry(Entry::new(key, value, version))
                });
            }
            break;
        }
        // Nothing is noted before the end: a page that takes long is read once more.
        let told = if page.next.is_none() { left_out.len() } else { before_last };
        left_out[..told].iter().for_each(|name| options.left_out.note(name));
        Ok(page)
    }
}
