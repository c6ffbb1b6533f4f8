//! The connection that reads, writes and watches go through, made anew whenever it breaks.
//!
//! Nothing hangs on its session, so a broken connection is not taken up again but replaced, with a session of its own: what
//! watches it had is gone, and whoever watches reads again.

use crate::{
    connect::{Attempts, Options},
    error::{Answer, Fate, Problem, failed, lock, unknown},
    feed::Feed,
    link::{Link, Linked, Why, stands},
    node::Known,
    session::Ephemeral,
};
use kv_core::{
    Deadline, Error, ErrorKind, Result,
    backend::{Home, Outage},
};
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

/// How long the session of a connection outlives it, unless it could be ended.
const SESSION: Duration = Duration::from_secs(10);

/// How often others have their turn before a write is sent. A runtime that has just been entered gives the first one back at
/// once; the connection's task and its keeper take one each.
const TURNS: usize = 4;

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: releases. What it answers is not: see [`Answer::repeated`].
    Repeatable,
}

/// A number that nobody else uses.
pub(crate) fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The sessions that requests go through.
#[derive(Clone, Copy)]
pub(crate) enum Via<'a> {
    /// Any one.
    Any(&'a Client),
    /// The one that owns what is created.
    Own(&'a Ephemeral),
}

impl Via<'_> {
    async fn link(self, deadline: Deadline) -> Result<Arc<Linked>> {
        match self {
            Self::Any(client) => client.link(deadline).await,
            Self::Own(session) => session.link(deadline).await,
        }
    }

    /// Sends a request once there is a connection; again when it cannot have had an effect, or when a repeat is harmless.
    /// Ends a moment before the deadline, so that what is known is told. What the server says of nodes is an answer.
    pub(crate) async fn call<T, F>(
        self,
        does: Does,
        deadline: Deadline,
        request: impl Fn(Arc<Linked>) -> F,
    ) -> Result<Result<T, Answer>>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let deadline = before(deadline);
        let (mut attempts, mut maybe_done) = (Attempts::default(), false);
        loop {
            let linked = match self.link(deadline).await {
                Ok(linked) => linked,
                Err(e) if maybe_done => return Err(unknown(e)),
                Err(e) => return Err(e),
            };
            if does == Does::Write {
                // Where the runtime stood still, the end of the connection may have come and waits to be seen.
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            }
            if deadline.has_passed() {
                let why = format!("there was no time left of {:?} to send it", deadline.within());
                let error = Error::new(ErrorKind::Timeout, why);
                return Err(if maybe_done { unknown(error) } else { error });
            }
            if !linked.stands() {
                attempts.pause(deadline).await;
                continue;
            }
            let (fate, error) = match deadline.limit(request(linked)).await {
                Some(Ok(answer)) => return Ok(Ok(answer)),
                Some(Err(Problem { error, at })) => match Answer::of(&error, at) {
                    Some(answer) => return Ok(Err(Answer { repeated: maybe_done, ..answer })),
                    None => failed(error),
                },
                None => {
                    let why = format!("no answer within {:?}", deadline.within());
                    (Fate::Unknown, Error::new(ErrorKind::Timeout, why))
                }
            };
            match (fate, does) {
                // What the refused one was to do, an earlier one may have done.
                (Fate::Refused, _) if maybe_done => return Err(unknown(error)),
                (Fate::Refused, _) => return Err(error),
                (Fate::Unknown, Does::Write) => return Err(unknown(error)),
                (Fate::Unknown, Does::Repeatable) => maybe_done = true,
                _ => {}
            }
            if deadline.has_passed() {
                return Err(if maybe_done { unknown(error) } else { error });
            }
            attempts.pause(deadline).await;
        }
    }
}

/// The way to one cluster.
pub(crate) struct Client {
    pub(crate) options: Arc<Options>,
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
        lock(&self.keeper).task.abort();
    }
}

impl Client {
    /// Keeps a connection until this is dropped; tells the feed of each that ended, and has what is known forgotten.
    pub(crate) fn new(options: Options, feed: &Feed, known: &Arc<Known>) -> Self {
        let (options, link) = (Arc::new(options), watch::Sender::new(Link::Down(None)));
        let keeper = Mutex::new(Keeper::new(&options, &link, feed, known));
        Self { options, link, feed: feed.clone(), known: known.clone(), keeper }
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
        let mut keeper = lock(&self.keeper);
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
        let home = lock(&self.keeper).home.clone();
        async move { home.gone().await }
    }

    /// Has a task live where the connection does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        lock(&self.keeper).runtime.spawn(task).abort_handle()
    }

    /// Ends the connection, and waits until the server has ended its session.
    pub(crate) async fn close(&self) {
        let before = {
            let keeper = lock(&self.keeper);
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

pub(crate) fn before(deadline: Deadline) -> Deadline {
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
                    let (fate, error) = options.why(e).await;
                    outage.failed(&error);
                    let refused = (fate == Fate::Refused && attempts.are_many()).then(|| error.kind());
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
