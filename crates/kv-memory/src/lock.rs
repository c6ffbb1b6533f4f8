//! Locks: taken, waited for, kept alive, given back.

use crate::{core::Core, data::Asked, error, faults::trouble::Does};
use bytes::Bytes;
use kv_core::{
    Directory, Fence, Holder, Key, Result,
    backend::Alive,
    driver::{Acquired, Deadline, LockOptions, LockPage},
};
use std::sync::Arc;

/// Takes the lock, or waits in its queue.
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    if !core.trouble.is_any() {
        return acquire(core, name, options).await;
    }
    let answer = core.trouble.meet(Does::Write, Deadline::after(options.each_request)).await?;
    answer.of(acquire(core, name, options).await)
}

/// Returns the holder of the lock.
pub(crate) fn holder(core: &Core, name: &Key) -> Option<Holder> {
    core.look().holder(&core.lock_name(name))
}

/// Lists the locks that are held below the directory.
pub(crate) fn locks(core: &Core, directory: &Directory) -> LockPage {
    LockPage::select(core.look().held(&core.prefix), directory)
}

/// Changes the value of the holder, if it is still the one of this fence; tells whether it is.
pub(crate) fn set_holder(core: &Core, fence: &Fence, value: Bytes) -> bool {
    core.look().set_holder(&core.lock_name(fence.lock()), fence.token(), value)
}

/// Ends the acquisition of this token, if it holds the lock; tells whether it does.
pub(crate) fn break_lock(core: &Core, name: &Key, token: u64) -> bool {
    core.look().break_lock(&core.lock_name(name), token)
}

async fn acquire(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let ttl = options.ttl;
    let (lock, attempt) = (core.lock_name(name), core.look().count());
    let release = {
        let (own, lock, each) = (core.clone(), lock.clone(), options.each_request);
        core.tasks.undo_repeatable(move || {
            let (own, lock) = (own.clone(), lock.clone());
            async move {
                own.trouble.resumed_by(Does::Write, Deadline::after(each)).await?;
                Ok(own.look().give_back(&lock, attempt))
            }
        })
    };
    let turn = loop {
        let asked = core.look().ask(&lock, attempt, ttl, options);
        match asked {
            Asked::Got(turn) => break turn,
            Asked::InLine(mine) => {
                let turn = mine.await;
                // A paused client learns of its turn when the pause ends. If the turn is over by
                // then, the contender takes a new place in the queue.
                core.trouble.resumed().await;
                match turn {
                    Ok(turn) if core.look().is_held(&lock, turn.token) => break turn,
                    _ => {}
                }
            }
            Asked::Refused => {
                release.forget();
                return Ok(None);
            }
        }
    };
    let (clock, shared, of) = (core.look().clock.clone(), Arc::downgrade(&core.shared), lock.clone());
    let trouble = core.trouble.clone();
    let alive = Alive::keep(&clock, ttl, turn.since, move || {
        let (shared, of, resumed) = (shared.clone(), of.clone(), trouble.resumed());
        async move {
            resumed.await;
            shared.upgrade().ok_or_else(error::lock_lost)?.look().renew_lock(&of, attempt, ttl)
        }
    });
    core.look().tell_lock(&lock, attempt, &alive);
    Ok(Some(Acquired { fence: Fence::new(name.clone(), turn.token, Bytes::new()), alive, release }))
}
