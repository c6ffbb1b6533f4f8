//! Keeps a connection for reads, writes and watches in each runtime that uses the store, and makes
//! a new one whenever it breaks.
//!
//! Nothing depends on its session. So a broken connection is not resumed but replaced by one with
//! a session of its own; its watches on the server are gone, and the watches here list again.
//!
//! A connection lives by the tasks of its runtime, and ends and stands still with them.

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

use crate::{error::closed, names::Names, watch::feed::Feed, write::known::Known};
use attempts::Attempts;
use connect::Options;
use connection::Connection;
use futures::future::join_all;
use kv_core::{
    Result,
    backend::{
        AbortOnDrop, ByRuntime, Home, Outage,
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
    names: Names,
    places: ByRuntime<Arc<Place>>,
}

/// The connection of one runtime, and what is known by it.
pub(crate) struct Place {
    options: Arc<Options>,
    link: watch::Sender<Link>,
    pub(crate) feed: Feed,
    pub(crate) known: Arc<Known>,
    /// Tells when the runtime has ended, and nothing is told any more.
    pub(crate) home: Home,
    runtime: Handle,
    /// The task that keeps the connection, as long as this lives.
    keeper: AbortOnDrop,
}

impl Client {
    /// Makes a client of the store of these names.
    pub(crate) fn new(options: Options, names: Names) -> Self {
        let (options, servers, places) = (Arc::new(options), Servers::one(()), ByRuntime::new());
        Self { options, servers, names, places }
    }

    /// Returns what this runtime has. The first time, the connection is begun.
    ///
    /// # Errors
    /// [`Closed`](kv_core::ErrorKind::Closed) once the store is closed.
    pub(crate) fn here(&self) -> Result<Arc<Place>> {
        self.places.here(|| Place::new(&self.options, &self.names))
    }

    /// Returns the connection of this runtime as soon as it stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Connection>> {
        self.here()?.link(deadline).await
    }

    /// Returns what is known by the connection of this runtime.
    pub(crate) fn known(&self) -> Arc<Known> {
        self.here().map(|here| here.known.clone()).unwrap_or_default()
    }

    /// Ends all connections, and waits until the server has ended their sessions.
    pub(crate) async fn close(&self) {
        join_all(self.places.close().into_iter().map(|place| async move { place.close().await })).await;
    }
}

impl Place {
    /// Starts keeping a connection, until this is dropped. Whenever one ends, the feed is told,
    /// and what is known of nodes is forgotten.
    fn new(options: &Arc<Options>, names: &Names) -> Arc<Self> {
        let (feed, known) = (Feed::new(names.clone()), Arc::<Known>::default());
        let link = watch::Sender::new(Link::Down(None));
        let task = keep(options.clone(), link.clone(), feed.clone(), known.clone());
        let keeper = AbortOnDrop::new(tokio::spawn(task).abort_handle());
        let (options, home, runtime) = (options.clone(), Home::here(), Handle::current());
        Arc::new(Self { options, link, feed, known, home, runtime, keeper })
    }

    /// Returns the connection as soon as it stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Connection>> {
        let unreachable = |why: Option<&str>| self.options.unreachable(deadline, why);
        stands(&self.link, deadline, unreachable).await?.ok_or_else(closed)
    }

    /// Spawns a task in the runtime of the connection.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    async fn close(&self) {
        self.keeper.abort();
        if let Link::Up(connection) = self.link.send_replace(Link::Closed) {
            // If the server is gone, or the runtime stands still, the session ends by its time-out.
            connection.end(Deadline::after(Duration::from_secs(1))).await;
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
