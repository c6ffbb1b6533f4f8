//! The connection for messages to a store's watches and lock waits. It stands as long as there are
//! any.

use crate::{
    client::{
        Client,
        find::{Find, hello, is_master},
        link::Link,
    },
    error::{Code, code, silent},
    watch::notification::Notification,
};
use fred::types::Value;
use kv_core::{
    Error, ErrorKind,
    backend::{
        Backoff, Inbox, Outage,
        retry::{Effect, RequestError},
    },
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep_until, timeout},
};

/// The time between two looks at the connection, and the time within which the server has to
/// answer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(3);
/// The time for which refused credentials are tried again: the server may be about to get the new
/// ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// The messages that wait for one reader of a channel.
pub(crate) type Reader = Inbox<Notification>;

/// An order of a reader to the listener.
pub(crate) enum Order {
    Join(String, Arc<Reader>),
    Leave(String, Arc<Reader>),
}

/// The task that runs the connection.
pub(crate) struct Listener {
    client: Arc<Client>,
    /// A channel of this connection alone. It shows whether the connection is still subscribed
    /// where the server does not tell the number of its subscriptions: a node that loses the slot
    /// ends them with a message that the client does not pass on.
    own: String,
    /// The beginning of the names of sessions' channels.
    prefix: String,
    orders: mpsc::UnboundedReceiver<Order>,
    channels: HashMap<String, Vec<Arc<Reader>>>,
    backoff: Backoff,
    outage: Outage,
    /// The moment since which the server refuses the credentials.
    refused: Option<Instant>,
}

impl Listener {
    pub(crate) fn new(
        client: Arc<Client>,
        own: String,
        prefix: String,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(800));
        let (channels, outage) = (HashMap::new(), Outage::new("the connection for watches", "redis"));
        Self { client, own, prefix, orders, channels, backoff, outage, refused: None }
    }

    /// Runs the connection as long as somebody may listen.
    pub(crate) async fn run(mut self) {
        loop {
            while self.channels.is_empty() {
                let Some(order) = self.orders.recv().await else { return };
                self.apply(order);
            }
            match self.client.connect().await {
                Ok(link) => {
                    if self.listen(&link).await.is_none() {
                        return;
                    }
                }
                Err(RequestError { error, .. }) => self.failed(&error),
            }
            self.backoff.pause().await;
        }
    }

    fn readers(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.channels.values().flatten()
    }

    /// Rides out a failure, unless the server has refused the credentials for too long. Each
    /// connection is made with the certificates as they are then.
    fn failed(&mut self, error: &Error) {
        self.outage.failed(error);
        if !matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) {
            self.refused = None;
            return;
        }
        let since = *self.refused.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            self.readers().for_each(|reader| reader.end(error.clone()));
        }
    }

    /// Applies an order. Returns the channel, with `true` if it is new and with `false` if it has
    /// no reader any more.
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

    /// Listens until the connection breaks or there is no reader. Returns `None` when there can
    /// never be one again.
    async fn listen(&mut self, link: &Link) -> Option<()> {
        let mut messages = link.messages();
        if let Err(failed) = subscribe(link, [&self.own]).await.pop()?.1 {
            if failed.error.kind() == ErrorKind::PermissionDenied {
                self.readers().for_each(|reader| reader.end(failed.error.clone()));
            }
            self.fails(link, failed);
            return Some(());
        }
        let Ok(era) = timeout(ANSWER, self.era(link)).await else { return Some(()) };
        let all: Vec<_> = self.channels.keys().cloned().collect();
        self.join(link, &all).await;
        self.backoff.reset();
        self.refused = None;
        self.outage.over();
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                () = link.ended() => return Some(()),
                message = messages.recv() => match message {
                    Ok(message) => self.tell(&message.channel, message.value),
                    // Any reader may have missed something.
                    Err(RecvError::Lagged(_)) => self.readers().for_each(|reader| reader.lag()),
                    Err(RecvError::Closed) => return Some(()),
                },
                order = self.orders.recv() => self.change(link, order?).await,
                () = sleep_until(look_at) => {
                    if self.channels.is_empty() || !self.hears(link, era.as_deref()).await {
                        return Some(());
                    }
                    look_at = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    /// Carries out an order, together with all that wait behind it.
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
        // A channel that was left may have a reader again.
        left.retain(|channel| !self.channels.contains_key(channel));
        for channel in left {
            // The answer comes as a message, so that there may be none here.
            let _ = timeout(ANSWER, link.unsubscribe(&channel)).await;
        }
        // A reader that joins a channel with a subscription can list at once.
        for (_, reader) in begun.iter().filter(|(channel, _)| !new.contains(channel)) {
            reader.lag();
        }
        self.join(link, &new).await;
    }

    /// Subscribes to channels, and has their readers list.
    async fn join(&mut self, link: &Link, channels: &[String]) {
        for (channel, answer) in subscribe(link, channels).await {
            match answer {
                Ok(_) => self.channels.get(channel).into_iter().flatten().for_each(|reader| reader.lag()),
                Err(RequestError { error, .. }) if error.kind() == ErrorKind::PermissionDenied => {
                    // A reader that joins later tries again.
                    for reader in self.channels.remove(channel).unwrap_or_default() {
                        reader.end(error.clone());
                    }
                }
                Err(failed) => self.fails(link, failed),
            }
        }
    }

    /// Ends the connection, so that another one is tried, to the node that has the slot by now.
    fn fails(&mut self, link: &Link, failed: RequestError) {
        self.outage.failed(&failed.error);
        if let Some(Code::Moved(address)) = code(&failed) {
            self.client.moved(address);
        }
        link.end();
    }

    /// Returns the epoch of the election that gave a node of a cluster its place; `None` where the
    /// user may not ask. A node that comes back takes itself for a master until it hears of the
    /// one that took its place; it keeps its subscriptions as a replica, to which nothing is
    /// published. When it is a master again, the epoch is another one.
    async fn era(&self, link: &Link) -> Option<String> {
        if !matches!(self.client.find, Find::Cluster(..)) {
            return None;
        }
        let said = link.call("CLUSTER", vec!["INFO".into()]).await.ok()?.as_string()?;
        said.lines()
            .find_map(|line| line.strip_prefix("cluster_my_epoch:").map(|epoch| epoch.trim().to_owned()))
    }

    /// Returns whether the connection still gets all messages: it is subscribed to all channels,
    /// at a server that takes the writes and has taken them ever since.
    async fn hears(&self, link: &Link, since: Option<&str>) -> bool {
        let subscribed = link.call("PUBSUB", vec!["SHARDNUMSUB".into(), self.own.as_str().into()]);
        let all = async { tokio::join!(subscribed, hello(link), self.era(link), subscriptions(link)) };
        let Ok((subscribed, said, era, count)) = timeout(ANSWER, all).await else { return false };
        // The connection's own channel is one of them.
        if era.as_deref() != since || count.is_some_and(|count| count != self.channels.len() + 1) {
            return false;
        }
        if said.is_ok_and(|said| !is_master(&said)) {
            self.client.elsewhere(None);
            return false;
        }
        match subscribed {
            Ok(Value::Array(parts)) => parts.get(1).and_then(Value::as_i64) == Some(1),
            Ok(Value::Map(parts)) => parts.inner().into_values().next().and_then(|n| n.as_i64()) == Some(1),
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
        let notification = if channel.starts_with(&self.prefix) {
            String::from_utf8(message.into()).ok().map(Notification::Front)
        } else {
            Notification::read(&message)
        };
        for reader in readers {
            match &notification {
                Some(notification) => reader.push(notification.clone(), notification.bytes()),
                // The message is not one of a script's, or tells to read again: the readers list.
                None => reader.lag(),
            }
        }
    }
}

/// Returns the number of channels that the connection is subscribed to; `None` where the server
/// does not tell, as before 7.0.3, or the user may not ask.
async fn subscriptions(link: &Link) -> Option<usize> {
    let said = link.call("CLIENT", vec!["INFO".into()]).await.ok()?.as_string()?;
    said.split_whitespace().find_map(|part| part.strip_prefix("ssub=")?.parse().ok())
}

/// Subscribes to channels, each by a command of its own, all at once.
async fn subscribe<'a>(
    link: &Link,
    channels: impl IntoIterator<Item = &'a String>,
) -> Vec<(&'a String, Result<Value, RequestError>)> {
    let all = channels.into_iter().map(|channel| async move {
        let asked = link.call("SSUBSCRIBE", vec![channel.as_str().into()]);
        let silent = |_| Err(silent(&link.address, Effect::Unknown, "answer", ANSWER));
        (channel, timeout(ANSWER, asked).await.unwrap_or_else(silent))
    });
    futures::future::join_all(all).await
}
