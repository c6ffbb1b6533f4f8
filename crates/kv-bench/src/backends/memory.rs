//! The store in memory. `eq` is the store itself, without the handle; `raw` is a map under a mutex.

use super::{Backend, ours::Ours};
use crate::{
    drive::named,
    side::{Changes, Done, Nothing, Side, TTL, VALUE},
};
use bytes::Bytes;
use kv_core::{
    Directory, Key, Version,
    driver::{Expect, ListOptions, PutOptions, ReadOptions, Store, WriteOptions},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedMutexGuard, broadcast};

/// Opens the sides.
pub(super) async fn start(_folder: &Path) -> Done<Backend> {
    let ours = Ours::open(|| kv_memory::open("memory://bench")).await?;
    let eq = Eq(kv_memory::open("memory://").await?.store().clone());
    let kv = ours.kv();
    Ok(Backend {
        version: String::new(),
        sides: vec![named("ours", ours), named("eq", eq), named("raw", Raw::default())],
        kv,
        counter: None,
        largest: usize::MAX,
        keep: Box::new(()),
    })
}

/// The store without the handle.
#[derive(Clone)]
struct Eq(Arc<dyn Store>);

impl Eq {
    async fn write(&self, name: &str, expect: Expect, ttl: Option<u64>) -> Done<Version> {
        let options = PutOptions::default().ttl(ttl.map(Duration::from_secs));
        Ok(self.0.as_ref().put(&Key::parse(name)?, VALUE, expect, &options).await?.version)
    }
}

impl Side for Eq {
    type Version = Version;
    type Guard = ();
    type Changes = Nothing;

    async fn get(&self, name: &str) -> Done<usize> {
        let entry = self.0.as_ref().get(&Key::parse(name)?, &ReadOptions::default()).await?;
        Ok(entry.ok_or("the key is not there")?.value.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, Expect::Anything, None).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        self.write(name, Expect::Anything, Some(TTL)).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<Version> {
        self.write(name, Expect::Anything, None).await
    }

    async fn atomic_put(&self, name: &str, last: Version) -> Done<Version> {
        self.write(name, Expect::Version(last), None).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let (directory, options) = (Directory::parse(directory)?, ListOptions::default());
        let (mut from, mut found) = (None, 0);
        loop {
            let page = self.0.as_ref().list(&directory, from.as_ref(), &options).await?;
            found += page.items.len();
            from = page.next;
            if from.is_none() {
                return Ok(found);
            }
        }
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let (directory, options) = (Directory::parse(directory)?, WriteOptions::default());
        let mut from = None;
        loop {
            from = self.0.as_ref().delete_tree(&directory, from.as_ref(), &options).await?.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }
}

/// A map.
#[derive(Clone, Default)]
struct Raw(Arc<Mutex<Map>>);

#[derive(Default)]
struct Map {
    entries: BTreeMap<String, (u64, Bytes)>,
    version: u64,
    locks: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    watches: BTreeMap<String, broadcast::Sender<()>>,
}

impl Map {
    fn put(&mut self, name: &str) -> u64 {
        self.version += 1;
        self.entries.insert(name.to_owned(), (self.version, VALUE));
        if let Some(watch) = self.watches.get(name) {
            let _ = watch.send(());
        }
        self.version
    }
}

impl Raw {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side for Raw {
    type Version = u64;
    type Guard = OwnedMutexGuard<()>;
    type Changes = broadcast::Receiver<()>;

    fn directory(&self, directory: &str) -> String {
        format!("{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let entry = self.map().entries.get(name).cloned();
        Ok(entry.ok_or("the key is not there")?.1.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.map().put(name);
        Ok(())
    }

    async fn written(&self, name: &str) -> Done<u64> {
        Ok(self.map().put(name))
    }

    async fn atomic_put(&self, name: &str, last: u64) -> Done<u64> {
        let mut map = self.map();
        match map.entries.get(name) {
            Some((version, _)) if *version == last => Ok(map.put(name)),
            _ => Err("the version is another one".into()),
        }
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let map = self.map();
        let below =
            map.entries.range(directory.to_owned()..).take_while(|(name, _)| name.starts_with(directory));
        Ok(below
            .map(|(name, (version, value))| (name.clone(), *version, value.clone()))
            .collect::<Vec<_>>()
            .len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let mut map = self.map();
        let mut behind = map.entries.split_off(directory);
        behind.retain(|name, _| !name.starts_with(directory));
        map.entries.append(&mut behind);
        Ok(())
    }

    async fn lock(&self, name: &str) -> Done<OwnedMutexGuard<()>> {
        let lock = self.map().locks.entry(name.to_owned()).or_default().clone();
        Ok(lock.lock_owned().await)
    }

    async fn unlock(&self, guard: OwnedMutexGuard<()>) -> Done<()> {
        drop(guard);
        Ok(())
    }

    async fn watch(&self, name: &str) -> Done<broadcast::Receiver<()>> {
        let mut map = self.map();
        let watch = map.watches.entry(name.to_owned()).or_insert_with(|| broadcast::channel(1_024).0);
        Ok(watch.subscribe())
    }
}

impl Changes for broadcast::Receiver<()> {
    async fn next(&mut self) -> Done<()> {
        Ok(self.recv().await?)
    }
}
