//! Holds sessions that own nodes: what they created goes with them.

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

/// One session, connected again whenever its connection breaks, as long as its runtime runs.
pub(crate) struct Ephemeral {
    id: String,
    info: SessionInfo,
    options: Arc<Options>,
    /// Its one connection, to whichever member it is.
    servers: Servers<()>,
    timeout: Duration,
    link: watch::Sender<Link>,
    keeper: AbortHandle,
    home: Home,
    /// Its owner counts on it no more.
    pub(super) lost: watch::Sender<bool>,
    /// Has a receiver for each of those who hear by themselves that it is over.
    holders: watch::Sender<()>,
    /// Tells contenders that wait under it to take another session.
    pub(crate) let_go: LetGo,
    /// Tells whether its end, once begun, has come to the server. The lock is held while one call
    /// ends the session; other calls wait for it, for an end that is still on its way is none.
    ended: tokio::sync::Mutex<Option<bool>>,
    /// The directories that its nodes lie in, which are to be cleared when it is over.
    directories: Mutex<BTreeSet<String>>,
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Ephemeral {
    /// Opens one that goes this long after its last sign of life; a detached one also when it is dropped, else it ends then.
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
                "the server grants sessions of {granted:?} at most since its settings were changed, and this TTL takes \
                 {timeout:?}; open the store anew to learn what it allows now"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, why));
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

    /// Notes that what it owns lies in this directory.
    pub(crate) fn lies_in(&self, directory: &str) {
        let mut directories = self.directories.lock();
        if directories.len() < MOST_DIRECTORIES {
            directories.insert(directory.to_owned());
        }
    }

    /// Takes the directories that its nodes lie in.
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

    /// Returns its connection, as soon as one stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Connection>> {
        let ended = || Error::new(ErrorKind::LeaseLost, why_over(&self.link.borrow()));
        if !self.is_alive() {
            return Err(ended());
        }
        let unreachable = |why: Option<&str>| {
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            let text =
                format!("no connection for the session {} within {:?}{why}", self.id, deadline.within());
            Error::new(ErrorKind::Unavailable, text)
        };
        stands(&self.link, deadline, unreachable).await?.ok_or_else(ended)
    }

    /// Counts as one who hears by itself that it is over, as long as the answer lives.
    pub(crate) fn counted_on(&self) -> watch::Receiver<()> {
        self.holders.subscribe()
    }

    /// Ready when all who counted on it have heard that it is over.
    pub(super) async fn heard(&self) {
        let _ = self.lost.subscribe().wait_for(|is_lost| *is_lost).await;
        self.holders.closed().await;
    }

    /// Ready when it is over, with the reason.
    pub(crate) fn over(&self) -> impl Future<Output = &'static str> + Send + 'static {
        let mut changes = self.link.subscribe();
        async move {
            // Dropped, it is over as well.
            changes.wait_for(Link::is_over).await.map_or(OVER, |link| why_over(&link))
        }
    }

    /// Ends it, and what it owns; whether it was alive. One whose owner still counts on it is connected again for this, if
    /// it has to be, and so is one whose keeper went with its runtime.
    pub(crate) async fn end(&self, deadline: Deadline) -> Result<bool> {
        // The server may have ended it while it was not connected, which one hears when it is again.
        let is_linked = self.link(deadline).await.is_ok();
        let was_alive = self.is_alive();
        self.keeper.abort();
        let turn = async {
            if matches!(*self.link.borrow(), Link::GivenUp) {
                // The server has it still, and is to end it behind everybody's hearing of that.
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
            // Where its connection breaks, the answer is lost with it.
            Link::Up(connection) if connection.stands() => {
                connection.end(deadline).await || self.end_anew(deadline).await
            }
            // Nobody counts on it, so that a member may shorten it.
            Link::GivenUp => self.end_anew(deadline).await,
            // It broke, which its keeper has not seen yet, or not lived to see.
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

/// Keeps a session connected until the server says that it is over.
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
                // Its settings were changed since it was asked. The server may end the session
                // before its time now.
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
            // The outage may have taken most of a short life.
            attempts.pause(Deadline::after(timeout / 20)).await;
        };
        link.send_replace(Link::Up(connection.clone()));
    }
}

pub(super) const OVER: &str = "its session has ended";

fn why_over(link: &Link) -> &'static str {
    match link {
        Link::GivenUp => "no member grants its session the time any more that it has",
        _ => OVER,
    }
}
