//! Deletes trees, by batches.

use crate::{
    client::{
        Client,
        item::{Found, Item, primary_key},
    },
    core::Core,
    error::{Failure, corrupt},
    list::{
        cursor::{PageToken, page_token},
        query::query,
    },
    names::{Names, Range},
    write::turns::{Turn, TurnOf},
};
use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use kv_core::{
    Directory, Result,
    backend::retry::{RetrySafety, outcome_unknown},
    driver::{Batch, Cursor, Deadline, ReadOptions, WriteOptions},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::task::JoinSet;

/// The most keys of one batch of a deletion, and of one request in it.
const DELETED: usize = 200;
const DELETIONS: usize = 25;

/// Does [`Store::delete_tree`](kv_core::driver::Store::delete_tree) for one batch.
pub(crate) async fn delete_batch(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &WriteOptions,
) -> Result<Batch> {
    let Range { start, end } = Names::below(directory);
    let start = page_token(from, directory)?.map_or(start, |token| token.start);
    let read = ReadOptions::default().deadline(options.deadline);
    let (client, partition) = (&core.client, &core.names.data);
    let range = Range { start, end };
    let found = query(client, partition, &range, Some(DELETED), false, &read).await?;
    let ours = |(name, found): (String, Found)| Some((Names::parse(&name)?, found));
    let ours: Vec<_> = found.rows.into_iter().filter_map(ours).collect();
    // Damaged items go with the rest.
    let living = ours.iter().filter(|(_, found)| !found.is_over()).count();
    let deletes = ours.iter().map(|(key, _)| (key, TurnOf::Deletes));
    let _turn = Turn::of(&core.shared.turns, deletes, options.deadline).await;
    let (mut deletions, deleted) = (JoinSet::new(), Arc::<AtomicBool>::default());
    for keys in ours.chunks(DELETIONS) {
        let keys: Vec<_> = keys.iter().map(|(key, _)| primary_key(partition, key.as_str())).collect();
        deletions.spawn(delete_all(client.clone(), keys, deleted.clone(), options.deadline));
    }
    let mut failed = None;
    while let Some(done) = deletions.join_next().await {
        let done = done.unwrap_or_else(|_| Err(corrupt("a deletion ended without an answer")));
        failed = failed.or(done.err());
    }
    match failed {
        // The batch was done in part.
        Some(e) if deleted.load(Ordering::Relaxed) => Err(outcome_unknown(e)),
        Some(e) => Err(e),
        None => Ok(Batch {
            deleted: u64::try_from(living).ok(),
            next: found.next.map(|start| PageToken { size: 0, start }.cursor()),
        }),
    }
}

/// Deletes these keys; sets `deleted` once one of them is deleted.
async fn delete_all(
    client: Arc<Client>,
    keys: Vec<Item>,
    deleted: Arc<AtomicBool>,
    deadline: Deadline,
) -> Result<()> {
    let delete = |key: &Item| {
        let delete = DeleteRequest::builder().set_key(Some(key.clone())).build();
        Ok(WriteRequest::builder()
            .delete_request(delete.map_err(|_| corrupt("the SDK refused a deletion"))?)
            .build())
    };
    let mut left = keys.iter().map(delete).collect::<Result<Vec<_>>>()?;
    while !left.is_empty() {
        let ask = HashMap::from([(client.table.clone(), left.clone())]);
        let write = || async {
            let written =
                client.tables().batch_write_item().set_request_items(Some(ask.clone())).send().await;
            let answer = written.map_err(Failure::from)?;
            let rest = answer.unprocessed_items().and_then(|tables| tables.get(&client.table)).cloned();
            let rest = rest.unwrap_or_default();
            // No deletion was done: the table is throttled.
            if rest.len() == left.len() { Err(Failure::throttled()) } else { Ok(rest) }
        };
        left = client.call(RetrySafety::Write, deadline, write).await?;
        deleted.store(true, Ordering::Relaxed);
    }
    Ok(())
}
