//! The plainest requests.

use crate::side::{Changes, Done, Side, VALUE};
use std::{net::SocketAddr, time::Duration};
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error, LockOptions, LockPrefix, MultiReadResult, OneshotWatcher,
    OwnedLockClient,
};

/// The time-out of a session.
const SESSION: Duration = Duration::from_secs(30);
/// The reads or writes of one request.
const AT_ONCE: usize = 500;

pub(super) const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A session whose names have a prefix.
#[derive(Clone)]
pub(super) struct Raw {
    address: SocketAddr,
    prefix: &'static str,
    pub(super) client: Client,
}

impl Raw {
    pub(super) async fn open(address: SocketAddr, prefix: &'static str) -> Done<Self> {
        let client = Client::connector().with_session_timeout(SESSION).connect(&address.to_string()).await?;
        Ok(Self { address, prefix, client })
    }

    /// Makes the node that a name is in.
    pub(super) async fn make_parent(&self, name: &str) -> Done<()> {
        let (parent, _) = name.rsplit_once('/').ok_or("a name is a path")?;
        Ok(self.client.mkdir(parent, &PERSISTENT).await?)
    }

    async fn write(&self, name: &str, version: Option<i32>, options: &CreateOptions<'_>) -> Done<i32> {
        loop {
            match self.client.set_data(name, &VALUE, version).await {
                Ok(stat) => return Ok(stat.version),
                Err(Error::NoNode) if version.is_none() => {}
                Err(e) => return Err(e.into()),
            }
            match self.client.create(name, &VALUE, options).await {
                Ok((stat, _)) => return Ok(stat.version),
                Err(Error::NoNode) => self.make_parent(name).await?,
                Err(Error::NodeExists) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Returns the paths of all nodes in a directory; none where it is missing.
    async fn children(&self, directory: &str) -> Done<Vec<String>> {
        match self.client.list_children(directory).await {
            Ok(names) => Ok(names.into_iter().map(|name| format!("{directory}/{name}")).collect()),
            Err(Error::NoNode) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

impl Side for Raw {
    type Version = i32;
    type Guard = OwnedLockClient;
    type Changes = OneShots;

    fn name(&self, key: &str) -> String {
        format!("/{}/{key}", self.prefix)
    }

    async fn another(&self) -> Done<Self> {
        Self::open(self.address, self.prefix).await
    }

    async fn get(&self, name: &str) -> Done<usize> {
        Ok(self.client.get_data(name).await?.0.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, None, &PERSISTENT).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        self.write(name, None, &EPHEMERAL).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<i32> {
        self.write(name, None, &PERSISTENT).await
    }

    async fn atomic_put(&self, name: &str, last: i32) -> Done<i32> {
        self.write(name, Some(last), &PERSISTENT).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let paths = self.children(directory).await?;
        let mut found = Vec::new();
        for some in paths.chunks(AT_ONCE) {
            let mut reader = self.client.new_multi_reader();
            for path in some {
                reader.add_get_data(path)?;
            }
            let answers = reader.commit().await?;
            found.extend(answers.into_iter().filter(|answer| matches!(answer, MultiReadResult::Data { .. })));
        }
        Ok(found.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let paths = self.children(directory).await?;
        for some in paths.chunks(AT_ONCE) {
            let mut writer = self.client.new_multi_writer();
            for path in some {
                writer.add_delete(path, None)?;
            }
            writer.commit().await?;
        }
        Ok(())
    }

    async fn lock(&self, name: &str) -> Done<OwnedLockClient> {
        let options = LockOptions::new(Acls::anyone_all()).with_ancestor_options(PERSISTENT)?;
        let prefix = LockPrefix::new_curator(name, "lock-")?;
        Ok(self.client.lock(prefix, b"", options).await?.into_owned())
    }

    async fn unlock(&self, guard: OwnedLockClient) -> Done<()> {
        Ok(self.client.delete(guard.lock_path(), None).await?)
    }

    async fn watch(&self, name: &str) -> Done<OneShots> {
        let (_, _, watcher) = self.client.get_and_watch_data(name).await?;
        Ok(OneShots { client: self.client.clone(), name: name.to_owned(), watcher: Some(watcher) })
    }
}

/// Watches that tell of one change each.
pub(super) struct OneShots {
    client: Client,
    name: String,
    watcher: Option<OneshotWatcher>,
}

impl Changes for OneShots {
    async fn next(&mut self) -> Done<()> {
        if let Some(watcher) = self.watcher.take() {
            watcher.changed().await;
        }
        // The value is told, and the next change is waited for.
        let (_, _, watcher) = self.client.get_and_watch_data(&self.name).await?;
        self.watcher = Some(watcher);
        Ok(())
    }
}
