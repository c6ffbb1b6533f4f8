//! Subscriptions to what the writing scripts publish, for all watches and waits of a store.

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

/// The way to what is published; its connection is made when somebody listens.
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

/// The task that listens, and where it lives: in the runtime of whoever listened first.
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

    /// Listens to a channel, and tells by a `None` that it does.
    pub(crate) fn subscribe(&self, channel: String) -> Subscription {
        let reader = Arc::new(Reader::default());
        let orders = self.0.join(&channel, &reader);
        Subscription { feed: self.0.clone(), orders, channel, reader }
    }

    /// Listens to a channel; returns once it does.
    ///
    /// # Errors
    /// What the server has against it, for good.
    pub(crate) async fn subscribed(&self, channel: String) -> Result<Subscription> {
        let mut subscription = self.subscribe(channel);
        while subscription.next().await?.is_some() {}
        Ok(subscription)
    }

    /// Ends listening, for good.
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

    /// Has the listener serve this reader; a new one, here, where the runtime of the one before has ended. Nobody does
    /// when the feed was closed.
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
        // It is heard, or the listener ends at this moment, which the reader sees.
        let _ = running.orders.send(Order::Join(channel.to_owned(), reader.clone()));
        running.orders.clone()
    }
}

/// One reader of a channel; dropping it ends it.
pub(crate) struct Subscription {
    feed: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    channel: String,
    reader: Arc<Reader>,
}

impl Subscription {
    /// Drops what waits, for a reader that is about to read what is there.
    pub(crate) fn clear(&self) {
        self.reader.clear();
    }

    /// Waits for what is published next; `None` where what was published before is lost, so that
    /// what is there is to be read. Cancel safe.
    ///
    /// # Errors
    /// What the server has against listening, for good.
    pub(crate) async fn next(&mut self) -> Result<Option<Notification>> {
        loop {
            tokio::select! {
                biased;
                next = self.reader.next() => return next,
                () = self.orders.closed() => {}
            }
            if self.feed.state().closed {
                // The handle ends those who wait.
                pending::<()>().await;
            }
            // The runtime of the listener has ended: what it would have told is to be read.
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
