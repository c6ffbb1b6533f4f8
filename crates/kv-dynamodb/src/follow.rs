//! A stream's shards, each followed to its end, and what comes after it.

use crate::{
    client::Backoff,
    error::{Failed, Fate},
    shards::{Shard, Shards},
};
use kv_core::Error;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// How often a shard is asked for records. Each shard may be read by two processes, each five times a second.
const POLL: Duration = Duration::from_millis(200);
/// So many records at once: there may be more already.
const MANY: usize = 500;
/// How often the shards are listed while one has ended whose children are not listed yet.
const LIST: Duration = Duration::from_millis(500);

/// Why a request to the stream failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// What is to be read is gone: more than 24 hours old, or the iterator more than 15 minutes.
    Gap,
    Failed(Failed),
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Where one begins to read a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Newest,
    Oldest,
}

/// What was read: records, and where to go on; nowhere at the end of a shard.
pub(crate) type Read<R> = (Vec<R>, Option<String>);

/// The stream of a table.
pub(crate) trait Source: Send + Sync + 'static {
    type Record: Send + 'static;

    /// All shards, those that are closed too.
    fn shards(&self) -> impl Future<Output = Result<Vec<Shard>, Trouble>> + Send;
    fn iterator(&self, shard: &str, begin: Begin) -> impl Future<Output = Result<String, Trouble>> + Send;
    fn records(&self, iterator: &str) -> impl Future<Output = Result<Read<Self::Record>, Trouble>> + Send;
}

/// Who is told what the stream says.
pub(crate) trait Sink<R>: Send + Sync + 'static {
    /// From here on every record is told.
    fn live(&self);
    /// A record, behind those of the same key that came before it.
    fn record(&self, record: R);
    /// The stream could not be read for a while, or not whole: read what is there.
    fn missed(&self);
}

/// Follows the stream until something is in the way that stays.
pub(crate) async fn follow<S: Source>(source: Arc<S>, sink: Arc<impl Sink<S::Record>>) -> Error {
    let mut backoff = Backoff::default();
    let mut again = false;
    loop {
        let end = follow_once(&source, &sink, again).await;
        match end {
            Trouble::Gap => {}
            Trouble::Failed(failed) if failed.fate == Fate::Refused => return failed.error,
            Trouble::Failed(failed) => {
                tracing::debug!(error = %failed.error, "the table's stream is not to be read")
            }
        }
        again = true;
        backoff.pause().await;
    }
}

async fn follow_once<S: Source>(source: &Arc<S>, sink: &Arc<impl Sink<S::Record>>, again: bool) -> Trouble {
    let mut shards = Shards::default();
    let mut readers = JoinSet::new();
    match begin(source, sink, &mut shards).await {
        Ok(begun) => {
            for (id, at) in begun {
                readers.spawn(read(source.clone(), sink.clone(), id, at));
            }
        }
        Err(trouble) => return trouble,
    }
    sink.live();
    if again {
        sink.missed();
    }
    loop {
        let ended = tokio::select! {
            ended = readers.join_next(), if !readers.is_empty() => ended,
            () = tokio::time::sleep(LIST), if shards.awaits_children() || readers.is_empty() => None,
        };
        match ended {
            Some(Ok(Ok(id))) => shards.done(&id),
            Some(Ok(Err(trouble))) => return trouble,
            Some(Err(_)) => return Trouble::Gap,
            None => {}
        }
        let listed = match patiently(sink, || source.shards()).await {
            Ok(listed) => listed,
            Err(trouble) => return trouble,
        };
        for id in shards.next(&listed) {
            match patiently(sink, || source.iterator(&id, Begin::Oldest)).await {
                Ok(at) => drop(readers.spawn(read(source.clone(), sink.clone(), id, Some(at)))),
                Err(trouble) => return trouble,
            }
        }
    }
}

/// Begins at the newest record of every line of shards, and has read once from there: so the places are fixed.
async fn begin<S: Source>(
    source: &Arc<S>,
    sink: &Arc<impl Sink<S::Record>>,
    shards: &mut Shards,
) -> Result<Vec<(String, Option<String>)>, Trouble> {
    let mut begun = Vec::new();
    for id in shards.begin(&source.shards().await?) {
        let at = source.iterator(&id, Begin::Newest).await?;
        let (records, next) = source.records(&at).await?;
        records.into_iter().for_each(|record| sink.record(record));
        begun.push((id, next));
    }
    Ok(begun)
}

/// Reads a shard to its end.
async fn read<S: Source>(
    source: Arc<S>,
    sink: Arc<impl Sink<S::Record>>,
    id: String,
    mut at: Option<String>,
) -> Result<String, Trouble> {
    while let Some(iterator) = at {
        let (records, next) = patiently(&sink, || source.records(&iterator)).await?;
        let many = records.len() >= MANY;
        records.into_iter().for_each(|record| sink.record(record));
        at = next;
        if at.is_some() && !many {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(id)
}

/// Asks until there is an answer; who waits for records is told when the service was away.
async fn patiently<T, R, F>(sink: &Arc<impl Sink<R>>, ask: impl Fn() -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let (mut backoff, mut was_silent) = (Backoff::default(), false);
    loop {
        match ask().await {
            Ok(answer) => {
                if was_silent {
                    sink.missed();
                }
                return Ok(answer);
            }
            Err(Trouble::Failed(failed)) if failed.fate != Fate::Refused => was_silent |= failed.silent,
            Err(trouble) => return Err(trouble),
        }
        backoff.pause().await;
    }
}

#[cfg(test)]
mod tests;
