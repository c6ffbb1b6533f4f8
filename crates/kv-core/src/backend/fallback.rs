//! A lock out of put-if-missing, TTL and watch, for a backend that has none of its own.
//!
//! It is exclusive, keeps itself alive, carries a growing token and can be read by others, on any
//! store that keeps the promises of `put`, `delete`, `get` and `watch`, keys of [`Key::internal`]
//! included. It is not fair, and a transaction cannot be made conditional on it: say so in
//! [`Locking`](crate::Locking). An acquisition takes four requests.

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

/// The content of the lock's key: the token, 0 until it is known; the id of the attempt; the
/// holder's value.
struct Record {
    token: u64,
    id: u64,
    value: Bytes,
}

impl Record {
    const HEAD: usize = 16;

    fn with_token(&self, token: u64) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::HEAD + self.value.len());
        bytes.put_u64(token);
        bytes.put_u64(self.id);
        bytes.put_slice(&self.value);
        bytes.freeze()
    }

    fn of(entry: &Entry) -> Result<Self> {
        let mut bytes = entry.value.clone();
        if bytes.len() < Self::HEAD {
            let why = format!("{:?} holds {} bytes, which no lock writes", entry.key, bytes.len());
            return Err(Error::new(ErrorKind::Corrupt, why));
        }
        Ok(Self { token: bytes.get_u64(), id: bytes.get_u64(), value: bytes })
    }
}

/// One attempt to hold one lock.
struct Attempt<S> {
    store: S,
    lock: Key,
    counter: Key,
    record: Record,
    ttl: Duration,
    each_request: Duration,
    /// The version that our last write gave the lock's key.
    version: Mutex<Option<Version>>,
}

impl<S: Store> Attempt<S> {
    fn read(&self) -> ReadOptions {
        ReadOptions::default().deadline(Deadline::after(self.each_request))
    }

    fn keep(&self) -> PutOptions {
        PutOptions::default().ttl(Some(self.ttl)).deadline(Deadline::after(self.each_request))
    }

    /// Returns the version of the lock's key, if it is this attempt's.
    async fn ours(&self) -> Result<Option<Version>> {
        let Some(entry) = self.store.get(&self.lock, &self.read()).await? else { return Ok(None) };
        Ok((Record::of(&entry)?.id == self.record.id).then_some(entry.version))
    }

    async fn release(&self) -> Result<bool> {
        while let Some(version) = self.ours().await? {
            let write = WriteOptions::default().deadline(Deadline::after(self.each_request));
            match self.store.delete(&self.lock, Expect::Version(version), &write).await {
                // A renewal came first, or another has the lock by now.
                Err(e) if e.kind() == ErrorKind::KeyModified => {}
                answer => return answer,
            }
        }
        Ok(false)
    }

    async fn renew(&self, record: Bytes) -> Result<()> {
        let Some(version) = *guard(&self.version) else { return Err(lost("it was given back")) };
        let answer = self.store.put(&self.lock, record, Expect::Version(version), &self.keep()).await;
        match answer {
            Ok(written) => *guard(&self.version) = Some(written.version),
            // The answer to an earlier renewal may have been lost.
            Err(e) if e.kind() == ErrorKind::KeyModified => match self.ours().await? {
                Some(version) => {
                    *guard(&self.version) = Some(version);
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
/// largest less 16 bytes.
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
    let most = store.capabilities().max_value.saturating_sub(Record::HEAD);
    if options.value.len() > most {
        let why = format!("a lock's value of {} bytes; this store takes {most}", options.value.len());
        return Err(Error::new(ErrorKind::TooLarge, why));
    }
    loop {
        let attempt = Arc::new(Attempt {
            store: store.clone(),
            lock: Key::internal("lock", name),
            counter: Key::internal("token", name),
            record: Record { token: 0, id: RandomState::new().hash_one(()), value: options.value.clone() },
            ttl,
            each_request: options.each_request,
            version: Mutex::new(None),
        });
        // A request that is given up half-way could be overtaken by what undoes it.
        let entering = {
            let (attempt, tasks) = (attempt.clone(), tasks.clone());
            async move {
                let release = tasks.undo_repeatable({
                    let attempt = attempt.clone();
                    move || {
                        let attempt = attempt.clone();
                        async move { attempt.release().await }
                    }
                });
                let (record, keep) = (attempt.record.with_token(0), attempt.keep());
                let put = attempt.store.put(&attempt.lock, record, Expect::Missing, &keep).await;
                (put, release)
            }
        };
        let (put, release) = tasks.to_its_end(entering).await?;
        match put {
            Ok(written) => *guard(&attempt.version) = Some(written.version),
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
        let record = attempt.record.with_token(token);
        let granted = clock.now();
        match attempt.renew(record.clone()).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::LockLost => continue,
            Err(e) => return Err(e),
        }
        let alive = Alive::keep(clock, ttl, granted, {
            let attempt = attempt.clone();
            move || {
                let (attempt, record) = (attempt.clone(), record.clone());
                async move { attempt.renew(record).await }
            }
        });
        return Ok(Some(Acquired { fence: Fence::new(name.clone(), token, Bytes::new()), alive, release }));
    }
}

/// Reads the holder of such a lock, as [`Store::lock_holder`].
///
/// # Errors
/// Those of `get`; [`Corrupt`](ErrorKind::Corrupt) for a record that no lock wrote.
pub async fn lock_holder<S: Store>(store: &S, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let Some(entry) = store.get(&Key::internal("lock", name), options).await? else { return Ok(None) };
    let record = Record::of(&entry)?;
    Ok((record.token > 0).then(|| Holder::new(record.token, record.value)))
}

/// Watches the holder of such a lock, as [`Store::watch`] of a [`Target::Holder`].
///
/// # Errors
/// Those of `watch`.
pub async fn watch_holder<S: Store>(store: &S, name: &Key, options: &WatchOptions) -> Result<WatchStream> {
    let mut watch = store.watch(&Target::Key(Key::internal("lock", name)), options).await?;
    let name = name.clone();
    Ok(stream(|out| async move {
        let mut holder = None;
        while let Some(event) = poll_fn(|cx| Pin::new(&mut watch).poll_next(cx)).await {
            let now = match event? {
                WatchEvent::Synced => {
                    out.send(WatchEvent::Synced).await;
                    continue;
                }
                WatchEvent::Delete { .. } => None,
                WatchEvent::Put(entry) => Some(Record::of(&entry)?).filter(|record| record.token > 0),
            };
            let token = now.as_ref().map(|record| record.token);
            if token == holder {
                continue; // a renewal, or the end of an attempt that got no token
            }
            let gone = holder.filter(|_| token.is_none());
            holder = token;
            if let Some(record) = now {
                let version = Version::new(record.token, 0);
                out.send(WatchEvent::Put(Entry::new(name.clone(), record.value, version))).await;
            } else if let Some(token) = gone {
                let key = name.clone();
                out.send(WatchEvent::Delete { key, version: Version::new(token, 0) }).await;
            }
        }
        Ok(())
    }))
}
