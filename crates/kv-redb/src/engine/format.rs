//! The layout of the file.
//!
//! | table | row |
//! |---|---|
//! | `kv.meta` | `format`, `counter`, `seen` → a number each |
//! | `kv.data` | name → version, expiry (0: none), lease (0: none), value unless it is large |
//! | `kv.expiry` | (expiry, name) → nothing |
//! | `kv.leased` | (lease, name) → nothing |
//! | `kv.leases` | lease → TTL |
//! | `kv.locks` | name, NUL, prefix → token, TTL, value unless it is large; only while it is held |
//! | `kv.changes` | the same name as in `kv.locks` → how often its holder has changed the value, from the first time on |
//! | `kv.large` | version or token → the value of that key or lock |
//!
//! Names of keys are whole, with the prefix. Times are milliseconds: a TTL as such, an expiry on
//! the scale of [`Time`](super::time::Time). One counter gives versions and tokens, so that none is
//! given out twice; it is saved in the same commit as what it numbers. Each opening counts on from
//! the wall clock's microseconds, if the file has not counted as far, so that one which was put back
//! from an older copy gives none out again. Leases have numbers of their own, by which nobody but
//! the process that granted them asks.
//!
//! Large values are in a table of their own, since redb writes a page as a whole: beside a value
//! of 16 MiB each put or delete of a small neighbour in its page would copy those 16 MiB. Their
//! numbers ascend, so each comes last in its table, where redb begins a page for what does not
//! fit, and never joins a page that is a single large value. A value that a lock's holder changes
//! keeps its number.

use crate::error;
use kv_core::{Error, ErrorKind};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use std::path::Path;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("kv.meta");
pub(crate) const DATA: TableDefinition<'_, &str, Row<'_>> = TableDefinition::new("kv.data");
pub(crate) const EXPIRY: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("kv.expiry");
pub(crate) const LEASED: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("kv.leased");
pub(crate) const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("kv.leases");
pub(crate) const LOCKS: TableDefinition<'_, &str, (u64, u64, Inline<'_>)> = TableDefinition::new("kv.locks");
pub(crate) const CHANGES: TableDefinition<'_, &str, u64> = TableDefinition::new("kv.changes");
pub(crate) const LARGE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("kv.large");

/// A row of `kv.data`: version, expiry, lease, value.
pub(crate) type Row<'a> = (u64, u64, u64, Inline<'a>);
/// A value in its row, or none when it is large.
pub(crate) type Inline<'a> = Option<&'a [u8]>;

/// The number of bytes from which on a value is large. A smaller one stays within one page of 4
/// KiB, with the longest name.
const LARGE_FROM: usize = 1 << 10;

/// Returns the value as its row has it.
pub(crate) fn inline(value: &[u8]) -> Inline<'_> {
    (value.len() < LARGE_FROM).then_some(value)
}

pub(crate) const COUNTER: &str = "counter";
pub(crate) const SEEN: &str = "seen";
const FORMAT: &str = "format";
/// The version of the format that this code reads and writes.
pub(crate) const VERSION: u64 = 1;

/// The numbers, leases and locks that the file has when it is opened.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The last number that was given out.
    pub(crate) counter: u64,
    /// The time of the last commit.
    pub(crate) seen: u64,
    /// The first expiry.
    pub(crate) first_expiry: Option<u64>,
    /// Leases with their TTLs.
    pub(crate) leases: Vec<(u64, u64)>,
    /// Held locks: name, token, TTL.
    pub(crate) locks: Vec<(String, u64, u64)>,
}

/// A count that no store has reached: a greater one is damage, and a smaller one leaves room for
/// all that is added to it.
pub(crate) const MOST: u64 = 1 << 62;
/// The year 10,000, in milliseconds: no clock has been there.
const LATEST: u64 = 253_402_300_800_000;

/// The reason why a file that redb could open is no store of this crate.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Tables of another program.
    Foreign(String),
    /// A format that this code does not know.
    Format(u64),
    /// The tables hold what no store writes; the text says what.
    Damaged(String),
    /// An error of redb.
    Failed(redb::Error),
}

impl Refused {
    /// Returns the error of a file that is refused for this reason.
    pub(crate) fn error(self, path: &Path) -> Error {
        let file = path.display();
        let why = match self {
            Self::Failed(e) => return error::failed(path, &e),
            Self::Damaged(why) => return error::damaged(path, &why),
            Self::Foreign(tables) => format!(
                "{file} is a redb file of another program (its tables: {tables}), and was left as it is; give another path"
            ),
            Self::Format(found) => format!(
                "{file} is of format {found}, and this version of kv-redb reads format {VERSION}; open it with a newer version"
            ),
        };
        Error::new(ErrorKind::Corrupt, why)
    }
}

impl<E: Into<redb::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Stored {
    /// Checks that a store can have written these numbers; the error says which one it cannot
    /// have. Otherwise a number that was given out could be given out again, so nothing is written
    /// from damaged ones.
    fn check(&self) -> Result<(), String> {
        let Self { counter, seen, leases, locks, .. } = self;
        if *counter > MOST {
            return Err(format!("its counter stands at {counter}"));
        }
        if *seen > LATEST {
            return Err(format!("its last commit is of {seen} ms after 1970"));
        }
        if let Some((lease, _)) = leases.iter().find(|(lease, _)| *lease > MOST) {
            return Err(format!("it has a lease of the number {lease}"));
        }
        match locks.iter().find(|(_, token, _)| token > counter) {
            Some((name, token, _)) => {
                Err(format!("the lock {name:?} has the token {token}, above its counter, {counter}"))
            }
            None => Ok(()),
        }
    }
}

/// Makes the tables in an empty file, and reads what has to be in memory.
pub(crate) fn load(database: &Database) -> Result<Stored, Refused> {
    let read = database.begin_read()?;
    let names: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    let multimaps = read.list_multimap_tables()?.count();
    if names.is_empty() && multimaps == 0 {
        drop(read);
        create(database)?;
        return Ok(Stored::default());
    }
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(e)) => return Err(e.into()),
        Err(_) => return Err(Refused::Foreign(names.join(", "))),
    };
    let number = |name: &str| -> Result<u64, Refused> { Ok(meta.get(name)?.map_or(0, |n| n.value())) };
    match number(FORMAT)? {
        VERSION => {}
        0 => return Err(Refused::Foreign(names.join(", "))),
        other => return Err(Refused::Format(other)),
    }
    let mut stored = Stored { counter: number(COUNTER)?, seen: number(SEEN)?, ..Stored::default() };
    stored.first_expiry = read.open_table(EXPIRY)?.first()?.map(|(at, _)| at.value().0);
    for row in read.open_table(LEASES)?.iter()? {
        let (lease, ttl) = row?;
        stored.leases.push((lease.value(), ttl.value()));
    }
    for row in read.open_table(LOCKS)?.iter()? {
        let (name, held) = row?;
        let (token, ttl, _) = held.value();
        stored.locks.push((name.value().to_owned(), token, ttl));
    }
    stored.check().map_err(Refused::Damaged)?;
    // Each table is opened once, so that one of another type is found now.
    read.open_table(DATA)?;
    read.open_table(LEASED)?;
    read.open_table(LARGE)?;
    match read.open_table(CHANGES) {
        // A file of an earlier version gets it with the first commit.
        Ok(_) | Err(TableError::TableDoesNotExist(_)) => Ok(stored),
        Err(e) => Err(e.into()),
    }
}

fn create(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(FORMAT, VERSION)?;
    write.open_table(DATA)?;
    write.open_table(EXPIRY)?;
    write.open_table(LEASED)?;
    write.open_table(LEASES)?;
    write.open_table(LOCKS)?;
    write.open_table(CHANGES)?;
    write.open_table(LARGE)?;
    Ok(write.commit()?)
}
