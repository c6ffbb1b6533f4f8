//! The table's stream, read once for all watches of a store.

use crate::{
    client::{Backoff, Client},
    clock::Millis,
    ends::{Ends, Place},
    error::{Failed, Fate, code},
    follow::{Begin, Read, Sink, Source, Trouble, follow},
    item::{Attribute, Found, KEY, PARTITION},
    lock,
    names::Names,
    shards::Shard,
    store::read_many,
    table,
};
use aws_sdk_dynamodbstreams::types::{AttributeValue, Record, ShardIteratorType, StreamStatus};
use kv_core::{backend::Hub, *};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::watch, task::AbortHandle};

/// How long a request to the stream may take.
const WITHIN: Duration = Duration::from_secs(4);

/// The one reader of the stream, which runs while somebody watches.
pub(crate) struct Feed {
    client: Arc<Client>,
    names: Names,
    hub: Hub,
    reading: Mutex<Weak<Reading>>,
}

/// A share in the reader: it ends with the last of them.
pub(crate) struct Reading {
    tasks: [AbortHandle; 2],
    state: watch::Receiver<State>,
    ends: Arc<Ends>,
}

#[derive(Debug)]
enum State {
    Beginning,
    /// Every change from here on is told.
    Live,
    Over(Error),
}

impl Feed {
    pub(crate) fn new(client: Arc<Client>, names: Names, hub: Hub) -> Self {
        Self { client, names, hub, reading: Mutex::default() }
    }

    /// Takes part in reading, and begins it if nobody does.
    pub(crate) fn join(&self) -> Arc<Reading> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) =
            reading.upgrade().filter(|there| !matches!(&*there.state.borrow(), State::Over(_)))
        {
            return there;
        }
        let (told, state) = watch::channel(State::Beginning);
        let ends = Arc::<Ends>::default();
        let teller = Arc::new(Teller {
            client: self.client.clone(),
            names: self.names.clone(),
            hub: self.hub.clone(),
            state: told,
            ends: ends.clone(),
        });
        let source = Arc::new(Stream { client: self.client.clone(), arn: Mutex::default() });
        let watcher = tokio::spawn(teller.clone().watch_ends()).abort_handle();
        let follower = tokio::spawn(async move {
            let why = follow(source, teller.clone()).await;
            teller.state.send_replace(State::Over(why));
        });
        let new = Arc::new(Reading { tasks: [watcher, follower.abort_handle()], state, ends });
        *reading = Arc::downgrade(&new);
        new
    }

    pub(crate) fn close(&self) {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(reading) = reading {
            reading.tasks.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Reading {
    /// Ready when every change from here on is told.
    pub(crate) async fn live(&self) -> Result<()> {
        let mut state = self.state.clone();
        let there = state.wait_for(|state| !matches!(state, State::Beginning)).await;
        match there.as_deref() {
            Ok(State::Live) => Ok(()),
            Ok(State::Over(why)) => Err(again(why)),
            _ => Err(Error::new(ErrorKind::Closed, "the store was closed")),
        }
    }

    /// Ready when nothing is told any more.
    pub(crate) async fn over(&self) -> Error {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::Over(_))).await.as_deref() {
            Ok(State::Over(why)) => again(why),
            _ => Error::new(ErrorKind::Closed, "the store was closed"),
        }
    }

    /// A watch has told of something that ends.
    pub(crate) fn ends(&self, place: Place, at: Millis) {
        self.ends.at_the_latest(place, at);
    }
}

/// For each of those who wait.
fn again(why: &Error) -> Error {
    Error::new(why.kind(), why.to_string())
}

/// Tells the watches what the stream says.
struct Teller {
    client: Arc<Client>,
    names: Names,
    hub: Hub,
    state: watch::Sender<State>,
    ends: Arc<Ends>,
}

impl Teller {
    /// Tells what is there of a place, or that there is nothing any more, by what it was before.
    fn tell(&self, place: Place, now: Option<Found>, before: Option<Found>) {
        let time = &self.client.time;
        let lives = |found: &Found| !found.ends.is_some_and(|end| time.is_over(end));
        let is_watched = match &place {
            Place::Data(key) => self.hub.is_watched(key),
            Place::Lock(name) => self.hub.is_holder_watched(name),
        };
        if !is_watched {
            return;
        }
        let end = now.as_ref().filter(|found| lives(found)).and_then(|found| found.ends);
        self.ends.set(place.clone(), end);
        match place {
            Place::Data(key) => {
                let last = [&now, &before].into_iter().flatten().find_map(Found::version);
                let entry = now.filter(lives).and_then(|found| found.entry(key.clone()));
                match (entry, last) {
                    (Some(entry), _) => self.hub.publish(&WatchEvent::Put(entry)),
                    (None, Some(version)) => self.hub.publish(&WatchEvent::Delete { key, version }),
                    (None, None) => {}
                }
            }
            Place::Lock(name) => {
                let at = |token| Version::new(token, 0);
                let last = [&now, &before].into_iter().flatten().find_map(|found| found.token);
                match (now.filter(lives).and_then(lock::holder), last) {
                    (Some(holder), _) => {
                        let entry = Entry::new(name, holder.value, at(holder.token));
                        self.hub.publish_holder(&WatchEvent::Put(entry));
                    }
                    (None, Some(token)) => {
                        self.hub.publish_holder(&WatchEvent::Delete { key: name, version: at(token) });
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// Looks at what has ended, and tells it.
    async fn watch_ends(self: Arc<Self>) {
        let (time, mut backoff) = (&self.client.time, Backoff::default());
        loop {
            let first = self.ends.first();
            let passed = async {
                match first {
                    Some(end) => time.local().sleep(time.until(end)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                () = self.ends.changed() => continue,
            }
            let ended = self.ends.take(|end| time.is_over(end));
            if let Err(e) = self.look(&ended).await {
                tracing::debug!(error = %e, "what has ended cannot be looked at");
                let now = time.earliest();
                ended.into_iter().for_each(|place| self.ends.at_the_latest(place, now));
                backoff.pause().await;
            } else {
                backoff.reset();
            }
        }
    }

    /// A key may have been given a longer life, of which the stream has not told yet.
    async fn look(&self, places: &[Place]) -> Result<()> {
        let deadline = Deadline::default();
        let of = |is_data: bool| {
            let names = places.iter().filter_map(move |place| match place {
                Place::Data(key) if is_data => Some(key.as_str()),
                Place::Lock(name) if !is_data => Some(name.as_str()),
                _ => None,
            });
            names.collect::<Vec<_>>()
        };
        let data = read_many(&self.client, &self.names.data, of(true), true, deadline).await?;
        let locks = read_many(&self.client, &self.names.locks, of(false), true, deadline).await?;
        for place in places {
            let found = match place {
                Place::Data(key) => data.get(key.as_str()),
                Place::Lock(name) => locks.get(name.as_str()),
            };
            // Of what is deleted the stream tells.
            if let Some(found) = found {
                self.tell(place.clone(), Some(found.clone()), None);
            }
        }
        Ok(())
    }
}

impl Sink<Record> for Teller {
    fn live(&self) {
        self.state.send_if_modified(|state| {
            let begins = matches!(state, State::Beginning);
            *state = State::Live;
            begins
        });
    }

    fn record(&self, record: Record) {
        let Some(change) = record.dynamodb else { return };
        let at = |name: &str| change.keys()?.get(name).and_then(Attribute::text);
        let (Some(partition), Some(key)) = (at(PARTITION), at(KEY)) else { return };
        let is_data = partition == self.names.data;
        if !is_data && partition != self.names.locks {
            return;
        }
        let Some(key) = Names::parse(key) else { return };
        let place = if is_data { Place::Data(key) } else { Place::Lock(key) };
        let image = |image: Option<&HashMap<String, AttributeValue>>| {
            image.filter(|image| !image.is_empty()).map(Found::of)
        };
        self.tell(place, image(change.new_image()), image(change.old_image()));
    }

    fn missed(&self) {
        self.hub.missed();
    }
}

/// The stream on the service.
struct Stream {
    client: Arc<Client>,
    arn: Mutex<Option<String>>,
}

/// Whether what was to be read is gone.
fn trouble<E>(
    error: aws_sdk_dynamodb::error::SdkError<E, aws_sdk_dynamodb::config::http::HttpResponse>,
) -> Trouble
where
    E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match code(&error) {
        Some("ExpiredIteratorException" | "TrimmedDataAccessException" | "ResourceNotFoundException") => {
            Trouble::Gap
        }
        _ => Trouble::Failed(error.into()),
    }
}

impl Stream {
    fn arn(&self) -> Result<String, Trouble> {
        self.arn.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Trouble::Gap)
    }

    /// Where the stream is: one that is switched off and on again is another.
    async fn find(&self) -> Result<String, Trouble> {
        let client = &self.client;
        let described = table::describe(client, Deadline::after(WITHIN)).await;
        let described = described.map_err(|error| Failed {
            fate: if error.is_transient() { Fate::Undone } else { Fate::Refused },
            silent: error.is_transient(),
            error,
        })?;
        let gone = |why: String| Trouble::Failed(Failed::new(Fate::Refused, ErrorKind::Unsupported, why));
        let described = described.ok_or_else(|| gone("the table is gone".into()))?;
        if let Some(why) = table::no_stream(&client.table, &described) {
            return Err(gone(why));
        }
        let arn = described.latest_stream_arn.unwrap_or_default();
        *self.arn.lock().unwrap_or_else(PoisonError::into_inner) = Some(arn.clone());
        Ok(arn)
    }
}

impl Source for Stream {
    type Record = Record;

    async fn shards(&self) -> Result<Vec<Shard>, Trouble> {
        let (mut arn, mut shards, mut from) = (self.arn().ok(), Vec::new(), None);
        loop {
            let of = match arn.clone() {
                Some(arn) => arn,
                None => arn.insert(self.find().await?).clone(),
            };
            let ask = self.client.streams.describe_stream().stream_arn(of).set_exclusive_start_shard_id(from);
            let ask = async { ask.send().await.map_err(trouble) };
            let described = in_time(ask).await?;
            let Some(description) = described.stream_description else { return Err(Trouble::Gap) };
            let page = description.shards.unwrap_or_default();
            shards.extend(
                page.into_iter().filter_map(|s| Some(Shard { id: s.shard_id?, parent: s.parent_shard_id })),
            );
            from = description.last_evaluated_shard_id;
            if from.is_none() {
                if description.stream_status == Some(StreamStatus::Disabled) {
                    // There may be a newer one.
                    *self.arn.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.find().await?;
                    return Err(Trouble::Gap);
                }
                return Ok(shards);
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
        let answer = in_time(async { ask.send().await.map_err(trouble) }).await?;
        answer.shard_iterator.ok_or(Trouble::Gap)
    }

    async fn records(&self, iterator: &str) -> Result<Read<Record>, Trouble> {
        let ask = self.client.streams.get_records().shard_iterator(iterator);
        let answer = in_time(async { ask.send().await.map_err(trouble) }).await?;
        Ok((answer.records.unwrap_or_default(), answer.next_shard_iterator))
    }
}

/// Without an answer for so long, the connection is taken to be dead.
async fn in_time<T>(ask: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match Deadline::after(WITHIN).limit(ask).await {
        Some(answer) => answer,
        None => {
            let why = format!("DynamoDB: no answer of the stream within {WITHIN:?}");
            Err(Failed { silent: true, ..Failed::new(Fate::Unknown, ErrorKind::Timeout, why) }.into())
        }
    }
}
