//! What the writing scripts publish, for all watches and waits of a store: who reads it.

use crate::{
    client::Client,
    listener::{Listener, Order},
    names::Names,
    tale::Tale,
};
use kv_core::{
    Error,
    backend::{Home, Mutex, unique},
};
use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard},
};
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

/// How many tales, and how many bytes of values in them, wait for a slow reader before they are dropped and it has to read.
const MOST_TALES: usize = 4096;
const MOST_BYTES: usize = 1 << 20;

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
    refused: Option<Error>,
}

#[derive(Default)]
pub(crate) struct Reader {
    queue: Mutex<Queue>,
    news: Notify,
}

impl Reader {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    pub(crate) fn look(&self) {
        *self.queue() = Queue { look: true, ..Queue::default() };
        self.news.notify_one();
    }

    pub(crate) fn refused(&self, error: &Error) {
        self.queue().refused = Some(error.clone());
        self.news.notify_one();
    }

    pub(crate) fn tell(&self, tale: &Tale) {
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

    fn take(&self) -> Option<News> {
        let mut queue = self.queue();
        if let Some(error) = queue.refused.take() {
            return Some(News::Refused(error));
        }
        if std::mem::take(&mut queue.look) {
            return Some(News::Look);
        }
        let tale = queue.tales.pop_front()?;
        queue.bytes -= tale.bytes();
        Some(News::Tale(tale))
    }
}

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

    /// Listens to a channel. Its first news is `Look`, once it listens.
    pub(crate) fn subscribe(&self, channel: String) -> Subscription {
        let reader = Arc::new(Reader::default());
        let orders = self.0.join(&channel, &reader);
        Subscription { feed: self.0.clone(), orders, channel, reader }
    }

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
    /// What is new. Cancel safe.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.reader.take() {
                return news;
            }
            tokio::select! {
                () = self.reader.news.notified() => {}
                () = self.orders.closed() => {
                    if self.feed.state().closed {
                        // The handle ends those who wait.
                        std::future::pending::<()>().await;
                    }
                    // The runtime of the listener has ended: what it would have told is to be read.
                    self.orders = self.feed.join(&self.channel, &self.reader);
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The task may be gone with its store.
        let _ = self.orders.send(Order::Leave(self.channel.clone(), self.reader.clone()));
    }
}
