//! Locks and leases that break one promise.

use crate::{
    broken::{Broken, guard},
    fault::Fault,
};
use kv_core::{
    backend::{Alive, Clock, Undo},
    driver::*,
    *,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Returns a life that never ends: nobody renews it, and it is believed for ever.
fn for_ever() -> Alive {
    let clock = Clock::manual();
    Alive::keep(&clock, Duration::from_secs(3600), clock.now(), || async { Ok(()) })
}

/// Returns a life that is over as soon as one renewal would be due.
fn short(ttl: Duration) -> Alive {
    let clock = Clock::system();
    Alive::keep(&clock, ttl / 3, clock.now(), std::future::pending)
}

/// Returns a life that nobody renews, which knows its end only when the time has passed.
fn unkept(ttl: Duration) -> Alive {
    let clock = Clock::system();
    Alive::keep(&clock, ttl, clock.now(), std::future::pending)
}

/// Returns a life that is renewed as long as the server is not full.
fn unless_full(store: &Broken, ttl: Duration) -> Alive {
    let (clock, state, fault) = (Clock::system(), store.state.clone(), store.fault);
    Alive::keep(&clock, ttl, clock.now(), move || {
        let renewed = state.renews(fault);
        std::future::ready(if renewed { Ok(()) } else { Err(Error::new(ErrorKind::LockLost, "full")) })
    })
}

/// Returns an undo that is done after its answer.
fn later(undo: Undo) -> Undo {
    Undo::new(async move {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            undo.run().await
        });
        Ok(true)
    })
}

/// Takes a lock in the runtime that first used the client, which goes on renewing it until it is
/// told to give it back.
async fn in_the_first_runtime(store: &Broken, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let (me, name, options) = (store.clone(), name.clone(), options.clone());
    let first = &store.first_runtime().runtime;
    let task = first.spawn(async move { me.store().lock(&name, &options).await });
    let Some(Acquired { fence, alive, release }) = task.await.unwrap_or(Ok(None))? else { return Ok(None) };
    let (tell, told) = tokio::sync::oneshot::channel();
    let kept = alive.clone();
    first.spawn(async move {
        if told.await.is_err() {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        drop((kept, release));
    });
    let release = Undo::new(async move { Ok(tell.send(()).is_ok()) });
    Ok(Some(Acquired { fence, alive, release }))
}

pub(crate) async fn lock(store: &Broken, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let mut options = options.clone();
    let ttl = options.ttl;
    match store.fault {
        Fault::HangsOnTheFirstRuntime => return in_the_first_runtime(store, name, &options).await,
        Fault::RefusesWhatItDeclares => return Err(store.capabilities.unsupported("this")),
        Fault::LetsTwoIn if store.every(5) => {
            let token = 1_000_000 + store.state.turn.load(std::sync::atomic::Ordering::Relaxed);
            let fence = Fence::new(name.clone(), token, "");
            let (alive, release) = (for_ever(), Undo::new(async { Ok(true) }));
            return Ok(Some(Acquired { fence, alive, release }));
        }
        Fault::TryWaits => options.wait = true,
        Fault::WaitsAreRefused => options.wait = false,
        Fault::IsUnfair if options.wait => {
            options.wait = false;
            loop {
                if let Some(acquired) = store.store().lock(name, &options).await? {
                    return Ok(Some(acquired));
                }
                // Whoever happens to ask next, gets it.
                let pause = store.state.turn.fetch_add(7, std::sync::atomic::Ordering::Relaxed) % 23;
                tokio::time::sleep(Duration::from_millis(1 + pause)).await;
            }
        }
        Fault::FreesLate => options.ttl = ttl * 4 + store.capabilities.lateness(ttl) * 4,
        Fault::FreesEarly => options.ttl = (ttl / 4).max(Duration::from_millis(1)),
        Fault::LeaksCancelled | Fault::LeavesItsPlace => {
            let (me, name) = (store.clone(), name.clone());
            let task = tokio::spawn(async move {
                let acquired = me.store().lock(&name, &options).await;
                // The caller has time to leave.
                tokio::time::sleep(Duration::from_millis(20)).await;
                acquired
            });
            let (told, answer) = tokio::sync::oneshot::channel();
            let (fault, mut closing) = (store.fault, store.closing.subscribe());
            tokio::spawn(async move {
                if let Ok(acquired) = task.await
                    && let Err(Ok(Some(left))) = told.send(acquired)
                {
                    if fault == Fault::LeavesItsPlace {
                        // It lasts as long as the handle.
                        let _ = closing.wait_for(|is_closing| *is_closing).await;
                    } else {
                        tokio::time::sleep(Duration::from_secs(600)).await;
                    }
                    drop(left);
                }
            });
            return answer.await.unwrap_or(Ok(None));
        }
        Fault::ShowsLocksAsData => {
            let put = PutOptions::default();
            store.store().put(name, options.value.clone(), Expect::Anything, &put).await?;
        }
        _ => {}
    }
    if store.fault == Fault::IsReentrant
        && let Some(holder) = store.store().lock_holder(name, &ReadOptions::default()).await?
    {
        let fence = Fence::new(name.clone(), holder.token, "");
        return Ok(Some(Acquired { fence, alive: for_ever(), release: Undo::nothing() }));
    }
    let Some(Acquired { mut fence, mut alive, mut release }) = store.store().lock(name, &options).await?
    else {
        return Ok(None);
    };
    if store.fault == Fault::ListsFreeLocks {
        guard(&store.state.taken).insert((store.prefix.clone(), name.clone()));
    }
    match store.fault {
        Fault::RepeatsTokens => fence = Fence::new(fence.lock().clone(), 1, fence.proof().clone()),
        Fault::TokensFall => {
            fence = Fence::new(fence.lock().clone(), u64::MAX - fence.token(), fence.proof().clone());
        }
        Fault::BelievesForEver => alive = for_ever(),
        Fault::LosesItAtOnce => alive = short(ttl),
        Fault::IsNotKeptAlive => alive = unkept(ttl),
        Fault::ForgetsToRelease => {
            release.forget();
            release = Undo::new(async { Ok(true) });
            // A task goes on renewing it.
            let kept = alive.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(600)).await;
                drop(kept);
            });
        }
        Fault::DeleteTreeFreesLocks => {
            let shared = Arc::new(Mutex::new(Some(release)));
            guard(&store.state.releases).push(shared.clone());
            release = Undo::new(async move { take(&shared).await });
        }
        Fault::GivesBackLater => release = later(release),
        Fault::FullRenewsNothing => alive = unless_full(store, ttl),
        Fault::ReleaseIsNeverTrue => {
            let kept = release;
            release = Undo::new(async move { kept.run().await.map(|_| false) });
        }
        _ => {}
    }
    Ok(Some(Acquired { fence, alive, release }))
}

pub(crate) async fn locks(
    store: &Broken,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ReadOptions,
) -> Result<LockPage> {
    let root = Directory::root();
    let directory = if store.fault == Fault::ListsLocksBeside { &root } else { directory };
    let mut page = store.store().locks(directory, from, options).await?;
    match store.fault {
        Fault::ListsFreeLocks => {
            let taken = guard(&store.state.taken);
            let ours = taken.iter().filter(|(of, name)| **of == *store.prefix && name.is_below(directory));
            let free = ours.map(|(_, name)| HeldLock::new(name.clone(), Holder::new(1, ""), Some(0)));
            let all: Vec<_> = free.chain(page.locks).collect();
            page = LockPage::select(all, directory);
        }
        Fault::SkipsLocks => page.locks.retain(|lock| !lock.name.as_str().ends_with('7')),
        Fault::CountsNobodyInLine => page.locks.iter_mut().for_each(|lock| lock.waiters = Some(0)),
        _ => {}
    }
    Ok(page)
}

pub(crate) async fn set_holder(
    store: &Broken,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let inner = store.store();
    let before = inner.lock_holder(fence.lock(), &ReadOptions::default()).await?;
    match (store.fault, before) {
        (Fault::KeepsTheFirstValue, before) => Ok(before.is_some_and(|before| before.token == fence.token())),
        (Fault::ChangesForOthers, Some(before)) => {
            let theirs = Fence::new(fence.lock().clone(), before.token, "");
            inner.set_holder(fence.lock(), &theirs, value, options).await
        }
        (Fault::ForgetsTheChange, Some(before)) => {
            let held = inner.set_holder(fence.lock(), fence, value, options).await?;
            let (me, fence) = (store.clone(), fence.clone());
            // A renewal writes what it knows.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                me.store().set_holder(fence.lock(), &fence, before.value, &WriteOptions::default()).await
            });
            Ok(held)
        }
        _ => inner.set_holder(fence.lock(), fence, value, options).await,
    }
}

pub(crate) async fn take(release: &Mutex<Option<Undo>>) -> Result<bool> {
    let release = guard(release).take();
    match release {
        Some(release) => release.run().await,
        None => Ok(false),
    }
}

/// Frees all locks, as a careless `delete_tree` of the root does.
pub(crate) async fn free_all(store: &Broken) {
    let all = std::mem::take(&mut *guard(&store.state.releases));
    for release in all {
        let _ = take(&release).await;
    }
}

pub(crate) async fn lease(store: &Broken, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    if store.fault == Fault::RefusesWhatItDeclares {
        return Err(store.capabilities.unsupported("this"));
    }
    if store.fault == Fault::LeaksLeases {
        return goes_on(store, ttl, options.clone()).await;
    }
    let mut leased = store.store().lease(ttl, options).await?;
    match store.fault {
        Fault::LeaseIsNotKeptAlive => leased.alive = unkept(leased.ttl),
        Fault::LeaseIsLostAtOnce => leased.alive = short(leased.ttl),
        Fault::RevokeLeavesKeys => {
            let kept = std::mem::replace(&mut leased.revoke, Undo::new(async { Ok(true) }));
            kept.forget();
        }
        Fault::GrantsLess => leased.ttl /= 2,
        Fault::GivesBackLater => {
            leased.revoke = later(std::mem::replace(&mut leased.revoke, Undo::nothing()))
        }
        Fault::ForgetsWhatWasCut => {
            let revoke = std::mem::replace(&mut leased.revoke, Undo::nothing());
            let shared = Arc::new(Mutex::new(Some(revoke)));
            guard(&store.state.releases).push(shared.clone());
            leased.revoke = Undo::new(async move { take(&shared).await });
        }
        Fault::FullRenewsNothing => leased.alive = unless_full(store, leased.ttl),
        Fault::SweepsEmptyLeases => {
            let revoke = std::mem::replace(&mut leased.revoke, Undo::nothing());
            leased.revoke = store.state.leases.granted(&leased.id, revoke);
        }
        _ => {}
    }
    Ok(leased)
}

/// Asks for a lease, also when nobody waits for it any more, and keeps it then.
async fn goes_on(store: &Broken, ttl: Duration, options: LeaseOptions) -> Result<Leased> {
    let (me, (told, answer)) = (store.clone(), tokio::sync::oneshot::channel());
    tokio::spawn(async move {
        // The caller has time to leave.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Err(Ok(left)) = told.send(me.store().lease(ttl, &options).await) {
            left.revoke.forget();
        }
    });
    answer.await.unwrap_or_else(|_| Err(store.capabilities.unsupported("this")))
}
