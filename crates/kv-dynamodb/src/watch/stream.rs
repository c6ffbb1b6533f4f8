//! Reads the table's stream from the service.

use crate::{
    client::{Client, table},
    error::Failure,
    watch::{
        follow::{Begin, Read, ReadError, ShardSource},
        shards::Shard,
    },
};
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType, StreamStatus};
use kv_core::{
    Error, ErrorKind,
    backend::{Mutex, retry::Effect},
    driver::Deadline,
};
use std::{future::Future, sync::Arc, time::Duration};

/// The time without an answer after which a connection is taken to be dead.
const WITHIN: Duration = Duration::from_secs(4);

/// The stream on the service.
pub(crate) struct Stream {
    client: Arc<Client>,
    arn: Mutex<Option<String>>,
}

impl Stream {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client, arn: Mutex::default() }
    }

    fn arn(&self) -> Result<String, ReadError> {
        self.arn.lock().clone().ok_or(ReadError::Gap)
    }

    async fn ask<T, F>(&self, ask: impl Fn() -> F + Send + Sync) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        Ok(self.client.stream(WITHIN, ask).await?)
    }
}

impl ShardSource for Stream {
    type Record = Record;

    /// Finds the table's stream. A stream that was switched off and on is another one, and so is
    /// that of a table that was made anew.
    async fn find(&self, anew: bool) -> Result<(), ReadError> {
        let client = &self.client;
        let described = table::describe(client, Deadline::after(WITHIN)).await;
        let described = described.map_err(|error| {
            let effect = if error.is_lasting() { Effect::Refused } else { Effect::None };
            Failure { is_silent: error.is_transient(), ..Failure::of(effect, error) }
        })?;
        // The table may come back.
        let gone = || Failure::new(Effect::None, ErrorKind::Other, "DynamoDB: the table is gone");
        let described = described.ok_or_else(|| Failure { is_silent: true, ..gone() })?;
        if let Some(why) = table::no_stream(&client.table, &described) {
            return Err(ReadError::Off(Error::new(ErrorKind::Unsupported, why)));
        }
        let arn = described.latest_stream_arn.unwrap_or_default();
        let before = self.arn.lock().replace(arn.clone());
        if anew || before.is_none_or(|before| before == arn) { Ok(()) } else { Err(ReadError::Gap) }
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        let (arn, mut shards, mut from) = (self.arn()?, Vec::new(), None);
        loop {
            let ask = self.client.streams().describe_stream().stream_arn(&arn);
            let ask = ask.set_exclusive_start_shard_id(from);
            let described = self.ask(|| async { ask.clone().send().await.map_err(Failure::from) }).await?;
            let Some(description) = described.stream_description else { return Err(ReadError::Gap) };
            let page = description.shards.unwrap_or_default();
            shards.extend(
                page.into_iter().filter_map(|s| Some(Shard { id: s.shard_id?, parent: s.parent_shard_id })),
            );
            from = description.last_evaluated_shard_id;
            if from.is_none() {
                // There may be a newer stream.
                let is_off = description.stream_status == Some(StreamStatus::Disabled);
                return if is_off { Err(ReadError::Gap) } else { Ok(shards) };
            }
        }
    }

    async fn iterator(&self, shard: &str, begin: Begin) -> Result<String, ReadError> {
        let kind = match begin {
            Begin::Latest => ShardIteratorType::Latest,
            Begin::TrimHorizon => ShardIteratorType::TrimHorizon,
        };
        let ask = self.client.streams().get_shard_iterator().stream_arn(self.arn()?).shard_id(shard);
        let ask = ask.shard_iterator_type(kind);
        let answer = self.ask(|| async { ask.clone().send().await.map_err(Failure::from) }).await?;
        answer.shard_iterator.ok_or(ReadError::Gap)
    }

    async fn records(&self, iterator: &str) -> Result<Read<Record>, ReadError> {
        let ask = self.client.streams().get_records().shard_iterator(iterator);
        let answer = self.ask(|| async { ask.clone().send().await.map_err(Failure::from) }).await?;
        Ok((answer.records.unwrap_or_default(), answer.next_shard_iterator))
    }
}
