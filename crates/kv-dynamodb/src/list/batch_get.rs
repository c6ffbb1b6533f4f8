//! Reads many items, in batches.

use crate::{
    client::{
        Client,
        item::{Asked, Found, Item, KEY, primary_key},
    },
    error::{Failure, corrupt},
};
use aws_sdk_dynamodb::types::KeysAndAttributes;
use kv_core::{Result, backend::retry::RetrySafety, driver::Deadline};
use std::collections::{BTreeMap, HashMap};

/// The most items of one batch of reads.
const MOST_READS: usize = 100;

/// Reads several items of one partition, by as few requests as the service allows.
pub(crate) async fn read_many(
    client: &Client,
    partition: &str,
    keys: impl IntoIterator<Item = &str>,
    consistent: bool,
    deadline: Deadline,
) -> Result<BTreeMap<String, Found>> {
    let mut keys: Vec<&str> = keys.into_iter().collect();
    // The service refuses a request that names an item twice.
    keys.sort_unstable();
    keys.dedup();
    let mut all = BTreeMap::new();
    for keys in keys.chunks(MOST_READS) {
        let mut left: Vec<Item> = keys.iter().map(|key| primary_key(partition, key)).collect();
        while !left.is_empty() {
            let ask = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(consistent).build();
            let ask = ask.map_err(|_| corrupt("the SDK refused a batch of keys"))?;
            let get = || async {
                let asked = Asked::now(&client.time);
                let get = client.tables().batch_get_item().request_items(&client.table, ask.clone());
                let answer = get.send().await.map_err(Failure::from)?;
                let found = answer.responses().and_then(|tables| tables.get(&client.table));
                // No item at all: the table is throttled.
                if found.is_none_or(Vec::is_empty) && !answer.unprocessed_keys().is_none_or(HashMap::is_empty)
                {
                    return Err(Failure::throttled());
                }
                Ok((answer, asked))
            };
            let (mut answer, asked) = client.call(RetrySafety::Read, deadline, get).await?;
            let items = answer.responses.as_mut().and_then(|tables| tables.remove(&client.table));
            for item in items.unwrap_or_default() {
                if let Some(key) = item.get(KEY).and_then(|key| key.as_s().ok()) {
                    all.insert(key.clone(), asked.found(&item));
                }
            }
            let rest = answer.unprocessed_keys.as_mut().and_then(|tables| tables.remove(&client.table));
            left = rest.map_or_else(Vec::new, |rest| rest.keys);
        }
    }
    Ok(all)
}
