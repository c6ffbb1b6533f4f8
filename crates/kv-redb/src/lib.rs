//! The kv store in a file of this machine: in process, no server, durable, on
//! [redb](https://docs.rs/redb).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("app.redb");
//! let kv = kv_redb::open(&format!("redb://{}", file.display())).await?;
//! let seen = kv.put("color", "red").await?.version; // on the disk when this returns
//! kv.close().await?;
//!
//! let kv = kv_redb::Config::new(&file).open().await?;
//! assert_eq!(kv.get("color").await?.unwrap().version, seen);
//! # kv.close().await
//! # }
//! ```
//!
//! # What maps onto what
//! | here | is |
//! |---|---|
//! | data | one table: whole name, prefix and key, to version, expiry, lease and the raw value; values from 1 KiB in a second one, by version |
//! | version, fencing token | one counter of the file, saved in the same commit as what it numbers; each opening counts on from the wall clock's microseconds at least: none is given out twice, also not by a file that was put back from an older copy, or made anew |
//! | TTL | an index by expiry; reads and conditions see an expired key as missing at once, the writer deletes it |
//! | lease, lock | a row while it lives; its deadline, and the queue of a lock, in memory |
//! | watch | a [`Hub`](kv_core::backend::Hub) for each prefix, told in order, after the commit and before the caller |
//! | `transact`, `delete_tree` | one commit, whatever their size |
//! | `list` | pages of 1,000 items or 1 MiB, each of one moment; several of them are not |
//!
//! # One writer
//! Each open file has one thread that writes: it takes all writes that wait, does them in one
//! transaction, flushes it to the disk, tells the watches, and then answers the callers. So
//! callers that write at the same time share a flush, and no flush ever blocks a thread of the
//! executor. A write whose precondition fails leaves no trace, and costs no commit when it is
//! alone. A write that is still queued when its deadline passes is taken back: its error is
//! `Timeout`, and it never happens. One that is being committed then is `OutcomeUnknown`.
//! [`Redb::stats`] counts commits and writes.
//!
//! # Reads
//! A read waits for no writer. After each commit the writer's thread makes one view of the file,
//! before it answers anybody, and all reads look at that view until the next commit. So a read sees
//! the last commit that was answered or a newer one, and none goes back behind another.
//!
//! Where the file is at most half as large as the cache, reads are done at once, on the thread of
//! their caller. That never waits for the disk, nor for a lock that is held while something waits
//! for it: redb drops no page of such a file from its
//! cache, the first read after opening has all pages read once, on another thread, and what a
//! commit writes is in the cache too. A counter below redb would tell if it were otherwise; reads
//! then go the other way again.
//!
//! That other way is a thread of the runtime's pool, which costs a hop of about 10 µs. It is for
//! larger files, of which no one can say whether a page is in memory without reading it, for values
//! of more than 64 KiB, for reads of more than 4,096 rows, and for the first ones after opening.
//! [`Stats::aside`] counts these reads: where there are many, give
//! [`Config::cache_size`] twice the size of the file. A cache of entries in front of redb was not
//! made: it would hold each value twice, and could not answer a listing.
//!
//! `exists` and listings without values read no value of 1 KiB or more, and a write beside a large
//! value does not write that value again.
//!
//! # One process
//! A file is for one process at a time: a second one gets `Unavailable` with the file's name.
//! Within the process any number of clients, with different prefixes, open the same file and share
//! it. The last of them closes the file, and its [`close`](kv_core::driver::Store::close) returns
//! when another process can open it.
//!
//! # Time
//! While the file is open, time is measured by a clock that counts suspend and does not jump. Over
//! a restart it is the machine's wall clock, but never earlier than the last commit: a wall clock
//! that was set back keeps keys for longer, one that was set forward between two openings ends
//! them before their time. Only where the clock was set back *and* the file was put back from an
//! older copy, or made anew, can versions and tokens be given out a second time. A key's TTL counts from the moment at which the writer takes the put
//! up, and a tenth of a second is added to it for the commit. So the key never ends early for a
//! caller that counts from the answer, unless the commit takes longer than that.
//!
//! Leases and locks count from the commit that granted them. Renewals are in memory alone: they
//! cost no commit, and wait for none, however long the commit of a large value, or one on a slow
//! disk, takes. **When the file is opened, the locks and leases in it are over**, with the keys of
//! the leases: a file is for one process at a time, so whoever had them was killed, or left `main`
//! without closing. Tokens go on growing, so that late writes of such a process to other resources
//! can be told apart. While the file is open, the writer's thread gives back what is dropped, also
//! where no runtime is left.
//!
//! # A disk that fails
//! An error of the disk fails the writes of that batch alone, with an error that names the file:
//! `NoSpace` where the disk, or a quota of it, is full. After such an error redb serves nothing
//! until the file is opened again, which finds the last whole commit. The writer does that at
//! once, without letting another process have the file, and so knows whether the batch is there: if not, its error says that nothing was written,
//! else it is `OutcomeUnknown`. Reads, watches, locks and leases go on, and so do writes as soon
//! as there is space: nobody has to reopen anything. Where even opening fails, calls answer with
//! that error, and each write tries again.
//!
//! On a full disk the file can be opened and read, and writes that make room (deletes,
//! revocations, releases) go before those that need some. redb writes each changed page anew, a
//! few pages of 4 KiB each time: where the disk has not even those, deleting is `NoSpace` too, and
//! room has to be made from outside.
//!
//! # A crash, and damage
//! After a crash redb walks the whole file at opening, which takes seconds for each GB; the walk
//! compares all checksums. After an orderly end opening does the same walk, unless
//! [`Config::verify`] is off. Reading compares no checksums: without that walk most damage is
//! never found, and wrong bytes are read as values. [`Config::quick_repair`] saves with each
//! commit what that walk would find out: opening takes milliseconds then, and a lone put twice as
//! long, so it is for files of many GB, with `verify` off.
//!
//! Besides, the content of the tables is checked: a counter, token or time that no store can have
//! reached is `Corrupt` at opening. A key whose version the file has never given out is `Corrupt`
//! for whoever would replace it; deleting the key is the way out.
//!
//! # Differences and limits
//! - Listings over several pages are not of one moment. Everything else of the contract is kept,
//!   and watches tell each change.
//! - A value has at most 16 MiB, since all writers wait for the commit of the largest; a
//!   transaction has at most 4,096 operations and 64 MiB. TTLs of keys are from 10 ms, those of
//!   leases and locks from 1 s, to ten years; an end is acted on within half a second.
//! - The suite runs `value.native` with clients of other prefixes as the foreign tool: redb has no
//!   tool of its own that reads tables of other programs.
//! - Keys that end together, also those of one lease, are cleared away a thousand a commit, with
//!   other writes or between them, so that nobody waits for a million. No read sees them any more;
//!   watches are told of each when it is cleared away. Those that are left when the file is closed
//!   are cleared away when it is opened again.
//! - The file keeps its size when keys are deleted, and uses the space again.
//! - A file that is moved, deleted or replaced under an open store is noticed before each write
//!   and each renewal, and when the path is opened again: all are `Unavailable` until the file is
//!   back or its stores are closed. Locks and leases end by their TTL meanwhile, since another
//!   process may hold them in the file that is there now; until then both hold them. Reads go on
//!   from the file that was opened.
//! - On network file systems the lock that keeps a second process out may not work: use a local
//!   disk.

mod config;
mod core;
mod engine;
mod error;
mod giving;
mod lease;
mod list;
mod lock;
mod names;
mod store;
mod watch;
mod write;

pub use config::Config;
pub use engine::Stats;
pub use store::Redb;

use kv_core::{Kv, Result, StoreUrl, backend::in_open};

/// Opens the store of a URL, as [`Config::from_url`] reads it.
///
/// # Errors
/// Those of [`Config::from_url`] and [`Config::open`].
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("redb"))?).await.map(Kv::new)
}

/// Opens the store of a URL without its handle, for a [`Registry`](kv_core::Registry).
///
/// # Errors
/// Those of [`Config::from_url`] and [`Config::open`].
pub async fn from_url(url: StoreUrl) -> Result<Redb> {
    Config::from_url(url).map_err(in_open("redb"))?.build().await
}
