//! Recipes that many use at once: a counter over links that lose answers, and a semaphore with a
//! long line.

use crate::{
    Failure, Proxy,
    check::{holds, same},
    requests::LONG,
};
use kv_core::{HeldLock, Kv, Result};
use kv_recipes::{Counter, Semaphore};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The answer that is lost, of so many.
const TENTH: usize = 10;
/// The number of stores that the waiters share.
const STORES: usize = 4;

/// Has so many callers add one to a number, each so often, with a store and a counter of its own
/// behind a link that loses every tenth answer, when the server has given it. `open` opens a store
/// at an address.
///
/// # Errors
/// A call failed, an answer was given twice, or the number is not that of all calls in the end; or
/// hardly an answer was lost, which shows nothing.
pub async fn count(
    server: SocketAddr,
    callers: usize,
    each: usize,
    open: impl AsyncFn(SocketAddr) -> Result<Kv>,
) -> Result<(), Failure> {
    let (began, lost) = (Instant::now(), AtomicUsize::new(0));
    let calls = (0..callers).map(async |_| {
        let proxy = Proxy::start(server).await;
        let kv = open(proxy.address()).await?;
        let counter = Counter::new(&kv, "hits").ttl(LONG).deadline(LONG);
        let adds = async {
            let mut sums = Vec::with_capacity(each);
            for _ in 0..each {
                sums.push(counter.add(1).await?);
            }
            Ok::<_, Failure>(sums)
        };
        let sums = tokio::select! {
            sums = adds => sums?,
            () = lose_answers(&proxy, &lost) => unreachable!("it does not end"),
        };
        proxy.heal().await;
        kv.close().await?;
        Ok::<_, Failure>(sums)
    });
    let all = futures::future::try_join_all(calls).await?;
    let (total, lost) = (callers * each, lost.into_inner());
    println!("{total} additions by {callers} callers in {:?}, {lost} answers lost", began.elapsed());
    let mut sums: Vec<_> = all.into_iter().flatten().collect();
    sums.sort_unstable();
    let kv = open(server).await?;
    same("the number in the end", Counter::new(&kv, "hits").get().await?, i64::try_from(total)?)?;
    let expected = (1..).take(total);
    holds("each sum is the answer to one call", sums.into_iter().eq(expected))?;
    kv.close().await?;
    let least = total / TENTH / 2;
    holds(format!("{lost} answers were lost, at least {least}"), lost >= least)
}

/// Loses every tenth answer of this link.
async fn lose_answers(proxy: &Proxy, lost: &AtomicUsize) {
    loop {
        for _ in 1..TENTH {
            proxy.hold_next_answer();
            proxy.trapped().await;
            proxy.thaw();
        }
        proxy.hold_next_answer();
        proxy.answered().await;
        proxy.reset().await;
        proxy.heal().await;
        lost.fetch_add(1, SeqCst);
    }
}

/// Has each of these numbers of waiters stand in the line of a semaphore of one permit, and checks
/// that the requests that one handover takes are the same. `asked` counts the requests that
/// the server has got until now.
///
/// # Errors
/// A call failed, two had the permit at once, or a handover takes more requests with more waiters.
pub async fn hand_over(
    sizes: &[usize],
    open: impl AsyncFn() -> Result<Kv>,
    asked: impl AsyncFn() -> Result<u64, Failure>,
) -> Result<(), Failure> {
    let mut first = None;
    for &waiters in sizes {
        let took = took(waiters, &open, &asked).await?;
        println!("{took:.2} requests a handover with {waiters} waiters");
        let first = *first.get_or_insert(took);
        let what = format!(
            "a handover takes {first:.2} requests with {} waiters, {took:.2} with {waiters}",
            sizes[0]
        );
        // What all of them take once is shared by more of them.
        holds(what, took < first + 1.0)?;
    }
    Ok(())
}

/// Returns the requests that one handover takes with so many waiters.
async fn took(
    waiters: usize,
    open: &impl AsyncFn() -> Result<Kv>,
    asked: &impl AsyncFn() -> Result<u64, Failure>,
) -> Result<f64, Failure> {
    let name = format!("lines/{waiters}");
    let mut stores = Vec::new();
    for _ in 0..STORES {
        stores.push(open().await?);
    }
    let greatest = stores[0].capabilities().lease.as_ref().map_or(LONG, |range| range.greatest);
    let semaphore = |kv: &Kv| Semaphore::new(kv, &name, 1).ttl(LONG.min(greatest));
    let first = semaphore(&stores[0]).acquire().await?;
    let (mut line, held) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for number in 0..waiters {
        let (semaphore, held) = (semaphore(&stores[number % STORES]), held.clone());
        line.spawn(async move {
            let permit = semaphore.acquire().await?;
            let is_alone = !held.swap(true, SeqCst);
            held.store(false, SeqCst);
            permit.release().await?;
            Ok::<_, Failure>(is_alone)
        });
    }
    // The first of them holds the gate, and the others wait for it.
    let all_wait = async {
        loop {
            let locks = stores[0].locks("lines").await?;
            let is_it =
                |lock: &HeldLock| lock.name.as_str() == name && lock.waiters == Some(waiters as u64 - 1);
            if locks.iter().any(is_it) {
                return Ok::<_, Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, all_wait).await.map_err(|_| "the line was not there in time")??;
    let before = asked().await?;
    first.release().await?;
    while let Some(waited) = line.join_next().await {
        holds("nobody has the permit of another", waited??)?;
    }
    let all = asked().await? - before;
    for kv in stores {
        kv.close().await?;
    }
    Ok(all as f64 / waiters as f64)
}
