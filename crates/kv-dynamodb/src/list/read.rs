//! Reads keys: one, several, or only whether one exists.

use crate::{
    client::{
        item::{Asked, ENDS, Found, VERSION, primary_key},
        terms::Terms,
    },
    core::Core,
    error::Failure,
    list::{batch_get::read_many, query::consistent},
};
use kv_core::{
    Consistency, Entry, Health, Key, Result,
    backend::retry::RetrySafety,
    driver::{Deadline, ReadOptions},
};
use std::collections::BTreeMap;

/// Does [`Store::get`](kv_core::driver::Store::get).
pub(crate) async fn get(core: &Core, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
    let found = read_item(core, &core.names.data, key.as_str(), &[], options).await?;
    Ok(core.living(key.as_str(), found)?.and_then(|found| found.entry(key.clone())))
}

/// Does [`Store::get_many`](kv_core::driver::Store::get_many).
pub(crate) async fn get_many(core: &Core, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
    let found = read_items(core, &core.names.data, keys.iter().map(Key::as_str), options).await?;
    let entry = |key: &Key| {
        let found = core.living(key.as_str(), found.get(key.as_str()).cloned())?;
        Ok(found.and_then(|found| found.entry(key.clone())))
    };
    keys.iter().map(entry).collect()
}

/// Does [`Store::exists`](kv_core::driver::Store::exists).
pub(crate) async fn exists(core: &Core, key: &Key, options: &ReadOptions) -> Result<bool> {
    let found = read_item(core, &core.names.data, key.as_str(), &[VERSION, ENDS], options).await?;
    match core.living(key.as_str(), found)? {
        None => Ok(false),
        Some(Found { version: Some(_), .. }) => Ok(true),
        // The item is foreign: only its value tells whether it is a key.
        Some(_) => Ok(get(core, key, options).await?.is_some()),
    }
}

/// Does [`Store::health`](kv_core::driver::Store::health).
pub(crate) async fn health(core: &Core, options: &ReadOptions) -> Result<Health> {
    let read = ReadOptions::default().deadline(options.deadline);
    read_item(core, &core.names.data, "\0", &[VERSION], &read).await?;
    // The service has no other version than that of its interface.
    Ok(Health::new("2012-08-10"))
}

/// Asks the service for its time, unless it told it lately.
pub(crate) async fn fresh_time(core: &Core, deadline: Deadline) -> Result<()> {
    if core.client.time.is_stale() {
        let read = ReadOptions::default().consistency(Consistency::Stale).deadline(deadline);
        read_item(core, &core.names.data, "\0", &[VERSION], &read).await?;
    }
    Ok(())
}

/// Reads one item: all of it, or only these attributes.
pub(crate) async fn read_item(
    core: &Core,
    partition: &str,
    key: &str,
    attributes: &[&str],
    options: &ReadOptions,
) -> Result<Option<Found>> {
    let mut terms = Terms::default();
    let projection: Vec<_> = attributes.iter().map(|attribute| terms.name(attribute)).collect();
    let get = || async {
        let asked = Asked::now(&core.client.time);
        let get = core
            .client
            .tables()
            .get_item()
            .table_name(&core.client.table)
            .set_key(Some(primary_key(partition, key)))
            .set_projection_expression((!projection.is_empty()).then(|| projection.join(", ")))
            .set_expression_attribute_names(terms.names())
            .consistent_read(consistent(options));
        Ok((get.send().await.map_err(Failure::from)?, asked))
    };
    let (answer, asked) = core.client.call(RetrySafety::Read, options.deadline, get).await?;
    Ok(answer.item().map(|item| asked.found(item)))
}

/// Reads several items of one partition, by their sort keys.
pub(crate) async fn read_items(
    core: &Core,
    partition: &str,
    keys: impl IntoIterator<Item = &str>,
    options: &ReadOptions,
) -> Result<BTreeMap<String, Found>> {
    read_many(&core.client, partition, keys, consistent(options), options.deadline).await
}
