//! Leases: a record each, and its keys, which are renewed with it.

use crate::{
    client::{Client, Does, corrupt, unknown_whether},
    clock::Millis,
    error::Failed,
    item::{ENDS, LEASE, VERSION, number, text, unique, versioned},
    keep::{delete, prolong, renewal},
    store::{Inner, MOST_OPS},
    terms::Terms,
    turns::{self, Turn},
    txn::hindered,
};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use kv_core::{backend::Alive, *};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::task::JoinSet;

/// A key that so many renewals in a row did not find under the lease is another's now. The first may have come before the
/// put.
const MISSES: u8 = 2;

/// The leases of this store, by whichever handle of this process they were made.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<String, Weak<Lease>>>);

impl Leases {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Weak<Lease>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &LeaseId) -> Result<Arc<Lease>> {
        let found = self.all().get(id.as_str()).and_then(Weak::upgrade);
        found.ok_or_else(|| over(id.as_str()))
    }

    fn add(&self, lease: &Arc<Lease>) {
        let mut all = self.all();
        all.retain(|_, lease| lease.strong_count() > 0);
        all.insert(lease.id.clone(), Arc::downgrade(lease));
    }
}

fn over(id: &str) -> Error {
    let why = format!("the lease {id} has ended, or is another process's or store's; ask for a new one");
    Error::new(ErrorKind::LeaseLost, why)
}

/// How long it is held after it was granted or renewed, by the rule of [`Alive`].
fn life(ttl: Duration) -> Duration {
    ttl - ttl / 10
}

/// One lease.
#[derive(Debug)]
pub(crate) struct Lease {
    id: String,
    ttl: Duration,
    client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ends: Millis,
    /// Until then, by our own clock, it is ours for certain.
    held_until: backend::Instant,
    over: bool,
    /// How many renewals in a row have not found the key.
    keys: HashMap<Key, u8>,
}

impl Lease {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a key ends that is put under it now.
    pub(crate) fn ends(&self) -> Result<Millis> {
        let state = self.state();
        let held = !state.over && self.client.time.local().now() < state.held_until;
        if held { Ok(state.ends) } else { Err(over(&self.id)) }
    }

    /// A key is about to be put under it.
    pub(crate) fn add(&self, key: &Key) -> Result<()> {
        let mut state = self.state();
        if state.over {
            return Err(over(&self.id));
        }
        state.keys.insert(key.clone(), 0);
        Ok(())
    }

    /// After a put of an item that was made then: takes it back if the lease was revoked meanwhile, and has it end with the
    /// others if that took so long that renewals have passed it by.
    pub(crate) async fn is_whole(
        &self,
        inner: &Inner,
        key: &Key,
        version: Version,
        made: backend::Instant,
    ) -> Result<()> {
        let deadline = Deadline::default();
        if self.state().over {
            let mut terms = Terms::default();
            let (name, version) = (terms.name(VERSION), terms.value(versioned(version)));
            let _turn = Turn::of(&inner.shared.turns, [(key, turns::Does::Deletes)], deadline).await;
            let condition = format!("{name} = {version}");
            delete(inner, &inner.names.data, key.as_str(), &condition, &terms, deadline).await?;
            return Err(over(&self.id));
        }
        self.add(key)?;
        if self.client.time.local().now().since(made) < self.ttl / 4 {
            return Ok(());
        }
        let (ends, now) = (self.ends()?, self.client.time.latest());
        let ours = |terms: &mut Terms| {
            let (name, version) = (terms.name(VERSION), terms.value(versioned(version)));
            format!("{name} = {version} AND {}", terms.lives(now))
        };
        if prolong(inner, Does::Keeps, &inner.names.data, key.as_str(), ends, ours, deadline).await? {
            return Ok(());
        }
        let why = "the put took so long that the key ended, or was written by another, before it was renewed";
        Err(unknown_whether(why))
    }

    /// Has the record and every key end anew.
    async fn renew(self: Arc<Self>, inner: Arc<Inner>, ttl: Duration, each_request: Duration) -> Result<()> {
        let (began, deadline) = (self.client.time.local().now(), Deadline::after(each_request));
        let ends = self.client.time.end_of(ttl);
        let keys: Vec<_> = self.state().keys.keys().cloned().collect();
        // In one request where they fit, so that an outage leaves as much as it can of the TTL.
        if (1..MOST_OPS).contains(&keys.len()) {
            self.renew_together(&inner, &keys, ends, deadline).await?;
        } else {
            self.renew_each(&inner, keys, ends, deadline).await?;
        }
        let mut state = self.state();
        state.ends = state.ends.max(ends);
        state.held_until = state.held_until.max(began + life(ttl));
        Ok(())
    }

    /// The clause of a key that is still under it.
    fn is_under(&self, terms: &mut Terms, now: Millis) -> String {
        let (of, id) = (terms.name(LEASE), terms.value(text(&self.id)));
        format!("{of} = {id} AND {} > {}", terms.name(ENDS), terms.value(number(now)))
    }

    fn renewed(&self, key: &Key, found: bool) {
        let mut state = self.state();
        match state.keys.get_mut(key) {
            Some(misses) if found => *misses = 0,
            Some(misses) if *misses + 1 < MISSES => *misses += 1,
            _ => drop(state.keys.remove(key)),
        }
    }

    fn deleted(&self) -> Error {
        let why = format!("the record of the lease {} was deleted on the service", self.id);
        Error::new(ErrorKind::LeaseLost, why)
    }

    /// All in one transaction, from which keys that are another's now are left out.
    async fn renew_together(
        &self,
        inner: &Inner,
        keys: &[Key],
        ends: Millis,
        deadline: Deadline,
    ) -> Result<()> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        loop {
            let now = self.client.time.latest();
            let mut items = vec![renewal(inner, &inner.names.leases, &self.id, ends, |terms| {
                format!("attribute_exists({})", terms.name(ENDS))
            })?];
            for key in &keys {
                let ours = |terms: &mut Terms| self.is_under(terms, now);
                items.push(renewal(inner, &inner.names.data, key.as_str(), ends, ours)?);
            }
            let token = format!("{:016x}{:016x}", unique(), unique());
            let send = || async {
                let transact =
                    inner.client.tables.transact_write_items().set_transact_items(Some(items.clone()));
                match transact.client_request_token(&token).send().await {
                    Ok(_) => Ok(Vec::new()),
                    Err(e) => match e.as_service_error() {
                        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                            hindered(cancelled.cancellation_reasons())
                        }
                        _ => Err(Failed::from(e)),
                    },
                }
            };
            let hindered = inner.client.call(Does::Keeps, deadline, send).await?;
            if hindered.first().is_some_and(Option::is_some) {
                return Err(self.deleted());
            }
            let mut left = Vec::with_capacity(keys.len());
            for (n, key) in keys.iter().enumerate() {
                let found = hindered.get(n + 1).is_none_or(Option::is_none);
                if found {
                    left.push(*key);
                }
                if !found || hindered.is_empty() {
                    self.renewed(key, found);
                }
            }
            if hindered.is_empty() || left.len() == keys.len() {
                return Ok(());
            }
            keys = left;
        }
    }

    /// One by one.
    async fn renew_each(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        keys: Vec<Key>,
        ends: Millis,
        deadline: Deadline,
    ) -> Result<()> {
        let mut renewals = JoinSet::new();
        for key in keys {
            let (lease, inner) = (self.clone(), inner.clone());
            renewals.spawn(async move {
                let now = lease.client.time.latest();
                let ours = |terms: &mut Terms| lease.is_under(terms, now);
                let (data, key_of) = (&inner.names.data, key.as_str());
                let found = prolong(&inner, Does::KeepsKey, data, key_of, ends, ours, deadline).await?;
                lease.renewed(&key, found);
                Ok(())
            });
        }
        let exists = |terms: &mut Terms| format!("attribute_exists({})", terms.name(ENDS));
        let record = &inner.names.leases;
        if !prolong(inner, Does::Keeps, record, &self.id, ends, exists, deadline).await? {
            return Err(self.deleted());
        }
        while let Some(renewed) = renewals.join_next().await {
            renewed.unwrap_or_else(|_| Err(corrupt("a renewal ended without an answer")))?;
        }
        Ok(())
    }

    /// Ends it, and its keys; `true` when it was there.
    async fn revoke(self: Arc<Self>, inner: Arc<Inner>, each_request: Duration) -> Result<bool> {
        let keys: Vec<_> = {
            let mut state = self.state();
            state.over = true;
            state.keys.keys().cloned().collect()
        };
        let deadline = Deadline::after(each_request);
        let mut deletions = JoinSet::new();
        for key in keys {
            let (lease, inner) = (self.clone(), inner.clone());
            deletions.spawn(async move {
                let mut terms = Terms::default();
                let (of, id) = (terms.name(LEASE), terms.value(text(&lease.id)));
                let ours = format!("{of} = {id}");
                let _turn = Turn::of(&inner.shared.turns, [(&key, turns::Does::Deletes)], deadline).await;
                delete(&inner, &inner.names.data, key.as_str(), &ours, &terms, deadline).await
            });
        }
        let mut failed = None;
        while let Some(deleted) = deletions.join_next().await {
            let deleted = deleted.unwrap_or_else(|_| Err(corrupt("a deletion ended without an answer")));
            failed = failed.or(deleted.err());
        }
        let mut terms = Terms::default();
        let exists = format!("attribute_exists({})", terms.name(ENDS));
        let record = delete(inner.as_ref(), &inner.names.leases, &self.id, &exists, &terms, deadline).await;
        if let Some(e) = failed {
            return Err(e);
        }
        match record? {
            (Some(found), _) => Ok(!found.is_over(&self.client.time)),
            (None, false) => Ok(false),
            // An earlier attempt, whose answer was lost, has deleted it; before its end for certain, or nobody knows.
            (None, true) if self.client.time.local().now() < self.state().held_until => Ok(true),
            (None, true) => Err(unknown_whether("whether the lease was alive until then is not known")),
        }
    }
}

/// [`Store::lease`].
pub(crate) async fn lease(inner: &Arc<Inner>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    inner.fresh_time(options.deadline).await?;
    let (each_request, time) = (options.each_request, &inner.client.time);
    let (granted, ends) = (time.local().now(), time.end_of(ttl));
    let lease = Arc::new(Lease {
        id: format!("{:016x}{:016x}", unique(), unique()),
        ttl,
        client: inner.client.clone(),
        state: Mutex::new(State { ends, held_until: granted + life(ttl), over: false, keys: HashMap::new() }),
    });
    inner.shared.leases.add(&lease);
    let revoke = inner.tasks.undo(lease.clone().revoke(inner.clone(), each_request));
    let mut record = Inner::key(&inner.names.leases, &lease.id);
    record.extend(inner.ends(ends));
    let put = || async {
        let put =
            inner.client.tables.put_item().table_name(&inner.client.table).set_item(Some(record.clone()));
        put.send().await.map_err(Failed::from)
    };
    inner.client.call(Does::Repeatable, options.deadline, put).await?;
    let (renewed, within) = (lease.clone(), Arc::downgrade(inner));
    let alive = Alive::keep(time.local(), ttl, granted, move || {
        let (lease, inner) = (renewed.clone(), within.upgrade());
        async move {
            let inner = inner.ok_or_else(|| over(&lease.id))?;
            lease.renew(inner, ttl, each_request).await
        }
    });
    Ok(Leased { id: LeaseId::new(lease.id.as_str()), ttl, alive, revoke })
}
