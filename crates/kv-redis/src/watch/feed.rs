//! Subscriptions to the messages of the writing scripts, for all watches and lock waits of a
//! store.

use crate::{
    client::Client,
    names::Names,
    watch::{
        listener::{Listener, Order, Reader},
        notification::Notification,
    },
};
use kv_core::{
    Result,
    backend::{Home, Mutex, unique},
};
use std::{
    future::pending,
    sync::{Arc, MutexGuard},
};
use tokio::{sync::mpsc, task::AbortHandle};

/// Gives out subscriptions. Their connection is made when the first one is.
pub(crate) struct Feed(Arc<Shared>);

struct Shared {
    client: Arc<Client>,
    names: Names,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    closed: bool,
}

/// The task that listens, and its home: the runtime of the first subscription.
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
        Self(Arc::new(Shared { client, names, state: Mutex::default() }))
    }

    /// Subscribes to a channel. The subscription yields a `None` once it listens.
    pub(crate) fn subscribe(&self, channel: String) -> Subscription {
        let reader = Arc::new(Reader::default());
        let orders = self.0.join(&channel, &reader);
        Subscription { feed: self.0.clone(), orders, channel, reader }
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

    /// Ends the listener for good.
    pub(crate) fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        if let Some(running) = state.running.take() {
            running.task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Has the listener serve this reader. Where the runtime of the last listener has ended, a new
    /// one is started in the current runtime. A closed feed has none.
    fn join(&self, channel: &str, reader: &Arc<Reader>) -> mpsc::UnboundedSender<Order> {
        let mut state = self.state();
        let lives = |running: &Running| !running.home.is_gone() && !running.orders.is_closed();
        if state.closed || !state.running.as_ref().is_some_and(lives) {
            let (orders, given) = mpsc::unbounded_channel();
            if state.closed {
                return orders;
            }
            let own = self.names.on_link(unique());
            let listener = Listener::new(self.client.clone(), own, self.names.on_session(""), given);
            let task = tokio::spawn(listener.run()).abort_handle();
            state.running = Some(Running { orders, task, home: Home::here() });
        }
        let Some(running) = &state.running else { return mpsc::unbounded_channel().0 };
        // The order fails only if the listener ends at this moment, which the reader sees.
        let _ = running.orders.send(Order::Join(channel.to_owned(), reader.clone()));
        running.orders.clone()
    }
}

/// One reader of a channel. Dropping it ends the subscription.
pub(crate) struct Subscription {
    feed: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    channel: String,
    reader: Arc<Reader>,
}

impl Subscription {
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
