//! The watches that locks need: each is of a single name until it is deleted, and one stream has
//! all of a session.

use crate::{
    client::{Client, Purpose, answer::revision},
    error::refused_watch,
};
use etcd_client::{Error as ClientError, EventType, WatchOptions, WatchResponse, WatchStream};
use kv_core::{Result, backend::unique, driver::Deadline};
use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// Sets how many watches are ended together, and after which time fewer are.
const TOGETHER: usize = 64;
const CALM: Duration = Duration::from_millis(250);

/// Watches of names until they are deleted. The watcher ends, with its stream, when it is dropped.
#[derive(Debug)]
pub(crate) struct DeleteWatcher(mpsc::UnboundedSender<Order>);

enum Order {
    Watch(Wanted),
    /// Ends a watch for which nobody waits any more.
    Forget(i64),
}

/// A name whose deletion somebody waits for.
struct Wanted {
    id: i64,
    name: Vec<u8>,
    /// Holds the revision at which the watch begins; 0 for one that begins now.
    from: i64,
    /// Takes the revision behind which the watch tells everything, once the server has the watch.
    stands: Option<oneshot::Sender<i64>>,
    /// Takes `true` when the name was deleted, and `false` when the queue has to be read again.
    gone: oneshot::Sender<bool>,
}

impl Wanted {
    fn options(&self) -> WatchOptions {
        WatchOptions::new().with_watch_id(self.id).with_start_revision(self.from)
    }

    /// Notes the answer to the request for the watch; returns `false` for one that is of no use.
    /// A server that has not come to where the watch begins lags behind, or was restored from an
    /// older copy of its data, and would tell nothing of what happens until then.
    fn stands(&mut self, created: &WatchResponse) -> bool {
        let Ok(at) = revision(created.header()) else { return false };
        if let Some(stands) = self.stands.take() {
            // The one who waits may be gone.
            let _ = stands.send(at);
        }
        at + 1 >= self.from
    }
}

/// A watch of one name, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct DeleteWatch {
    watcher: Arc<DeleteWatcher>,
    id: i64,
    stands: oneshot::Receiver<i64>,
    gone: oneshot::Receiver<bool>,
}

impl DeleteWatch {
    /// Waits until the server has the watch, and returns the revision behind which the watch tells
    /// everything; `None` where the queue has to be read again.
    pub(crate) async fn stands(&mut self) -> Option<i64> {
        (&mut self.stands).await.ok()
    }

    /// Waits until the name is deleted (`true`), or until the queue has to be read again
    /// (`false`). Cancel safe; not to be called again after its answer.
    pub(crate) async fn gone(&mut self) -> bool {
        (&mut self.gone).await.unwrap_or(false)
    }
}

impl Drop for DeleteWatch {
    fn drop(&mut self) {
        // The task may have ended with its runtime.
        let _ = self.watcher.0.send(Order::Forget(self.id));
    }
}

impl DeleteWatcher {
    /// Starts the task that watches, on this runtime.
    pub(crate) fn new(client: Arc<Client>, each_request: Duration) -> Self {
        let (orders, given) = mpsc::unbounded_channel();
        tokio::spawn(keep(client, each_request, given));
        Self(orders)
    }

    /// Watches a name from this revision on, or from now on where it is 0.
    pub(crate) fn watch(self: Arc<Self>, name: Vec<u8>, from: i64) -> DeleteWatch {
        let id = i64::try_from(unique() >> 1).unwrap_or(i64::MAX).max(1);
        let ((stands, stood), (gone, seen)) = (oneshot::channel(), oneshot::channel());
        // Where the task has ended with its runtime, the two are dropped here, which is an answer.
        let _ = self.0.send(Order::Watch(Wanted { id, name, from, stands: Some(stands), gone }));
        DeleteWatch { watcher: self, id, stands: stood, gone: seen }
    }
}

/// Carries out these orders, on one stream at a time, until nobody can give any.
async fn keep(client: Arc<Client>, each_request: Duration, mut orders: mpsc::UnboundedReceiver<Order>) {
    loop {
        let first = match orders.recv().await {
            Some(Order::Watch(first)) => first,
            Some(Order::Forget(_)) => continue,
            None => return,
        };
        let mut first = first;
        match open(&client, &first, each_request).await {
            Ok((_, created)) if !first.stands(&created) => {
                let _ = first.gone.send(false);
            }
            Ok((mut stream, _)) => {
                let mut wanted = HashMap::from([(first.id, first)]);
                if follow(&mut stream, &mut wanted, &mut orders).await.is_none() {
                    return;
                }
                // Whoever waits for what is dropped here reads the queue again.
            }
            Err(e) => {
                tracing::debug!(error = %e, "the watch of a lock could not be opened");
                let _ = first.gone.send(false);
            }
        }
    }
}

/// The watches for which nobody waits any more, and with which the server would go on. It tells
/// nothing more of most of them, whose names are gone for good, so that they are ended together,
/// and no release or handover waits for it.
#[derive(Default)]
struct Ended {
    ids: Vec<i64>,
    since: Option<Instant>,
}

impl Ended {
    fn add(&mut self, id: i64) {
        self.ids.push(id);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Waits until it is time to end them.
    async fn due(&self) {
        match self.since {
            Some(_) if self.ids.len() >= TOGETHER => {}
            Some(since) => sleep_until(since + CALM).await,
            None => pending().await,
        }
    }

    async fn cancel(&mut self, stream: &mut WatchStream) -> Result<(), ClientError> {
        self.since = None;
        for id in self.ids.drain(..) {
            stream.cancel(id).await?;
        }
        Ok(())
    }
}

/// Opens the stream with its first watch; also returns the answer to the request for that watch.
async fn open(
    client: &Client,
    first: &Wanted,
    each_request: Duration,
) -> Result<(WatchStream, WatchResponse)> {
    client
        .call(Purpose::Watch, Deadline::after(each_request), |service| {
            let mut watch = service.watch_client();
            let (name, options) = (first.name.clone(), first.options());
            async move {
                let mut stream = watch.watch(name, Some(options)).await?;
                match stream.message().await? {
                    Some(said) if !said.canceled() => Ok((stream, said)),
                    said => Err(refused_watch(said.as_ref())),
                }
            }
        })
        .await
}

/// Follows the stream until it breaks; `None` when nobody can give orders any more.
async fn follow(
    stream: &mut WatchStream,
    wanted: &mut HashMap<i64, Wanted>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<()> {
    let mut ended = Ended::default();
    loop {
        tokio::select! {
            () = ended.due() => {
                if ended.cancel(stream).await.is_err() {
                    return Some(());
                }
            }
            order = orders.recv() => match order? {
                Order::Watch(next) => {
                    let asked = stream.watch(next.name.clone(), Some(next.options())).await;
                    wanted.insert(next.id, next);
                    if asked.is_err() {
                        return Some(());
                    }
                }
                Order::Forget(id) => {
                    if wanted.remove(&id).is_some() {
                        ended.add(id);
                    }
                }
            },
            message = stream.message() => match message {
                // A refusal may name no watch.
                Ok(Some(message)) if message.created() && message.canceled() => return Some(()),
                Ok(Some(message)) => {
                    if tell(&message, wanted) {
                        ended.add(message.watch_id());
                    }
                }
                Ok(None) | Err(_) => return Some(()),
            },
        }
    }
}

/// Tells the one who waits that the wait is over, if it is; returns whether the server still has
/// the watch then.
fn tell(message: &WatchResponse, wanted: &mut HashMap<i64, Wanted>) -> bool {
    let is_deleted = message.events().iter().any(|event| event.event_type() == EventType::Delete);
    // A contender that another tool overwrote has no lease, and is no longer in the queue. A
    // request to enter that came twice leaves the contender there, with its lease.
    let is_nobodys = message.events().iter().any(|event| event.kv().is_some_and(|kv| kv.lease() == 0));
    let is_lost = |wanted: &mut Wanted| message.created() && !wanted.stands(message);
    if (is_deleted
        || is_nobodys
        || message.canceled()
        || wanted.get_mut(&message.watch_id()).is_some_and(is_lost))
        && let Some(wanted) = wanted.remove(&message.watch_id())
    {
        // The one who waited may be gone.
        let _ = wanted.gone.send(is_deleted);
        return !message.canceled();
    }
    false
}
