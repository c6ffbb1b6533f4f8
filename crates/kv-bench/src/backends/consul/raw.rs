//! The plainest requests.

use super::client::{Consul, encoded, modified, operation, path, values};
use crate::side::{Changes, Done, Side, VALUE};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};

/// A client, with one session.
#[derive(Clone)]
pub(super) struct Raw(pub(super) Consul);

/// Returns a value that no key has yet: the server takes one that a key has for no change.
fn another_value() -> String {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    format!("{:0256}", NUMBERS.fetch_add(1, Ordering::Relaxed))
}

fn expect_true(answer: &[u8]) -> Done<()> {
    match answer.starts_with(b"true") {
        true => Ok(()),
        false => Err("the server did not do it".into()),
    }
}

impl Side for Raw {
    type Version = u64;
    type Guard = String;
    type Changes = Blocking;

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.0.prefix)
    }

    fn directory(&self, directory: &str) -> String {
        format!("{}/{directory}/", self.0.prefix)
    }

    async fn another(&self) -> Done<Self> {
        Ok(Self(Consul::open(self.0.at, self.0.prefix).await?))
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let (_, pairs) = self.0.pairs(&path(name, "")).await?;
        Ok(values(&pairs)?.first().ok_or("the key is not there")?.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        expect_true(&self.0.put(&path(name, ""), another_value()).await?)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        let acquire = format!("?acquire={}", self.0.session);
        expect_true(&self.0.put(&path(name, &acquire), another_value()).await?)
    }

    async fn written(&self, name: &str) -> Done<u64> {
        self.put(name).await?;
        let (_, pairs) = self.0.pairs(&path(name, "?consistent")).await?;
        Ok(pairs.first().and_then(|pair| pair["ModifyIndex"].as_u64()).ok_or("a key has an index")?)
    }

    async fn atomic_put(&self, name: &str, last: u64) -> Done<u64> {
        let swap = operation("cas", name, json!({ "Value": encoded(&VALUE), "Index": last }));
        modified(&self.0.txn(json!([swap])).await?)
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let (_, pairs) = self.0.pairs(&path(directory, "?recurse")).await?;
        Ok(values(&pairs)?.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        self.0.delete(&path(directory, "?recurse")).await
    }

    async fn lock(&self, name: &str) -> Done<String> {
        let acquire = path(name, &format!("?acquire={}", self.0.session));
        let mut index = 0;
        loop {
            if self.0.put(&acquire, VALUE).await?.starts_with(b"true") {
                return Ok(name.to_owned());
            }
            // The first one answers at once, in case that it was released meanwhile.
            let (now, pairs) = self.0.pairs(&path(name, &format!("?index={index}&wait=10s"))).await?;
            index = match pairs.first().is_some_and(|pair| pair["Session"].is_string()) {
                true => now,
                false => 0,
            };
        }
    }

    async fn unlock(&self, name: String) -> Done<()> {
        let release = format!("?release={}", self.0.session);
        expect_true(&self.0.put(&path(&name, &release), VALUE).await?)
    }

    async fn watch(&self, name: &str) -> Done<Blocking> {
        let (index, _) = self.0.pairs(&path(name, "")).await?;
        Ok(Blocking { consul: self.0.clone(), name: name.to_owned(), index })
    }
}

/// Blocking queries, one after another.
pub(super) struct Blocking {
    consul: Consul,
    name: String,
    index: u64,
}

impl Changes for Blocking {
    async fn next(&mut self) -> Done<()> {
        loop {
            let more = format!("?index={}&wait=60s", self.index);
            let (index, _) = self.consul.pairs(&path(&self.name, &more)).await?;
            if std::mem::replace(&mut self.index, index) != index {
                return Ok(());
            }
        }
    }
}
