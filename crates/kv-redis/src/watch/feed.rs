//! Subscriptions to the messages of the writing scripts, for all watches and lock waits that a
//! store has in one runtime: their connection ends and stands still with it.

use crate::{
    client::Client,
    names::Names,
    watch::{
        listener::{Listener, Order, Reader},
        looks::Looks,
        notification::Notification,
    },
};
use kv_core::{
    Result,
    backend::{Home, Mutex, unique},
};
use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, MutexGuard},
};
use tokio::{
    runtime::{Handle, Id},
    sync::mpsc,
    task::AbortHandle,
};

/// Gives out subscriptions. Their connection is made when the first one of a runtime is.
pub(crate) struct Feed(Arc<Shared>);

struct Shared {
    client: Arc<Client>,
    names: Names,
    looks: Looks,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<Id, Running>,
    closed: bool,
}

/// The task that listens, and its home.
struct Running {
    orders: mpsc::UnboundedSender<Order>,
    task: AbortHandle,
    home: Home,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl Feed {
    pub(crate) fn new(client: Arc<Client>, names: Names) -> Self {
        let (looks, state) = (Looks::default(), Mutex::default());
        Self(Arc::new(Shared { client, names, looks, state }))
    }

    /// Returns the looks at keys that should have ended, which all watches share.
    pub(crate) fn looks(&self) -> &Looks {
        &self.0.looks
    }

    /// Subscribes to a channel. The subscription yields a `None` once it listens.
    pub(crate) fn subscribe(&self, channel: String) -> Subscription {
        let reader = Arc::new(Reader::default());
        let (runtime, orders) = (Handle::current().id(), self.0.join(&channel, &reader));
        Subscription { feed: self.0.clone(), runtime, orders, channel, reader }
    }

    /// Subscribes to a channel, and returns once the subscription listens.
    ///
    /// # Errors
    /// The server's refusal of the channel, if it lasts.
    pub(crate) async fn subscribed(&self, channel: String) -> Result<Subscription> {
        let mut subscription = self.subscribe(channel);
        while subscription.next().await?.is_some() {}
        Ok(subscription)
    }

    /// Ends the listeners for good.
    pub(crate) fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        state.running.drain().for_each(|(_, running)| running.task.abort());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Has the listener of this runtime serve this reader, and starts one where there is none. A
    /// closed feed has none.
    fn join(&self, channel: &str, reader: &Arc<Reader>) -> mpsc::UnboundedSender<Order> {
        let mut state = self.state();
        if state.closed {
            return mpsc::unbounded_channel().0;
        }
        state.running.retain(|_, running| !running.home.is_gone() && !running.orders.is_closed());
        let running = state.running.entry(Handle::current().id()).or_insert_with(|| {
            let (orders, given) = mpsc::unbounded_channel();
            let own = self.names.on_link(unique());
            let listener = Listener::new(self.client.clone(), own, self.names.on_session(""), given);
            let task = tokio::spawn(listener.run()).abort_handle();
            Running { orders, task, home: Home::here() }
        });
        // The order fails only if the listener ends at this moment, which the reader sees.
        let _ = running.orders.send(Order::Join(channel.to_owned(), reader.clone()));
        running.orders.clone()
    }
}

/// One reader of a channel. Dropping it ends the subscription.
pub(crate) struct Subscription {
    feed: Arc<Shared>,
    /// The runtime whose listener serves it.
    runtime: Id,
    orders: mpsc::UnboundedSender<Order>,
    channel: String,
    reader: Arc<Reader>,
}

impl Subscription {
    /// Returns whether the listener of the current runtime serves it.
    pub(crate) fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.runtime)
    }

    /// Drops the waiting messages, for a reader that is about to list.
    pub(crate) fn clear(&self) {
        self.reader.clear();
    }

    /// Waits for the next message; `None` where earlier messages may be lost, so that the reader
    /// has to list. Cancel safe.
    ///
    /// # Errors
    /// The server's refusal to let us listen, if it lasts.
    pub(crate) async fn next(&mut self) -> Result<Option<Notification>> {
        loop {
            tokio::select! {
                biased;
                next = self.reader.next() => return next,
                () = self.orders.closed() => {}
            }
            if self.feed.state().closed {
                // The closed handle ends the waits by itself.
                pending::<()>().await;
            }
            // The runtime of the listener has ended: its messages are lost, and the reader has to
            // list.
            self.runtime = Handle::current().id();
            self.orders = self.feed.join(&self.channel, &self.reader);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The task may be gone with its store.
        let _ = self.orders.send(Order::Leave(self.channel.clone(), self.reader.clone()));
    }
}
