//! The watches that locks need: each is of a single name until it is deleted, and one stream has
//! all of a session.

use crate::{
    client::{Client, Purpose, answer::revision},
    error::refused_watch,
};
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use kv_core::{Result, backend::unique, driver::Deadline};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

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
    from: i64,
    /// Takes `true` when the name was deleted, and `false` when the queue has to be read again.
    gone: oneshot::Sender<bool>,
}

impl Wanted {
    fn options(&self) -> WatchOptions {
        WatchOptions::new().with_watch_id(self.id).with_start_revision(self.from)
    }
}

struct Forget<'a>(&'a DeleteWatcher, i64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        // The task may have ended with its runtime.
        let _ = self.0.0.send(Order::Forget(self.1));
    }
}

impl DeleteWatcher {
    /// Starts the task that watches, on this runtime.
    pub(crate) fn new(client: Arc<Client>, each_request: Duration) -> Self {
        let (orders, given) = mpsc::unbounded_channel();
        tokio::spawn(keep(client, each_request, given));
        Self(orders)
    }

    /// Waits until the name is deleted at this revision or later (`true`), or until the queue has
    /// to be read again (`false`).
    pub(crate) async fn gone(&self, name: Vec<u8>, from: i64) -> bool {
        let id = i64::try_from(unique() >> 1).unwrap_or(i64::MAX).max(1);
        let (gone, seen) = oneshot::channel();
        if self.0.send(Order::Watch(Wanted { id, name, from, gone })).is_err() {
            return false;
        }
        let _forget = Forget(self, id);
        seen.await.unwrap_or(false)
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
        match open(&client, &first, each_request).await {
            Ok((_, false)) => {
                let _ = first.gone.send(false);
            }
            Ok((mut stream, true)) => {
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

/// Opens the stream with its first watch; also returns whether the server's history has come to
/// where the watch begins.
async fn open(client: &Client, first: &Wanted, each_request: Duration) -> Result<(WatchStream, bool)> {
    client
        .call(Purpose::Watch, Deadline::after(each_request), |service| {
            let mut watch = service.watch_client();
            let (name, options) = (first.name.clone(), first.options());
            async move {
                let mut stream = watch.watch(name, Some(options)).await?;
                match stream.message().await? {
                    Some(said) if !said.canceled() => Ok((stream, knows(&said, first.from))),
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
    loop {
        tokio::select! {
            order = orders.recv() => match order? {
                Order::Watch(next) => {
                    let asked = stream.watch(next.name.clone(), Some(next.options())).await;
                    wanted.insert(next.id, next);
                    if asked.is_err() {
                        return Some(());
                    }
                }
                Order::Forget(id) => {
                    if wanted.remove(&id).is_some() && stream.cancel(id).await.is_err() {
                        return Some(());
                    }
                }
            },
            message = stream.message() => match message {
                // A refusal may name no watch.
                Ok(Some(message)) if message.created() && message.canceled() => return Some(()),
                Ok(Some(message)) => {
                    // Nobody waits for this watch any more, and the server would go on with it.
                    if tell(&message, wanted) && stream.cancel(message.watch_id()).await.is_err() {
                        return Some(());
                    }
                }
                Ok(None) | Err(_) => return Some(()),
            },
        }
    }
}

/// Tells whether the server has come to where a watch begins. A server that has not lags behind,
/// or was restored from an older copy of its data, and would tell nothing of what happens until
/// then.
fn knows(created: &WatchResponse, from: i64) -> bool {
    revision(created.header()).is_ok_and(|at| at + 1 >= from)
}

/// Tells the one who waits that the wait is over, if it is; returns whether the server still has
/// the watch then.
fn tell(message: &WatchResponse, wanted: &mut HashMap<i64, Wanted>) -> bool {
    let is_deleted = message.events().iter().any(|event| event.event_type() == EventType::Delete);
    // A contender that another tool overwrote has no lease, and is no longer in the queue. A
    // request to enter that came twice leaves the contender there, with its lease.
    let is_nobodys = message.events().iter().any(|event| event.kv().is_some_and(|kv| kv.lease() == 0));
    let is_lost = |wanted: &Wanted| message.created() && !knows(message, wanted.from);
    if (is_deleted
        || is_nobodys
        || message.canceled()
        || wanted.get(&message.watch_id()).is_some_and(is_lost))
        && let Some(wanted) = wanted.remove(&message.watch_id())
    {
        // The one who waited may be gone.
        let _ = wanted.gone.send(is_deleted);
        return !message.canceled();
    }
    false
}
