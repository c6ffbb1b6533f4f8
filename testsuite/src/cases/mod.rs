//! The list of all cases, in the order of the contract.

use crate::{Case, Failure, Trial, mirror::fold};
use futures::{StreamExt, future::BoxFuture, stream};
use kv_core::{Entry, Kv, Put, Result, Version, Watch, WatchEvent};
use std::{
    collections::BTreeMap,
    future::{Future, IntoFuture, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tokio::time::timeout;

/// Makes `CASES`, the cases of a file: of each its name, its promise, and the function that tries
/// it; `(alone)` behind the name of one that takes the server away.
macro_rules! cases {
    ($($name:literal $(($alone:ident))?: $promise:literal => $run:path,)*) => {
        pub(super) const CASES: &[$crate::Case] = &[$($crate::Case {
            name: $name,
            promise: $promise,
            takes_server: cases!(@ $($alone)?),
            run: |t| Box::pin($run(t)),
        }),*];
    };
    (@ alone) => { true };
    (@) => { false };
}

mod calls;
mod errors;
mod expiry;
mod full;
mod isolation;
mod keys;
mod leases;
mod lifetimes;
mod listings;
mod locks;
mod model;
mod observers;
mod opening;
mod outages;
mod recipes;
mod transactions;
mod updates;
mod values;
mod watches;
mod within;

/// A part of the contract: its title, and the cases that try it.
pub(crate) type Chapter = (&'static str, &'static [Case]);

/// The contract, part by part.
pub(crate) const CHAPTERS: &[Chapter] = &[
    ("Keys", keys::CASES),
    ("Stores that share a server", isolation::CASES),
    ("Handles on a part of the tree", within::CASES),
    ("Values and versions", values::CASES),
    ("Calls on single keys, and `close`", calls::CASES),
    ("Listings and `delete_tree`", listings::CASES),
    ("Transactions", transactions::CASES),
    ("Updates", updates::CASES),
    ("Random calls beside the store in memory", model::CASES),
    ("TTLs", expiry::CASES),
    ("Leases", leases::CASES),
    ("Watches", watches::CASES),
    ("Locks", locks::CASES),
    ("Errors, as far as no outage is needed", errors::CASES),
    ("Opening a store, and its capabilities", opening::CASES),
    ("Handles, their ends, and the runtimes that they outlive", lifetimes::CASES),
    ("Observers", observers::CASES),
    ("Servers that are full", full::CASES),
    ("Outages", outages::CASES),
    ("Recipes", recipes::CASES),
];

/// Returns every case.
pub fn all() -> Vec<Case> {
    CHAPTERS.iter().flat_map(|(_, cases)| *cases).copied().collect()
}

/// Lists the names of the keys below a directory.
async fn names(kv: &Kv, directory: &str) -> Result<Vec<String>> {
    let mut keys = kv.list(directory).keys();
    let mut names = Vec::new();
    while let Some(key) = keys.next().await {
        names.push(key?.to_string());
    }
    Ok(names)
}

/// Sorts names in the order of a listing.
fn in_order<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
    names.sort();
    names
}

/// Reads the value of a key as text.
async fn text(kv: &Kv, key: &str) -> Result<Option<String>> {
    Ok(kv.get(key).await?.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
}

/// Puts all of these, 16 at a time, with their own names as values.
fn put_all<S: Into<String>>(kv: &Kv, keys: impl IntoIterator<Item = S>) -> BoxFuture<'static, Result<()>> {
    each(keys.into_iter().map(Into::into).map(|key: String| kv.put(&key, key.clone())))
}

/// Makes all of these puts, 16 at a time; the first error ends this.
fn each(puts: impl IntoIterator<Item = Put>) -> BoxFuture<'static, Result<()>> {
    // They are collected here: a stream of closures would make every case's future one that is not
    // known to be `Send`.
    let puts: Vec<_> = puts.into_iter().map(IntoFuture::into_future).collect();
    Box::pin(async move {
        let mut done = stream::iter(puts).buffer_unordered(16);
        while let Some(one) = done.next().await {
            one?;
        }
        Ok(())
    })
}

/// The events of a watch, folded over an empty map.
#[derive(Debug, Default)]
struct Mirror(BTreeMap<String, Entry>);

impl Mirror {
    fn fold(&mut self, event: WatchEvent) {
        fold(&mut self.0, event);
    }

    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// Reads a watch up to its first `Synced`.
async fn snapshot(t: &Trial, watch: &mut Watch) -> Result<Mirror, Failure> {
    let mut mirror = Mirror::default();
    t.soon("the first Synced of a watch", async {
        loop {
            match watch.event().await? {
                WatchEvent::Synced => return Ok(()),
                event => mirror.fold(event),
            }
        }
    })
    .await?
    .map_err(|e: kv_core::Error| Failure::from(e))?;
    Ok(mirror)
}

/// Reads the next change of a watch. Another `Synced` is none: a backend may read again whenever it
/// wants.
async fn change(watch: &mut Watch) -> kv_core::Result<WatchEvent> {
    loop {
        match watch.event().await? {
            WatchEvent::Synced => {}
            change => return Ok(change),
        }
    }
}

/// Reads a watch until it has told of this version of the key.
async fn told(t: &Trial, watch: &mut Watch, key: &str, version: Version) -> Result<Vec<WatchEvent>, Failure> {
    let mut events = Vec::new();
    let reading = async {
        loop {
            let event = watch.event().await?;
            let last = matches!(&event, WatchEvent::Put(e) if e.key.as_str() == key && e.version == version);
            events.push(event);
            if last {
                return Ok::<_, kv_core::Error>(());
            }
        }
    };
    t.soon(&format!("the event of the put of {key:?}"), reading).await??;
    Ok(events)
}

/// Runs the work on a runtime of its own. This then dies with all its tasks and connections, as a
/// killed process does: nothing is given back.
async fn in_a_life_that_ends<T, W, F>(t: &Trial, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(Kv) -> F + Send + 'static,
    F: Future<Output = Result<T, Failure>>,
{
    let (t, (told, answer)) = (t.clone(), tokio::sync::oneshot::channel());
    std::thread::spawn(move || {
        let life = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = life.map_err(Failure::from).and_then(|life| {
            let done = life.block_on(async { work(t.open().await?).await });
            life.shutdown_background();
            done
        });
        // The case may have been given up.
        let _ = told.send(done);
    });
    answer.await.map_err(|_| "the work on a runtime of its own panicked")?
}

/// Runs the work until it was polled so often; `None` when it was not done by then, and was dropped
/// where it stood.
async fn polled<T>(work: impl IntoFuture<Output = T>, times: usize) -> Option<T> {
    let (mut work, mut left) = (pin!(work.into_future()), times);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Does the same, for 30 ms at most.
async fn polled_for_a_moment<T>(work: impl IntoFuture<Output = T>, times: usize) -> Option<T> {
    timeout(Duration::from_millis(30), polled(work, times)).await.ok().flatten()
}
