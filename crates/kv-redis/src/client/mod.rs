//! The client of one store: it finds the master, sends requests to it, and decides what to do when
//! one fails.

pub(crate) mod about;
pub(crate) mod access;
pub(crate) mod answer;
pub(crate) mod find;
pub(crate) mod link;
pub(crate) mod packed;
pub(crate) mod request;
pub(crate) mod script;
mod search;
pub(crate) mod tls;

use crate::{
    client::{
        access::Access,
        answer::Answer,
        find::{ANSWER, Find},
        link::Link,
        request::{Request, load},
    },
    error::{Code, code, silent},
};
use fred::types::Value;
use kv_core::{
    Result,
    backend::{
        ByRuntime, InTurn, Mutex,
        retry::{Answered, Attempt, Effect, RequestError, RetrySafety, Servers, before},
    },
    driver::Deadline,
};
use std::{
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};
use tokio::time::timeout;

/// A connection is given up after this time without an answer while a request waits.
const SILENCE: Duration = Duration::from_secs(1);

/// Finds the master, and keeps a connection for calls in each runtime that uses the store: it is
/// made when first needed, and made again when it breaks. It ends and stands still with its
/// runtime.
pub(crate) struct Client {
    pub(crate) find: Find,
    access: Access,
    /// The master as the one server that attempts go to, wherever it is by now.
    master: Servers<()>,
    state: Mutex<State>,
    places: ByRuntime<Arc<Place>>,
}

/// The connection of one runtime.
#[derive(Default)]
struct Place {
    link: Mutex<Option<Arc<Link>>>,
    connecting: InTurn,
}

impl Place {
    fn standing(&self) -> Option<Arc<Link>> {
        self.link.lock().clone().filter(|link| !link.has_ended())
    }
}

#[derive(Default)]
struct State {
    /// The address at which the owner of the slot was last seen, or was said to be, in a cluster.
    hint: Option<String>,
    /// The nodes of the cluster, as one of them told.
    nodes: Vec<String>,
    /// The index of the host that is asked first.
    turn: usize,
    /// Tells whether a master was found, so that the settings were right.
    was_found: bool,
}

impl Client {
    pub(crate) fn new(find: Find, access: Access) -> Self {
        let (state, places) = (Mutex::default(), ByRuntime::new());
        Self { find, access, master: Servers::one(()), state, places }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn here(&self) -> Result<Arc<Place>, RequestError> {
        self.places.here(Arc::default).map_err(|e| RequestError::new(Effect::Refused, e))
    }

    /// Returns the connection for calls of this runtime.
    pub(crate) async fn link(self: &Arc<Self>) -> Result<Arc<Link>, RequestError> {
        let place = self.here()?;
        if let Some(link) = place.standing()
            && link.stands().await
        {
            return Ok(link);
        }
        let ((client, there), (look, standing)) =
            ((self.clone(), place.clone()), (self.clone(), place.clone()));
        // The store may have been closed meanwhile.
        let look = move || match look.here() {
            Ok(_) => standing.standing().map(Ok),
            Err(closed) => Some(Err(closed)),
        };
        let linked = place.connecting.get(look, async move { Ok(client.link_anew(&there).await) }).await;
        linked.unwrap_or_else(|e| Err(RequestError::new(Effect::Refused, e)))
    }

    async fn link_anew(&self, place: &Place) -> Result<Arc<Link>, RequestError> {
        let link = Arc::new(self.connect().await?);
        // The turn must not last longer than somebody waits for it.
        timeout(ANSWER, load(&link))
            .await
            .unwrap_or_else(|_| Err(silent(&link.address, Effect::None, "answer", ANSWER)))?;
        // A store that was closed meanwhile has forgotten this place.
        *place.link.lock() = Some(link.clone());
        Ok(link)
    }

    /// Makes one attempt. A server that answers anything meanwhile is waited for until the
    /// deadline.
    async fn attempt<T, F>(
        self: &Arc<Self>,
        safety: RetrySafety,
        attempt: Attempt<'_, ()>,
        request: &impl Fn(Arc<Link>) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let silent =
            |effect, what, patience: Deadline| silent(&format!("{self:?}"), effect, what, patience.within());
        // With one host alone, there is no other to turn to: a connection that is slow on a busy
        // machine is not begun anew.
        let patience = match self.find.is_one() {
            true => attempt.deadline,
            false => attempt.connect_patience(),
        };
        let link = match before(patience, self.link()).await {
            Some(link) => link?,
            None => return Err(silent(Effect::None, "connection", patience)),
        };
        let patience = attempt.patience();
        if patience.has_passed() {
            return Err(silent(Effect::None, "connection", patience));
        }
        let heard = link.heard();
        let mut request = std::pin::pin!(request(link.clone()));
        let mut answer = patience.limit(request.as_mut()).await;
        if answer.is_none() && link.heard() != heard {
            answer = attempt.deadline.limit(request).await;
        }
        // Other requests may have waited on this connection before.
        if answer.is_none() && link.silence() >= SILENCE {
            link.end();
        }
        let answer = answer.unwrap_or_else(|| Err(silent(Effect::Unknown, "answer", patience)));
        answer.map_err(|failed| self.learned(safety, &link, failed))
    }

    /// Keeps what a failure says of the server for the next attempt, and returns the failure with
    /// its effect corrected.
    fn learned(&self, safety: RetrySafety, link: &Arc<Link>, failed: RequestError) -> RequestError {
        match (code(&failed), failed.effect) {
            (Some(Code::Stopped), _) if safety == RetrySafety::Write => {
                RequestError::new(Effect::Unknown, failed.error)
            }
            (Some(Code::Moved(address)), _) => {
                let hint = self.moved_to(address);
                let is_known = hint.is_some();
                self.leave(link, hint);
                failed.mended(is_known)
            }
            (_, Effect::None | Effect::RefusedHere) => {
                self.leave(link, None);
                failed
            }
            _ => failed,
        }
    }

    /// Runs a request by the rules of [`retry`](kv_core::backend::retry).
    pub(crate) async fn ask<T, F>(
        self: &Arc<Self>,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(Arc<Link>) -> F,
    ) -> Result<Answered<T>>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        self.master.run(safety, deadline, |attempt| self.attempt(safety, attempt, &request)).await
    }

    /// Returns the address that a `MOVED` gives, as it is reached from here; `None` where the
    /// server, which does not know its name, gives a port alone.
    fn moved_to(&self, address: &str) -> Option<String> {
        (!address.starts_with(':')).then(|| self.reached(address.to_owned()))
    }

    /// Makes the next request go to the address that a `MOVED` gave.
    pub(crate) fn moved(&self, address: &str) {
        self.elsewhere(self.moved_to(address));
    }

    /// Has the next request look for the master anew, unless another request did so before and
    /// found it.
    fn leave(&self, link: &Arc<Link>, hint: Option<String>) {
        let standing = self.here().ok().and_then(|place| place.link.lock().clone());
        if standing.is_none_or(|standing| Arc::ptr_eq(&standing, link)) {
            self.elsewhere(hint);
        }
    }

    /// Has the next request look for the master anew.
    pub(crate) fn elsewhere(&self, hint: Option<String>) {
        // Requests that are under way on the old connection end by themselves.
        let _before = self.here().ok().and_then(|place| place.link.lock().take());
        self.state().hint = hint;
    }

    /// Runs a script.
    pub(crate) async fn run(
        self: &Arc<Self>,
        safety: RetrySafety,
        deadline: Deadline,
        request: &Request,
    ) -> Result<Answered<Answer>> {
        let answered = self.ask(safety, deadline, |link| async move { request.send(&link).await });
        Ok(answered.await?.map(Answer))
    }

    /// Sends a command of the server's that changes nothing.
    pub(crate) async fn command(
        self: &Arc<Self>,
        deadline: Deadline,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<Answer> {
        let answered = self.ask(RetrySafety::Read, deadline, |link| async move {
            link.call(command, arguments.iter().map(|argument| Value::from(*argument)).collect()).await
        });
        Ok(Answer(answered.await?.answer))
    }

    /// Ends the connections for good.
    pub(crate) fn close(&self) {
        for place in self.places.close() {
            let link = place.link.lock().take();
            if let Some(link) = link {
                link.end();
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.find.named().join(","))
    }
}
