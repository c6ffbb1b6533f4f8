//! Watches that break one promise.

use crate::{
    broken::{Broken, guard},
    fault::Fault,
};
use futures::StreamExt;
use kv_core::{backend::stream, driver::*, *};
use std::{
    collections::HashMap,
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

impl Broken {
    fn watches(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        guard(&self.state.unread)
    }

    /// Waits, before a write, until no watch is too far behind.
    pub(crate) async fn wait_for_readers(&self) {
        loop {
            let behind = {
                let mut watches = self.watches();
                watches.retain(|w| w.strong_count() > 0);
                watches.iter().filter_map(|w| w.upgrade()).map(|w| w.load(Relaxed)).max()
            };
            if behind.is_none_or(|n| n < 64) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for watch in self.watches().iter().filter_map(|w| w.upgrade()) {
            watch.fetch_add(1, Relaxed);
        }
    }
}

/// Returns the watch of all keys, and the text, by which a key or a directory is watched as a
/// prefix of bytes.
fn by_text(target: &Target) -> Option<(Target, String)> {
    match target {
        Target::Tree(d) if !d.is_root() => Some((Target::Tree(Directory::root()), d.as_str().to_owned())),
        Target::Key(key) => Some((Target::Tree(Directory::root()), key.to_string())),
        _ => None,
    }
}

/// Returns what a faulty watch tells after it has read what is there.
fn behind(fault: Fault, told: &HashMap<Key, Version>) -> Vec<WatchEvent> {
    let event = |(key, version): (&Key, &Version)| match fault {
        Fault::GoesBackWhenSynced => {
            let before = Version::new(version.parts().0 - 1, 0);
            Some(WatchEvent::Put(Entry::new(key.clone(), "before", before)))
        }
        Fault::TellsFalseEnds => Some(WatchEvent::Delete { key: key.clone(), version: *version }),
        _ => None,
    };
    told.iter().filter_map(event).collect()
}

/// Tells these events after the first `Synced`.
fn with_what_is_behind(fault: Fault, mut inner: WatchStream) -> WatchStream {
    stream(move |out| async move {
        let (mut told, mut synced) = (HashMap::new(), false);
        while let Some(event) = inner.next().await {
            let event = event?;
            match &event {
                WatchEvent::Put(entry) => drop(told.insert(entry.key.clone(), entry.version)),
                WatchEvent::Delete { key, .. } => drop(told.remove(key)),
                WatchEvent::Synced => {}
            }
            let first = event == WatchEvent::Synced && !std::mem::replace(&mut synced, true);
            out.send(event).await;
            if first {
                for event in behind(fault, &told) {
                    out.send(event).await;
                }
            }
        }
        Ok(())
    })
}

pub(crate) async fn watch(store: &Broken, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
    match store.fault {
        Fault::LivesInTheFirstRuntime if store.first_runtime().task.is_finished() => {
            return Ok(futures::stream::pending().boxed());
        }
        Fault::ReadsInTheFirstRuntime => {
            let mut inner = store.store().watch(target, options).await?;
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            store.first_runtime().runtime.spawn(async move {
                while let Some(event) = inner.next().await {
                    if tell.send(event).is_err() {
                        return;
                    }
                }
            });
            return Ok(futures::stream::poll_fn(move |cx| told.poll_recv(cx)).boxed());
        }
        Fault::WatchesKnowNoNames => {
            let inner = store.store().watch(target, options).await?;
            let other = store.beside.watch(target, options).await?;
            let other = other.filter(|e| std::future::ready(!matches!(e, Ok(WatchEvent::Synced))));
            return Ok(futures::stream::select(inner, other).boxed());
        }
        Fault::GoesBackWhenSynced | Fault::TellsFalseEnds => {
            let inner = store.store().watch(target, options).await?;
            return Ok(with_what_is_behind(store.fault, inner));
        }
        Fault::ReservesByText => {
            let inner = store.store().watch(target, options).await?;
            let ours = |e: &Result<WatchEvent>| {
                e.as_ref().is_ok_and(|e| e.key().is_some_and(|key| key.as_str().starts_with(".kv")))
            };
            return Ok(inner.filter(move |e| std::future::ready(!ours(e))).boxed());
        }
        _ => {}
    }
    if let Target::Holder(_) = target {
        let inner = store.store().watch(target, options).await?;
        return Ok(match store.fault {
            Fault::HidesHolders => {
                inner.filter(|e| std::future::ready(matches!(e, Ok(WatchEvent::Synced)))).boxed()
            }
            Fault::MissesTheEndOfHolding => {
                inner.filter(|e| std::future::ready(!matches!(e, Ok(WatchEvent::Delete { .. })))).boxed()
            }
            Fault::ForgetsTheHoldersValue => inner
                .map(|e| {
                    e.map(|e| match e {
                        WatchEvent::Put(e) => WatchEvent::Put(Entry::new(e.key, "", e.version)),
                        other => other,
                    })
                })
                .boxed(),
            Fault::ChangesAtOneVersion => inner
                .map(|e| {
                    e.map(|e| match e {
                        WatchEvent::Put(e) => {
                            let first = Version::new(e.version.parts().0, 0);
                            WatchEvent::Put(Entry::new(e.key, e.value, first))
                        }
                        other => other,
                    })
                })
                .boxed(),
            Fault::MissesSameBytes => {
                let mut last = None;
                let mut is_told = move |event: &Result<WatchEvent>| {
                    let Ok(WatchEvent::Put(entry)) = event else { return true };
                    last.replace(entry.value.clone()).as_ref() != Some(&entry.value)
                };
                inner.filter(move |event| std::future::ready(is_told(event))).boxed()
            }
            _ => inner,
        });
    }
    let there = match target {
        Target::Key(key) => store.store().get(key, &ReadOptions::default()).await?.into_iter().collect(),
        Target::Tree(directory) => store.all(directory).await?,
        Target::Holder(_) => Vec::new(),
    };
    match store.fault {
        Fault::RefusesToWatchWhatIsNotThere if there.is_empty() => {
            return Err(Error::new(ErrorKind::Other, "nothing to watch"));
        }
        Fault::WatchesFewOnly => {
            let mut watches = store.watches();
            watches.retain(|w| w.strong_count() > 0);
            if watches.len() >= 100 {
                return Err(Error::new(ErrorKind::Unavailable, "too many watches"));
            }
        }
        _ => {}
    }
    let unread = Arc::new(AtomicU64::new(0));
    if matches!(store.fault, Fault::SlowReaderBlocksWriters | Fault::WatchesFewOnly) {
        store.watches().push(Arc::downgrade(&unread));
    }
    let widened = by_text(target).filter(|_| match target {
        Target::Tree(_) => matches!(store.fault, Fault::SiblingsAreWatched | Fault::WatchesItself),
        _ => store.fault == Fault::WatchesBelowTheKey,
    });
    let (wide, text) = widened.map_or_else(|| (target.clone(), None), |(wide, text)| (wide, Some(text)));
    let (me, target) = (store.clone(), target.clone());
    let mut inner = store.store().watch(&wide, options).await?;
    Ok(stream(|out| async move {
        let fault = me.fault;
        let (mut synced, mut told) = (false, HashMap::<Key, Version>::new());
        let mut held_back = None;
        if fault == Fault::ListsBeforeItSubscribes {
            drop(inner);
            for entry in there {
                out.send(WatchEvent::Put(entry)).await;
            }
            out.send(WatchEvent::Synced).await;
            // The gap: what is written here is never told.
            tokio::time::sleep(Duration::from_millis(100)).await;
            inner = me.store().watch(&wide, &WatchOptions::default()).await?;
            while let Some(event) = inner.next().await {
                if event? == WatchEvent::Synced {
                    break;
                }
            }
            synced = true;
        }
        while let Some(event) = inner.next().await {
            let mut event = event?;
            unread.store(0, Relaxed);
            if let (Some(text), Some(key)) = (&text, event.key()) {
                let fits = match fault {
                    Fault::SiblingsAreWatched => key.as_str().starts_with(text),
                    _ => key.as_str() == text || key.as_str().starts_with(&format!("{text}/")),
                };
                if !fits {
                    continue;
                }
            }
            match &mut event {
                WatchEvent::Synced => {
                    synced = true;
                    match fault {
                        Fault::NeverSynced | Fault::SyncedComesFirst => continue,
                        Fault::EndsAfterSynced => {
                            out.send(event).await;
                            return Ok(());
                        }
                        _ => {}
                    }
                }
                WatchEvent::Put(entry) => {
                    let first = told.insert(entry.key.clone(), entry.version).is_none();
                    match fault {
                        Fault::HidesForeignKeys if me.hides(&entry.key) => continue,
                        Fault::ShowsNoSnapshot if !synced => continue,
                        Fault::DropsAChange if synced && me.every(3) => continue,
                        Fault::DropsNewKeys if synced && first => continue,
                        Fault::SkipsStates if synced => {
                            let newest = me.store().get(&entry.key, &ReadOptions::default()).await?;
                            if newest.is_none_or(|newest| newest.version != entry.version) {
                                continue;
                            }
                        }
                        Fault::MissesSameBytes
                            if synced && !first && (entry.value.is_empty() || entry.value == "same") =>
                        {
                            continue;
                        }
                        Fault::EmptiesValues => entry.value = Bytes::new(),
                        Fault::DropsEmptyValues if entry.value.is_empty() => continue,
                        Fault::TellsTwice => {
                            let again = event.clone();
                            out.send(event).await;
                            out.send(again).await;
                            continue;
                        }
                        Fault::RelistsAtEachChange if synced => {
                            if let Target::Tree(directory) = &target {
                                for entry in me.all(directory).await? {
                                    out.send(WatchEvent::Put(entry)).await;
                                }
                                continue;
                            }
                        }
                        Fault::TellsOutOfOrder if synced => match held_back.take() {
                            None => {
                                held_back = Some(event);
                                continue;
                            }
                            Some(earlier) => {
                                out.send(event).await;
                                out.send(earlier).await;
                                continue;
                            }
                        },
                        Fault::TellsKeysOutOfOrder if synced => match held_back.take() {
                            None => {
                                held_back = Some(event);
                                continue;
                            }
                            Some(earlier) if earlier.key() == event.key() => out.send(earlier).await,
                            Some(earlier) => {
                                out.send(event).await;
                                out.send(earlier).await;
                                continue;
                            }
                        },
                        _ => {}
                    }
                }
                WatchEvent::Delete { key, version } => {
                    let known = told.remove(key);
                    match fault {
                        Fault::DropsDeletes => continue,
                        Fault::DropsExpiry if me.expires(key) => continue,
                        Fault::DeletesAtAnOldVersion => {
                            *version = known.map_or(Version::new(0, 0), |v| Version::new(v.parts().0 - 1, 0));
                        }
                        _ => {}
                    }
                }
            }
            if fault == Fault::SyncedComesFirst && !synced && told.len() == 1 {
                out.send(WatchEvent::Synced).await;
            }
            out.send(event).await;
        }
        Ok(())
    }))
}
