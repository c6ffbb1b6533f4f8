//! Holds sessions that own ephemeral nodes, which the server deletes when the session ends.

use super::{
    attempts::{Attempts, early},
    connect::{NotResumed, Options, lasts},
    connection::Connection,
    link::{Link, Why, stands},
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{
        Home, LetGo, Mutex,
        retry::{RequestError, Servers},
    },
    driver::Deadline,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::watch, task::AbortHandle};
use zookeeper_client::{Error as ClientError, SessionInfo};

/// The time for which ending a session is tried. A session that is not ended by then ends by its
/// time-out.
pub(crate) const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// The most directories that a session remembers. Further ones stay, empty, until the next key in
/// them is deleted.
const MOST_DIRECTORIES: usize = 4096;

/// One session. It is connected again whenever its connection breaks, as long as its runtime runs.
pub(crate) struct Ephemeral {
    id: String,
    info: SessionInfo,
    options: Arc<Options>,
    /// Its one connection as the one server that attempts go to, whichever member it is.
    servers: Servers<()>,
    timeout: Duration,
    link: watch::Sender<Link>,
    keeper: AbortHandle,
    home: Home,
    /// Set when its owner no longer counts on it.
    pub(super) lost: watch::Sender<bool>,
    /// Has a receiver for each holder that is to be told before the session is ended.
    holders: watch::Sender<()>,
    /// Tells contenders that wait under it to take another session.
    pub(crate) let_go: LetGo,
    /// Tells whether its end, once begun, has come to the server. The lock is held while one call
    /// ends the session; other calls wait for it, for an end that is still on its way is none.
    ended: tokio::sync::Mutex<Option<bool>>,
    /// The directories of its nodes, which are to be cleared when it is over.
    directories: Mutex<BTreeSet<String>>,
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Ephemeral {
    /// Opens a session that ends this long after its last sign of life. When it is dropped, it
    /// ends at once, unless it is detached.
    pub(crate) async fn open(
        options: &Arc<Options>,
        timeout: Duration,
        detached: bool,
        deadline: Deadline,
    ) -> Result<Self> {
        let connection = options.session(timeout, detached, early(deadline)).await?;
        let granted = connection.session.session_timeout();
        if !lasts(granted, timeout) {
            let why = format!(
                "every member that answers grants sessions of less than {timeout:?}, which this TTL takes, the last one \
                 {granted:?}: their settings were changed since the store was opened; raise their `maxSessionTimeout`, or \
                 open the store anew to learn what they allow now"
            );
            // Members that are changed one by one may soon grant it.
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        let (info, id) = (connection.session.session().clone(), connection.session.session_id().to_string());
        let connection = Arc::new(connection);
        let link = watch::Sender::new(Link::Up(connection.clone()));
        let keeper =
            tokio::spawn(hold(options.clone(), link.clone(), connection, timeout, detached)).abort_handle();
        Ok(Self {
            id,
            info,
            options: options.clone(),
            servers: Servers::one(()),
            timeout,
            link,
            keeper,
            home: Home::here(),
            lost: watch::Sender::new(false),
            holders: watch::Sender::new(()),
            let_go: LetGo::default(),
            ended: tokio::sync::Mutex::default(),
            directories: Mutex::default(),
        })
    }

    /// Notes that a node of the session lies in this directory.
    pub(crate) fn lies_in(&self, directory: &str) {
        let mut directories = self.directories.lock();
        if directories.len() < MOST_DIRECTORIES {
            directories.insert(directory.to_owned());
        }
    }

    /// Takes the directories of its nodes.
    pub(crate) fn directories(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.directories.lock())
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn servers(&self) -> &Servers<()> {
        &self.servers
    }

    /// Returns whether its owner may still count on it.
    pub(crate) fn is_alive(&self) -> bool {
        !*self.lost.borrow() && !self.link.borrow().is_over() && !self.home.is_gone()
    }

    /// Returns its connection as soon as one stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Connection>> {
        let ended = || Error::new(ErrorKind::LeaseLost, why_over(&self.link.borrow()));
        if !self.is_alive() {
            return Err(ended());
        }
        let unreachable = |why: Option<&str>| {
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            let text = format!("no connection for the session {} within {deadline}{why}", self.id);
            Error::new(ErrorKind::Unavailable, text)
        };
        stands(&self.link, deadline, unreachable).await?.ok_or_else(ended)
    }

    /// Counts a holder that is to be told before the session is ended, as long as the returned
    /// receiver lives.
    pub(crate) fn counted_on(&self) -> watch::Receiver<()> {
        self.holders.subscribe()
    }

    /// Waits until all holders that counted on the session were told that it is over.
    pub(super) async fn heard(&self) {
        let _ = self.lost.subscribe().wait_for(|is_lost| *is_lost).await;
        self.holders.closed().await;
    }

    /// Waits until the session is over, and returns the reason.
    pub(crate) fn over(&self) -> impl Future<Output = &'static str> + Send + 'static {
        let mut changes = self.link.subscribe();
        async move {
            // A session that was dropped is over as well.
            changes.wait_for(Link::is_over).await.map_or(OVER, |link| why_over(&link))
        }
    }

    /// Ends the session and its nodes, and returns whether it was alive. For this a session is
    /// connected again, if it has to be, when its owner still counts on it, or when its keeper
    /// ended with its runtime.
    pub(crate) async fn end(&self, deadline: Deadline) -> Result<bool> {
        // The server may have ended the session while it was not connected, which shows when it is
        // connected again.
        let is_linked = self.link(deadline).await.is_ok();
        let was_alive = self.is_alive();
        self.keeper.abort();
        let turn = async {
            if matches!(*self.link.borrow(), Link::GivenUp) {
                // The server still has the session. It is to end it only after all holders were
                // told.
                self.heard().await;
            }
            self.ended.lock().await
        };
        let in_time = match deadline.limit(turn).await {
            Some(mut ended) => {
                let done = match self.link.send_replace(Link::Closed) {
                    Link::Closed if *ended != Some(false) => true,
                    Link::Closed => self.end_anew(deadline).await,
                    link => {
                        *ended = Some(false);
                        self.end_by(link, is_linked, deadline).await
                    }
                };
                *ended = Some(done);
                done
            }
            None => false,
        };
        if in_time {
            return Ok(was_alive);
        }
        let why = format!("the session {} could not be ended in time; it ends by its TTL", self.id);
        Err(Error::new(ErrorKind::Timeout, why))
    }

    async fn end_by(&self, link: Link, is_linked: bool, deadline: Deadline) -> bool {
        match link {
            // If its connection breaks now, the answer is lost; if its runtime stands still, none
            // comes.
            Link::Up(connection) if connection.stands() => {
                let patience = Deadline::after(deadline.remaining() / 2);
                connection.end(patience).await || self.end_anew(deadline).await
            }
            // Nobody counts on the session any more, so that a member may shorten it.
            Link::GivenUp => self.end_anew(deadline).await,
            // The connection broke, and its keeper has not seen that yet, or has ended before it
            // could.
            _ if is_linked || self.home.is_gone() => self.end_anew(deadline).await,
            _ => false,
        }
    }

    async fn end_anew(&self, deadline: Deadline) -> bool {
        let mut attempts = Attempts::default();
        while !deadline.has_passed() {
            let again = self.options.again(self.timeout, Some(self.info.clone()), false, &attempts);
            let is_over = match deadline.limit(again).await {
                Some(Ok(connection)) => Arc::new(connection).end(deadline).await,
                Some(Err(e)) => matches!(e, ClientError::SessionExpired),
                None => false,
            };
            if is_over {
                return true;
            }
            attempts.pause(deadline).await;
        }
        false
    }
}

/// Keeps a session connected until the server says that it is over, or no host grants it its time.
async fn hold(
    options: Arc<Options>,
    link: watch::Sender<Link>,
    mut connection: Arc<Connection>,
    timeout: Duration,
    detached: bool,
) {
    loop {
        connection.broken().await;
        link.send_replace(Link::Down(None));
        connection.cut();
        let session = connection.session.session().clone();
        drop(connection);
        let mut attempts = Attempts::default();
        connection = loop {
            match options.resume(timeout, &session, detached, &attempts).await {
                Ok(connection) if lasts(connection.session.session_timeout(), timeout) => {
                    break Arc::new(connection);
                }
                // The settings of the member were changed since it was asked. The server may now
                // end the session before its time.
                Ok(connection) => {
                    link.send_replace(Link::GivenUp);
                    connection.cut();
                    return;
                }
                Err(NotResumed::Less) => {
                    link.send_replace(Link::GivenUp);
                    return;
                }
                Err(NotResumed::Expired) => {
                    link.send_replace(Link::Closed);
                    return;
                }
                Err(NotResumed::Yet(e, less)) => {
                    let RequestError { error, .. } = options.why(e).await;
                    let less = less.map_or(String::new(), |less| format!("{less}; "));
                    let text = format!("{less}{error}").into();
                    link.send_replace(Link::Down(Some(Why { refused: None, text })));
                }
            }
            // The pause is short: the outage may have taken most of a short TTL.
            attempts.pause(Deadline::after(timeout / 20)).await;
        };
        link.send_replace(Link::Up(connection.clone()));
    }
}

pub(super) const OVER: &str = "its session has ended";

fn why_over(link: &Link) -> &'static str {
    match link {
        Link::GivenUp => "no member grants its session as much time any more as the session has",
        _ => OVER,
    }
}
