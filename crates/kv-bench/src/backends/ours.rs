//! Our side, on any backend: calls through [`Kv`].

use crate::side::{Changes, Done, Side, TTL, VALUE};
use futures::future::BoxFuture;
use kv_core::{Guard, Kv, Version, Watch, WatchEvent};
use std::{sync::Arc, time::Duration};

/// A handle, and the way to another one on the same store.
#[derive(Clone)]
pub(crate) struct Ours {
    kv: Kv,
    open: Arc<dyn Fn() -> BoxFuture<'static, kv_core::Result<Kv>> + Send + Sync>,
}

impl Ours {
    /// Opens a handle by this function.
    pub(crate) async fn open<F>(open: impl Fn() -> F + Send + Sync + 'static) -> Done<Self>
    where
        F: Future<Output = kv_core::Result<Kv>> + Send + 'static,
    {
        let kv = open().await?.with_deadline(DEADLINE);
        Ok(Self { kv, open: Arc::new(move || Box::pin(open())) })
    }

    /// Returns the handle.
    pub(crate) fn kv(&self) -> Kv {
        self.kv.clone()
    }
}

/// The time that a call has: longer than any takes that is only slow.
const DEADLINE: Duration = Duration::from_secs(60);

impl Side for Ours {
    type Version = Version;
    type Guard = Guard;
    type Changes = Watch;

    async fn another(&self) -> Done<Self> {
        let kv = (self.open)().await?.with_deadline(DEADLINE);
        Ok(Self { kv, open: self.open.clone() })
    }

    async fn get(&self, name: &str) -> Done<usize> {
        Ok(self.kv.get(name).await?.ok_or("the key is not there")?.value.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.kv.put(name, VALUE).await?;
        Ok(())
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        self.kv.put(name, VALUE).ttl(Duration::from_secs(TTL)).await?;
        Ok(())
    }

    async fn written(&self, name: &str) -> Done<Version> {
        Ok(self.kv.put(name, VALUE).await?.version)
    }

    async fn atomic_put(&self, name: &str, last: Version) -> Done<Version> {
        Ok(self.kv.atomic_put(name, VALUE, last).await?.version)
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        Ok(self.kv.list(directory).await?.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        self.kv.delete_tree(directory).await?;
        Ok(())
    }

    async fn lock(&self, name: &str) -> Done<Guard> {
        Ok(self.kv.new_lock(name).acquire().await?)
    }

    async fn unlock(&self, guard: Guard) -> Done<()> {
        match guard.release().await? {
            true => Ok(()),
            false => Err("the lock was lost".into()),
        }
    }

    async fn watch(&self, name: &str) -> Done<Watch> {
        let mut watch = self.kv.watch(name).await?;
        while watch.event().await? != WatchEvent::Synced {}
        Ok(watch)
    }
}

impl Changes for Watch {
    async fn next(&mut self) -> Done<()> {
        // Another event than a put tells of something that no caller did.
        match self.event().await? {
            WatchEvent::Put(_) => Ok(()),
            other => Err(format!("the watch told {other:?}").into()),
        }
    }
}
