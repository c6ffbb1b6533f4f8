//! The plainest requests.

use crate::side::{Changes, Done, Side, TTL, VALUE};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, LockOptions, PutOptions, Txn, TxnOp, WatchStream,
};
use std::net::SocketAddr;

/// The TTL of the lease of locks: no round lasts so long.
const LONG: i64 = 3_600;

/// A client whose names have a prefix, and the lease of its locks.
#[derive(Clone)]
pub(super) struct Raw {
    address: SocketAddr,
    prefix: &'static str,
    pub(super) client: Client,
    pub(super) lease: i64,
}

impl Raw {
    pub(super) async fn open(address: SocketAddr, prefix: &'static str) -> Done<Self> {
        let client = Client::connect([format!("http://{address}")], None).await?;
        let lease = client.lease_client().grant(LONG, None).await?.id();
        Ok(Self { address, prefix, client, lease })
    }

    pub(super) async fn write(&self, name: &str, options: Option<PutOptions>) -> Done<i64> {
        let answer = self.client.kv_client().put(name, VALUE, options).await?;
        Ok(answer.header().ok_or("an answer has a header")?.revision())
    }
}

impl Side for Raw {
    type Version = i64;
    type Guard = Vec<u8>;
    type Changes = WatchStream;

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    fn directory(&self, directory: &str) -> String {
        format!("{}/{directory}/", self.prefix)
    }

    async fn another(&self) -> Done<Self> {
        Self::open(self.address, self.prefix).await
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let answer = self.client.kv_client().get(name, None).await?;
        Ok(answer.kvs().first().ok_or("the key is not there")?.value().len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, None).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        let lease = self.client.lease_client().grant(TTL.cast_signed(), None).await?.id();
        self.write(name, Some(PutOptions::new().with_lease(lease))).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<i64> {
        self.write(name, None).await
    }

    async fn atomic_put(&self, name: &str, last: i64) -> Done<i64> {
        let is_last = Compare::mod_revision(name, CompareOp::Equal, last);
        let swap = Txn::new().when([is_last]).and_then([TxnOp::put(name, VALUE, None)]);
        let answer = self.client.kv_client().txn(swap).await?;
        match answer.succeeded() {
            true => Ok(answer.header().ok_or("an answer has a header")?.revision()),
            false => Err("the version is another one".into()),
        }
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let answer = self.client.kv_client().get(directory, Some(GetOptions::new().with_prefix())).await?;
        Ok(answer.kvs().len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        self.client.kv_client().delete(directory, Some(DeleteOptions::new().with_prefix())).await?;
        Ok(())
    }

    async fn lock(&self, name: &str) -> Done<Vec<u8>> {
        let options = LockOptions::new().with_lease(self.lease);
        Ok(self.client.lock_client().lock(name, Some(options)).await?.key().to_vec())
    }

    async fn unlock(&self, key: Vec<u8>) -> Done<()> {
        self.client.lock_client().unlock(key).await?;
        Ok(())
    }

    async fn watch(&self, name: &str) -> Done<WatchStream> {
        Ok(self.client.watch_client().watch(name, None).await?)
    }
}

impl Changes for WatchStream {
    async fn next(&mut self) -> Done<()> {
        // A message without events tells that the watch stands.
        while self.message().await?.ok_or("the watch ended")?.events().is_empty() {}
        Ok(())
    }
}
