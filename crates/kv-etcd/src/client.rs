//! The members of the cluster: which one is asked, and what is done when it fails.

use crate::{
    error::{Failed, Fate},
    member::{Access, Member},
    tls::Tls,
};
use etcd_client::{Client as Service, Error as ClientError};
use kv_core::{Deadline, Error, ErrorKind, Result, Secret};
use std::{
    fmt,
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// As a read, from any member and without a leader.
    Stale,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: revocations, releases.
    Repeatable,
    /// As one that is repeatable, with little time: a silent connection is given up sooner.
    Renewal,
    /// Opens a watch, on the connection for them.
    Stream,
}

/// The members of one cluster.
pub(crate) struct Client {
    /// Empty once closed.
    members: RwLock<Arc<[Member]>>,
    /// The member that is asked first.
    preferred: AtomicUsize,
    access: Arc<Access>,
}

impl Client {
    pub(crate) fn new(endpoints: &[String], tls: Tls, login: Option<(String, Secret)>) -> Result<Self> {
        if endpoints.is_empty() {
            let why = "no host is given; a URL looks like etcd://host:2379/prefix";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let access = Arc::new(Access { login, tls: Arc::new(tls), was_opened: AtomicBool::new(false) });
        let member = |endpoint: &String| Member::new(endpoint.as_str().into(), access.clone());
        let members: Arc<[_]> = endpoints.iter().map(member).collect();
        members.iter().try_for_each(Member::check)?;
        Ok(Self { members: RwLock::new(members), preferred: AtomicUsize::new(0), access })
    }

    /// From now on the settings are known to be right.
    pub(crate) fn opened(&self) {
        self.access.was_opened.store(true, Ordering::Relaxed);
    }

    /// As [`ask`](Self::ask), for requests whose answer is the same however often they are sent.
    pub(crate) async fn call<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn(Service) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.ask(does, deadline, request).await.0
    }

    /// Sends a request to the member that answered last, and to the next one when it is certain that it took no effect
    /// there, or that a repeat is harmless. Ends a moment before the deadline, so that what is known is told. Besides the
    /// answer: whether an earlier copy may have taken effect, or is still on its way, so that the answer may be about what
    /// that one did.
    pub(crate) async fn ask<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn(Service) -> F,
    ) -> (Result<T>, bool)
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner).clone();
        if members.is_empty() {
            return (Err(Error::new(ErrorKind::Closed, "the store was closed")), false);
        }
        let mut left = deadline.remaining();
        left -= left / 50;
        let deadline = Deadline::after(left);
        let (mut maybe_done, mut refusals, mut tries) = (false, 0, 0_u32);
        let mut before = None;
        loop {
            let at = self.preferred.load(Ordering::Relaxed) % members.len();
            // A member that is silent must leave time for another one, or for another connection.
            let left = deadline.remaining();
            let patience = if does == Does::Renewal { left * 3 / 4 } else { left / 2 };
            let patience = patience.max(Duration::from_millis(50));
            let patience = (does != Does::Write).then(|| Deadline::after(patience));
            let answer = members[at].attempt(does, patience, deadline, &request).await;
            let Failed { fate, error, .. } = match answer {
                Ok(answer) => return (Ok(answer), maybe_done),
                Err(failed) => failed,
            };
            tries += 1;
            maybe_done |= fate == Fate::Unknown;
            refusals = if fate == Fate::Refused { refusals + 1 } else { 0 };
            match fate {
                // An answer of the cluster is one answer for all; TLS and addresses are each member's own.
                Fate::Refused if is_the_clusters(error.kind()) || refusals >= members.len() => {
                    return (Err(error), maybe_done);
                }
                _ => {}
            }
            let next = (at + 1) % members.len();
            let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            if fate == Fate::Unknown && does == Does::Write {
                return (Err(unknown(error)), true);
            }
            if (tries as usize).is_multiple_of(members.len()) {
                let pause = Duration::from_millis(20 << (tries as usize / members.len()).min(5));
                tokio::time::sleep(pause.min(deadline.remaining())).await;
            }
            if deadline.has_passed() {
                // An attempt that was cut short before anything was sent knows less than the one before it.
                let is_cut = fate == Fate::Undone && error.kind() == ErrorKind::Timeout;
                let error = if is_cut { before.unwrap_or(error) } else { error };
                let error = if maybe_done && does == Does::Repeatable { unknown(error) } else { error };
                return (Err(error), maybe_done);
            }
            before = Some(error);
        }
    }

    /// Ends the connections.
    pub(crate) fn close(&self) {
        let closed: Arc<[Member]> = Arc::new([]);
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = closed;
    }
}

fn is_the_clusters(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::Unauthenticated | ErrorKind::InvalidArgument)
}

fn unknown(error: Error) -> Error {
    let why = "the write may or may not have happened, so read before writing again";
    Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(members.iter().map(|m| &m.name)).finish()
    }
}
