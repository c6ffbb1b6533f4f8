//! The server that takes the writes: how it is found, what it is asked, and what is done when it fails.

pub(crate) mod about;
pub(crate) mod access;
pub(crate) mod find;
pub(crate) mod link;
pub(crate) mod script;
pub(crate) mod tls;

use crate::{
    client::{
        access::Access,
        find::Find,
        link::Link,
        script::{Answer, Script},
    },
    error::{Code, code, failure, silent},
};
use fred::types::Value;
use kv_core::{
    Deadline, ErrorKind, Result,
    backend::{
        Mutex,
        retry::{Answered, Attempt, Effect, RequestError, RetrySafety, Servers, before},
    },
};
use std::{
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};
use tokio::sync::Mutex as Turn;

/// A connection on which nothing is heard for so long while one waits for an answer is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// A script with what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) script: &'static Script,
    pub(crate) names: Vec<Value>,
    pub(crate) arguments: Vec<Value>,
}

impl Request {
    fn parts(&self, head: &str) -> Vec<Value> {
        let mut parts = Vec::with_capacity(2 + self.names.len() + self.arguments.len());
        parts.push(head.into());
        parts.push(i64::try_from(self.names.len()).unwrap_or(i64::MAX).into());
        parts.extend(self.names.iter().chain(&self.arguments).cloned());
        parts
    }

    /// By the script's name; with its text where the server does not know it, which did nothing then.
    async fn send(&self, link: &Link) -> Result<Value, RequestError> {
        match link.call("EVALSHA", self.parts(&self.script.sha)).await {
            Err(failed) if code(&failed) == Some(&Code::NoScript) => {
                link.call("EVAL", self.parts(self.script.source)).await
            }
            answer => answer,
        }
    }
}

/// The way to the server, and the connection for calls, made when first needed and made again when it breaks.
pub(crate) struct Client {
    pub(crate) find: Find,
    pub(crate) access: Access,
    /// The one server that takes the writes, wherever it is by now.
    master: Servers<()>,
    state: Mutex<State>,
    connecting: Turn<()>,
}

#[derive(Default)]
pub(crate) struct State {
    link: Option<Arc<Link>>,
    /// Where the server was last seen to be, or said to be.
    pub(crate) hint: Option<String>,
    /// The nodes of the cluster, as one of them told.
    pub(crate) nodes: Vec<String>,
    /// Which host is asked first.
    pub(crate) turn: usize,
    closed: bool,
}

impl Client {
    pub(crate) fn new(find: Find, access: Access) -> Self {
        let (state, connecting) = (Mutex::default(), Turn::default());
        Self { find, access, master: Servers::one(()), state, connecting }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn standing(&self) -> Result<Option<Arc<Link>>, RequestError> {
        let state = self.state();
        if state.closed {
            return Err(failure(Effect::Refused, ErrorKind::Closed, "the store was closed"));
        }
        Ok(state.link.clone().filter(|link| !link.has_ended()))
    }

    /// The connection for calls.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, RequestError> {
        if let Some(link) = self.standing()?
            && link.stands().await
        {
            return Ok(link);
        }
        let _turn = self.connecting.lock().await;
        if let Some(link) = self.standing()? {
            return Ok(link);
        }
        // On the heap: it is done now and then, and every call would carry it.
        let link = Arc::new(Box::pin(self.connect()).await?);
        load(&link).await?;
        let mut state = self.state();
        if !state.closed {
            state.link = Some(link.clone());
        }
        Ok(link)
    }

    /// Makes one attempt. A server that says something meanwhile is waited for until the deadline.
    async fn attempt<T, F>(
        &self,
        safety: RetrySafety,
        attempt: Attempt<'_, ()>,
        request: &impl Fn(Arc<Link>) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let silent =
            |effect, what, patience: Deadline| silent(&format!("{self:?}"), effect, what, patience.within());
        // Where nobody else can be asked, what is begun on a busy machine is not begun anew.
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
        // Others may have found it silent before.
        if answer.is_none() && link.silence() >= SILENCE {
            link.end();
        }
        let answer = answer.unwrap_or_else(|| Err(silent(Effect::Unknown, "answer", patience)));
        answer.map_err(|failed| self.learned(safety, &link, failed))
    }

    /// What a failure says of the server is known to the next attempt.
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

    /// Asks by the rules of [`retry`](kv_core::backend::retry).
    pub(crate) async fn ask<T, F>(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(Arc<Link>) -> F,
    ) -> Result<Answered<T>>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        self.master.run(safety, deadline, |attempt| self.attempt(safety, attempt, &request)).await
    }

    /// Where the names are by now, as a server says: one that does not know its name gives a port alone.
    fn moved_to(&self, address: &str) -> Option<String> {
        (!address.starts_with(':')).then(|| self.reached(address.to_owned()))
    }

    /// Goes where the names are by now, as a server said.
    pub(crate) fn moved(&self, address: &str) {
        self.elsewhere(self.moved_to(address));
    }

    /// Looks for the server anew at the next request, unless others did so before, and have found it.
    fn leave(&self, link: &Arc<Link>, hint: Option<String>) {
        let standing = self.state().link.clone();
        if standing.is_none_or(|standing| Arc::ptr_eq(&standing, link)) {
            self.elsewhere(hint);
        }
    }

    /// Looks for the server anew at the next request.
    pub(crate) fn elsewhere(&self, hint: Option<String>) {
        let mut state = self.state();
        // What was on its way there ends as it will.
        state.link = None;
        state.hint = hint;
    }

    /// Runs a script.
    pub(crate) async fn run(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        request: &Request,
    ) -> Result<Answered<Answer>> {
        let answered = self.ask(safety, deadline, |link| async move { request.send(&link).await });
        Ok(answered.await?.map(Answer))
    }

    /// A command of the server's own that changes nothing.
    pub(crate) async fn command(
        &self,
        deadline: Deadline,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<Answer> {
        let answered = self.ask(RetrySafety::Read, deadline, |link| async move {
            link.call(command, arguments.iter().map(|argument| Value::from(*argument)).collect()).await
        });
        Ok(Answer(answered.await?.answer))
    }

    /// Ends the connection, for good.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if let Some(link) = state.link.take() {
            link.end();
        }
    }
}

/// Gives the server the scripts that it does not know, so that no call has to bring its own.
async fn load(link: &Link) -> Result<(), RequestError> {
    let all = script::all();
    let names = std::iter::once("EXISTS".into()).chain(all.iter().map(|script| script.sha.as_str().into()));
    let known = match link.call("SCRIPT", names.collect()).await {
        Ok(Value::Array(known)) => known,
        // Then each call brings its own.
        Err(RequestError { effect: Effect::Refused, .. }) | Ok(_) => return Ok(()),
        Err(failed) => return Err(failed),
    };
    let missing = all.iter().zip(known).filter(|(_, known)| known.as_i64() != Some(1));
    let loads = missing.map(|(script, _)| link.call("SCRIPT", vec!["LOAD".into(), script.source.into()]));
    futures::future::try_join_all(loads).await.map(drop)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.find.named().join(","))
    }
}
