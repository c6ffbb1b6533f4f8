//! `Store` for pointers to a store, which forward each method.

use super::Store;
use crate::{
    Capabilities, Directory, Entry, Fence, Health, Holder, Key, Result, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, LockPage,
        Page, PutOptions, ReadOptions, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

macro_rules! forward {
    ($($pointer:ident),*) => { $(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: Store + ?Sized> Store for $pointer<T> {
            fn capabilities(&self) -> &Capabilities {
                (**self).capabilities()
            }
            async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
                (**self).get(key, options).await
            }
            async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
                (**self).put(key, value, expect, options).await
            }
            async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
                (**self).delete(key, expect, options).await
            }
            async fn list(&self, dir: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
                (**self).list(dir, from, options).await
            }
            async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
                (**self).watch(target, options).await
            }
            async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
                (**self).get_many(keys, options).await
            }
            async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
                (**self).exists(key, options).await
            }
            async fn delete_tree(
                &self,
                dir: &Directory,
                from: Option<&Cursor>,
                options: &WriteOptions,
            ) -> Result<Batch> {
                (**self).delete_tree(dir, from, options).await
            }
            async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
                (**self).transact(transaction, options).await
            }
            async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
                (**self).lease(ttl, options).await
            }
            async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
                (**self).lock(name, options).await
            }
            async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
                (**self).lock_holder(name, options).await
            }
            async fn locks(&self, dir: &Directory, from: Option<&Cursor>, options: &ReadOptions) -> Result<LockPage> {
                (**self).locks(dir, from, options).await
            }
            async fn set_holder(&self, name: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
                (**self).set_holder(name, fence, value, options).await
            }
            async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
                (**self).break_lock(name, token, options).await
            }
            async fn adopt(&self, dir: &Directory, options: &WriteOptions) -> Result<u64> {
                (**self).adopt(dir, options).await
            }
            async fn health(&self, options: &ReadOptions) -> Result<Health> {
                (**self).health(options).await
            }
            fn describe(&self) -> String {
                String::new()
            }
            fn inner(&self) -> Option<&dyn Store> {
                Some((**self).as_store())
            }
            async fn close(&self) -> Result<()> {
                (**self).close().await
            }
        }
    )* };
}
forward!(Arc, Box);
