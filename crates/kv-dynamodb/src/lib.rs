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
//! [`Config::create`] makes the table: paid by request, with a stream of both images, and `ttl` as
//! its TTL. Several stores and other programs can share it; a store sees the partitions of its own
//! prefix alone. A table of another shape is refused.
//!
//! **Stores do not nest.** Each prefix is a partition, so what a store at `in/` holds as `a` is
//! not `in/a` of the store at the root: no call, watch or `delete_tree` of the one meets the
//! other, and their locks are apart. On servers whose prefixes lie in one tree the two are one
//! key; a program that relies on that cannot move to this backend.
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
//! The service keeps no time for its clients: it deletes an item hours after its end. So `ends` is
//! compared with the `Date` of the service's own answers, which has whole seconds; every answer
//! narrows the bounds between which the service's time is known to be. An end is set by the latest
//! time that it may be now, and is taken as passed by the earliest. So nothing ends before its
//! TTL, whatever the dates of clients, and everything ends at most three seconds and a hundredth of
//! its TTL after it. An item
//! stays in the table for [`Config::slack`] longer, a day, before the service may delete it. A
//! client that has had no answer for half a minute asks for the time before a put with a TTL and
//! before a write with a condition, and after an hour before every put. A proxy that sets a `Date`
//! of its own in the service's answers becomes the clock.
//!
//! # Limits
//! * TTLs are at least three seconds. A renewal of a lease costs a write for each of its keys: a
//!   transactional one, all in one request, for up to 99 keys, and for more keys a request for
//!   each. A lease is renewed each third of its TTL, and a partition takes 1,000 writes a second:
//!   so it can hold about 250 keys for each second of its TTL.
//! * A value has at most 396 KiB: 400 KiB less 4 for keys and attributes. A transaction has at
//!   most 100 items and 3.6 MiB.
//! * A store is one partition key, which the service splits only slowly: count on 1,000 writes and
//!   3,000 reads of 4 KiB a second. More prefixes give more. The service throttles what is above
//!   that; calls ride this out within their deadline.
//! * A listing of several pages is not of one moment. `delete_tree` goes by batches, and counts
//!   the keys that it found.
//! * Locks are not fair, and contenders poll: one request for up to a hundred locks that a store
//!   waits for, four times a second. The record of a released lock stays for a day, because it
//!   holds the token. A contender that leaves without an answer to a request sets that token, once
//!   the lock is free, so that the request gets no lock when it arrives later; until then, and for
//!   the lock's TTL at most, it asks about twice a second.
//! * A lock's token is the service's time in milliseconds, at the latest that it may be, or one
//!   more than the last token; so tokens go up even where the table went back to an older copy. A
//!   client that takes a lock that another process acquired a moment ago, and knows the time less
//!   well than that process, may need a second request.
//! * Versions of a key go up with its writes. Where the key is deleted and made anew within a
//!   second by another process, or while an older put of it hangs, they may go back; none is ever
//!   given out twice. The second grows by a hundredth of the time for which the process that wrote
//!   it first had heard no answer: by 36 seconds at most, after an hour.
//! * A lease can be used by every handle of its process that was opened on the same table and
//!   prefix, and by no other process.
//! * A table with a local index takes 10 GB for each prefix; writes beyond that are
//!   [`NoSpace`](kv_core::ErrorKind::NoSpace).
//! * Strongly consistent reads are of one region. A table with replicas in other regions is
//!   refused unless [`Config::replicas`] allows it.
//!
//! # Watches
//! Watches need the table's stream, with new and old images; without it they are
//! [`Unsupported`](kv_core::ErrorKind::Unsupported), and the error has the command that switches
//! it on. Each store has one reader for each runtime in which it watches. The reader polls the
//! stream's shards, five times a second each, for all watches there. AWS lets two processes read a
//! shard at the same time, so watch in few places: open a store once, clone it, and watch in one
//! runtime. The stream tells a change within a second or so. The reader's own timer tells the end
//! of a TTL, once a read has confirmed it. Renewals are not told, as they change nothing but the
//! end. After an outage, where the stream was trimmed, and where
//! the table was deleted and made anew (checked every five seconds), the watch is told the
//! difference to a new query, then `Synced`. A change that was made and undone while a watch began
//! may be told after its `Synced`. A stream that is switched off is waited for, for a minute, since
//! its view is changed that way; then watches end with `Unsupported`.
//!
//! # Credentials
//! Credentials of a profile, the environment or a role are fetched anew, from the files as they
//! are then, once the service refuses the old ones; only if it refuses the new ones too, calls are
//! [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated), and watches end. While no credentials
//! can be fetched (the machine's metadata is away), calls are `Unavailable`. Keys in the URL or
//! `Config` stay as they are. The SDK reads the system's certificates, once for each runtime of a
//! handle.
//!
//! # Runtimes
//! A handle can be used in several runtimes, and outlives each. Each has its own connections, its
//! own reader of the stream, and its own line of those who wait for a lock, so that one that ends
//! or stands still (`block_on` now and then) holds up no other. Guards and leases are renewed on
//! the runtime where they were acquired, and are lost with it.
//!
//! # Retries
//! The SDK's own retries are off, since they would repeat requests that must not be repeated.
//! Reads, renewals, releases and transactions are repeated within the deadline; so are throttled
//! requests, which took no effect. If the answer to a transaction was lost, and its repeat is
//! cancelled, the outcome is `OutcomeUnknown`: the first attempt may still be done. A put or
//! delete is sent once; when the answer to a put is lost, one read tells whether its version,
//! which no other write has, is there. At most 64 requests of a store are under way at once in each
//! runtime, besides 16 that keep locks and leases, which never wait behind calls, and 32 for the
//! keys of large leases. Where none of them goes on, as in a program that has begun many and polls
//! none of them, whoever asks gets a connection beyond. A put that was answered more than a second after it was sent is told what
//! is left of its TTL.
//!
//! An answer counts as the service's when it has `x-amzn-RequestId`, `x-amz-crc32` or the type
//! `application/x-amz-json-1.0`. Any other answer, with whatever status, counts as no answer.
//!
//! # Other tools
//! An item with `p`, `k` and a binary `v` is a key, whoever wrote it, and is listed and watched
//! too. The version of a foreign item is made of its bytes. A foreign tool has to write whole
//! items (`PutItem`), so that `ver` goes.
//!
//! An item is damaged if its `ver` or `ends`, or in a lock's record its `owner`, `ends` or
//! `token`, is of another type than this library's, or lies more than a day beyond what this
//! library can have written by the service's time. Every call, listing and watch that meets it is
//! [`Corrupt`](kv_core::ErrorKind::Corrupt), before anything is written. To mend it, delete it,
//! which works, or write it anew. A holder whose record's `owner` is damaged goes on renewing
//! until its own time is over, as nobody else can take the lock; a release that meets such a
//! record is `Corrupt`, and is tried again in the background until then. A damaged end of a lease,
//! or of a key under it, is written anew by the next renewal. A revocation that meets a lease with
//! a damaged end is `Corrupt` and deletes nothing: its keys end by their own ends, which are the
//! lease's.
//!
//! # Emulators
//! This backend was tested on an emulator, not on AWS. The emulator's streams have one shard, and
//! their iterators do not notice that the table went back to an older copy, or that the stream was
//! switched off. It has no limits of throughput, and accepts every signature.
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

use kv_core::{Kv, Result, StoreUrl, backend::in_open};
use std::future::Future;

/// Opens `dynamodb://[ACCESS_KEY:SECRET@]TABLE/PREFIX?PARAMETERS`. The parameters are those of
/// [`Config`]: `raw_prefix`, `region`, `endpoint`, `profile`, `session_token`, `create` and
/// `replicas` (`true` or `false`), `slack` (seconds).
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for
/// what is no URL and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("dynamodb"))?).await.map(Kv::new)
}

/// Opens the store of a URL without its handle, for a [`Registry`](kv_core::Registry):
/// `registry.with("dynamodb", kv_dynamodb::from_url)`.
///
/// # Errors
/// Those of [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Dynamo>> + Send + 'static {
    let config = Config::from_url(url).map_err(in_open("dynamodb"));
    async move { config?.build().await }
}
