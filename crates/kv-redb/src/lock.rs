//! Locks: the writer keeps one queue of contenders for each name.

use crate::{core::Core, engine::Asked, error, giving::Giving};
use kv_core::{
    Bytes, Directory, Fence, Holder, Key, Result,
    backend::Alive,
    driver::{Acquired, Cursor, Deadline, LockOptions, LockPage},
};
use std::sync::Arc;

/// Takes the lock, or waits in its queue.
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let engine = core.engine()?;
    let (ttl, each) = (options.ttl, options.each_request);
    let (lock, id) = (core.lock_name(name), engine.next_id());
    // This is made before a place in the queue is taken, so that whenever the future is dropped,
    // the place or the lock is given back.
    let giving = Giving::new(core, {
        let lock = lock.clone();
        move |batch| batch.release(&lock, id)
    });
    let (nothing, release) = (giving.nothing(), core.tasks.undo(giving.run(each)));
    let begun = engine.time.clock().now();
    let (value, wait, asked) = (options.value.clone(), options.wait, lock.clone());
    let size = lock.len() + value.len();
    let asking = wait.then(|| engine.asking(&lock, id));
    let asked = engine
        .write(Deadline::after(each), size, move |batch| batch.acquire(&asked, id, ttl, value, wait))
        .await?;
    drop(asking);
    let token = match asked {
        Asked::Granted(token) => token,
        Asked::Busy => {
            nothing.note();
            release.forget();
            return Ok(None);
        }
        Asked::InLine(turn) => turn.await.unwrap_or_else(|_| Err(error::closed()))?,
    };
    // The TTL counts from the commit. A lock that has ended meanwhile is found to be lost.
    let from = engine.renew_lock(&lock, id).unwrap_or(begun);
    let alive = Alive::keep(engine.time.clock(), ttl, from, {
        let core = core.clone();
        move || {
            let (core, lock) = (core.clone(), lock.clone());
            async move { core.engine()?.renew_lock(&lock, id).map(drop) }
        }
    });
    let proof = engine.mark().to_be_bytes().to_vec();
    Ok(Some(Acquired { fence: Fence::new(name.clone(), token, proof), alive, release }))
}

/// Tells whether the proof is of a lock of the opening that has this mark. Another file may have a
/// lock of the same name and token.
pub(crate) fn is_proof(mark: u64, fence: &Fence) -> bool {
    *fence.proof() == mark.to_be_bytes()[..]
}

/// Lists the locks that are held below the directory.
pub(crate) async fn locks(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    deadline: Deadline,
) -> Result<LockPage> {
    let place = |cursor| LockPage::place(cursor).filter(|place| place.is_below(directory));
    let behind = from.map(|cursor| place(cursor).ok_or_else(Cursor::refused)).transpose()?;
    let (behind, directory) = (behind.map(|name| core.lock_name(&name)), directory.clone());
    core.read(deadline, move |s, prefix| s.held(prefix, &directory, behind.as_deref())).await
}

/// Changes the value of the holder, if it is still the one of this fence; tells whether it is.
pub(crate) async fn set_holder(core: &Core, fence: &Fence, value: Bytes, deadline: Deadline) -> Result<bool> {
    if !is_proof(core.engine()?.mark(), fence) {
        return Ok(false);
    }
    let (lock, token) = (core.lock_name(fence.lock()), fence.token());
    let size = lock.len() + value.len();
    core.write(deadline, size, move |batch| batch.set_holder(&lock, token, value)).await
}

/// Ends the acquisition of this token, if it holds the lock; tells whether it does. The holder
/// finds it out by its next renewal.
pub(crate) async fn break_lock(core: &Core, name: &Key, token: u64, deadline: Deadline) -> Result<bool> {
    let lock = core.lock_name(name);
    core.write(deadline, lock.len(), move |batch| batch.break_lock(&lock, token)).await
}

/// Returns the holder of the lock.
pub(crate) async fn holder(core: &Core, name: &Key, deadline: Deadline) -> Result<Option<Holder>> {
    let lock = core.lock_name(name);
    core.read(deadline, move |s, _| s.holder(&lock)).await
}
