//! The stroke that damages items of the stores: an attribute makes no sense for a while.

use super::*;
use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder, primitives::Blob, types::AttributeValue,
};
use kv_core::driver::async_trait;
use kv_testsuite::{Troubles, torture::nemesis::Stroke};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

type Item = HashMap<String, AttributeValue>;

/// The kinds of partition, and the attribute that is damaged in each.
const WAYS: [(&str, &str); 6] = [
    ("kv:", "ver"),
    ("kv-lock:", "token"),
    ("kv:", "ends"),
    ("kv-lock:", "owner"),
    ("kv-lease:", "ends"),
    ("kv-lock:", "ends"),
];
/// The attribute that keeps the damaged one's old value.
const ASIDE: &str = "aside";

/// The damages, one way after another, in all tables.
pub struct Damage {
    sdk: Client,
    turns: AtomicUsize,
}

impl Damage {
    pub fn new(sdk: Client) -> Self {
        Self { sdk, turns: AtomicUsize::new(0) }
    }

    /// Returns every item that has this attribute, with the name of its table.
    async fn with(&self, attribute: &str) -> Result<Vec<(String, Item)>, Failure> {
        let mut all = Vec::new();
        let tables = self.sdk.list_tables().send().await?;
        for table in tables.table_names() {
            let scan = self.sdk.scan().table_name(table).consistent_read(true);
            let scan =
                scan.filter_expression("attribute_exists(#a)").expression_attribute_names("#a", attribute);
            let mut items = scan.into_paginator().items().send();
            while let Some(item) = items.next().await {
                all.push((table.clone(), item?));
            }
        }
        Ok(all)
    }

    fn update(&self, table: &str, item: &Item) -> UpdateItemFluentBuilder {
        let update = self.sdk.update_item().table_name(table);
        update.key("p", item["p"].clone()).key("k", item["k"].clone())
    }
}

/// Returns a value that no version, moment, name or token of this library can have.
fn nonsense(attribute: &str) -> AttributeValue {
    match attribute {
        // These are of this library's type, and as far in the future as there are any.
        "ver" => AttributeValue::B(Blob::new([0xff; 16])),
        "token" => AttributeValue::N(u64::MAX.to_string()),
        _ => AttributeValue::Bool(true),
    }
}

/// Sends the update; tells whether its condition was true.
async fn done(update: UpdateItemFluentBuilder) -> Result<bool, Failure> {
    match update.send().await {
        Ok(_) => Ok(true),
        Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

#[async_trait]
impl Troubles for Damage {
    fn known(&self) -> Vec<Stroke> {
        vec![Stroke::Damage]
    }

    async fn begin(&self, _: Stroke, _: usize) -> Result<(), Failure> {
        let (area, attribute) = WAYS[self.turns.fetch_add(1, Ordering::Relaxed) % WAYS.len()];
        let mut count = 0;
        for (table, item) in self.with(attribute).await? {
            if !item["p"].as_s().is_ok_and(|partition| partition.starts_with(area)) {
                continue;
            }
            let was = item[attribute].clone();
            let update = self.update(&table, &item).update_expression("SET #a = :nonsense, #aside = :was");
            let update = update.condition_expression("#a = :was").expression_attribute_names("#a", attribute);
            let update = update.expression_attribute_names("#aside", ASIDE);
            let update = update.expression_attribute_values(":nonsense", nonsense(attribute));
            count += usize::from(done(update.expression_attribute_values(":was", was)).await?);
        }
        if count == 0 { Err(format!("nothing in {area} has {attribute} yet").into()) } else { Ok(()) }
    }

    async fn end(&self, _: Stroke) -> Result<(), Failure> {
        for (table, item) in self.with(ASIDE).await? {
            for (_, attribute) in WAYS.iter().filter(|(_, name)| item.get(*name) == Some(&nonsense(name))) {
                let update = self.update(&table, &item).update_expression("SET #a = :was REMOVE #aside");
                // A value that was written meanwhile stays.
                let update = update.condition_expression("#a = :nonsense AND #aside = :was");
                let update = update.expression_attribute_names("#a", *attribute);
                let update = update.expression_attribute_names("#aside", ASIDE);
                let update = update.expression_attribute_values(":nonsense", nonsense(attribute));
                done(update.expression_attribute_values(":was", item[ASIDE].clone())).await?;
            }
        }
        Ok(())
    }
}
