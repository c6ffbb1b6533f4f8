//! Renews a lease: its record, and the keys under it.

use crate::{
    client::{
        Lane,
        cancelled::hindered,
        change::Changed,
        clock::Millis,
        item::{Asked, ENDS, Found, LEASE, text},
        terms::Terms,
        unique_id,
    },
    core::{Core, limits::MOST_OPS},
    error::{Failure, corrupt},
    lease::{
        keep::{life, prolong, renewal},
        state::{Lease, Renewal},
    },
};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use kv_core::{Error, ErrorKind, Key, Result, backend::retry::RetrySafety, driver::Deadline};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// The number of renewals in a row after which a key that they did not find under the lease counts
/// as another's. The first of them may have come before the put.
const MISSES: u8 = 2;

impl Lease {
    /// Prolongs the record and every key.
    pub(super) async fn renew(self: Arc<Self>, core: Arc<Core>, ttl: Duration) -> Result<()> {
        let (began, deadline) = (self.client.time.local().now(), Deadline::after(ttl / 5));
        let ends = self.client.time.end_of(ttl);
        let (to, keys) = {
            let mut state = self.state();
            state.begun += 1;
            state.put.clear();
            (Renewal { ends, number: state.begun }, state.keys.keys().cloned().collect::<Vec<_>>())
        };
        // One request renews them where they fit, so that an outage leaves as much as it can of
        // the TTL.
        if (1..MOST_OPS).contains(&keys.len()) {
            self.renew_together(&core, &keys, to, deadline).await?;
        } else {
            self.renew_each(&core, keys, to, deadline).await?;
        }
        let put = {
            let mut state = self.state();
            state.to = Renewal { ends: state.to.ends.max(ends), number: to.number };
            state.held_until = state.held_until.max(began + life(ttl));
            std::mem::take(&mut state.put)
        };
        // This renewal may have come before the puts of these keys, and the next one may come too
        // late.
        joined(self.renewals(&core, put, to, deadline)).await
    }

    /// Returns the clause that a key is still under the lease. A damaged end does not count as
    /// passed: the renewal writes it anew.
    fn is_under(&self, terms: &mut Terms, now: Millis) -> String {
        let (of, id) = (terms.name(LEASE), terms.value(text(&self.id)));
        format!("{of} = {id} AND {}", terms.lives(now))
    }

    /// Notes whether the renewal found the key under the lease.
    fn renewed(&self, key: &Key, to: Renewal, answer: &Changed) {
        let found = match answer {
            Changed::Done => true,
            // A damaged name of the lease may be put right.
            Changed::Hindered(Some(found)) => found.has_odd_lease() || self.has_renewed(found, to),
            Changed::Hindered(None) => false,
        };
        let mut state = self.state();
        match state.keys.get_mut(key) {
            Some(misses) if found => *misses = 0,
            Some(misses) if *misses + 1 < MISSES => *misses += 1,
            _ => drop(state.keys.remove(key)),
        }
    }

    /// Tells whether an earlier attempt, whose answer was lost, has renewed the key, or a later
    /// renewal has.
    fn has_renewed(&self, found: &Found, to: Renewal) -> bool {
        found.lease.as_deref() == Some(&self.id) && found.is_renewed(to.number)
    }

    /// Returns what it means that the record could not be renewed.
    fn record(&self, found: Option<&Found>, to: Renewal) -> Result<()> {
        if found.is_some_and(|found| found.is_renewed(to.number)) {
            return Ok(());
        }
        // From now on nothing is put under the lease.
        self.state().over = true;
        let why = format!("the record of the lease {} was deleted on the service", self.id);
        Err(Error::new(ErrorKind::LeaseLost, why))
    }

    /// Renews the record and the keys in one transaction. Keys that are another's by now are left
    /// out, and the rest is sent again.
    async fn renew_together(&self, core: &Core, keys: &[Key], to: Renewal, deadline: Deadline) -> Result<()> {
        let mut keys: Vec<&Key> = keys.iter().collect();
        loop {
            let now = self.client.time.latest();
            let mut items = vec![renewal(core, &core.names.leases, &self.id, to, |terms| {
                format!("attribute_exists({})", terms.name(ENDS))
            })?];
            for key in &keys {
                let ours = |terms: &mut Terms| self.is_under(terms, now);
                items.push(renewal(core, &core.names.data, key.as_str(), to, ours)?);
            }
            let token = unique_id();
            let send = || async {
                let asked = Asked::now(&self.client.time);
                let transact =
                    core.client.tables().transact_write_items().set_transact_items(Some(items.clone()));
                match transact.client_request_token(&token).send().await {
                    Ok(_) => Ok(None),
                    Err(e) => match e.as_service_error() {
                        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                            hindered(cancelled.cancellation_reasons(), items.len(), asked).map(Some)
                        }
                        _ => Err(Failure::from(e)),
                    },
                }
            };
            let answered =
                core.client.answer(RetrySafety::Repeatable, Lane::KeepAlive, deadline, send).await?;
            let Some(hindered) = answered.answer else {
                keys.iter().for_each(|key| self.renewed(key, to, &Changed::Done));
                return Ok(());
            };
            let mut hindered = hindered.into_iter();
            if let Some(Some(found)) = hindered.next() {
                return self.record(found.as_ref(), to);
            }
            let mut left = Vec::with_capacity(keys.len());
            for key in &keys {
                match hindered.next().flatten() {
                    Some(found) => self.renewed(key, to, &Changed::Hindered(found)),
                    None => left.push(*key),
                }
            }
            keys = left;
        }
    }

    /// Renews the record and the keys one by one.
    async fn renew_each(
        self: &Arc<Self>,
        core: &Arc<Core>,
        keys: Vec<Key>,
        to: Renewal,
        deadline: Deadline,
    ) -> Result<()> {
        let renewals = self.renewals(core, keys, to, deadline);
        let exists = |terms: &mut Terms| format!("attribute_exists({})", terms.name(ENDS));
        let record = &core.names.leases;
        let answer = prolong(core, Lane::KeepAlive, record, &self.id, to, exists, deadline).await?;
        if let Changed::Hindered(found) = answer {
            self.record(found.as_ref(), to)?;
        }
        joined(renewals).await
    }

    /// Renews keys, each by a request of its own.
    fn renewals(
        self: &Arc<Self>,
        core: &Arc<Core>,
        keys: impl IntoIterator<Item = Key>,
        to: Renewal,
        deadline: Deadline,
    ) -> JoinSet<Result<()>> {
        let mut renewals = JoinSet::new();
        for key in keys {
            let (lease, core) = (self.clone(), core.clone());
            renewals.spawn(async move {
                let now = lease.client.time.latest();
                let ours = |terms: &mut Terms| lease.is_under(terms, now);
                let (data, key_of) = (&core.names.data, key.as_str());
                let answer = prolong(&core, Lane::LeaseKeys, data, key_of, to, ours, deadline).await?;
                lease.renewed(&key, to, &answer);
                Ok(())
            });
        }
        renewals
    }
}

async fn joined(mut renewals: JoinSet<Result<()>>) -> Result<()> {
    while let Some(renewed) = renewals.join_next().await {
        renewed.unwrap_or_else(|_| Err(corrupt("a renewal ended without an answer")))?;
    }
    Ok(())
}
