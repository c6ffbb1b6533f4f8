//! The embedded store. `raw` is redb with a commit for each put, on the caller's thread; `eq` keeps
//! versions and ends of keys beside the values, and writes on a thread that may wait for the disk.

use super::{Backend, fjall::Fjall, ours::Ours, sqlite::Sqlite};
use crate::{
    drive::named,
    side::{Done, Nothing, Side, TTL, VALUE},
};
use kv_redb::Config;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::task::spawn_blocking;

/// Opens the sides, each in a file of its own.
pub(super) async fn start(folder: &Path) -> Done<Backend> {
    let file = folder.join("ours.redb");
    let ours = Ours::open(move || Config::new(&file).open()).await?;
    let eq = Eq(Arc::new(Database::create(folder.join("eq.redb"))?));
    let raw = Raw(Arc::new(Database::create(folder.join("raw.redb"))?));
    let (sqlite, fjall) = (Sqlite::open(&folder.join("sqlite"))?, Fjall::open(&folder.join("fjall"))?);
    let kv = ours.kv();
    let sides = vec![
        named("ours", ours),
        named("eq", eq),
        named("raw", raw),
        named("sqlite", sqlite),
        named("fjall", fjall),
    ];
    let version = format!("SQLite {}", super::sqlite::version());
    Ok(Backend { version, sides, kv, counter: None, largest: usize::MAX, keep: Box::new(()) })
}

/// Returns the first name behind all that begin with a directory's, which ends with a slash.
fn behind(directory: &str) -> String {
    // `0` is the character behind the slash.
    format!("{}0", directory.trim_end_matches('/'))
}

/// Plain redb.
#[derive(Clone)]
struct Raw(Arc<Database>);

const PLAIN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("plain");

impl Side for Raw {
    type Version = ();
    type Guard = ();
    type Changes = Nothing;

    fn directory(&self, directory: &str) -> String {
        format!("{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let found = self.0.begin_read()?.open_table(PLAIN)?.get(name)?;
        Ok(found.ok_or("the key is not there")?.value().to_vec().len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        let write = self.0.begin_write()?;
        write.open_table(PLAIN)?.insert(name, VALUE.as_ref())?;
        Ok(write.commit()?)
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let table = self.0.begin_read()?.open_table(PLAIN)?;
        let mut found = Vec::new();
        for row in table.range(directory..behind(directory).as_str())? {
            let (name, value) = row?;
            found.push((name.value().to_owned(), value.value().to_vec()));
        }
        Ok(found.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let write = self.0.begin_write()?;
        write.open_table(PLAIN)?.retain_in(directory..behind(directory).as_str(), |_, _| false)?;
        Ok(write.commit()?)
    }
}

/// Redb with the promises that a caller makes by hand.
#[derive(Clone)]
struct Eq(Arc<Database>);

/// The version of a key, its end in milliseconds since 1970 or zero, and its value.
type Row = (u64, u64, &'static [u8]);
const ROWS: TableDefinition<'_, &str, Row> = TableDefinition::new("rows");
const ENDS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ends");
const COUNTER: TableDefinition<'_, (), u64> = TableDefinition::new("counter");

fn now() -> Done<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

impl Eq {
    /// Puts a key that is at this version, if one is given.
    async fn write(&self, name: &str, expected: Option<u64>, ttl: Option<u64>) -> Done<u64> {
        let (database, name) = (self.0.clone(), name.to_owned());
        spawn_blocking(move || -> Done<u64> {
            let write = database.begin_write()?;
            let version = {
                let (mut rows, mut ends) = (write.open_table(ROWS)?, write.open_table(ENDS)?);
                let mut counter = write.open_table(COUNTER)?;
                let found = rows.get(&*name)?.map(|row| (row.value().0, row.value().1));
                if expected.is_some_and(|expected| found.is_none_or(|(version, _)| version != expected)) {
                    return Err("the version is another one".into());
                }
                if let Some((_, end @ 1..)) = found {
                    ends.remove((end, &*name))?;
                }
                let version = counter.get(())?.map_or(0, |last| last.value()) + 1;
                counter.insert((), version)?;
                let end = match ttl {
                    Some(seconds) => now()? + seconds * 1_000,
                    None => 0,
                };
                if end > 0 {
                    ends.insert((end, &*name), ())?;
                }
                rows.insert(&*name, (version, end, VALUE.as_ref()))?;
                version
            };
            write.commit()?;
            Ok(version)
        })
        .await?
    }
}

impl Side for Eq {
    type Version = u64;
    type Guard = ();
    type Changes = Nothing;

    fn directory(&self, directory: &str) -> String {
        format!("{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let found = self.0.begin_read()?.open_table(ROWS)?.get(name)?;
        let found = found.ok_or("the key is not there")?;
        let (_, end, value) = found.value();
        if end > 0 && end <= now()? {
            return Err("the key has ended".into());
        }
        Ok(value.to_vec().len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, None, None).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        self.write(name, None, Some(TTL)).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<u64> {
        self.write(name, None, None).await
    }

    async fn atomic_put(&self, name: &str, last: u64) -> Done<u64> {
        self.write(name, Some(last), None).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let (table, now) = (self.0.begin_read()?.open_table(ROWS)?, now()?);
        let mut found = Vec::new();
        for row in table.range(directory..behind(directory).as_str())? {
            let (name, row) = row?;
            let (version, end, value) = row.value();
            if end == 0 || end > now {
                found.push((name.value().to_owned(), version, value.to_vec()));
            }
        }
        Ok(found.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let (database, directory) = (self.0.clone(), directory.to_owned());
        spawn_blocking(move || -> Done<()> {
            let write = database.begin_write()?;
            {
                let (mut rows, mut ends) = (write.open_table(ROWS)?, write.open_table(ENDS)?);
                let mut ended = Vec::new();
                rows.retain_in(&*directory..behind(&directory).as_str(), |name, (_, end, _)| {
                    if end > 0 {
                        ended.push((end, name.to_owned()));
                    }
                    false
                })?;
                for (end, name) in ended {
                    ends.remove((end, &*name))?;
                }
            }
            Ok(write.commit()?)
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_ends_before_the_next_one() {
        assert!(("a/zz" < behind("a/").as_str()) && (behind("a/").as_str() < "a1/"));
    }
}
