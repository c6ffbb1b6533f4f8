//! A lock out of put-if-missing, TTL and watch, for a backend that has none of its own.
//!
//! It is exclusive, keeps itself alive, carries a growing token and can be read by others, on any
//! store that keeps the promises of `put`, `delete`, `get` and `watch`, keys of [`Key::internal`]
//! included. It is not fair, a transaction cannot be made conditional on it, and nothing lists it:
//! say so in [`Locking`](crate::Locking). An acquisition takes four requests; a change of its
//! value, and its end by another, take two.

use super::{Alive, Clock, Tasks, lock as guard, stream};
use crate::{
    Entry, Error, ErrorKind, Fence, Holder, Key, Result, Version, WatchEvent,
    driver::{
        Acquired, Deadline, Expect, LockOptions, PutOptions, ReadOptions, Store, Target, WatchOptions,
        WatchStream, WriteOptions,
    },
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_core::Stream;
use std::{
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The content of the lock's key: the token, 0 until it is known; the id of the attempt; how often
/// the holder has changed its value; the value.
#[derive(Clone)]
struct Record {
    token: u64,
    id: u64,
    changes: u64,
    value: Bytes,
}

impl Record {
    const HEAD: usize = 24;

    fn bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::HEAD + self.value.len());
        bytes.put_u64(self.token);
        bytes.put_u64(self.id);
        bytes.put_u64(self.changes);
        bytes.put_slice(&self.value);
        bytes.freeze()
    }

    fn of(entry: &Entry) -> Result<Self> {
        let mut bytes = entry.value.clone();
        if bytes.len() < Self::HEAD {
            let why = format!("{:?} holds {} bytes, which no lock writes", entry.key, bytes.len());
            return Err(Error::new(ErrorKind::Corrupt, why));
        }
        let (token, id, changes) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u64());
        Ok(Self { token, id, changes, value: bytes })
    }

    fn holder(self) -> Option<Holder> {
        (self.token > 0).then(|| Holder::new(self.token, self.value).with_changes(self.changes))
    }

    /// Checks that a value fits into the lock's key.
    fn check(value: &Bytes, store: &impl Store) -> Result<()> {
        let most = store.capabilities().max_value.saturating_sub(Self::HEAD);
        if value.len() <= most {
            return Ok(());
        }
        let why = format!("a lock's value of {} bytes; this store takes {most}", value.len());
        Err(Error::new(ErrorKind::TooLarge, why))
    }
}

/// One attempt to hold one lock.
struct Attempt<S> {
    store: S,
    lock: Key,
    counter: Key,
    id: u64,
    ttl: Duration,
    each_request: Duration,
    /// The record in the lock's key as far as this attempt knows, with the version that the last
    /// write gave it.
    known: Mutex<Option<(Version, Record)>>,
}

impl<S: Store> Attempt<S> {
    fn read(&self) -> ReadOptions {
        ReadOptions::default().deadline(Deadline::after(self.each_request))
    }

    fn keep(&self) -> PutOptions {
        PutOptions::default().ttl(Some(self.ttl)).deadline(Deadline::after(self.each_request))
    }

    /// Returns what the lock's key holds, if it is this attempt's.
    async fn ours(&self) -> Result<Option<(Version, Record)>> {
        let Some(entry) = self.store.get(&self.lock, &self.read()).await? else { return Ok(None) };
        let record = Record::of(&entry)?;
        Ok((record.id == self.id).then_some((entry.version, record)))
    }

    async fn release(&self) -> Result<bool> {
        while let Some((version, _)) = self.ours().await? {
            let write = WriteOptions::default().deadline(Deadline::after(self.each_request));
            match self.store.delete(&self.lock, Expect::Version(version), &write).await {
                // A renewal came first, or another has the lock by now.
                Err(e) if e.kind() == ErrorKind::KeyModified => {}
                answer => return answer,
            }
        }
        Ok(false)
    }

    /// Writes the record once more, which begins the TTL anew: with this token, once the attempt
    /// has one.
    async fn renew(&self, token: Option<u64>) -> Result<()> {
        let known = guard(&self.known).clone();
        let Some((version, mut record)) = known else { return Err(lost("it was given back")) };
        record.token = token.unwrap_or(record.token);
        let keep = self.keep();
        match self.store.put(&self.lock, record.bytes(), Expect::Version(version), &keep).await {
            Ok(written) => *guard(&self.known) = Some((written.version, record)),
            // The answer to an earlier renewal may have been lost, or the value was changed.
            Err(e) if e.kind() == ErrorKind::KeyModified => match self.ours().await? {
                Some(found) => {
                    *guard(&self.known) = Some(found);
                    return Err(Error::new(ErrorKind::Unavailable, "the lock's version was old; try again"));
                }
                None => return Err(lost("the store gave it to another, or its TTL passed")),
            },
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Waits until nobody holds the lock.
    async fn free(&self) -> Result<()> {
        let options = WatchOptions::default().each_request(self.each_request);
        let mut watch = self.store.watch(&Target::Key(self.lock.clone()), &options).await?;
        let mut there = false;
        while let Some(event) = poll_fn(|cx| watch.as_mut().poll_next(cx)).await {
            match event? {
                WatchEvent::Put(_) => there = true,
                WatchEvent::Synced if there => {}
                WatchEvent::Synced | WatchEvent::Delete { .. } => return Ok(()),
            }
        }
        Err(Error::new(ErrorKind::Other, "the watch of the lock ended"))
    }

    /// Counts the token up by one while the lock is held, so that tokens grow in the order of
    /// holding.
    async fn next_token(&self) -> Result<u64> {
        let found = self.store.get(&self.counter, &self.read()).await?;
        let (last, expect) = match &found {
            Some(entry) => match <[u8; 8]>::try_from(&entry.value[..]) {
                Ok(last) => (u64::from_be_bytes(last), Expect::Version(entry.version)),
                Err(_) => return Err(Error::new(ErrorKind::Corrupt, format!("{:?} is no token", entry.key))),
            },
            None => (0, Expect::Missing),
        };
        let token = last.checked_add(1).ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!("{:?} has counted to its end; it is damaged", self.counter),
            )
        })?;
        let next = Bytes::copy_from_slice(&token.to_be_bytes());
        let put = PutOptions::default().deadline(Deadline::after(self.each_request));
        self.store.put(&self.counter, next, expect, &put).await?;
        Ok(token)
    }
}

fn lost(why: &'static str) -> Error {
    Error::new(ErrorKind::LockLost, why)
}

/// Acquires a lock, as [`Store::lock`], for a store whose clones share one connection. `tasks`
/// counts what is given back in the background; the store's `close` waits for them.
///
/// # Errors
/// Those of the store's own calls; [`TooLarge`](ErrorKind::TooLarge) for a value above the store's
/// largest less 24 bytes.
pub async fn lock<S>(
    store: &S,
    clock: &Clock,
    tasks: &Tasks,
    name: &Key,
    options: &LockOptions,
) -> Result<Option<Acquired>>
where
    S: Store + Clone,
{
    let range = store.capabilities().lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| store.capabilities().unsupported("locks"))?.grant(options.ttl)?;
    Record::check(&options.value, store)?;
    loop {
        let id = RandomState::new().hash_one(());
        let record = Record { token: 0, id, changes: 0, value: options.value.clone() };
        let attempt = Arc::new(Attempt {
            store: store.clone(),
            lock: Key::internal("lock", name),
            counter: Key::internal("token", name),
            id,
            ttl,
            each_request: options.each_request,
            known: Mutex::new(None),
        });
        // A request that is given up half-way could be overtaken by what undoes it.
        let entering = {
            let (attempt, tasks, record) = (attempt.clone(), tasks.clone(), record.bytes());
            async move {
                let release = tasks.undo_repeatable({
                    let attempt = attempt.clone();
                    move || {
                        let attempt = attempt.clone();
                        async move { attempt.release().await }
                    }
                });
                let keep = attempt.keep();
                let put = attempt.store.put(&attempt.lock, record, Expect::Missing, &keep).await;
                (put, release)
            }
        };
        let (put, release) = tasks.to_its_end(entering).await?;
        match put {
            Ok(written) => *guard(&attempt.known) = Some((written.version, record)),
            Err(e) if e.kind() == ErrorKind::KeyExists => {
                release.forget();
                if !options.wait {
                    return Ok(None);
                }
                attempt.free().await?;
                continue;
            }
            Err(e) => return Err(e),
        }
        let token = match attempt.next_token().await {
            // Another holder counted meanwhile: the lock was lost.
            Err(e) if e.is_conflict() => continue,
            token => token?,
        };
        let granted = clock.now();
        match attempt.renew(Some(token)).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::LockLost => continue,
            Err(e) => return Err(e),
        }
        let alive = Alive::keep(clock, ttl, granted, {
            let attempt = attempt.clone();
            move || {
                let attempt = attempt.clone();
                async move { attempt.renew(None).await }
            }
        });
        // A change of the value is a put with the same TTL.
        let life = Bytes::copy_from_slice(&u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        return Ok(Some(Acquired { fence: Fence::new(name.clone(), token, life), alive, release }));
    }
}

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
