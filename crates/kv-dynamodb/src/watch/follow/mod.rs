//! Follows a stream's shards: reads each to its end, and then its children.

use crate::{
    client::backoff,
    error::Failure,
    watch::shards::{Shard, Shards},
};
use kv_core::{
    Error,
    backend::{
        Backoff, Outage,
        retry::{RequestError, RetrySafety, Servers},
    },
    driver::Deadline,
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// Sets the pause between two requests for records of one shard. The service lets two processes
/// read a shard, each five times a second.
const POLL: Duration = Duration::from_millis(200);
/// The number of records in one answer from which on there may be more at once.
const MANY: usize = 500;
/// Sets the pause between two listings of the shards, while a shard has ended whose children are
/// not listed yet.
const LIST: Duration = Duration::from_millis(500);
/// Sets the pause between listings at other times: of two children of one shard, the service may
/// list one later than the other.
const LIST_ANYWAY: Duration = Duration::from_secs(30);
/// The time after the end of a shard in which every look lists the shards.
const LATELY: Duration = Duration::from_secs(60);
/// Sets the pause between two checks that the stream is still the table's: a table that was
/// deleted and made anew has another stream.
const LOOK: Duration = Duration::from_secs(5);
/// The time that a stream may be off, as it is while its view is changed, before watches end.
const OFF: Duration = Duration::from_secs(60);

/// The reason why a request to the stream failed.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The records are gone, since they are more than 24 hours old, or the iterator is, which the
    /// service drops after 15 minutes.
    Gap,
    /// The stream is switched off; this is the error of watches.
    Off(Error),
    Failed(Failure),
}

impl From<Failure> for ReadError {
    fn from(failed: Failure) -> Self {
        if failed.is_gone { Self::Gap } else { Self::Failed(failed) }
    }
}

/// The place in a shard from which it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Behind its newest record.
    Latest,
    TrimHorizon,
}

/// The records of one answer, and the iterator for the next request; `None` at the end of a shard.
pub(crate) type Read<R> = (Vec<R>, Option<String>);

/// The stream of a table.
pub(crate) trait ShardSource: Send + Sync + 'static {
    type Record: Send + 'static;

    /// Finds the stream, since what was known of it may be out of date. A stream other than the
    /// one before is a gap, unless `anew` is set.
    fn find(&self, anew: bool) -> impl Future<Output = Result<(), ReadError>> + Send;
    /// Lists all shards, closed ones too.
    fn shards(&self) -> impl Future<Output = Result<Vec<Shard>, ReadError>> + Send;
    fn iterator(&self, shard: &str, begin: Begin) -> impl Future<Output = Result<String, ReadError>> + Send;
    fn records(&self, iterator: &str) -> impl Future<Output = Result<Read<Self::Record>, ReadError>> + Send;
}

/// The receiver of what the stream says.
pub(crate) trait RecordHandler<R>: Send + Sync + 'static {
    /// Notes that from here on every record is told.
    fn live(&self);
    /// Takes a record; those of the same key come in their order.
    fn record(&self, record: R);
    /// Notes that the stream could not be read for a while, or not as a whole, so that watches
    /// have to read what is there.
    fn missed(&self);
}

/// The state of an outage that the follower rides out.
struct Ride {
    backoff: Backoff,
    outage: Outage,
    off: Option<Instant>,
    /// Tells whether the stream was followed before.
    again: bool,
}

/// Follows the stream until an error that is known to last.
pub(crate) async fn follow<S: ShardSource>(
    source: Arc<S>,
    sink: Arc<impl RecordHandler<S::Record>>,
) -> Error {
    let outage = Outage::new("reading the table's stream", "dynamodb");
    let mut ride = Ride { backoff: backoff(), outage, off: None, again: false };
    loop {
        let end = follow_once(&source, &sink, &mut ride).await;
        ride.again = true;
        match end {
            ReadError::Gap => {}
            ReadError::Failed(failed) if failed.error.is_lasting() => return failed.error,
            ReadError::Failed(failed) => ride.outage.failed(&failed.error),
            ReadError::Off(why) => {
                ride.outage.failed(&why);
                if ride.off.get_or_insert_with(Instant::now).elapsed() >= OFF {
                    return why;
                }
            }
        }
        ride.backoff.pause().await;
    }
}

async fn follow_once<S: ShardSource>(
    source: &Arc<S>,
    sink: &Arc<impl RecordHandler<S::Record>>,
    ride: &mut Ride,
) -> ReadError {
    let mut shards = Shards::default();
    let mut readers = JoinSet::new();
    match begin(source, sink, &mut shards).await {
        Ok(begun) => {
            for (id, at) in begun {
                readers.spawn(read(source.clone(), sink.clone(), id, at));
            }
        }
        Err(error) => return error,
    }
    sink.live();
    if ride.again {
        sink.missed();
    }
    ride.outage.over();
    ride.off = None;
    let (mut look, mut listed_at, mut ended_at) = (Instant::now() + LOOK, Instant::now(), None::<Instant>);
    loop {
        let ended = tokio::select! {
            ended = readers.join_next(), if !readers.is_empty() => ended,
            () = tokio::time::sleep(LIST), if shards.awaits_children() || readers.is_empty() => None,
            () = tokio::time::sleep_until(look) => {
                if let Err(error) = patiently(|| source.find(false)).await {
                    return error;
                }
                ride.backoff.reset();
                look = Instant::now() + LOOK;
                let has_ended_lately = ended_at.is_some_and(|at| at.elapsed() < LATELY);
                if !has_ended_lately && listed_at.elapsed() < LIST_ANYWAY {
                    continue;
                }
                None
            }
        };
        match ended {
            Some(Ok(Ok(id))) => {
                shards.done(&id);
                ended_at = Some(Instant::now());
            }
            Some(Ok(Err(error))) => return error,
            Some(Err(_)) => return ReadError::Gap,
            None => {}
        }
        let listed = match patiently(|| source.shards()).await {
            Ok(listed) => listed,
            Err(error) => return error,
        };
        listed_at = Instant::now();
        for id in shards.next(&listed) {
            match patiently(|| source.iterator(&id, Begin::TrimHorizon)).await {
                Ok(at) => drop(readers.spawn(read(source.clone(), sink.clone(), id, Some(at)))),
                Err(error) => return error,
            }
        }
    }
}

/// Begins at the newest record of every line of shards, and reads once from there, which fixes the
/// positions.
async fn begin<S: ShardSource>(
    source: &Arc<S>,
    sink: &Arc<impl RecordHandler<S::Record>>,
    shards: &mut Shards,
) -> Result<Vec<(String, Option<String>)>, ReadError> {
    source.find(true).await?;
    let mut begun = Vec::new();
    for id in shards.begin(&source.shards().await?) {
        let at = source.iterator(&id, Begin::Latest).await?;
        let (records, next) = source.records(&at).await?;
        records.into_iter().for_each(|record| sink.record(record));
        begun.push((id, next));
    }
    Ok(begun)
}

/// Reads a shard to its end.
async fn read<S: ShardSource>(
    source: Arc<S>,
    sink: Arc<impl RecordHandler<S::Record>>,
    id: String,
    mut at: Option<String>,
) -> Result<String, ReadError> {
    while let Some(iterator) = at {
        let (records, next) = patiently(|| source.records(&iterator)).await?;
        let many = records.len() >= MANY;
        records.into_iter().for_each(|record| sink.record(record));
        at = next;
        if at.is_some() && !many {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(id)
}

/// Asks until there is an answer. If the service was away, the answer is a gap, so that reading
/// begins anew: the service may have come back as an older copy of itself.
async fn patiently<T, F>(ask: impl Fn() -> F + Sync) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, ReadError>> + Send,
{
    let (ask, was_silent) = (&ask, &AtomicBool::new(false));
    let attempt = |_| async move {
        match ask().await {
            Err(ReadError::Failed(failure)) => {
                was_silent.fetch_or(failure.is_silent, Ordering::Relaxed);
                Err(RequestError::from(failure))
            }
            answer => Ok(answer),
        }
    };
    let stream = Servers::one(()).with_backoff(backoff());
    let answered = stream.run(RetrySafety::Read, Deadline::NEVER, attempt).await;
    let answer = answered.map_err(|error| ReadError::Failed(Failure::refused(error)))?.answer?;
    if was_silent.load(Ordering::Relaxed) { Err(ReadError::Gap) } else { Ok(answer) }
}

#[cfg(test)]
mod tests;
