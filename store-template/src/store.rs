//! The backend itself: each call, by the server's own means.

use crate::{
    lock,
    server::{Record, Server},
    watch,
};
use kv_core::{
    backend::{Hub, Tasks},
    *,
};
use std::{sync::Arc, time::Duration};

/// A store on one server, below one prefix; clones share the connection.
#[derive(Clone, Debug)]
pub struct Template(Arc<Client>);

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
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
        let client =
            Arc::new(Client { server, hub: Hub::new(), tasks: Tasks::default(), prefix, capabilities });
        watch::feed(&client);
        Self(client)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0
    }
}

impl Client {
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
    async fn get(&self, key: &Key, _: &ReadOptions) -> Result<Option<Entry>> {
        let found = self.0.server.get(&self.0.name(key));
        Ok(found.map(|record| record.entry(key.clone())))
    }

    // DECIDE, for writes: which failures of your client mean that the request never left (`Unavailable`, `Timeout`) and
    // which that nobody knows (`OutcomeUnknown`). Never send a write again: between the two another client may have
    // written. And have the server compare, in the same step as it writes.
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let range = self.0.capabilities.ttl.as_ref().zip(options.ttl);
        let ttl = range.map(|(range, ttl)| range.grant(ttl)).transpose()?;
        let name = self.0.name(key);
        match self.0.server.write(&name, Some((value, ttl)), |found| expect.check(found))? {
            Some(number) => Ok(Written::new(Version::new(number, 0), ttl)),
            None => Err(Error::new(ErrorKind::Other, "the server answered a put with no number")),
        }
    }

    async fn delete(&self, key: &Key, expect: Expect, _: &WriteOptions) -> Result<bool> {
        let deleted = self.0.server.write(&self.0.name(key), None, |found| expect.check(found))?;
        Ok(deleted.is_some())
    }

    // DECIDE: a server that seeks by name fetches a page at `from` (`Page::place`), with the limit, without values where
    // `keys_only` says so. One that answers whole is done with `Page::select`.
    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let found = self.0.server.range(&format!("{}{}", self.0.prefix, directory.start()));
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
