//! The options that the handle hands down to the store: each TTL as granted, and the deadline of
//! the call.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Key, Kv, Locking, Result, TtlRange,
    Written,
    driver::{
        Acquired, Cursor, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions, Page, PutOptions,
        ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream, Write, WriteOptions, async_trait,
    },
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
/// The TTL that is asked for. Keys, leases and locks round it in three ways.
const ASKED: Duration = Duration::from_millis(3_200);

/// A TTL that was handed down, and the deadline.
type Noted = (Option<Duration>, Duration);

/// Notes the TTL and the time of each request, and refuses it.
#[derive(Clone, Debug)]
struct Noting {
    capabilities: Capabilities,
    noted: Arc<Mutex<Vec<Noted>>>,
}

impl Noting {
    fn new() -> Self {
        let range = |unit| {
            let mut range = TtlRange::new(unit, 100 * SECOND);
            range.unit = unit;
            Some(range)
        };
        let mut capabilities = Capabilities::new("noting");
        (capabilities.ttl, capabilities.lease) = (range(2 * SECOND), range(3 * SECOND));
        capabilities.lock = range(5 * SECOND).map(Locking::new);
        (capabilities.max_txn_ops, capabilities.max_txn_bytes) = (8, 1_000);
        Self { capabilities, noted: Arc::default() }
    }

    fn note<T>(&self, ttl: Option<Duration>, within: Duration) -> Result<T> {
        self.noted.lock().unwrap().push((ttl, within));
        Err(Error::new(ErrorKind::PermissionDenied, "noted"))
    }

    /// Returns the notes since it was asked last.
    fn noted(&self) -> Vec<(Option<Duration>, Duration)> {
        std::mem::take(&mut *self.noted.lock().unwrap())
    }
}

#[async_trait]
impl Store for Noting {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn get(&self, _: &Key, _: &ReadOptions) -> Result<Option<Entry>> {
        Ok(None)
    }
    async fn put(&self, _: &Key, _: Bytes, _: Expect, options: &PutOptions) -> Result<Written> {
        self.note(options.ttl, options.deadline.within())
    }
    async fn delete(&self, _: &Key, _: Expect, options: &WriteOptions) -> Result<bool> {
        self.note(None, options.deadline.within())
    }
    async fn list(&self, _: &Directory, _: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
        self.note(None, options.read.deadline.within())
    }
    async fn watch(&self, _: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.note(None, options.each_request)
    }
    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        for write in transaction.writes {
            if let Write::Put { options, .. } = write {
                drop(self.note::<()>(options.ttl, options.deadline.within()));
            }
        }
        self.note(None, options.deadline.within())
    }
    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.note(Some(ttl), options.deadline.within())
    }
    async fn lock(&self, _: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.note(Some(options.ttl), options.each_request)
    }
}

#[track_caller]
fn refused<T>(answer: Result<T>) {
    assert_eq!(answer.err().expect("it is refused").kind(), ErrorKind::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_is_rounded_once_and_handed_down_with_the_deadline() {
    let (store, seven) = (Noting::new(), 7 * SECOND);
    let kv = Kv::new(store.clone()).with_deadline(seven);
    let fence = Fence::new(Key::parse("l").unwrap(), 1, "");
    let (key, stays) = (Some(4 * SECOND), None);

    refused(kv.put("a", "").ttl(ASKED).await);
    refused(kv.put("a", "").deadline(SECOND).await);
    assert_eq!(store.noted(), [(key, seven), (stays, SECOND)]);
    // A write that depends on a lock is a transaction of the store.
    refused(kv.put("a", "").ttl(ASKED).fenced(&fence).await);
    assert_eq!(store.noted(), [(key, seven), (None, seven)]);
    let both = kv.transact().then(kv.put("a", "").ttl(ASKED).deadline(SECOND)).then(kv.put("b", ""));
    refused(both.deadline(9 * SECOND).await);
    assert_eq!(store.noted(), [(key, 9 * SECOND), (stays, 9 * SECOND), (None, 9 * SECOND)]);

    refused(kv.update("a", |_| Ok("v")).ttl(ASKED).await);
    assert_eq!(store.noted(), [(key, seven)]);
    // Its marker lives as long as the key.
    refused(kv.update("a", |_| Ok("v")).ttl(ASKED).exactly_once().await);
    let half = seven / 2;
    assert_eq!(store.noted(), [(key, half), (key, half), (None, half)]);

    refused(kv.lease(ASKED).await);
    assert_eq!(store.noted(), [(Some(6 * SECOND), seven)]);
    refused(kv.new_lock("l").ttl(ASKED).try_acquire().await);
    refused(kv.new_lock("l").ttl(ASKED).acquire().await);
    refused(kv.new_lock("l").ttl(ASKED).acquire_within(SECOND).await);
    assert_eq!(store.noted(), [(Some(5 * SECOND), seven); 3]);
}
