//! Reads the table's stream once for all watches that a store has in one runtime: another runtime
//! may end, or stand still.

use crate::{
    client::{
        Client, backoff,
        clock::Millis,
        item::{Attribute, Found, KEY, PARTITION},
    },
    error::closed,
    list::batch_get::read_many,
    names::Names,
    watch::{
        expiry::{Expiries, Subject},
        follow::{RecordHandler, follow},
        stream::Stream,
    },
};
use aws_sdk_dynamodbstreams::types::{AttributeValue, Record};
use kv_core::{
    Error, Result, WatchEvent,
    backend::{AbortOnDrop, Home, Hub, Mutex},
    driver::Deadline,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    runtime::{Handle, Id},
    sync::watch,
};

/// The readers of the stream, one for each runtime in which somebody watches.
pub(crate) struct Feed {
    client: Arc<Client>,
    names: Names,
    readings: Mutex<HashMap<Id, Weak<Reading>>>,
    closed: AtomicBool,
}

/// A share in the reader of one runtime, which ends with the last share.
pub(crate) struct Reading {
    home: Home,
    /// Tells the watches what the stream says.
    pub(crate) hub: Hub,
    tasks: [AbortOnDrop; 2],
    state: watch::Receiver<State>,
    expiries: Arc<Expiries>,
}

/// The reason why the reader tells nothing any more.
pub(crate) enum End {
    /// A lasting error stopped the reader.
    Lasting(Error),
    /// The reader's runtime has ended: another one can read.
    Gone,
}

#[derive(Debug)]
enum State {
    Beginning,
    /// From here on every change is told.
    Live,
    Over(Error),
}

impl Feed {
    pub(crate) fn new(client: Arc<Client>, names: Names) -> Self {
        Self { client, names, readings: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Returns a share in the reader of this runtime, and starts one if none runs.
    pub(crate) fn join(&self) -> Result<Arc<Reading>> {
        let (mut readings, here) = (self.readings.lock(), Handle::current().id());
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        readings.retain(|_, reading| reading.strong_count() > 0);
        let there = readings.get(&here).and_then(Weak::upgrade);
        if let Some(there) = there.filter(|there| there.goes_on()) {
            return Ok(there);
        }
        let (told, state) = watch::channel(State::Beginning);
        let (hub, expiries) = (Hub::new(), Arc::<Expiries>::default());
        let teller = Arc::new(Teller {
            client: self.client.clone(),
            names: self.names.clone(),
            hub: hub.clone(),
            state: told,
            expiries: expiries.clone(),
        });
        let source = Arc::new(Stream::new(self.client.clone()));
        let watcher = tokio::spawn(teller.clone().watch_expiries());
        let follower = tokio::spawn(async move {
            let why = follow(source, teller.clone()).await;
            teller.state.send_replace(State::Over(why));
        });
        let tasks = [watcher.abort_handle(), follower.abort_handle()].map(AbortOnDrop::new);
        let new = Arc::new(Reading { home: Home::here(), hub, tasks, state, expiries });
        readings.insert(here, Arc::downgrade(&new));
        Ok(new)
    }

    pub(crate) fn close(&self) {
        let readings: Vec<_> = {
            let readings = self.readings.lock();
            self.closed.store(true, Ordering::Release);
            readings.values().filter_map(Weak::upgrade).collect()
        };
        readings.iter().flat_map(|reading| &reading.tasks).for_each(AbortOnDrop::abort);
    }
}

impl Reading {
    fn goes_on(&self) -> bool {
        let is_over = matches!(&*self.state.borrow(), State::Over(_));
        !is_over && self.state.has_changed().is_ok() && !self.home.is_gone()
    }

    /// Waits until every change from then on is told.
    pub(crate) async fn live(&self) -> Result<(), End> {
        let mut state = self.state.clone();
        let live = async {
            match state.wait_for(|state| !matches!(state, State::Beginning)).await.as_deref() {
                Ok(State::Over(why)) => Err(End::Lasting(why.clone())),
                Ok(_) => Ok(()),
                Err(_) => Err(End::Gone),
            }
        };
        tokio::select! {
            live = live => live,
            () = self.home.gone() => Err(End::Gone),
        }
    }

    /// Waits until nothing is told any more.
    pub(crate) async fn over(&self) -> End {
        let mut state = self.state.clone();
        let over = async {
            match state.wait_for(|state| matches!(state, State::Over(_))).await.as_deref() {
                Ok(State::Over(why)) => End::Lasting(why.clone()),
                _ => End::Gone,
            }
        };
        tokio::select! {
            over = over => over,
            () = self.home.gone() => End::Gone,
        }
    }

    /// Has the reader look at the subject when it expires, as a list tells.
    pub(crate) fn expires(&self, subject: Subject, at: Millis) {
        self.expiries.set_earlier(subject, at);
    }
}

/// The part of the reader that tells the watches what the stream says.
struct Teller {
    client: Arc<Client>,
    names: Names,
    hub: Hub,
    state: watch::Sender<State>,
    expiries: Arc<Expiries>,
}

impl Teller {
    /// Tells the change that a record shows of a subject. A deletion is told by what the item was
    /// before.
    ///
    /// A record whose end has passed may be an old one, for the reader lags now and then: the item
    /// may have been renewed since. So it is not told, and the reader looks at the item.
    fn tell(&self, subject: Subject, now: Option<Found>, before: Option<Found>) {
        if self.is_told(&subject, now.iter().chain(&before)) {
            let is_over = now.as_ref().is_some_and(|found| found.is_over());
            self.expiries.set(subject.clone(), now.as_ref().and_then(|found| found.ends));
            if !is_over && !is_renewal(&subject, now.as_ref(), before.as_ref()) {
                self.publish(subject, now, before);
            }
        }
    }

    fn is_watched(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Key(key) => self.hub.is_watched(key),
            Subject::Holder(name) => self.hub.is_holder_watched(name),
        }
    }

    /// Tells whether somebody watches the subject, and the record is not damaged.
    fn is_told<'f>(&self, subject: &Subject, mut found: impl Iterator<Item = &'f Found>) -> bool {
        let time = &self.client.time;
        let is_watched = self.is_watched(subject);
        let damaged = |found: &Found| match subject {
            Subject::Key(_) => found.damaged_key(time.latest()),
            Subject::Holder(_) => found.damaged_lock(time.latest()),
        };
        let is_damaged = is_watched && found.any(|found| damaged(found).is_some());
        // A damaged item is neither "gone" nor "there": its watches find out by reading.
        if is_damaged {
            self.hub.missed();
        }
        is_watched && !is_damaged
    }

    /// Tells the watches what is there now, or the end of what was there before.
    fn publish(&self, subject: Subject, now: Option<Found>, before: Option<Found>) {
        match subject {
            Subject::Key(key) => {
                let last = [&now, &before].into_iter().flatten().find_map(Found::version);
                match (now.and_then(|found| found.entry(key.clone())), last) {
                    (Some(entry), _) => self.hub.publish(&WatchEvent::Put(entry)),
                    (None, Some(version)) => self.hub.publish(&WatchEvent::Delete { key, version }),
                    (None, None) => {}
                }
            }
            Subject::Holder(name) => {
                let last = [&now, &before].into_iter().flatten().find_map(Found::holder_version);
                match (now.and_then(Found::holder), last) {
                    (Some(holder), _) => self.hub.publish_holder(&WatchEvent::Put(holder.entry(name))),
                    (None, Some(version)) => {
                        self.hub.publish_holder(&WatchEvent::Delete { key: name, version });
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// Looks at subjects when their end has come, and tells what has ended.
    async fn watch_expiries(self: Arc<Self>) {
        let (time, mut backoff) = (&self.client.time, backoff());
        loop {
            let first = self.expiries.first();
            let passed = async {
                match first {
                    Some(end) => time.local().sleep(time.until(end)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                () = self.expiries.changed() => continue,
            }
            let expired = self.expiries.take(|end| time.is_over(end));
            if let Err(e) = self.look(&expired).await {
                tracing::debug!(error = %e, "cannot read the ends of watched keys and locks; trying again");
                let now = time.earliest();
                expired.into_iter().for_each(|subject| self.expiries.set_earlier(subject, now));
                backoff.pause().await;
            } else {
                backoff.reset();
            }
        }
    }

    /// Reads whether the subjects have ended: each may have been given a longer life that the
    /// stream has not told yet.
    async fn look(&self, subjects: &[Subject]) -> Result<()> {
        let deadline = Deadline::default();
        let of = |is_data: bool| {
            let names = subjects.iter().filter_map(move |subject| match subject {
                Subject::Key(key) if is_data => Some(key.as_str()),
                Subject::Holder(name) if !is_data => Some(name.as_str()),
                _ => None,
            });
            names.collect::<Vec<_>>()
        };
        let data = read_many(&self.client, &self.names.data, of(true), true, deadline).await?;
        let locks = read_many(&self.client, &self.names.locks, of(false), true, deadline).await?;
        for subject in subjects {
            let found = match subject {
                Subject::Key(key) => data.get(key.as_str()),
                Subject::Holder(name) => locks.get(name.as_str()),
            };
            // The stream tells what is deleted or was written anew, and may have told more by now.
            match found {
                Some(found) if !self.is_told(subject, std::iter::once(found)) => {}
                Some(found) if found.is_over() => {
                    self.publish(subject.clone(), None, Some(found.clone()));
                }
                Some(Found { ends: Some(at), .. }) => self.expiries.set_earlier(subject.clone(), *at),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Tells whether only the end has changed. What was there before was told then, unless it is over
/// by now: a renewal that the reader learns of late.
fn is_renewal(subject: &Subject, now: Option<&Found>, before: Option<&Found>) -> bool {
    let Some((now, before)) = now.zip(before.filter(|found| !found.is_over())) else { return false };
    match subject {
        Subject::Key(_) => now.version() == before.version() && now.value.is_some() == before.value.is_some(),
        Subject::Holder(_) => now.holder_version() == before.holder_version() && now.owner == before.owner,
    }
}

impl RecordHandler<Record> for Teller {
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
        let subject = if is_data { Subject::Key(key) } else { Subject::Holder(key) };
        // Values are large, and most of them nobody watches.
        if !self.is_watched(&subject) {
            return;
        }
        let read_at = self.client.time.earliest();
        let image = |image: Option<&HashMap<String, AttributeValue>>| {
            image.filter(|image| !image.is_empty()).map(|image| Found::of(image, read_at))
        };
        self.tell(subject, image(change.new_image()), image(change.old_image()));
    }

    fn missed(&self) {
        self.hub.missed();
    }
}
