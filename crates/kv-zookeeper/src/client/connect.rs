//! Makes connections, and finds out why a connection cannot be made.

use super::{
    attempts::{Attempts, SILENCE},
    connection::Connection,
    probe::{self, Granted},
    tls::{Certificates, Tls},
};
use crate::error::failed;
use futures::future::{BoxFuture, Either, Fuse, FusedFuture, FutureExt, join_all, select};
use kv_core::{
    Error, ErrorKind, Result, Secret,
    backend::{
        Mutex,
        retry::{Effect, RequestError},
        unique,
    },
    driver::Deadline,
};
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use zookeeper_client::{
    Acl, Acls, Client as Session, Connector, CreateMode, CreateOptions, Error as ClientError, SessionInfo,
};

/// The time that a look at the hosts may take when no connection can be made, and the time for
/// which its finding is used again.
const LOOK: Duration = Duration::from_millis(250);
const FOUND: Duration = Duration::from_secs(1);

/// The settings by which connections are made.
pub(crate) struct Options {
    pub(crate) hosts: Vec<String>,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) acl: Vec<Acl>,
    found: Mutex<Option<(Instant, Arc<str>)>>,
}

/// The reason why a session was not resumed.
pub(crate) enum NotResumed {
    /// The server has ended it.
    Expired,
    /// Every host grants the session less time than it has.
    Less,
    /// Another attempt may succeed. Also holds a message about a host that grants less, if one
    /// does.
    Yet(ClientError, Option<String>),
}

/// Returns whether the server granted as much time as was asked for. Each member grants by its own
/// settings, also when a session is resumed.
pub(crate) fn lasts(granted: Duration, asked: Duration) -> bool {
    // The server counts in milliseconds.
    granted + Duration::from_millis(1) >= asked
}

/// Connects to a host while the connection by which it was asked is still ending; where the host
/// does not take both at once, again after that end.
async fn beside<F>(
    mut ended: Fuse<BoxFuture<'static, ()>>,
    connect: impl Fn() -> F,
    attempts: &Attempts,
) -> Result<Connection, ClientError>
where
    F: Future<Output = Result<Connection, ClientError>>,
{
    let answer = match select(pin!(connect()), &mut ended).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), connecting)) => connecting.await,
    };
    if ended.is_terminated() || !matches!(answer, Err(ClientError::NoHosts)) {
        return answer;
    }
    attempts.patient(ended.map(Ok)).await?;
    connect().await
}

/// Returns whether another host may do what this one did not.
fn passes_over(error: &ClientError) -> bool {
    matches!(error, ClientError::NoHosts | ClientError::Timeout)
}

impl Options {
    pub(crate) fn new(
        hosts: Vec<String>,
        certificates: Option<Certificates>,
        login: Option<(String, Secret)>,
        acl: Vec<Acl>,
    ) -> Self {
        Self { hosts, certificates, login, acl, found: Mutex::default() }
    }

    /// Returns the settings of TLS, by the certificates as they are now; `None` for plain text.
    pub(crate) fn tls(&self) -> Option<Tls> {
        self.certificates.as_ref().map(Certificates::now)
    }

    /// Connects to a host, with a new session of this time-out or with an existing session.
    async fn connect(
        &self,
        host: &str,
        timeout: Duration,
        session: Option<SessionInfo>,
        detached: bool,
    ) -> Result<Connection, ClientError> {
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
        match self.tls() {
            Some(tls) => {
                Connection::connect(connector.with_tls(tls.options()).secure_connect(host).boxed()).await
            }
            None => Connection::connect(connector.connect(host).boxed()).await,
        }
    }

    /// Returns all hosts in the order in which they are asked. The first one is random, so that
    /// not all clients begin with the same.
    fn in_turn(&self) -> impl Iterator<Item = &String> {
        let first = unique() as usize % self.hosts.len().max(1);
        let (before, behind) = self.hosts.split_at(first);
        behind.iter().chain(before)
    }

    /// Connects to one of the hosts, after the attempts that failed so far. A server that is about
    /// to serve may take a connection and never answer on it, so the first attempts are short. A
    /// silent host is passed over: each host is asked by itself, since the client would stay with
    /// a silent one.
    pub(crate) async fn again(
        &self,
        timeout: Duration,
        session: Option<SessionInfo>,
        detached: bool,
        attempts: &Attempts,
    ) -> Result<Connection, ClientError> {
        self.granting(Duration::ZERO, timeout, session, detached, attempts).await
    }

    /// Connects as [`again`](Self::again) does, to a host that grants the session this much time;
    /// where none does, to one that grants less.
    async fn granting(
        &self,
        enough: Duration,
        timeout: Duration,
        session: Option<SessionInfo>,
        detached: bool,
        attempts: &Attempts,
    ) -> Result<Connection, ClientError> {
        let (mut last, mut less) = (ClientError::NoHosts, None);
        for host in self.in_turn() {
            let connecting = self.connect(host, timeout, session.clone(), detached);
            match attempts.patient(connecting).await {
                Ok(connection) if !lasts(connection.session.session_timeout(), enough) => {
                    less = Some(connection);
                }
                Err(e) if passes_over(&e) => last = e,
                answer => return answer,
            }
        }
        less.ok_or(last)
    }

    /// Resumes a session that its owner counts on, as [`again`](Self::again) does, on a host that
    /// grants it as much time as it has. Each host is asked before it is given the session: a host
    /// that grants less would shorten the session at once, and its answer may be lost.
    pub(crate) async fn resume(
        &self,
        timeout: Duration,
        session: &SessionInfo,
        detached: bool,
        attempts: &Attempts,
    ) -> Result<Connection, NotResumed> {
        let (mut last, mut less) = (None, None);
        for host in self.in_turn() {
            let granted = match attempts.patient(self.granted(host, timeout)).await {
                Ok(granted) => granted,
                Err(e) => {
                    last = Some(e);
                    continue;
                }
            };
            if !lasts(granted.time, timeout) {
                less = Some(format!(
                    "{host} grants sessions of {:?} at most, and this one has {timeout:?}; raise its \
                     `maxSessionTimeout`",
                    granted.time
                ));
                let _ = attempts.patient(granted.ended.map(Ok)).await;
                continue;
            }
            let connect = || {
                let connecting = self.connect(host, timeout, Some(session.clone()), detached);
                attempts.patient(connecting)
            };
            match beside(granted.ended, connect, attempts).await {
                Ok(connection) => return Ok(connection),
                Err(ClientError::SessionExpired) => return Err(NotResumed::Expired),
                Err(e) if passes_over(&e) => last = Some(e),
                Err(e) => return Err(NotResumed::Yet(e, less)),
            }
        }
        Err(last.map_or(NotResumed::Less, |e| NotResumed::Yet(e, less)))
    }

    /// Asks a host which time-out it grants a session for which this one is asked.
    async fn granted(&self, host: &str, timeout: Duration) -> Result<Granted, ClientError> {
        let granted = probe::granted(host, self.tls().as_ref(), timeout, Deadline::NEVER).await;
        granted.map_err(|_| ClientError::NoHosts)
    }

    /// Connects with a new session, trying again until the deadline. Only where every host that
    /// answers grants the session less time, it has less.
    pub(crate) async fn session(
        &self,
        timeout: Duration,
        detached: bool,
        deadline: Deadline,
    ) -> Result<Connection> {
        let mut attempts = Attempts::default();
        let mut why = None;
        loop {
            match deadline.limit(self.granting(timeout, timeout, None, detached, &attempts)).await {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(e)) => match deadline.limit(self.why(e)).await {
                    Some(failed) if failed.effect == Effect::Refused && attempts.are_many() => {
                        return Err(failed.error);
                    }
                    Some(failed) => why = Some(failed.error),
                    None => {}
                },
                None => return Err(self.unreachable(deadline, why.map(|e| e.to_string()).as_deref())),
            }
            attempts.pause(deadline).await;
        }
    }

    /// Returns the meaning of an attempt that failed. The client hardly tells the reason, so the
    /// hosts are looked at.
    pub(crate) async fn why(&self, error: ClientError) -> RequestError {
        let failed = failed(error);
        if failed.effect == Effect::Refused {
            return failed;
        }
        let last = self.found.lock().clone().filter(|(at, _)| at.elapsed() < FOUND);
        let text = match last {
            Some((_, text)) => text,
            None => {
                let text: Arc<str> = self.look().await.into();
                *self.found.lock() = Some((Instant::now(), text.clone()));
                text
            }
        };
        RequestError::new(failed.effect, Error::new(ErrorKind::Unavailable, text.to_string()))
    }

    async fn look(&self) -> String {
        let tls = self.tls();
        let looks =
            self.hosts.iter().map(|host| probe::probe(host, tls.as_ref(), Deadline::after(LOOK), false));
        let told = self.hosts.iter().zip(join_all(looks).await).map(|(host, found)| match found {
            Ok(_) => format!("{host} serves, and granted no session"),
            Err(e) => e.to_string(),
        });
        told.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn unreachable(&self, deadline: Deadline, why: Option<&str>) -> Error {
        let hosts = self.hosts.join(", ");
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        Error::new(ErrorKind::Unavailable, format!("no connection to {hosts} within {deadline}{why}"))
    }

    /// Returns the bytes that the ACL of each created node takes in a request.
    pub(crate) fn acl_size(&self) -> usize {
        self.acl.iter().map(|acl| 12 + acl.scheme().len() + acl.id().len()).sum()
    }

    pub(crate) fn create(&self, mode: CreateMode) -> CreateOptions<'_> {
        mode.with_acls(Acls::new(&self.acl))
    }
}
