//! The stream of the table, on the service.

use crate::{
    client::Client,
    error::{Failed, Fate},
    follow::{Begin, Read, Source, Trouble},
    shards::Shard,
    table,
};
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType, StreamStatus};
use kv_core::*;
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a request to the stream may take.
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

    fn arn(&self) -> Result<String, Trouble> {
        self.arn.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Trouble::Gap)
    }

    /// Without an answer for so long, the connection is taken to be dead.
    async fn ask<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        match Deadline::after(WITHIN).limit(Box::pin(self.client.login.with(ask))).await {
            Some(answer) => Ok(answer?),
            None => {
                let why = format!("DynamoDB: no answer of the stream within {WITHIN:?}");
                Err(Failed { silent: true, ..Failed::new(Fate::Unknown, ErrorKind::Timeout, why) }.into())
            }
        }
    }
}

impl Source for Stream {
    type Record = Record;

    /// One that is switched off and on again is another, and so is that of a table that was made anew.
    async fn find(&self, anew: bool) -> Result<(), Trouble> {
        let client = &self.client;
        let described = table::describe(client, Deadline::after(WITHIN)).await;
        let described = described.map_err(|error| {
            let fate = if error.is_lasting() { Fate::Refused } else { Fate::Undone };
            Failed { silent: error.is_transient(), fate, ..Failed::refused(error) }
        })?;
        // It may come back.
        let gone = || Failed::new(Fate::Undone, ErrorKind::Other, "DynamoDB: the table is gone");
        let described = described.ok_or_else(|| Failed { silent: true, ..gone() })?;
        if let Some(why) = table::no_stream(&client.table, &described) {
            return Err(Trouble::Off(Error::new(ErrorKind::Unsupported, why)));
        }
        let arn = described.latest_stream_arn.unwrap_or_default();
        let before = self.arn.lock().unwrap_or_else(PoisonError::into_inner).replace(arn.clone());
        if anew || before.is_none_or(|before| before == arn) { Ok(()) } else { Err(Trouble::Gap) }
    }

    async fn shards(&self) -> Result<Vec<Shard>, Trouble> {
        let (arn, mut shards, mut from) = (self.arn()?, Vec::new(), None);
        loop {
            let ask = self.client.streams.describe_stream().stream_arn(&arn);
            let ask = ask.set_exclusive_start_shard_id(from);
            let described = self.ask(|| async { ask.clone().send().await.map_err(Failed::from) }).await?;
            let Some(description) = described.stream_description else { return Err(Trouble::Gap) };
            let page = description.shards.unwrap_or_default();
            shards.extend(
                page.into_iter().filter_map(|s| Some(Shard { id: s.shard_id?, parent: s.parent_shard_id })),
            );
            from = description.last_evaluated_shard_id;
            if from.is_none() {
                // There may be a newer one.
                let is_off = description.stream_status == Some(StreamStatus::Disabled);
                return if is_off { Err(Trouble::Gap) } else { Ok(shards) };
            }
        }
    }

    async fn iterator(&self, shard: &str, begin: Begin) -> Result<String, Trouble> {
        let kind = match begin {
            Begin::Newest => ShardIteratorType::Latest,
            Begin::Oldest => ShardIteratorType::TrimHorizon,
        };
        let ask = self.client.streams.get_shard_iterator().stream_arn(self.arn()?).shard_id(shard);
        let ask = ask.shard_iterator_type(kind);
        let answer = self.ask(|| async { ask.clone().send().await.map_err(Failed::from) }).await?;
        answer.shard_iterator.ok_or(Trouble::Gap)
    }

    async fn records(&self, iterator: &str) -> Result<Read<Record>, Trouble> {
        let ask = self.client.streams.get_records().shard_iterator(iterator);
        let answer = self.ask(|| async { ask.clone().send().await.map_err(Failed::from) }).await?;
        Ok((answer.records.unwrap_or_default(), answer.next_shard_iterator))
    }
}
