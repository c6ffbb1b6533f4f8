//! The requests that keep what ours keeps.

use super::raw::{PERSISTENT, Raw};
use crate::side::{Done, Nothing, Side, VALUE};
use zookeeper_client::{Acls, CreateMode, CreateOptions, Error, MultiWriteError};

/// The node that is written before a read, and the one that counts creations.
const BARRIER: &str = "/eq/barrier";
const EPOCH: &str = "/eq/epoch";
const CONTENDER: CreateOptions<'static> = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());

/// A session, whose requests are answered in order.
#[derive(Clone)]
pub(super) struct Eq(Raw);

impl Eq {
    pub(super) async fn open(raw: Raw) -> Done<Self> {
        raw.make_parent(BARRIER).await?;
        for node in [BARRIER, EPOCH] {
            match raw.client.create(node, b"", &PERSISTENT).await {
                Ok(_) | Err(Error::NodeExists) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Self(raw))
    }

    /// Writes; what is asked for after this is read behind all that was acknowledged before.
    async fn barrier(&self) -> Done<()> {
        self.0.client.set_data(BARRIER, b"", None).await?;
        Ok(())
    }

    /// Makes a key, and counts that; returns its version.
    async fn create(&self, name: &str) -> Done<i32> {
        loop {
            let mut writer = self.0.client.new_multi_writer();
            writer.add_create(name, &VALUE, &PERSISTENT)?;
            writer.add_set_data(EPOCH, b"", None)?;
            match writer.commit().await {
                Ok(_) => return Ok(0),
                Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => {
                    self.0.make_parent(name).await?
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Side for Eq {
    type Version = (i32, i32);
    type Guard = String;
    type Changes = Nothing;

    fn name(&self, key: &str) -> String {
        self.0.name(key)
    }

    async fn another(&self) -> Done<Self> {
        Ok(Self(self.0.another().await?))
    }

    async fn get(&self, name: &str) -> Done<usize> {
        // Both are sent at once, in this order.
        let (barrier, read) = (self.0.client.set_data(BARRIER, b"", None), self.0.client.get_data(name));
        let (_, (value, _)) = futures::try_join!(barrier, read)?;
        Ok(value.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        match self.0.client.set_data(name, &VALUE, None).await {
            Ok(_) => Ok(()),
            Err(Error::NoNode) => self.create(name).await.map(drop),
            Err(e) => Err(e.into()),
        }
    }

    async fn written(&self, name: &str) -> Done<(i32, i32)> {
        let version = match self.0.client.set_data(name, &VALUE, None).await {
            Ok(stat) => stat.version,
            Err(Error::NoNode) => self.create(name).await?,
            Err(e) => return Err(e.into()),
        };
        let epoch = self.0.client.get_data(EPOCH).await?.1.version;
        Ok((version, epoch))
    }

    async fn atomic_put(&self, name: &str, (last, epoch): (i32, i32)) -> Done<(i32, i32)> {
        let mut writer = self.0.client.new_multi_writer();
        writer.add_check_version(EPOCH, epoch)?;
        writer.add_set_data(name, &VALUE, Some(last))?;
        writer.commit().await?;
        Ok((last + 1, epoch))
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let (_, found) = futures::try_join!(self.barrier(), self.0.list(directory))?;
        Ok(found)
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        futures::try_join!(self.barrier(), self.0.delete_tree(directory))?;
        Ok(())
    }

    async fn lock(&self, name: &str) -> Done<String> {
        let client = &self.0.client;
        let prefix = format!("{name}/n-");
        let own = loop {
            match client.create(&prefix, b"", &CONTENDER).await {
                Ok((_, sequence)) => break format!("{prefix}{sequence}"),
                Err(Error::NoNode) => self.0.make_parent(&prefix).await?,
                Err(e) => return Err(e.into()),
            }
        };
        loop {
            let mut children = client.list_children(name).await?;
            children.sort_unstable();
            let at = children.iter().position(|child| own.ends_with(child.as_str()));
            let Some(before) = at.ok_or("the contender is gone")?.checked_sub(1) else { return Ok(own) };
            let before = format!("{name}/{}", children[before]);
            if let (Some(_), watcher) = client.check_and_watch_stat(&before).await? {
                watcher.changed().await;
            }
        }
    }

    async fn unlock(&self, own: String) -> Done<()> {
        Ok(self.0.client.delete(&own, None).await?)
    }
}
