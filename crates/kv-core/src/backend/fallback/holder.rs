//! The holder of a lock: reads and watches it, changes its value, and ends its acquisition.

use super::record::Record;
use crate::{
    Error, ErrorKind, Fence, Holder, Key, Result, Version, WatchEvent,
    backend::stream,
    driver::{
        Deadline, Expect, PutOptions, ReadOptions, Store, Target, WatchOptions, WatchStream, WriteOptions,
    },
};
use bytes::Bytes;
use futures_core::Stream;
use std::{future::poll_fn, pin::Pin, time::Duration};

/// Changes the value of the holder of such a lock, as [`Store::set_holder`].
///
/// # Errors
/// Those of `get` and `put`; [`TooLarge`](ErrorKind::TooLarge) for a value above the store's
/// largest less 24 bytes; [`Timeout`](ErrorKind::Timeout) when renewals came between the two again
/// and again.
pub async fn set_holder<S: Store>(
    store: &S,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    Record::check(&value, store)?;
    let (lock, deadline) = (Key::internal("lock", fence.lock()), options.deadline);
    let ttl = <[u8; 8]>::try_from(&fence.proof()[..]).map(u64::from_be_bytes).map(Duration::from_nanos);
    let ttl = ttl.map_err(|_| Error::new(ErrorKind::InvalidArgument, "a fence of another kind of lock"))?;
    let (read, put) =
        (ReadOptions::default().deadline(deadline), PutOptions::default().ttl(Some(ttl)).deadline(deadline));
    loop {
        let Some(entry) = store.get(&lock, &read).await? else { return Ok(false) };
        let found = Record::of(&entry)?;
        if found.token != fence.token() {
            return Ok(false);
        }
        let changed = Record { changes: found.changes.saturating_add(1), value: value.clone(), ..found };
        match store.put(&lock, changed.bytes(), Expect::Version(entry.version), &put).await {
            Ok(_) => return Ok(true),
            // A renewal came first, or another has the lock by now.
            Err(e) if e.kind() == ErrorKind::KeyModified => again(deadline)?,
            Err(e) => return Err(e),
        }
    }
}

/// Reads the holder of such a lock, as [`Store::lock_holder`].
///
/// # Errors
/// Those of `get`; [`Corrupt`](ErrorKind::Corrupt) for a record that no lock wrote.
pub async fn lock_holder<S: Store>(store: &S, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let Some(entry) = store.get(&Key::internal("lock", name), options).await? else { return Ok(None) };
    Ok(Record::of(&entry)?.holder())
}

/// Allows another attempt, unless the time is over.
fn again(deadline: Deadline) -> Result<()> {
    if !deadline.has_passed() {
        return Ok(());
    }
    let why = format!("the lock was renewed again and again within {deadline}; try again");
    Err(Error::new(ErrorKind::Timeout, why))
}

/// Ends the acquisition of such a lock that has this token, as [`Store::break_lock`].
///
/// # Errors
/// Those of `get` and `delete`; [`Timeout`](ErrorKind::Timeout) when renewals came between the two
/// again and again.
pub async fn break_lock<S: Store>(store: &S, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
    let (lock, deadline) = (Key::internal("lock", name), options.deadline);
    let read = ReadOptions::default().deadline(deadline);
    loop {
        let Some(entry) = store.get(&lock, &read).await? else { return Ok(false) };
        if Record::of(&entry)?.holder().is_none_or(|holder| holder.token != token) {
            return Ok(false);
        }
        match store.delete(&lock, Expect::Version(entry.version), options).await {
            // A renewal came first, or another has the lock by now.
            Err(e) if e.kind() == ErrorKind::KeyModified => again(deadline)?,
            deleted => return deleted,
        }
    }
}

/// Watches the holder of such a lock, as [`Store::watch`] of a [`Target::Holder`].
///
/// # Errors
/// Those of `watch`.
pub async fn watch_holder<S: Store>(store: &S, name: &Key, options: &WatchOptions) -> Result<WatchStream> {
    let mut watch = store.watch(&Target::Key(Key::internal("lock", name)), options).await?;
    let name = name.clone();
    Ok(stream(|out| async move {
        let mut holder = None::<Version>;
        while let Some(event) = poll_fn(|cx| Pin::new(&mut watch).poll_next(cx)).await {
            let now = match event? {
                WatchEvent::Synced => {
                    out.send(WatchEvent::Synced).await;
                    continue;
                }
                WatchEvent::Delete { .. } => None,
                WatchEvent::Put(entry) => Record::of(&entry)?.holder(),
            };
            let version = now.as_ref().map(Holder::version);
            if version == holder {
                continue; // a renewal, or the end of an attempt that got no token
            }
            let gone = holder.filter(|_| version.is_none());
            holder = version;
            if let Some(now) = now {
                out.send(WatchEvent::Put(now.entry(name.clone()))).await;
            } else if let Some(version) = gone {
                out.send(WatchEvent::Delete { key: name.clone(), version }).await;
            }
        }
        Ok(())
    }))
}
