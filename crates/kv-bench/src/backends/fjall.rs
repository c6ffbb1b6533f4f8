//! fjall, a store of logs and sorted tables, beside the embedded store.

use crate::side::{Done, Nothing, Side, VALUE};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use tokio::task::spawn_blocking;

/// A database with one keyspace.
#[derive(Clone)]
pub(super) struct Fjall {
    database: Database,
    entries: Keyspace,
}

impl Fjall {
    pub(super) fn open(folder: &Path) -> Done<Self> {
        let database = Database::builder(folder).open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        Ok(Self { database, entries })
    }
}

impl Side for Fjall {
    type Version = ();
    type Guard = ();
    type Changes = Nothing;

    fn directory(&self, directory: &str) -> String {
        format!("{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let value = self.entries.get(name)?.ok_or("the key is not there")?;
        Ok(value.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        let (own, name) = (self.clone(), name.to_owned());
        spawn_blocking(move || -> Done<()> {
            own.entries.insert(name, VALUE.as_ref())?;
            Ok(own.database.persist(PersistMode::SyncAll)?)
        })
        .await?
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let mut found = Vec::new();
        for entry in self.entries.prefix(directory) {
            found.push(entry.into_inner()?);
        }
        Ok(found.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let (own, directory) = (self.clone(), directory.to_owned());
        spawn_blocking(move || -> Done<()> {
            let mut batch = own.database.batch().durability(Some(PersistMode::SyncAll));
            for entry in own.entries.prefix(directory) {
                batch.remove(&own.entries, entry.key()?);
            }
            Ok(batch.commit()?)
        })
        .await?
    }
}
