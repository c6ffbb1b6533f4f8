//! The kv store on Amazon DynamoDB.
//!
//! The promises of the contract, and what keeps them in the table:
//!
//! | promise | in the table |
//! |---|---|
//! | key | an item with the partition key `p` = `kv:` and the prefix, the sort key `k` = the key, and the bytes as `v` |
//! | version | `ver`, 16 bytes: the service's time in microseconds, or one more than the last; and a number nobody else uses |
//! | TTL | `ends`, in milliseconds of the service's time; an item that has ended counts as missing in every answer and condition |
//! | lease | an item of its own in `kv-lease:`, and `lease` at its keys, whose `ends` is moved on with it; `renewal` counts how often |
//! | list, delete_tree | queries of a range of sort keys; batches of 200 deletions |
//! | put, delete | one conditional write |
//! | transact | one TransactWriteItems with a token, by which the service knows a repeat |
//! | watch | the table's stream is joined, then the range is queried, then come the stream's records |
//! | lock | an item in `kv-lock:` with `owner`, `ends`, `token` and `renewal`, taken by one conditional update |
//!
//! # The table
//! [`Config::create`] makes it: paid by request, with a stream of both images, and `ttl` as its TTL. Several stores and other
//! programs can share it; a store sees the partitions of its own prefix alone. A table of another shape is refused.
//!
//! **Stores do not nest.** Each prefix is a partition, so what a store at `in/` holds as `a` is not `in/a` of the store at the
//! root: no call, watch or `delete_tree` of the one meets the other, and their locks are apart. On servers whose prefixes lie
//! in one tree it is one key; a program that relies on that does not move here.
//!
//! The credentials must be allowed, on the table, `dynamodb:DescribeTable`, `GetItem`,
//! `BatchGetItem`, `Query`, `PutItem`, `UpdateItem`, `DeleteItem`, `BatchWriteItem` and
//! `ConditionCheckItem`; also `DescribeTimeToLive`, without which no warning tells that the
//! table's TTL is off. Watches need `DescribeStream`, `GetShardIterator` and `GetRecords` on the
//! table's `stream/*`; [`Config::create`] needs `CreateTable` and `UpdateTimeToLive`. The
//! condition key `dynamodb:LeadingKeys` can confine the credentials to `kv:PREFIX`,
//! `kv-lock:PREFIX` and `kv-lease:PREFIX`.
//!
//! # Time
//! The service keeps no time for its clients: what has ended is deleted hours later. So `ends` is compared with the `Date` of
//! the service's own answers, which has whole seconds; every answer narrows what is known of it. A life is counted from the
//! latest moment that it may be now, and is over at the earliest: nothing ends before its TTL, whatever the dates of clients,
//! and everything within three seconds of it. An item stays in the table for [`Config::slack`] longer, a day, before the
//! service may delete it. Who has had no answer for half a minute asks for the time before a put with a TTL.
//!
//! # Limits
//! * TTLs of three seconds at least; a lease costs a transactional write a key and renewal, in one request up to 99 keys.
//! * A value has 400 KiB less 4 for keys and attributes; a transaction 100 items and 3.6 MiB.
//! * One partition key a store: the service splits it only slowly, so count on 1,000 writes and 3,000 reads of 4 KiB a second;
//!   more prefixes give more. What is above it is throttled; calls ride that out within their deadline.
//! * A listing of several pages shows no one moment; `delete_tree` goes by batches, and its count is that of the keys found.
//! * Locks are not fair, and waiting polls: one request for up to a hundred locks that a store waits for, four times a
//!   second. The record of a lock that was released stays for a day, because it holds the token.
//! * A lock's token is the service's time in milliseconds, as late as it may be, or one more than the last; so it goes up where
//!   the table went back to an older copy too. Who takes a lock that another process was given a moment ago, and knows the time
//!   less well, may need a second request.
//! * Versions of a key go up with its writes. Where it is deleted and made anew within a second by another process, or while
//!   an older put of it hangs, they may go back; none is ever given out twice.
//! * A lease can be used by every handle of its process that was opened on the same table and prefix; not by other processes.
//! * A table with a local index takes 10 GB a prefix; above it writes are [`NoSpace`](kv_core::ErrorKind::NoSpace).
//! * Strongly consistent reads are of one region. A table with replicas in others is refused unless
//!   [`Config::replicas`] says otherwise.
//!
//! # Watches
//! They need the table's stream, with new and old images; without it they are
//! [`Unsupported`](kv_core::ErrorKind::Unsupported), and the error has the command that switches it on. One reader a store
//! polls the stream's shards, five times a second each, for all its watches; AWS lets two processes read a shard at the same
//! time, so watch in few places. Open a store once, and clone it. The stream tells a change within a second or so. The end of
//! a TTL is told by the reader's own timer, once a read has confirmed it. After an outage, where the stream was trimmed, and
//! where the table was deleted and made anew (looked at every five seconds), the difference to a new query is told, then
//! `Synced`. What was made and undone while a watch began may be told after its `Synced`. A stream that is switched off is
//! waited for for a minute, as its view is changed that way; then watches end with `Unsupported`.
//!
//! # Credentials
//! Those of a profile, the environment or a role are had anew, from the files as they are then, once the service refuses those
//! that there are; only what is refused then is [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated), and ends watches.
//! While they cannot be had (the machine's metadata is away), calls are `Unavailable`. Keys in the URL or `Config` stay as
//! they are. The system's certificates are read by the SDK, once a handle.
//!
//! # Runtimes
//! A handle can be used in several runtimes, and outlives each: what it shares is made anew in the next one. Guards and leases
//! are renewed on the runtime where they were got, and are lost with it. Watches are read on the runtime of the first of them:
//! one that stands still (`block_on` now and then) holds up the others.
//!
//! # Retries
//! The SDK's own are off: it would repeat what must not be. Reads, renewals, releases and transactions are repeated within the
//! deadline; so is what was throttled, which took no effect. A repeat of a transaction that is cancelled, after a first request
//! whose answer was lost, is `OutcomeUnknown`: the first may still be done. A put or delete is sent once; when the answer to a put is lost,
//! one read tells whether its version, which is nobody else's, is there. At most 64 requests of a store are under way at once,
//! and beside them 16 of those that keep locks and leases, which never wait behind calls, and 32 of those of a large lease's keys. A put that was answered later than a
//! second after it was sent is told what is left of its TTL.
//!
//! An answer counts as the service's when it has `x-amzn-RequestId`, `x-amz-crc32` or the type `application/x-amz-json-1.0`.
//! Whatever else answers, with whatever status, is as good as no answer.
//!
//! # Other tools
//! An item with `p`, `k` and a binary `v` is a key, whoever wrote it: listed and watched too. Its version is made of its
//! bytes. Write whole items (`PutItem`), so that `ver` goes.
//!
//! An item whose `ver` or `ends`, or a lock's record whose `owner`, `ends` or `token`, is of another type than ours, or lies more
//! than a day in the service's future, is [`Corrupt`](kv_core::ErrorKind::Corrupt) in every call, listing and watch that meets
//! it, before anything is written: delete it, which works, or write it anew. A holder whose record's `owner` is damaged goes on
//! renewing until its own time is over, as nobody else can take the lock; a release that meets it is `Corrupt`, and is tried
//! again in the background until then. An end that is damaged at a key of a lease is written anew by the next renewal.
//!
//! # Emulators
//! It was tried on an emulator, not on AWS. That one's streams have one shard, whose iterators know neither an older copy of
//! the table nor a stream that was switched off; it has no limits of throughput, and takes every signature.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_dynamodb::open("dynamodb://settings/app/?region=eu-central-1&create=true").await?;
//! kv.put("color", "red").await?;
//! # Ok(()) }
//! ```

mod client;
mod config;
mod core;
mod error;
mod lease;
mod list;
mod lock;
mod names;
mod store;
mod watch;
mod write;

pub use config::Config;
pub use store::Dynamo;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `dynamodb://[ACCESS_KEY:SECRET@]TABLE/PREFIX?PARAMETERS`. The parameters are those of [`Config`]: `region`,
/// `endpoint`, `profile`, `session_token`, `create` and `replicas` (`true` or `false`), `slack` (seconds).
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for
/// unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(config::in_open)?).await.map(Kv::new)
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("dynamodb", kv_dynamodb::from_url)`.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Dynamo>> + Send + 'static {
    let config = Config::from_url(url).map_err(config::in_open);
    async move { config?.build().await }
}
