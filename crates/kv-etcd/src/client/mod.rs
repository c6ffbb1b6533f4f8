//! The members of the cluster, and how requests are sent to them.

mod access;
pub(crate) mod answer;
mod channel;
pub(crate) mod limits;
mod link;
mod login;
mod member;
mod purpose;
pub(crate) mod shared;
mod tls;
pub(crate) mod txn;
pub(crate) mod version;

pub(crate) use purpose::Purpose;

use access::Access;
use etcd_client::{Client as Service, Error as ClientError};
use kv_core::{
    Error, ErrorKind, Result, Secret, Tls,
    backend::{
        Mutex,
        retry::{Answered, Servers},
    },
    driver::Deadline,
};
use member::Member;
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The members of one cluster.
pub(crate) struct Client {
    /// Holds the members; `None` once the store is closed.
    members: Mutex<Option<Arc<Servers<Member>>>>,
    access: Arc<Access>,
}

impl Client {
    /// Makes the client of these members, each `host:port`. Connects to none.
    pub(crate) fn new(endpoints: &[String], tls: Tls, login: Option<(String, Secret)>) -> Result<Self> {
        let access = Arc::new(Access { login, tls: Arc::new(tls), was_opened: AtomicBool::new(false) });
        let member = |endpoint: &String| Member::new(endpoint.as_str().into(), access.clone());
        let members = Servers::new(endpoints.iter().map(member))?;
        members.all().iter().try_for_each(Member::check)?;
        Ok(Self { members: Mutex::new(Some(Arc::new(members))), access })
    }

    /// Notes that the settings are known to be right.
    pub(crate) fn opened(&self) {
        self.access.was_opened.store(true, Ordering::Relaxed);
    }

    /// Sends a request whose answer is the same however often it is sent, as [`ask`](Self::ask)
    /// does. `request` takes from the member's client the part that it needs: each call would
    /// otherwise clone all parts.
    pub(crate) async fn call<T, F>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        request: impl Fn(&Service) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.ask(purpose, deadline, request).await?.answer
    }

    /// Sends a request by the rules of [`retry`](kv_core::backend::retry). What the server says of
    /// the data (a lease is gone, or is there already) is the answer, though it is an error.
    pub(crate) async fn ask<T, F>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        request: impl Fn(&Service) -> F,
    ) -> Result<Answered<Result<T>>>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let members = self.members.lock().clone();
        let members = members.ok_or_else(|| Error::new(ErrorKind::Closed, "the store was closed"))?;
        // It is boxed, for it is large and would be a part of each caller's future.
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
