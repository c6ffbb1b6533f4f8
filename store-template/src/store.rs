//! The backend itself: each call, by the server's own means.

use crate::{
    lock,
    server::{Record, Server},
    watch,
};
use kv_core::{
    Acquired, Bytes, Capabilities, Cursor, Deadline, Directory, Entry, Error, ErrorKind, Expect, Holder, Key,
    ListOptions, LockOptions, Page, PutOptions, ReadOptions, Result, Store, Target, TtlRange, Version,
    WatchOptions, WatchStream, WriteOptions, Written, async_trait,
    backend::{
        Hub, Tasks,
        retry::{RetrySafety, Servers},
    },
};
use std::{future::ready, sync::Arc, time::Duration};

/// A store on one server, below one prefix; clones share the connection.
#[derive(Clone, Debug)]
pub struct Template(Arc<Client>);

#[derive(Debug)]
pub(crate) struct Client {
    // DECIDE: of a cluster all members, by `Servers::new`.
    servers: Servers<Arc<Server>>,
    pub(crate) hub: Hub,
    /// What dropped locks still give back.
    pub(crate) tasks: Tasks,
    prefix: String,
    capabilities: Capabilities,
}

impl Template {
    pub(crate) fn new(server: Arc<Server>, prefix: String) -> Self {
        // DECIDE: what your server can do, learnt from the server where it depends on how it is set up. What you leave
        // as it is, is refused before it reaches you; the suite then checks that it is.
        let ttl = TtlRange::new(Duration::from_millis(1), Duration::from_secs(10 * 365 * 86_400));
        let mut capabilities = Capabilities::new("template");
        capabilities.lock = Some(lock::locking(ttl.clone()));
        capabilities.ttl = Some(ttl);
        capabilities.delete_tree_counts = true;
        let (servers, hub, tasks) = (Servers::one(server), Hub::new(), Tasks::default());
        let client = Arc::new(Client { servers, hub, tasks, prefix, capabilities });
        watch::feed(&client);
        Self(client)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0
    }
}

impl Client {
    pub(crate) fn server(&self) -> &Arc<Server> {
        self.servers.preferred()
    }

    /// Sends one request: a read again until it is answered or its time is over, a write never
    /// again once it may have been done.
    // DECIDE: what each error of your client did. `error.rs` makes a `RequestError` of it, with an
    // `Effect`; an attempt ends by itself at `attempt.patience()`. What the server says of the data
    // (another version) is an answer: `Ok`.
    async fn send<T: Send>(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(&Server) -> T + Send + Sync,
    ) -> Result<T> {
        let attempts = self.servers.run(safety, deadline, |attempt| ready(Ok(request(attempt.server))));
        Ok(attempts.await?.answer)
    }

    /// The server's name of a key. The library's own stand behind a slash that no key has, whatever the prefix.
    // DECIDE: how a key is spelt on your server. What it refuses must be escaped, and nothing else: its own tools shall
    // read what you write. Two keys never get one name.
    fn name(&self, key: &Key) -> String {
        let own = if key.is_internal() { "/" } else { "" };
        format!("{}{own}{key}", self.prefix)
    }

    /// The key of a name; `None` for what is not ours: outside the prefix, not in normal form, or the library's own.
    pub(crate) fn key(&self, name: &str) -> Option<Key> {
        Key::from_stored(name.strip_prefix(&self.prefix)?)
    }

    /// The key of a name that the fallback's locks have; listings and watches of data never ask.
    pub(crate) fn lock_key(&self, name: &str) -> Option<Key> {
        let lock = name.strip_prefix(&self.prefix)?.strip_prefix(lock::BELOW)?;
        Key::from_stored(lock).map(|lock| Key::internal(lock::AREA, &lock))
    }
}

impl Record {
    // DECIDE: what of your server is a version: new with every write, also of the same bytes, and never again after a
    // deletion, a restart or a failover.
    pub(crate) fn entry(self, key: Key) -> Entry {
        Entry::new(key, self.value, Version::new(self.number, 0))
    }
}

#[async_trait]
impl Store for Template {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    // DECIDE, for reads: how your server is asked for an answer that has seen every acknowledged write. A map always has,
    // so that `options.consistency` changes nothing here.
    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let name = self.0.name(key);
        let found = self.0.send(RetrySafety::Read, options.deadline, |server| server.get(&name)).await?;
        Ok(found.map(|record| record.entry(key.clone())))
    }

    // DECIDE, for writes: how the server compares, in the same step as it writes. A put is a `Write`
    // for the retries, since another client may write between two of them; `Repeatable` is what is
    // bound to an id of your own, as a renewal or a release.
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let range = self.0.capabilities.ttl.as_ref().zip(options.ttl);
        let ttl = range.map(|(range, ttl)| range.grant(ttl)).transpose()?;
        let name = self.0.name(key);
        let put =
            |server: &Server| server.write(&name, Some((value.clone(), ttl)), |found| expect.check(found));
        match self.0.send(RetrySafety::Write, options.deadline, put).await?? {
            Some(number) => Ok(Written::new(Version::new(number, 0), ttl)),
            None => Err(Error::new(ErrorKind::Other, "the server answered a put with no number")),
        }
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        let name = self.0.name(key);
        let delete = |server: &Server| server.write(&name, None, |found| expect.check(found));
        Ok(self.0.send(RetrySafety::Write, options.deadline, delete).await??.is_some())
    }

    // DECIDE: a server that seeks by name fetches a page at `from` (`Page::place`), with the limit, without values where
    // `keys_only` says so. One that answers whole is done with `Page::select`.
    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let (start, deadline) = (format!("{}{}", self.0.prefix, directory.start()), options.read.deadline);
        let found = self.0.send(RetrySafety::Read, deadline, |server| server.range(&start)).await?;
        let entries = found.into_iter().filter_map(|(name, record)| Some(record.entry(self.0.key(&name)?)));
        Ok(Page::select(entries, directory, options, from))
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        match target {
            Target::Holder(name) => lock::watch(self, name, options).await,
            Target::Key(_) | Target::Tree(_) => Ok(watch::watch(self, target, options)),
        }
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        lock::lock(self, name, options).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        lock::holder(self, name, options).await
    }

    // DECIDE: what of yours ends with the store: connections, tasks. First comes what locks and leases give back, so that
    // `close` answers when all of it is gone from the server, and says what could not be.
    async fn close(&self) -> Result<()> {
        self.0.tasks.finish().await
    }

    // DECIDE: what else your server does better than the provided methods: several keys in one request (`get_many`),
    // `exists` without the value, `delete_tree` in one step, `transact`, `lease` and `health`.
}
