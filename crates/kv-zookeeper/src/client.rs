//! The connection that reads, writes and watches go through, made anew whenever it breaks.
//!
//! Nothing hangs on its session, so a broken connection is not taken up again but replaced, with a session of its own: what
//! watches it had is gone, and whoever watches reads again.

use crate::{
    error::{Answer, Fate, Problem, failed, unknown},
    link::{Link, Linked, Why, stands},
    probe::Tls,
    session::Ephemeral,
    watch::Feed,
};
use kv_core::{Deadline, Error, ErrorKind, Result, Secret};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{sync::watch, task::AbortHandle};
use zookeeper_client::{Acl, Acls, Client as Session, Connector, CreateMode, CreateOptions, SessionInfo};

/// How long the session of a connection outlives it, unless it could be ended.
const SESSION: Duration = Duration::from_secs(10);
/// A connection on which nothing is heard for so long is given up. Idle ones are pinged three times within it.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the first attempt at a connection may take; each one after it twice as long.
const PATIENCE: Duration = Duration::from_millis(250);

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: releases.
    Repeatable,
}

/// How connections are made.
pub(crate) struct Options {
    pub(crate) hosts: Vec<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) acl: Vec<Acl>,
}

impl Options {
    /// Connects to one of the hosts, with a new session that lives so long, or with one that there is.
    pub(crate) async fn connect(
        &self,
        timeout: Duration,
        session: Option<SessionInfo>,
        detached: bool,
    ) -> Result<Linked, zookeeper_client::Error> {
        let mut connector = Connector::with_session_timeout(Session::connector(), timeout)
            .with_connection_timeout(SILENCE)
            .with_fail_eagerly();
        if let Some((user, password)) = &self.login {
            connector = connector.with_auth("digest", format!("{user}:{}", password.reveal()).as_bytes());
        }
        if let Some(session) = session {
            connector = connector.with_session(session);
        }
        if detached {
            connector = connector.with_detached();
        }
        let cluster = self.hosts.join(",");
        match &self.tls {
            Some(tls) => Linked::connect(connector.with_tls(tls.options()).secure_connect(&cluster)).await,
            None => Linked::connect(connector.connect(&cluster)).await,
        }
    }

    /// The same once more, after so many attempts that failed. A server that is about to serve may take a connection and
    /// never answer on it, so the first ones are short.
    pub(crate) async fn again(
        &self,
        timeout: Duration,
        session: Option<SessionInfo>,
        detached: bool,
        backoff: &Backoff,
    ) -> Result<Linked, zookeeper_client::Error> {
        let most = SILENCE * u32::try_from(self.hosts.len()).unwrap_or(1);
        let patience = (PATIENCE * (1 << backoff.0.min(4))).min(most);
        match tokio::time::timeout(patience, self.connect(timeout, session, detached)).await {
            Ok(answer) => answer,
            Err(_) => Err(zookeeper_client::Error::Timeout),
        }
    }

    /// The same with a new session, until the deadline.
    pub(crate) async fn session(
        &self,
        timeout: Duration,
        detached: bool,
        deadline: Deadline,
    ) -> Result<Linked> {
        let mut backoff = Backoff::default();
        let mut why = None;
        loop {
            match deadline.limit(self.again(timeout, None, detached, &backoff)).await {
                Some(Ok(linked)) => return Ok(linked),
                Some(Err(e)) => match failed(e) {
                    (Fate::Refused, error) => return Err(error),
                    (_, error) => why = Some(error),
                },
                None => return Err(self.unreachable(deadline, why.map(|e| e.to_string()).as_deref())),
            }
            backoff.pause(deadline).await;
        }
    }

    pub(crate) fn unreachable(&self, deadline: Deadline, why: Option<&str>) -> Error {
        let (hosts, within) = (self.hosts.join(", "), deadline.within());
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        Error::new(ErrorKind::Unavailable, format!("no connection to {hosts} within {within:?}{why}"))
    }

    pub(crate) fn create(&self, mode: CreateMode) -> CreateOptions<'_> {
        mode.with_acls(Acls::new(&self.acl))
    }
}

/// Pauses between attempts: longer and longer, and not all at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) async fn pause(&mut self, deadline: Deadline) {
        let most = 20 << self.0.min(3);
        self.0 += 1;
        let pause = Duration::from_millis(most / 2 + unique() % (most / 2));
        tokio::time::sleep(pause.min(deadline.remaining())).await;
    }

    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
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
        let (mut backoff, mut maybe_done) = (Backoff::default(), false);
        loop {
            let linked = match self.link(deadline).await {
                Ok(linked) => linked,
                Err(e) if maybe_done => return Err(unknown(e)),
                Err(e) => return Err(e),
            };
            if deadline.has_passed() {
                let why = format!("there was no time left of {:?} to send it", deadline.within());
                let error = Error::new(ErrorKind::Timeout, why);
                return Err(if maybe_done { unknown(error) } else { error });
            }
            let (fate, error) = match deadline.limit(request(linked)).await {
                Some(Ok(answer)) => return Ok(Ok(answer)),
                Some(Err(Problem { error, at })) => match Answer::of(&error, at) {
                    Some(answer) => return Ok(Err(answer)),
                    None => failed(error),
                },
                None => {
                    let why = format!("no answer within {:?}", deadline.within());
                    (Fate::Unknown, Error::new(ErrorKind::Timeout, why))
                }
            };
            match (fate, does) {
                (Fate::Refused, _) => return Err(error),
                (Fate::Unknown, Does::Write) => return Err(unknown(error)),
                (Fate::Unknown, Does::Repeatable) => maybe_done = true,
                _ => {}
            }
            if deadline.has_passed() {
                return Err(if maybe_done { unknown(error) } else { error });
            }
            backoff.pause(deadline).await;
        }
    }
}

/// The way to one cluster.
pub(crate) struct Client {
    pub(crate) options: Arc<Options>,
    link: watch::Sender<Link>,
    keeper: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Client {
    /// Keeps a connection until this is dropped; tells the feed of each that ended.
    pub(crate) fn new(options: Options, feed: &Feed) -> Self {
        let options = Arc::new(options);
        let link = watch::Sender::new(Link::Down(None));
        let keeper = tokio::spawn(keep(options.clone(), link.clone(), feed.clone())).abort_handle();
        Self { options, link, keeper }
    }

    /// The connection, as soon as one stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Linked>> {
        stands(&self.link, deadline, |why| self.options.unreachable(deadline, why)).await?.ok_or_else(closed)
    }

    /// Ends the connection, and waits until the server has ended its session.
    pub(crate) async fn close(&self) {
        self.keeper.abort();
        if let Link::Up(linked) = self.link.send_replace(Link::Closed) {
            // What a server that is gone cannot end, ends by its time-out.
            linked.end(Deadline::after(Duration::from_secs(1))).await;
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

async fn keep(options: Arc<Options>, link: watch::Sender<Link>, feed: Feed) {
    let mut backoff = Backoff::default();
    loop {
        let linked = loop {
            match options.again(SESSION, None, false, &backoff).await {
                Ok(linked) => break Arc::new(linked),
                Err(e) => {
                    tracing::debug!(error = %e, "no connection");
                    let (fate, error) = failed(e);
                    let refused = (fate == Fate::Refused).then(|| error.kind());
                    link.send_replace(Link::Down(Some(Why { refused, text: error.to_string().into() })));
                }
            }
            backoff.pause(Deadline::NEVER).await;
        };
        let following = feed.follow(&linked);
        link.send_replace(Link::Up(linked.clone()));
        backoff.reset();
        linked.broken().await;
        tracing::debug!("the connection is lost");
        link.send_replace(Link::Down(None));
        following.abort();
        linked.cut();
        feed.missed();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.options.hosts).finish()
    }
}
