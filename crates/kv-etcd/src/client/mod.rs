//! The members of the cluster, and what each request is for.

mod link;
mod login;
mod member;
mod tls;

use etcd_client::{Client as Service, Error as ClientError};
use kv_core::{
    Deadline, Error, ErrorKind, Result, Secret, Tls,
    backend::{
        Mutex,
        retry::{Answered, RetrySafety, Servers},
    },
};
use member::{Access, Member};
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It changes nothing.
    Read,
    /// As a read, from any member and without a leader.
    Stale,
    /// Another client may write between it and a repeat.
    Write,
    /// Its effect is bound to an id of our own: grants, revocations, releases.
    Repeatable,
    /// Renews a lease: nobody asks which attempt did, and there is little time, so that a silent
    /// connection is given up sooner.
    Renewal,
    /// Opens a watch, on the connection for them.
    Watch,
}

impl Purpose {
    /// Returns what repeating it would do.
    fn safety(self) -> RetrySafety {
        match self {
            Self::Read | Self::Stale | Self::Renewal | Self::Watch => RetrySafety::Read,
            Self::Repeatable => RetrySafety::Repeatable,
            Self::Write => RetrySafety::Write,
        }
    }
}

/// The members of one cluster.
pub(crate) struct Client {
    /// None once closed.
    members: Mutex<Option<Arc<Servers<Member>>>>,
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
        let members = Servers::new(endpoints.iter().map(member))?;
        members.all().iter().try_for_each(Member::check)?;
        Ok(Self { members: Mutex::new(Some(Arc::new(members))), access })
    }

    /// From now on the settings are known to be right.
    pub(crate) fn opened(&self) {
        self.access.was_opened.store(true, Ordering::Relaxed);
    }

    /// As [`ask`](Self::ask), for requests whose answer is the same however often they are sent.
    pub(crate) async fn call<T, F>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        request: impl Fn(Service) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.ask(purpose, deadline, request).await?.answer
    }

    /// Sends a request by the rules of [`retry`](kv_core::backend::retry). What the server says of
    /// the data (a lease is gone, or there already) is the answer, though as an error.
    pub(crate) async fn ask<T, F>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        request: impl Fn(Service) -> F,
    ) -> Result<Answered<Result<T>>>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let members = self.members.lock().clone();
        let members = members.ok_or_else(|| Error::new(ErrorKind::Closed, "the store was closed"))?;
        // Boxed, for it is large, and futures of callers hold it in themselves.
        let attempt = |attempt| Box::pin(Member::attempt(attempt, purpose, &request));
        members.run(purpose.safety(), deadline, attempt).await
    }

    /// Ends the connections, once the calls under way have ended.
    pub(crate) fn close(&self) {
        *self.members.lock() = None;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.members.lock().clone();
        f.debug_list().entries(members.iter().flat_map(|all| all.all()).map(|m| &m.name)).finish()
    }
}
