//! Keeps the connection for reads, writes and watches, and makes a new one whenever it breaks.
//!
//! Nothing depends on its session. So a broken connection is not resumed but replaced by one with
//! a session of its own; its watches on the server are gone, and the watches here list again.

pub(crate) mod attempts;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod health;
pub(crate) mod keep_alive;
pub(crate) mod limits;
mod link;
pub(crate) mod multi;
pub(crate) mod node;
pub(crate) mod open;
pub(crate) mod probe;
pub(crate) mod read;
pub(crate) mod session;
pub(crate) mod tls;
pub(crate) mod via;

use crate::{error::closed, watch::feed::Feed, write::known::Known};
use attempts::Attempts;
use connect::Options;
use connection::Connection;
use kv_core::{
    Result,
    backend::{
        Home, Mutex, Outage,
        retry::{Effect, RequestError, Servers},
    },
    driver::Deadline,
};
use link::{Link, Why, stands};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

/// The time-out of the connection's session, by which it outlives the connection unless it could
/// be ended.
const SESSION: Duration = Duration::from_secs(10);

/// The client of one ensemble.
pub(crate) struct Client {
    pub(crate) options: Arc<Options>,
    /// The one connection as the one server that attempts go to, whichever member it is.
    servers: Servers<()>,
    link: watch::Sender<Link>,
    feed: Feed,
    known: Arc<Known>,
    keeper: Mutex<Keeper>,
}

/// The task that keeps the connection, and the runtime in which both live.
struct Keeper {
    home: Arc<Home>,
    runtime: Handle,
    task: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.keeper.lock().task.abort();
    }
}

impl Client {
    /// Starts keeping a connection, until this is dropped. Whenever one ends, the feed is told,
    /// and what is known of nodes is forgotten.
    pub(crate) fn new(options: Options, feed: &Feed, known: &Arc<Known>) -> Self {
        let (options, link) = (Arc::new(options), watch::Sender::new(Link::Down(None)));
        let keeper = Mutex::new(Keeper::new(&options, &link, feed, known));
        Self { options, servers: Servers::one(()), link, feed: feed.clone(), known: known.clone(), keeper }
    }

    /// Returns the connection as soon as one stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Connection>> {
        loop {
            self.revive();
            let gone = self.home_gone();
            let stands = stands(&self.link, deadline, |why| self.options.unreachable(deadline, why));
            tokio::select! {
                biased;
                link = stands => return link?.ok_or_else(closed),
                () = gone => {}
            }
        }
    }

    /// Keeps the connection in the current runtime from now on, if the runtime that kept it has
    /// ended. Returns whether the connection is kept.
    pub(crate) fn revive(&self) -> bool {
        let mut keeper = self.keeper.lock();
        if matches!(*self.link.borrow(), Link::Closed) {
            return false;
        }
        if keeper.home.is_gone() {
            self.link.send_replace(Link::Down(None));
            self.feed.missed();
            *keeper = Keeper::new(&self.options, &self.link, &self.feed, &self.known);
        }
        true
    }

    /// Waits until the runtime that keeps the connection has ended.
    pub(crate) fn home_gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let home = self.keeper.lock().home.clone();
        async move { home.gone().await }
    }

    /// Spawns a task in the runtime of the connection.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.keeper.lock().runtime.spawn(task).abort_handle()
    }

    /// Ends the connection, and waits until the server has ended its session.
    pub(crate) async fn close(&self) {
        let before = {
            let keeper = self.keeper.lock();
            keeper.task.abort();
            self.link.send_replace(Link::Closed)
        };
        if let Link::Up(connection) = before {
            // If the server is gone, the session ends by its time-out.
            connection.end(Deadline::after(Duration::from_secs(1))).await;
        }
    }
}

impl Keeper {
    fn new(options: &Arc<Options>, link: &watch::Sender<Link>, feed: &Feed, known: &Arc<Known>) -> Self {
        let task = keep(options.clone(), link.clone(), feed.clone(), known.clone());
        Self {
            home: Arc::new(Home::here()),
            runtime: Handle::current(),
            task: tokio::spawn(task).abort_handle(),
        }
    }
}

/// Connects, and connects again whenever the connection breaks.
async fn keep(options: Arc<Options>, link: watch::Sender<Link>, feed: Feed, known: Arc<Known>) {
    let (mut attempts, mut outage) = (Attempts::default(), Outage::new("connection", "zookeeper"));
    loop {
        let connection = loop {
            match options.again(SESSION, None, false, &attempts).await {
                Ok(connection) => break Arc::new(connection),
                Err(e) => {
                    let RequestError { error, effect, .. } = options.why(e).await;
                    outage.failed(&error);
                    let is_refused = effect == Effect::Refused && attempts.are_many();
                    let refused = is_refused.then(|| error.kind());
                    link.send_replace(Link::Down(Some(Why { refused, text: error.to_string().into() })));
                }
            }
            attempts.pause(Deadline::NEVER).await;
        };
        outage.over();
        // Meanwhile the server may have gone back to an older copy of what it held.
        known.begin(connection.generation);
        let following = feed.follow(&connection);
        link.send_replace(Link::Up(connection.clone()));
        attempts.reset();
        connection.broken().await;
        tracing::debug!("the connection is lost");
        link.send_replace(Link::Down(None));
        connection.cut();
        following.end().await;
        feed.missed();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.options.hosts).finish()
    }
}
