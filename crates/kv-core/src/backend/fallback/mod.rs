//! A lock out of put-if-missing, TTL and watch, for a backend that has none of its own.
//!
//! It is exclusive, keeps itself alive, carries a growing token and can be read by others, on any
//! store that keeps the promises of `put`, `delete`, `get` and `watch`, keys of [`Key::internal`]
//! included. It is not fair, a transaction cannot be made conditional on it, and nothing lists it:
//! say so in [`Locking`](crate::Locking), whose TTLs are those of the store's keys. An acquisition takes four requests; a change of its
//! value, and its end by another, take two.

mod attempt;
mod holder;
mod record;

pub use holder::{break_lock, lock_holder, set_holder, watch_holder};

use super::{Alive, Clock, Tasks, lock as guard};
use crate::{
    ErrorKind, Fence, Key, Result,
    driver::{Acquired, Expect, LockOptions, Store},
};
use attempt::Attempt;
use bytes::Bytes;
use record::Record;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
};

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
    let ttl = options.ttl;
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
