//! SQLite, beside the embedded store: a connection for each call that is made at once.

use crate::side::{Done, Nothing, Side, VALUE};
use rusqlite::{Connection, params};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::spawn_blocking;

/// A file, and the connections to it that nobody uses.
#[derive(Clone)]
pub(super) struct Sqlite(Arc<Pool>);

struct Pool {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Returns the version of the library.
pub(super) fn version() -> &'static str {
    rusqlite::version()
}

impl Sqlite {
    pub(super) fn open(file: &Path) -> Done<Self> {
        let pool = Pool { file: file.to_owned(), idle: Mutex::default() };
        pool.with(|connection| {
            connection.execute_batch(
                "CREATE TABLE entries (name TEXT PRIMARY KEY, version INTEGER, value BLOB) WITHOUT ROWID;
                 CREATE TABLE counter (last INTEGER); INSERT INTO counter VALUES (0);",
            )
        })?;
        Ok(Self(Arc::new(pool)))
    }

    /// Puts a key that is at this version, if one is given.
    async fn write(&self, name: &str, expected: Option<i64>) -> Done<i64> {
        let (pool, name) = (self.0.clone(), name.to_owned());
        spawn_blocking(move || {
            pool.with(|connection| {
                let write = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                let version: i64 = write
                    .prepare_cached("UPDATE counter SET last = last + 1 RETURNING last")?
                    .query_row([], |row| row.get(0))?;
                let written = match expected {
                    None => write
                        .prepare_cached("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)")?
                        .execute(params![name, version, VALUE.as_ref()])?,
                    Some(expected) => write
                        .prepare_cached(
                            "UPDATE entries SET version = ?, value = ? WHERE name = ? AND version = ?",
                        )?
                        .execute(params![version, VALUE.as_ref(), name, expected])?,
                };
                write.commit()?;
                match written {
                    1 => Ok(version),
                    _ => Err(rusqlite::Error::StatementChangedRows(written)),
                }
            })
        })
        .await?
    }
}

impl Pool {
    /// Makes a call on a connection of its own.
    fn with<T>(&self, call: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Done<T> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut connection = match taken {
            Some(connection) => connection,
            None => {
                let connection = Connection::open(&self.file)?;
                connection.busy_timeout(Duration::from_secs(60))?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
                connection
            }
        };
        let answer = call(&mut connection)?;
        idle().push(connection);
        Ok(answer)
    }
}

impl Side for Sqlite {
    type Version = i64;
    type Guard = ();
    type Changes = Nothing;

    fn directory(&self, directory: &str) -> String {
        format!("{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let value: Vec<u8> = self.0.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM entries WHERE name = ?")?
                .query_row([name], |row| row.get(0))
        })?;
        Ok(value.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, None).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<i64> {
        self.write(name, None).await
    }

    async fn atomic_put(&self, name: &str, last: i64) -> Done<i64> {
        self.write(name, Some(last)).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let behind = format!("{}0", directory.trim_end_matches('/'));
        let rows: Vec<(String, i64, Vec<u8>)> = self.0.with(|connection| {
            connection
                .prepare_cached("SELECT name, version, value FROM entries WHERE name >= ? AND name < ?")?
                .query_map([directory, &behind], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })?;
        Ok(rows.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let (pool, directory) = (self.0.clone(), directory.to_owned());
        spawn_blocking(move || {
            let behind = format!("{}0", directory.trim_end_matches('/'));
            pool.with(|connection| {
                connection
                    .prepare_cached("DELETE FROM entries WHERE name >= ? AND name < ?")?
                    .execute([&directory, &behind])
            })
            .map(drop)
        })
        .await?
    }
}
