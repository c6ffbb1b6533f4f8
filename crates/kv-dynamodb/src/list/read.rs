//! What is read of items: one, several, and what is there of them.

use crate::{
    client::{
        Client, corrupt, damaged,
        item::{Found, Item, KEY, PARTITION, VERSION, text},
        terms::Terms,
    },
    error::Failure,
    store::Inner,
};
use aws_sdk_dynamodb::types::KeysAndAttributes;
use kv_core::{Consistency, Deadline, ReadOptions, Result, backend::retry::RetrySafety};
use std::collections::{BTreeMap, HashMap};

/// The most items of one batch of reads.
const MOST_READS: usize = 100;

pub(crate) fn consistent(options: &ReadOptions) -> bool {
    options.consistency == Consistency::Linearizable
}

impl Inner {
    pub(crate) fn key(partition: &str, key: &str) -> Item {
        HashMap::from([(PARTITION.to_owned(), text(partition)), (KEY.to_owned(), text(key))])
    }

    /// One item, all of it or these attributes.
    pub(crate) async fn item(
        &self,
        partition: &str,
        key: &str,
        attributes: &[&str],
        options: &ReadOptions,
    ) -> Result<Option<Found>> {
        let mut terms = Terms::default();
        let projection: Vec<_> = attributes.iter().map(|attribute| terms.name(attribute)).collect();
        let get = || async {
            let get = self
                .client
                .tables
                .get_item()
                .table_name(&self.client.table)
                .set_key(Some(Self::key(partition, key)))
                .set_projection_expression((!projection.is_empty()).then(|| projection.join(", ")))
                .set_expression_attribute_names(terms.names())
                .consistent_read(consistent(options));
            get.send().await.map_err(Failure::from)
        };
        let answer = self.client.call(RetrySafety::Read, options.deadline, get).await?;
        Ok(answer.item().map(Found::of))
    }

    /// Several items of one partition, by their sort keys.
    pub(crate) async fn items(
        &self,
        partition: &str,
        keys: impl IntoIterator<Item = &str>,
        options: &ReadOptions,
    ) -> Result<BTreeMap<String, Found>> {
        let client = &self.client;
        read_many(client, partition, keys, consistent(options), options.deadline).await
    }

    /// What is there of a key and has not ended; what is damaged is an error.
    pub(crate) fn living(&self, key: &str, found: Option<Found>) -> Result<Option<Found>> {
        let (Some(found), latest) = (found, self.client.time.latest()) else { return Ok(None) };
        if let Some(attribute) = found.damaged_key(latest) {
            return Err(damaged("key", key, attribute));
        }
        if let Some(version) = found.version {
            self.shared.versions.seen(version, latest);
        }
        Ok(Some(found).filter(|found| !found.is_over(&self.client.time)))
    }

    /// The same of the record of a lock: who holds it.
    pub(crate) fn holding(&self, name: &str, found: Option<Found>) -> Result<Option<Found>> {
        let Some(found) = found else { return Ok(None) };
        if let Some(attribute) = found.damaged_lock(self.client.time.latest()) {
            return Err(damaged("lock", name, attribute));
        }
        Ok(Some(found).filter(|found| found.owner.is_some() && !found.is_over(&self.client.time)))
    }

    /// Has the service tell its time, unless it did so lately.
    pub(crate) async fn fresh_time(&self, deadline: Deadline) -> Result<()> {
        if self.client.time.is_stale() {
            let read = ReadOptions::default().consistency(Consistency::Stale).deadline(deadline);
            self.item(&self.names.data, "\0", &[VERSION], &read).await?;
        }
        Ok(())
    }
}

/// Several items of one partition, as few requests as the service allows.
pub(crate) async fn read_many(
    client: &Client,
    partition: &str,
    keys: impl IntoIterator<Item = &str>,
    consistent: bool,
    deadline: Deadline,
) -> Result<BTreeMap<String, Found>> {
    let mut keys: Vec<&str> = keys.into_iter().collect();
    // The service refuses to be asked for one twice.
    keys.sort_unstable();
    keys.dedup();
    let mut all = BTreeMap::new();
    for keys in keys.chunks(MOST_READS) {
        let mut left: Vec<Item> = keys.iter().map(|key| Inner::key(partition, key)).collect();
        while !left.is_empty() {
            let ask = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(consistent).build();
            let ask = ask.map_err(|_| corrupt("the SDK refused a batch of keys"))?;
            let get = || async {
                let get = client.tables.batch_get_item().request_items(&client.table, ask.clone());
                let answer = get.send().await.map_err(Failure::from)?;
                let found = answer.responses().and_then(|tables| tables.get(&client.table));
                // Nothing at all: more was asked than the table gives now.
                if found.is_none_or(Vec::is_empty) && !answer.unprocessed_keys().is_none_or(HashMap::is_empty)
                {
                    return Err(Failure::throttled());
                }
                Ok(answer)
            };
            let mut answer = client.call(RetrySafety::Read, deadline, get).await?;
            let items = answer.responses.as_mut().and_then(|tables| tables.remove(&client.table));
            for item in items.unwrap_or_default() {
                if let Some(key) = item.get(KEY).and_then(|key| key.as_s().ok()) {
                    all.insert(key.clone(), Found::of(&item));
                }
            }
            let rest = answer.unprocessed_keys.as_mut().and_then(|tables| tables.remove(&client.table));
            left = rest.map_or_else(Vec::new, |rest| rest.keys);
        }
    }
    Ok(all)
}
