//! What the writing scripts publish: one connection for all watches and waits of a store, as long as there are any.

use crate::{
    client::Client,
    error::Failed,
    link::Link,
    names::Names,
    part::{unique, version_of_text},
    watch::Backoff,
};
use fred::types::Value;
use kv_core::{Bytes, Error, ErrorKind, Key, Version};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, broadcast::error::RecvError, mpsc},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

/// How often a connection is looked at, and how long it may take to answer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(3);
/// How many tales, and how many bytes of values in them, wait for a slow reader before they are dropped and it has to read.
const MOST_TALES: usize = 4096;
const MOST_BYTES: usize = 1 << 20;

/// What was published.
#[derive(Clone, Debug)]
pub(crate) enum Tale {
    /// The value, unless it is to be read; what is left of its life.
    Put {
        key: Key,
        version: Version,
        left: Option<Duration>,
        value: Option<Bytes>,
    },
    Deleted {
        key: Key,
        version: Version,
    },
    /// It was found to be gone.
    Gone {
        key: Key,
    },
    /// A lock has another holder; what is left of its session, the number, and what it brought.
    Held {
        left: Duration,
        number: u64,
        brought: Bytes,
    },
    Free,
    /// This contender is in front.
    Front(String),
}

impl Tale {
    fn bytes(&self) -> usize {
        match self {
            Self::Put { value: Some(value), .. } => value.len(),
            _ => 0,
        }
    }

    /// `None` for what no script of ours publishes.
    fn read(message: &Bytes) -> Option<Self> {
        let mut rest = message.clone();
        let mut word = || {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let word = rest.split_to(end);
            if !rest.is_empty() {
                let _ = rest.split_to(1);
            }
            String::from_utf8(word.into()).ok()
        };
        let kind = word()?;
        let name = word()?;
        let millis = |text: String| text.parse().ok().map(Duration::from_millis);
        Some(match kind.as_str() {
            "P" | "R" => {
                let key = Key::from_stored(&name)?;
                let version = version_of_text(&format!("{} {}", word()?, word()?)).ok()?;
                let left = word().and_then(millis);
                Self::Put { key, version, left, value: (kind == "P").then_some(rest) }
            }
            "D" => {
                let version = version_of_text(&format!("{} {}", word()?, word()?)).ok()?;
                Self::Deleted { key: Key::from_stored(&name)?, version }
            }
            "G" => Self::Gone { key: Key::from_stored(&name)? },
            "H" => {
                let number = word()?.parse().ok()?;
                let left = word().and_then(millis).unwrap_or_default();
                Self::Held { left, number, brought: rest }
            }
            "F" => Self::Free,
            _ => return None,
        })
    }
}

/// What a subscription gives.
#[derive(Debug)]
pub(crate) enum News {
    /// Tales come from here on: what was before is to be read.
    Look,
    Tale(Tale),
    /// The server does not let us listen.
    Refused(Error),
}

#[derive(Default)]
struct Queue {
    tales: VecDeque<Tale>,
    bytes: usize,
    look: bool,
    refused: Option<(ErrorKind, String)>,
}

#[derive(Default)]
struct Reader {
    queue: Mutex<Queue>,
    news: Notify,
}

impl Reader {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        *self.queue() = Queue { look: true, ..Queue::default() };
        self.news.notify_one();
    }

    fn refused(&self, error: &Error) {
        self.queue().refused = Some((error.kind(), error.to_string()));
        self.news.notify_one();
    }

    fn tell(&self, tale: &Tale) {
        {
            let mut queue = self.queue();
            // One always fits, however large.
            let is_full = queue.tales.len() >= MOST_TALES || queue.bytes + tale.bytes() > MOST_BYTES;
            if is_full && !queue.tales.is_empty() {
                *queue = Queue { look: true, ..Queue::default() };
            } else {
                queue.bytes += tale.bytes();
                queue.tales.push_back(tale.clone());
            }
        }
        self.news.notify_one();
    }
}

enum Order {
    Join(String, Arc<Reader>),
    Leave(String, Arc<Reader>),
}

/// The way to what is published; its connection is made when somebody listens.
pub(crate) struct Feed {
    client: Arc<Client>,
    names: Names,
    running: Mutex<Option<(mpsc::UnboundedSender<Order>, AbortHandle)>>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl Feed {
    pub(crate) fn new(client: Arc<Client>, names: Names) -> Self {
        Self { client, names, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Option<(mpsc::UnboundedSender<Order>, AbortHandle)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to a channel. Its first news is `Look`, once it listens.
    pub(crate) fn subscribe(&self, channel: String) -> Subscription {
        let reader = Arc::new(Reader::default());
        let mut running = self.running();
        let (orders, _) = running.get_or_insert_with(|| {
            let (orders, given) = mpsc::unbounded_channel();
            let listener = Listener {
                client: self.client.clone(),
                own: self.names.on_link(unique()),
                prefix: self.names.on_session(""),
                orders: given,
                channels: HashMap::new(),
            };
            (orders, tokio::spawn(listener.run()).abort_handle())
        });
        // The other end is there as long as the feed is.
        let _ = orders.send(Order::Join(channel.clone(), reader.clone()));
        Subscription { orders: orders.clone(), channel, reader }
    }

    pub(crate) fn close(&self) {
        if let Some((_, task)) = self.running().take() {
            task.abort();
        }
    }
}

/// One reader of a channel; dropping it ends it.
pub(crate) struct Subscription {
    orders: mpsc::UnboundedSender<Order>,
    channel: String,
    reader: Arc<Reader>,
}

impl Subscription {
    /// What is new. Cancel safe.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            {
                let mut queue = self.reader.queue();
                if let Some((kind, why)) = queue.refused.take() {
                    return News::Refused(Error::new(kind, why));
                }
                if std::mem::take(&mut queue.look) {
                    return News::Look;
                }
                if let Some(tale) = queue.tales.pop_front() {
                    queue.bytes -= tale.bytes();
                    return News::Tale(tale);
                }
            }
            self.reader.news.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The task may be gone with its store.
        let _ = self.orders.send(Order::Leave(self.channel.clone(), self.reader.clone()));
    }
}

/// What runs the connection.
struct Listener {
    client: Arc<Client>,
    /// A channel of this connection alone, by which it is known to be subscribed still: a node that loses the slot ends its
    /// subscriptions without a word that the client hands on.
    own: String,
    /// What the channels of sessions begin with.
    prefix: String,
    orders: mpsc::UnboundedReceiver<Order>,
    channels: HashMap<String, Vec<Arc<Reader>>>,
}

impl Listener {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            while self.channels.is_empty() {
                let Some(order) = self.orders.recv().await else { return };
                self.apply(order);
            }
            match self.client.connect().await {
                Ok(link) => {
                    if self.listen(&link, &mut backoff).await.is_none() {
                        return;
                    }
                }
                Err(Failed { error, .. }) => {
                    tracing::debug!(%error, "no connection for watches");
                    if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) {
                        self.readers().for_each(|reader| reader.refused(&error));
                    }
                }
            }
            backoff.pause().await;
        }
    }

    fn readers(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.channels.values().flatten()
    }

    /// The channel, when it is new or has no reader any more.
    fn apply(&mut self, order: Order) -> Option<(String, bool)> {
        match order {
            Order::Join(channel, reader) => {
                let readers = self.channels.entry(channel.clone()).or_default();
                readers.push(reader);
                (readers.len() == 1).then_some((channel, true))
            }
            Order::Leave(channel, reader) => {
                let readers = self.channels.get_mut(&channel)?;
                readers.retain(|other| !Arc::ptr_eq(other, &reader));
                let is_empty = readers.is_empty();
                if is_empty {
                    self.channels.remove(&channel);
                }
                is_empty.then_some((channel, false))
            }
        }
    }

    /// Until the connection breaks or nobody listens; `None` when nobody ever will.
    async fn listen(&mut self, link: &Link, backoff: &mut Backoff) -> Option<()> {
        let mut messages = link.messages();
        if let Err(failed) = subscribe(link, [&self.own]).await.pop()?.1 {
            if failed.error.kind() == ErrorKind::PermissionDenied {
                self.readers().for_each(|reader| reader.refused(&failed.error));
            }
            self.fails(link, failed);
            return Some(());
        }
        let all: Vec<_> = self.channels.keys().cloned().collect();
        self.join(link, &all).await;
        backoff.reset();
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                () = link.ended() => return Some(()),
                message = messages.recv() => match message {
                    Ok(message) => self.tell(&message.channel, message.value),
                    // What was dropped, nobody knows.
                    Err(RecvError::Lagged(_)) => self.readers().for_each(|reader| reader.look()),
                    Err(RecvError::Closed) => return Some(()),
                },
                order = self.orders.recv() => self.change(link, order?).await,
                () = sleep_until(look_at) => {
                    if self.channels.is_empty() || !self.is_subscribed(link).await {
                        return Some(());
                    }
                    look_at = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    /// Does what is ordered, all that waits at once.
    async fn change(&mut self, link: &Link, first: Order) {
        let (mut begun, mut new, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(order) = next {
            let joined = match &order {
                Order::Join(channel, reader) => Some((channel.clone(), reader.clone())),
                Order::Leave(..) => None,
            };
            match (self.apply(order), joined) {
                (Some((channel, true)), _) => new.push(channel),
                (Some((channel, false)), _) => match new.iter().position(|other| *other == channel) {
                    Some(at) => drop(new.swap_remove(at)),
                    None => left.push(channel),
                },
                (None, Some(joined)) => begun.push(joined),
                (None, None) => {}
            }
            next = self.orders.try_recv().ok();
        }
        // Who left may have come again.
        left.retain(|channel| !self.channels.contains_key(channel));
        for channel in left {
            // It has no answer of its own.
            let _ = timeout(ANSWER, link.unsubscribe(&channel)).await;
        }
        // Who joins a channel that is listened to can read at once.
        for (_, reader) in begun.iter().filter(|(channel, _)| !new.contains(channel)) {
            reader.look();
        }
        self.join(link, &new).await;
    }

    /// Subscribes, and has the readers of what is subscribed read.
    async fn join(&mut self, link: &Link, channels: &[String]) {
        for (channel, answer) in subscribe(link, channels).await {
            match answer {
                Ok(_) => self.channels.get(channel).into_iter().flatten().for_each(|reader| reader.look()),
                Err(Failed { error, .. }) if error.kind() == ErrorKind::PermissionDenied => {
                    // Whoever joins it later tries again.
                    for reader in self.channels.remove(channel).unwrap_or_default() {
                        reader.refused(&error);
                    }
                }
                Err(failed) => self.fails(link, failed),
            }
        }
    }

    /// Another connection will be tried, to where the slot is by now.
    fn fails(&self, link: &Link, failed: Failed) {
        tracing::debug!(error = %failed.error, "no subscription");
        self.client.moved(failed.fate);
        link.end();
    }

    async fn is_subscribed(&self, link: &Link) -> bool {
        let ask = link.call("PUBSUB", vec!["SHARDNUMSUB".into(), self.own.as_str().into()]);
        match timeout(ANSWER, ask).await {
            Ok(Ok(Value::Array(parts))) => parts.get(1).and_then(Value::as_i64) == Some(1),
            Ok(Ok(Value::Map(parts))) => {
                parts.inner().into_values().next().and_then(|n| n.as_i64()) == Some(1)
            }
            _ => false,
        }
    }

    fn tell(&self, channel: &str, message: Value) {
        let Some(readers) = self.channels.get(channel) else { return };
        let message = match message {
            Value::String(text) => text.into_inner(),
            Value::Bytes(bytes) => bytes,
            _ => return,
        };
        let tale = if channel.starts_with(&self.prefix) {
            String::from_utf8(message.into()).ok().map(Tale::Front)
        } else {
            Tale::read(&message)
        };
        match tale {
            Some(tale) => readers.iter().for_each(|reader| reader.tell(&tale)),
            // Whoever publishes on our channels: what is there is read.
            None => readers.iter().for_each(|reader| reader.look()),
        }
    }
}

/// Each by a command of its own, all at once.
async fn subscribe<'a>(
    link: &Link,
    channels: impl IntoIterator<Item = &'a String>,
) -> Vec<(&'a String, Result<Value, Failed>)> {
    let all = channels.into_iter().map(|channel| async move {
        let asked = link.call("SSUBSCRIBE", vec![channel.as_str().into()]);
        let silent = |_| Err(crate::error::silent(&link.address, ANSWER));
        (channel, timeout(ANSWER, asked).await.unwrap_or_else(silent))
    });
    futures::future::join_all(all).await
}
