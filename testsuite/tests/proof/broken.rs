//! A store that breaks one promise on purpose, and keeps all others.

use crate::{fault::Fault, lease::Leases, lock, tree, txn, watch};
use kv_core::{backend::Undo, driver::*, *};
use kv_memory::Memory;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{runtime::Handle, sync, task::JoinHandle};

/// The state that the clients of one broken server share.
#[derive(Default)]
pub(crate) struct State {
    /// Counts calls, for faults that show now and then.
    pub(crate) turn: AtomicU64,
    /// The memory of faults, by whole names, the prefix included.
    memory: Mutex<HashMap<String, Remembered>>,
    /// The counts of events that watches have not been asked for yet.
    pub(crate) unread: Mutex<Vec<Weak<AtomicU64>>>,
    /// Tells whether a client was closed.
    closed: AtomicBool,
    /// The undo of each lock that is held.
    pub(crate) releases: Mutex<Vec<Arc<Mutex<Option<Undo>>>>>,
    pub(crate) leases: Leases,
    /// The locks that were taken so far, with the prefix of who took them.
    pub(crate) taken: Mutex<BTreeSet<(Arc<str>, Key)>>,
    /// Holds the right to be under way, where one call alone may be.
    turn_alone: tokio::sync::Mutex<()>,
    /// Tells whether the server has no room.
    pub(crate) full: AtomicBool,
    /// The places of reads that are under way.
    places: OnceLock<sync::Semaphore>,
}

pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that a fault remembers of a key.
#[derive(Clone, Default)]
struct Remembered {
    /// The version that the store under it knows, and how often the key was written since it was
    /// made.
    written: Option<(Version, u64)>,
    /// The entry that the key held before.
    before: Option<Option<Entry>>,
    ttl: Option<Duration>,
    lease: Option<LeaseId>,
    /// Tells whether the key was made through the library.
    ours: bool,
}

/// A runtime, and a task of it that ends with it.
pub(crate) struct First {
    pub(crate) runtime: Handle,
    pub(crate) task: JoinHandle<()>,
}

/// A client of the broken server.
#[derive(Clone)]
pub(crate) struct Broken {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) server: Memory,
    /// Another server, seen under the same prefix.
    pub(crate) beside: Memory,
    /// Tells whether this client is closed.
    pub(crate) closing: Arc<sync::watch::Sender<bool>>,
    /// The runtime that first used this client.
    pub(crate) home: Arc<OnceLock<First>>,
    pub(crate) fault: Fault,
    pub(crate) state: Arc<State>,
    pub(crate) prefix: Arc<str>,
    pub(crate) capabilities: Arc<Capabilities>,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fault == Fault::ShowsItsPassword {
            return f.write_str("Broken(url: memory://user:hunter2@server)");
        }
        f.debug_struct("Broken")
            .field("fault", &self.fault)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Broken {
    pub(crate) fn store(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    /// Returns the runtime that first used this client.
    pub(crate) fn first_runtime(&self) -> &First {
        let here = || First { runtime: Handle::current(), task: tokio::spawn(std::future::pending()) };
        self.home.get_or_init(here)
    }

    /// Tells whether it is the turn of a fault that shows at every `nth` call.
    pub(crate) fn every(&self, nth: u64) -> bool {
        self.state.turn.fetch_add(1, Relaxed) % nth == nth - 1
    }

    /// Waits for a place for a read, and gives way to others then.
    async fn place(&self, deadline: Deadline) -> Result<Option<sync::SemaphorePermit<'_>>> {
        if self.fault != Fault::QueuesAllRuntimes {
            return Ok(None);
        }
        let places = self.state.places.get_or_init(|| sync::Semaphore::new(64));
        let place = deadline.limit(places.acquire()).await.and_then(std::result::Result::ok);
        tokio::task::yield_now().await;
        place.map(Some).ok_or_else(|| Error::new(ErrorKind::Timeout, "all places are taken"))
    }

    /// Waits until no other call is under way; a call that waits in line takes a poll more.
    async fn alone(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.fault != Fault::WaitsForTheUnpolled {
            return None;
        }
        let turn = self.state.turn_alone.lock().await;
        tokio::task::yield_now().await;
        Some(turn)
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        guard(&self.state.memory)
    }

    /// Tells whether the key is hidden, because another tool made it.
    pub(crate) fn hides(&self, key: &Key) -> bool {
        self.fault == Fault::HidesForeignKeys && !self.memory().get(&self.name(key)).is_some_and(|r| r.ours)
    }

    /// Tells whether the key was last put with a TTL.
    pub(crate) fn expires(&self, key: &Key) -> bool {
        self.memory().get(&self.name(key)).is_some_and(|r| r.ttl.is_some())
    }

    pub(crate) fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) async fn all(&self, directory: &Directory) -> Result<Vec<Entry>> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let page = self.store().list(directory, from.as_ref(), &ListOptions::default()).await?;
            all.extend(
                page.items.into_iter().filter_map(|i| if let Item::Entry(e) = i { Some(e) } else { None }),
            );
            from = page.next;
            if from.is_none() {
                return Ok(all);
            }
        }
    }

    /// Returns the key as this server spells it.
    pub(crate) fn spelt(&self, key: &Key) -> Key {
        let spelt = match self.fault {
            Fault::DecodesNames => key.as_str().replace("%20", " ").replace("%41", "A"),
            Fault::FoldsCase => key.as_str().to_lowercase(),
            _ => return key.clone(),
        };
        Key::from_stored(&spelt).unwrap_or_else(|| key.clone())
    }

    /// Returns the version that this server shows for one that the store under it gave.
    pub(crate) fn shown(&self, key: &Key, version: Version) -> Version {
        match self.fault {
            Fault::VersionsRestart => {
                let mut memory = self.memory();
                let written = &mut memory.entry(self.name(key)).or_default().written;
                let n = match *written {
                    Some((known, n)) if known == version => n,
                    Some((_, n)) => n + 1,
                    None => 1,
                };
                *written = Some((version, n));
                Version::new(n, 0)
            }
            Fault::VersionsFall => Version::new(u64::MAX - version.parts().0, 0),
            _ => version,
        }
    }

    /// Returns the precondition as the store under this server knows it, for one with a version
    /// that was shown.
    pub(crate) fn known(&self, key: &Key, expect: Expect) -> Expect {
        let Expect::Version(version) = expect else { return expect };
        Expect::Version(match self.fault {
            Fault::VersionsRestart => match self.memory().get(&self.name(key)).and_then(|r| r.written) {
                Some((known, n)) if n == version.parts().0 => known,
                _ => version,
            },
            Fault::VersionsFall => Version::new(u64::MAX - version.parts().0, 0),
            _ => version,
        })
    }

    pub(crate) fn entry(&self, mut entry: Entry) -> Entry {
        entry.version = self.shown(&entry.key, entry.version);
        match self.fault {
            Fault::CutsValuesAtZero => {
                if let Some(at) = entry.value.iter().position(|b| *b == 0) {
                    entry.value.truncate(at);
                }
            }
            Fault::CutsLargeValues => entry.value.truncate(64 << 10),
            Fault::EncodesValues => entry.value = entry.value.slice(entry.value.len().min(2)..),
            Fault::ReadsValuesAsText => {
                entry.value = String::from_utf8_lossy(&entry.value).into_owned().into()
            }
            _ => {}
        }
        entry
    }

    async fn write(
        &self,
        key: &Key,
        mut value: Bytes,
        expect: Expect,
        options: &PutOptions,
    ) -> Result<Written> {
        if self.fault == Fault::EncodesValues {
            value = [b"v:", &value[..]].concat().into();
        }
        let (mut options, asked) = (options.clone(), options.ttl);
        let name = self.name(key);
        match self.fault {
            Fault::IgnoresTtl => options.ttl = None,
            Fault::RefusesLongTtls if options.ttl.is_some_and(|ttl| ttl > Duration::from_secs(86_400)) => {
                return Err(Error::new(ErrorKind::InvalidArgument, "a TTL of more than a day"));
            }
            Fault::ExpiresSomeEarly if options.ttl.is_some() && self.every(4) => {
                options.ttl = options.ttl.map(|ttl| ttl * 2 / 5);
            }
            Fault::IgnoresTtlOfAtomicPut if expect != Expect::Anything => options.ttl = None,
            Fault::ExpiresEarly => options.ttl = options.ttl.map(|ttl| ttl * 2 / 5),
            Fault::ExpiresLate => {
                options.ttl =
                    options.ttl.map(|ttl| ttl + 4 * self.capabilities.lateness(ttl) + Duration::from_secs(3));
            }
            Fault::KeepsTheOldTtl if options.lease.is_none() => {
                let mut memory = self.memory();
                let remembered = memory.entry(name.clone()).or_default();
                options.ttl = options.ttl.or(remembered.ttl);
                remembered.ttl = options.ttl;
            }
            Fault::KeepsTheOldLease if options.ttl.is_none() => {
                let mut memory = self.memory();
                let remembered = memory.entry(name.clone()).or_default();
                options.lease = options.lease.or_else(|| remembered.lease.clone());
                remembered.lease = options.lease.clone();
            }
            Fault::LeaseForgetsKeys => options.lease = None,
            _ => {}
        }
        let mut written = self.store().put(key, value, expect, &options).await?;
        self.lease_has_put(key, options.lease.as_ref());
        written.version = self.shown(key, written.version);
        if matches!(self.fault, Fault::ExpiresEarly | Fault::ExpiresSomeEarly | Fault::ExpiresLate) {
            written.ttl = asked;
        }
        Ok(written)
    }

    /// Returns the precondition that a fault leaves of this one.
    fn wanted(&self, expect: Expect) -> Expect {
        match (self.fault, expect) {
            (Fault::AcceptsStaleVersions, Expect::Version(_))
            | (Fault::CreatesOverExisting, Expect::Missing) => Expect::Anything,
            _ => expect,
        }
    }

    pub(crate) async fn below(&self, directory: &Directory) -> Result<Vec<Entry>> {
        let all = self.all(&Directory::root()).await?;
        Ok(all.into_iter().filter(|e| e.key.as_str().starts_with(directory.as_str())).collect())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Broken {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        if self.fault == Fault::ClosesForAll && self.state.closed.load(Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "somebody closed it"));
        }
        let _place = self.place(options.deadline).await?;
        let _alone = self.alone().await;
        let key = self.spelt(key);
        let found = self.store().get(&key, options).await?;
        match self.fault {
            Fault::AnswersStale => {
                let memory = self.memory();
                if let Some(before) = memory.get(&self.name(&key)).and_then(|r| r.before.clone()) {
                    return Ok(before);
                }
            }
            Fault::EmptyIsMissing => return Ok(found.filter(|e| !e.value.is_empty())),
            Fault::DirectoriesAreKeys if found.is_none() => {
                let below = self.all(&key.as_directory()).await?;
                return Ok(below.first().map(|e| Entry::new(key, "", e.version)));
            }
            Fault::MissingIsAnError if found.is_none() => {
                return Err(Error::new(ErrorKind::Other, "no such key"));
            }
            Fault::TearsReads => {
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                let now = self.store().get(&key, options).await?;
                return Ok(found.zip(now).map(|(then, now)| Entry::new(key, then.value, now.version)));
            }
            Fault::AliasesForeignNames if found.is_none() => {
                let alias = self.server.raw_get(&format!("{}{key}/", self.prefix));
                return Ok(alias.map(|value| Entry::new(key, value, Version::new(1, 0))));
            }
            _ => {}
        }
        Ok(found.map(|e| self.entry(e)))
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.check_room()?;
        let _alone = self.alone().await;
        let key = &self.spelt(key);
        let expect = self.known(key, self.wanted(expect));
        let read = ReadOptions::default();
        match self.fault {
            Fault::AnswersStale => {
                let before = self.store().get(key, &read).await?;
                self.memory().entry(self.name(key)).or_default().before = Some(before);
            }
            Fault::KeepsVersionOfSameBytes => {
                if let Some(found) = self.store().get(key, &read).await?
                    && found.value == value
                    && expect.check(Some(found.version)).is_ok()
                {
                    return Ok(Written::new(found.version, options.ttl));
                }
            }
            Fault::NeverReplaces if expect == Expect::Anything => {
                if let Some(found) = self.store().get(key, &read).await? {
                    return Ok(Written::new(found.version, None));
                }
            }
            Fault::SwallowsDeepPuts if key.segments().count() > 3 => {
                return Ok(Written::new(Version::new(1, 0), options.ttl));
            }
            Fault::RefusesChildrenOfKeys => {
                for above in key.ancestors().filter_map(Key::from_stored) {
                    if self.store().get(&above, &read).await?.is_some() {
                        return Err(Error::new(ErrorKind::Other, "the parent is a key"));
                    }
                }
            }
            Fault::DropsChildrenOfReplaced => {
                self.store().delete_tree(&key.as_directory(), None, &WriteOptions::default()).await?;
            }
            Fault::ComparesThenWrites if expect != Expect::Anything => {
                expect.check(self.store().get(key, &read).await?.map(|e| e.version))?;
                tokio::time::sleep(Duration::from_millis(1)).await;
                return self.write(key, value, Expect::Anything, options).await;
            }
            Fault::ExpiredStillCount if expect == Expect::Missing => {
                if let Some(ttl) = self.memory().get(&self.name(key)).and_then(|r| r.ttl) {
                    return Err(Error::new(ErrorKind::KeyExists, format!("was there, for {ttl:?}")));
                }
            }
            Fault::SlowReaderBlocksWriters => self.wait_for_readers().await,
            Fault::HidesForeignKeys if self.store().get(key, &read).await?.is_none() => {
                self.memory().entry(self.name(key)).or_default().ours = true;
            }
            _ => {}
        }
        if matches!(self.fault, Fault::ExpiredStillCount | Fault::DropsExpiry) {
            self.memory().entry(self.name(key)).or_default().ttl = options.ttl;
        }
        let again = (self.fault == Fault::WritesTwice).then(|| value.clone());
        let written = self.write(key, value, expect, options).await;
        if let Some(value) = again {
            let (me, key) = (self.clone(), key.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                me.store().put(&key, value, Expect::Anything, &PutOptions::default()).await
            });
        }
        match (self.fault, written) {
            (Fault::TimesOutAfterWriting, Ok(_)) if options.deadline.remaining() < Duration::from_secs(1) => {
                Err(Error::new(ErrorKind::Timeout, "no answer in time"))
            }
            (Fault::RefusedPutsRewrite, Err(e)) if e.is_conflict() => {
                if let Some(found) = self.store().get(key, &read).await? {
                    self.store().put(key, found.value, Expect::Anything, &PutOptions::default()).await?;
                }
                Err(e)
            }
            (Fault::NamesItsRequests, Err(e)) => {
                Err(e.in_call("compare_and_set", self.capabilities.backend, Some(key.as_str())))
            }
            (Fault::ExistsReadsAsModified, Err(e)) if e.kind() == ErrorKind::KeyExists => {
                Err(e.with_kind(ErrorKind::KeyModified))
            }
            (Fault::ModifiedReadsAsExists, Err(e)) if e.kind() == ErrorKind::KeyModified => {
                Err(e.with_kind(ErrorKind::KeyExists))
            }
            (Fault::ModifiedReadsAsUnavailable, Err(e)) if e.is_conflict() => {
                Err(e.with_kind(ErrorKind::Unavailable))
            }
            (Fault::AnswersALaterVersion, Ok(w)) => {
                Ok(Written::new(Version::new(w.version.parts().0 + 1, 0), w.ttl))
            }
            (Fault::TellsNoTtl, Ok(w)) => Ok(Written::new(w.version, None)),
            (_, written) => written,
        }
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.check_removal()?;
        let key = &self.spelt(key);
        let expect = match (self.fault, self.known(key, expect)) {
            (Fault::DeletesAnyVersion, Expect::Version(_)) => Expect::Anything,
            (_, expect) => expect,
        };
        let deleted = self.store().delete(key, expect, options).await;
        self.lease_has_put(key, None);
        match self.fault {
            Fault::VersionsRestart if matches!(deleted, Ok(true)) => {
                self.memory().remove(&self.name(key));
            }
            Fault::DeleteIsAlwaysTrue if deleted.is_ok() => return Ok(true),
            Fault::DeletesGoneVersion
                if deleted.as_ref().is_err_and(|e| e.message().contains("found no key")) =>
            {
                return Ok(true);
            }
            Fault::MissingIsAnError if matches!(deleted, Ok(false)) => {
                return Err(Error::new(ErrorKind::Other, "no such key"));
            }
            Fault::DeletesBelow => {
                self.store().delete_tree(&key.as_directory(), None, options).await?;
            }
            _ => {}
        }
        deleted
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        tree::list(self, directory, from, options).await
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        watch::watch(self, target, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key, options).await?);
        }
        match self.fault {
            Fault::AnswersManyInOrderOfKeys => found.sort_by_key(|e| e.as_ref().map(|e| e.key.clone())),
            Fault::AnswersManyWithoutMissing => found.retain(Option::is_some),
            _ => {}
        }
        Ok(found)
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        if self.fault == Fault::ExistsForDirectories && !self.all(&key.as_directory()).await?.is_empty() {
            return Ok(true);
        }
        Ok(self.get(key, options).await?.is_some())
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        tree::delete_tree(self, directory, from, options).await
    }

    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        txn::transact(self, transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        lock::lease(self, ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(self, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let holder = self.store().lock_holder(name, options).await?;
        Ok(match self.fault {
            Fault::ForgetsTheHoldersValue => holder.map(|h| Holder::new(h.token, "")),
            Fault::ChangesAtOneVersion => holder.map(|h| Holder::new(h.token, h.value)),
            Fault::NamesNoHolder => None,
            _ => holder,
        })
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        lock::locks(self, directory, from, options).await
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        lock::set_holder(self, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        let holder = self.store().lock_holder(name, &ReadOptions::default()).await?;
        match (self.fault, holder) {
            (Fault::BreaksNothing, holder) => Ok(holder.is_some_and(|holder| holder.token == token)),
            (Fault::BreaksAnyToken, Some(holder)) => {
                self.store().break_lock(name, holder.token, options).await
            }
            _ => self.store().break_lock(name, token, options).await,
        }
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.store().adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        if self.fault == Fault::HealthFails {
            return Err(Error::new(ErrorKind::Other, "not well"));
        }
        let health = self.store().health(options).await?;
        Ok(if self.fault == Fault::HealthTellsNothing { Health::default() } else { health })
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.store())
    }

    async fn close(&self) -> Result<()> {
        self.state.closed.store(true, Relaxed);
        self.closing.send_replace(true);
        self.store().close().await
    }
}
