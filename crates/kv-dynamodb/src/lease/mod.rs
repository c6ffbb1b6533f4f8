//! Leases: a record each, and its keys, which are renewed with it.

pub(crate) mod keep;
mod renew;

use crate::{
    client::{
        Client, Lane, corrupt,
        item::{ENDS, LEASE, RENEWAL, VERSION, number, text, versioned},
        terms::Terms,
        unknown_whether,
    },
    error::{Failure, code},
    lease::keep::{Prolonged, Renewal, delete, prolong},
    store::Inner,
    write::turns::{Turn, TurnOf},
};
use kv_core::{
    Deadline, Error, ErrorKind, Key, LeaseId, LeaseOptions, Leased, Result, Version,
    backend::{
        Alive, Instant, Mutex,
        retry::{Answered, RetrySafety},
        unique,
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};
use tokio::task::JoinSet;

/// The leases of this store, by whichever handle of this process they were made.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<String, Weak<Lease>>>);

impl Leases {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Weak<Lease>>> {
        self.0.lock()
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
    client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the record and the keys have.
    to: Renewal,
    /// How many renewals were begun.
    begun: u64,
    /// Until then, by our own clock, it is ours for certain.
    held_until: Instant,
    over: bool,
    /// How many renewals in a row have not found the key.
    keys: HashMap<Key, u8>,
    /// Those that were put since the last renewal began.
    put: HashSet<Key>,
}

impl Lease {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// When a key ends that is put under it now, and by which renewal.
    pub(crate) fn ends(&self) -> Result<Renewal> {
        let state = self.state();
        let held = !state.over && self.client.time.local().now() < state.held_until;
        if held { Ok(state.to) } else { Err(over(&self.id)) }
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

    /// After a put of a key that ends by this renewal: takes it back if the lease was revoked meanwhile, and has it end with
    /// the others if a later renewal has passed it by.
    pub(crate) async fn is_whole(&self, inner: &Inner, key: &Key, version: Version, by: u64) -> Result<()> {
        let deadline = Deadline::default();
        if self.state().over {
            let mut terms = Terms::default();
            let (name, version) = (terms.name(VERSION), terms.value(versioned(version)));
            let _turn = Turn::of(&inner.shared.turns, [(key, TurnOf::Deletes)], deadline).await;
            let condition = format!("{name} = {version}");
            delete(inner, Lane::LeaseKeys, &inner.names.data, key.as_str(), &condition, &terms, deadline)
                .await?;
            return Err(over(&self.id));
        }
        self.add(key)?;
        let is_left_to_renewals = self.is_left_to_renewals(key, by);
        // It may be there, or have ended.
        let lost = |_| unknown_whether("the lease was lost while the key was put under it");
        let (to, now) = (self.ends().map_err(lost)?, self.client.time.latest());
        if is_left_to_renewals {
            return Ok(());
        }
        let ours = |terms: &mut Terms| {
            let (name, version) = (terms.name(VERSION), terms.value(versioned(version)));
            format!("{name} = {version} AND {}", terms.lives(now))
        };
        match prolong(inner, Lane::LeaseKeys, &inner.names.data, key.as_str(), to, ours, deadline).await? {
            Prolonged::Done => Ok(()),
            // By a renewal that was under way.
            Prolonged::Hindered(Some(found))
                if found.version == Some(version) && found.is_renewed(to.number) =>
            {
                Ok(())
            }
            Prolonged::Hindered(_) => Err(unknown_whether(
                "the put took so long that the key ended, or was written by another, before it was renewed",
            )),
        }
    }

    /// Whether the next renewal comes in time; one that is under way looks at the key when it is done.
    fn is_left_to_renewals(&self, key: &Key, by: u64) -> bool {
        let mut state = self.state();
        let is_newest = state.to.number == by;
        if is_newest {
            state.put.insert(key.clone());
        }
        is_newest
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
                let _turn = Turn::of(&inner.shared.turns, [(&key, TurnOf::Deletes)], deadline).await;
                delete(&inner, Lane::LeaseKeys, &inner.names.data, key.as_str(), &ours, &terms, deadline)
                    .await
            });
        }
        let mut failed = None;
        while let Some(deleted) = deletions.join_next().await {
            let deleted = deleted.unwrap_or_else(|_| Err(corrupt("a deletion ended without an answer")));
            failed = failed.or(deleted.err());
        }
        let mut terms = Terms::default();
        let exists = format!("attribute_exists({})", terms.name(ENDS));
        let record =
            delete(&inner, Lane::KeepAlive, &inner.names.leases, &self.id, &exists, &terms, deadline).await;
        if let Some(e) = failed {
            return Err(e);
        }
        match record? {
            Answered { answer: Some(found), .. } => Ok(!found.is_over(&self.client.time)),
            Answered { answer: None, is_repeat: false } => Ok(false),
            // An earlier attempt, whose answer was lost, has deleted it; before its end for certain, or nobody knows.
            _ if self.client.time.local().now() < self.state().held_until => Ok(true),
            _ => Err(unknown_whether("whether the lease was alive until then is not known")),
        }
    }
}

/// [`Store::lease`].
pub(crate) async fn lease(inner: &Arc<Inner>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    inner.fresh_time(options.deadline).await?;
    let (each_request, time) = (options.each_request, &inner.client.time);
    let (granted, to) = (time.local().now(), Renewal { ends: time.end_of(ttl), number: 0 });
    let lease = Arc::new(Lease {
        id: format!("{:016x}{:016x}", unique(), unique()),
        client: inner.client.clone(),
        state: Mutex::new(State {
            to,
            begun: to.number,
            held_until: granted + life(ttl),
            over: false,
            keys: HashMap::new(),
            put: HashSet::new(),
        }),
    });
    inner.shared.leases.add(&lease);
    let revoke = inner.tasks.undo(lease.clone().revoke(inner.clone(), each_request));
    put_record(inner, &lease.id, to, options.deadline).await?;
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

async fn put_record(inner: &Inner, id: &str, to: Renewal, deadline: Deadline) -> Result<()> {
    let mut terms = Terms::default();
    let is_new = format!("attribute_not_exists({})", terms.name(ENDS));
    let mut record = Inner::key(&inner.names.leases, id);
    record.extend(inner.ends(to.ends));
    record.insert(RENEWAL.to_owned(), number(to.number));
    let put = || async {
        let put = inner
            .client
            .tables
            .put_item()
            .table_name(&inner.client.table)
            .set_item(Some(record.clone()))
            .condition_expression(&is_new)
            .set_expression_attribute_names(terms.names());
        match put.send().await {
            // The id is nobody else's: an earlier attempt has put it.
            Err(e) if code(&e) != Some("ConditionalCheckFailedException") => Err(Failure::from(e)),
            _ => Ok(()),
        }
    };
    inner.client.call(RetrySafety::Repeatable, deadline, put).await
}
