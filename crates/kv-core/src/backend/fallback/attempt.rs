//! One attempt to hold a lock: takes its key, counts its token, renews it and gives it back.

use super::record::Record;
use crate::{
    Error, ErrorKind, Key, Result, Version, WatchEvent,
    backend::lock as guard,
    driver::{Deadline, Expect, PutOptions, ReadOptions, Store, Target, WatchOptions, WriteOptions},
};
use bytes::Bytes;
use std::{future::poll_fn, sync::Mutex, time::Duration};

/// One attempt to hold one lock.
pub(super) struct Attempt<S> {
    pub(super) store: S,
    pub(super) lock: Key,
    pub(super) counter: Key,
    pub(super) id: u64,
    pub(super) ttl: Duration,
    pub(super) each_request: Duration,
    /// The record in the lock's key as far as this attempt knows, with the version that the last
    /// write gave it.
    pub(super) known: Mutex<Option<(Version, Record)>>,
}

impl<S: Store> Attempt<S> {
    fn read(&self) -> ReadOptions {
        ReadOptions::default().deadline(Deadline::after(self.each_request))
    }

    pub(super) fn keep(&self) -> PutOptions {
        PutOptions::default().ttl(Some(self.ttl)).deadline(Deadline::after(self.each_request))
    }

    /// Returns what the lock's key holds, if it is this attempt's.
    async fn ours(&self) -> Result<Option<(Version, Record)>> {
        let Some(entry) = self.store.get(&self.lock, &self.read()).await? else { return Ok(None) };
        let record = Record::of(&entry)?;
        Ok((record.id == self.id).then_some((entry.version, record)))
    }

    pub(super) async fn release(&self) -> Result<bool> {
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
    pub(super) async fn renew(&self, token: Option<u64>) -> Result<()> {
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
    pub(super) async fn free(&self) -> Result<()> {
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
    pub(super) async fn next_token(&self) -> Result<u64> {
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
