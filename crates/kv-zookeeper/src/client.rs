//! The connection that reads, writes and watches go through, made anew whenever it breaks.
//!
//! Nothing hangs on its session, so a broken connection is not taken up again but replaced, with a session of its own: what
//! watches it had is gone, and whoever watches reads again.

use crate::{
    connect::{Attempts, Options},
    error::{Answer, Problem, failed},
    feed::Feed,
    link::{Link, Linked, Why, stands},
    node::Known,
    session::Ephemeral,
};
use kv_core::{
    Deadline, Error, ErrorKind, Result,
    backend::{
        Home, Mutex, Outage, catch_up,
        retry::{Answered, Attempt, Effect, RequestError, RetrySafety, Servers},
    },
};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

/// How long the session of a connection outlives it, unless it could be ended.
const SESSION: Duration = Duration::from_secs(10);

/// The sessions that requests go through.
#[derive(Clone, Copy)]
pub(crate) enum Via<'a> {
    /// Any one.
    Any(&'a Client),
    /// The one that owns what is created.
    Own(&'a Ephemeral),
}

impl<'a> Via<'a> {
    async fn link(self, deadline: Deadline) -> Result<Arc<Linked>> {
        match self {
            Self::Any(client) => client.link(deadline).await,
            Self::Own(session) => session.link(deadline).await,
        }
    }

    fn servers(self) -> &'a Servers<()> {
        match self {
            Self::Any(client) => &client.servers,
            Self::Own(session) => session.servers(),
        }
    }

    /// Sends a request by the rules of [`retry`](kv_core::backend::retry). What the server says of
    /// nodes is an answer.
    pub(crate) async fn call<T, F>(
        self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(Arc<Linked>) -> F,
    ) -> Result<Result<T, Answer>>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let attempt = |attempt: Attempt<'a, ()>| self.attempt(safety, attempt.deadline, &request);
        let Answered { answer, is_repeat } = self.servers().run(safety, deadline, attempt).await?;
        Ok(answer.map_err(|answer| Answer { is_repeat, ..answer }))
    }

    /// Sends it once there is a connection, and waits until the deadline: the session's connection
    /// is the only way, and is ended by the client itself when nothing is heard on it.
    async fn attempt<T, F>(
        self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(Arc<Linked>) -> F,
    ) -> Result<Result<T, Answer>, RequestError>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let linked = self.link(deadline).await.map_err(not_connected)?;
        if safety == RetrySafety::Write {
            // Where the runtime stood still, the end of the connection may have come and waits to be seen.
            catch_up(deadline, || !linked.stands()).await;
        }
        if deadline.has_passed() {
            return Err(late(Effect::None, "nothing could be sent", deadline));
        }
        if !linked.stands() {
            let error = Error::new(ErrorKind::Unavailable, "the connection was lost");
            return Err(RequestError::new(Effect::None, error));
        }
        match deadline.limit(request(linked)).await {
            Some(Ok(answer)) => Ok(Ok(answer)),
            Some(Err(Problem { error, at })) => match Answer::of(&error, at) {
                Some(answer) => Ok(Err(answer)),
                None => Err(failed(error)),
            },
            None => Err(late(Effect::Unknown, "no answer", deadline)),
        }
    }
}

/// Nothing was sent; a connection may stand later, unless the store, the session or the server's
/// refusal ends the hope for it.
#[cold]
fn not_connected(error: Error) -> RequestError {
    let effect = if error.is_transient() { Effect::None } else { Effect::Refused };
    RequestError::new(effect, error)
}

#[cold]
fn late(effect: Effect, what: &str, deadline: Deadline) -> RequestError {
    let why = format!("{what} within {:?}", deadline.within());
    RequestError::new(effect, Error::new(ErrorKind::Timeout, why))
}

/// The way to one cluster.
pub(crate) struct Client {
    pub(crate) options: Arc<Options>,
    /// The one connection, to whichever member it is.
    servers: Servers<()>,
    link: watch::Sender<Link>,
    feed: Feed,
    known: Arc<Known>,
    keeper: Mutex<Keeper>,
}

/// Who keeps the connection, and the runtime that both live in.
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
    /// Keeps a connection until this is dropped; tells the feed of each that ended, and has what is known forgotten.
    pub(crate) fn new(options: Options, feed: &Feed, known: &Arc<Known>) -> Self {
        let (options, link) = (Arc::new(options), watch::Sender::new(Link::Down(None)));
        let keeper = Mutex::new(Keeper::new(&options, &link, feed, known));
        Self { options, servers: Servers::one(()), link, feed: feed.clone(), known: known.clone(), keeper }
    }

    /// The connection, as soon as one stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Linked>> {
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

    /// Keeps it in the current runtime from now on, where the one that kept it has ended; whether it is kept.
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

    /// Ready when the runtime that keeps it has ended.
    pub(crate) fn home_gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let home = self.keeper.lock().home.clone();
        async move { home.gone().await }
    }

    /// Has a task live where the connection does.
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
        if let Link::Up(linked) = before {
            // What a server that is gone cannot end, ends by its time-out.
            linked.end(Deadline::after(Duration::from_secs(1))).await;
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

/// So much earlier, what is known is told by the deadline.
pub(crate) fn early(deadline: Deadline) -> Deadline {
    let left = deadline.remaining();
    Deadline::after(left - left / 50)
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

async fn keep(options: Arc<Options>, link: watch::Sender<Link>, feed: Feed, known: Arc<Known>) {
    let (mut attempts, mut outage) = (Attempts::default(), Outage::new("connection", "zookeeper"));
    loop {
        let linked = loop {
            match options.again(SESSION, None, false, &attempts).await {
                Ok(linked) => break Arc::new(linked),
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
        known.begin(linked.generation);
        let following = feed.follow(&linked);
        link.send_replace(Link::Up(linked.clone()));
        attempts.reset();
        linked.broken().await;
        tracing::debug!("the connection is lost");
        link.send_replace(Link::Down(None));
        linked.cut();
        following.end().await;
        feed.missed();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.options.hosts).finish()
    }
}
