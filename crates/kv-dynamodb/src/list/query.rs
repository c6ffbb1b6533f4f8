//! Queries a range of sort keys.

use crate::{
    client::{
        Client,
        item::{Asked, ENDS, Found, Item, KEY, PARTITION, VALUE, VERSION, text},
        terms::Terms,
    },
    error::Failure,
    names::{Names, Range},
};
use kv_core::{Consistency, Result, backend::retry::RetrySafety, driver::ReadOptions};

/// The rows that a query found, and the sort key from which the next query begins.
pub(crate) struct Rows {
    pub(crate) rows: Vec<(String, Found)>,
    pub(crate) next: Option<String>,
    /// Counts the items that have no value of ours.
    pub(crate) filtered: u64,
}

/// Reads one page of a range of sort keys.
pub(crate) async fn query(
    client: &Client,
    partition: &str,
    range: &Range,
    most: Option<usize>,
    with_values: bool,
    read: &ReadOptions,
) -> Result<Rows> {
    if range.start > range.end {
        return Ok(Rows { rows: Vec::new(), next: None, filtered: 0 });
    }
    let mut terms = Terms::default();
    let (p, k) = (terms.name(PARTITION), terms.name(KEY));
    let of = terms.value(text(partition));
    let (start, end) = (terms.value(text(&range.start)), terms.value(text(&range.end)));
    let keys = format!("{p} = {of} AND {k} BETWEEN {start} AND {end}");
    let (value, kind) = (terms.name(VALUE), terms.value(text("B")));
    let ours = format!("attribute_type({value}, {kind})");
    let projection = (!with_values).then(|| [k, terms.name(VERSION), terms.name(ENDS)].join(", "));
    let limit = most.map(|most| i32::try_from(most).unwrap_or(i32::MAX));
    let query = || async {
        let asked = Asked::now(&client.time);
        let query = client
            .tables()
            .query()
            .table_name(&client.table)
            .key_condition_expression(&keys)
            .filter_expression(&ours)
            .set_projection_expression(projection.clone())
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .set_limit(limit)
            .consistent_read(consistent(read));
        Ok((query.send().await.map_err(Failure::from)?, asked))
    };
    let (answer, asked) = client.call(RetrySafety::Read, read.deadline, query).await?;
    let name = |item: &Item| item.get(KEY).and_then(|key| key.as_s().ok()).cloned();
    let rows = answer.items().iter().filter_map(|item| Some((name(item)?, asked.found(item)))).collect();
    let next = answer.last_evaluated_key().and_then(name).map(|last| Names::after(&last));
    let filtered = u64::try_from(answer.scanned_count() - answer.count()).unwrap_or(0);
    Ok(Rows { rows, next, filtered })
}

/// Tells whether a read has to see all writes that were acknowledged before it.
pub(super) fn consistent(options: &ReadOptions) -> bool {
    options.consistency == Consistency::Linearizable
}
