//! The server that takes the writes: how it is found, what it is asked, and what is done when it fails.

use crate::{
    access::Access,
    error::{Failed, Fate, unknown},
    find::Find,
    link::Link,
    script::{self, Answer, Script},
};
use fred::types::Value;
use kv_core::{Deadline, ErrorKind, Result};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Mutex as Turn;

/// No attempt is begun anew with less time than this before the deadline.
const LATE: Duration = Duration::from_millis(40);
/// A connection on which nothing is heard for so long while one waits for an answer is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: renewals, revocations, releases.
    Repeatable,
}

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
    async fn send(&self, link: &Link) -> Result<Value, Failed> {
        match link.call("EVALSHA", self.parts(&self.script.sha)).await {
            Err(Failed { fate: Fate::NoScript, .. }) => {
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
        Self { find, access, state: Mutex::default(), connecting: Turn::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> Result<Option<Arc<Link>>, Failed> {
        let state = self.state();
        if state.closed {
            return Err(Failed::new(Fate::Refused, ErrorKind::Closed, "the store was closed"));
        }
        Ok(state.link.clone().filter(|link| !link.has_ended()))
    }

    /// The connection for calls.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Failed> {
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

    /// One attempt, until the deadline; what may be repeated is given up earlier when the server says nothing at all.
    async fn attempt<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl FnOnce(Arc<Link>) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let silent = |fate, cut: Deadline, what: &str| {
            let why = format!("{self:?}: no {what} within {:?}", cut.within());
            Failed::new(fate, ErrorKind::Timeout, why)
        };
        // What is begun on a busy machine is not begun anew: making a connection has times of its own.
        let link = match deadline.limit(self.link()).await {
            Some(link) => link?,
            None => return Err(silent(Fate::Undone, deadline, "connection")),
        };
        let within = match does {
            Does::Write => deadline,
            // It must leave time for another connection.
            Does::Read | Does::Repeatable => {
                Deadline::after((deadline.remaining() / 2).max(Duration::from_millis(50)))
            }
        };
        let heard = link.heard();
        let mut request = std::pin::pin!(request(link.clone()));
        let mut answer = within.limit(request.as_mut()).await;
        if answer.is_none() && link.heard() != heard {
            answer = deadline.limit(request).await;
        }
        // Others may have found it silent before.
        if answer.is_none() && link.silence() >= SILENCE {
            link.end();
        }
        answer.unwrap_or_else(|| Err(silent(Fate::Unknown, within, "answer")))
    }

    /// Asks, and asks again where it is certain that nothing was done, or that a repeat is harmless. Ends a moment before the
    /// deadline, so that what is known is told. With the answer comes whether an earlier attempt may have done the same.
    pub(crate) async fn ask<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn(Arc<Link>) -> F,
    ) -> Result<(T, bool)>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let mut left = deadline.remaining();
        left -= left / 50;
        let deadline = Deadline::after(left);
        let (mut maybe_done, mut tries, mut before) = (false, 0_u32, None);
        loop {
            let Failed { fate, mut error } = match self.attempt(does, deadline, &request).await {
                Ok(answer) => return Ok((answer, maybe_done)),
                Err(failed) => failed,
            };
            // An attempt that was cut off says less than the one before it.
            if let (ErrorKind::Timeout, Some(before)) = (error.kind(), before.take()) {
                error = before;
            }
            maybe_done |= fate == Fate::Unknown;
            match fate {
                Fate::Unknown | Fate::Failed if does == Does::Write => return Err(unknown(error)),
                Fate::Refused | Fate::Failed if error.kind() == ErrorKind::Closed => return Err(error),
                // What the refused one was to do, an earlier one may have done.
                Fate::Refused | Fate::Failed if maybe_done && does == Does::Repeatable => {
                    return Err(unknown(error));
                }
                Fate::Refused | Fate::Failed => return Err(error),
                Fate::Moved(_) => self.moved(fate),
                // What a server says before it does anything, it says because another one is to be asked, or later.
                Fate::Undone => self.elsewhere(None),
                Fate::Unknown | Fate::NoScript => {}
            }
            tries += 1;
            let left = deadline.remaining();
            // What is begun so late may not be answered in time, and of a write nobody knows then.
            let late = if does == Does::Write { LATE.max(deadline.within() / 5) } else { LATE };
            if left < late {
                return Err(if maybe_done && does == Does::Repeatable { unknown(error) } else { error });
            }
            before = Some(error);
            let pause = Duration::from_millis(10 << tries.min(5));
            tokio::time::sleep(pause.min(left / 2)).await;
        }
    }

    /// Goes where the names are by now, if that is why a request failed.
    pub(crate) fn moved(&self, fate: Fate) {
        if let Fate::Moved(address) = fate {
            // A server that does not know its name gives a port alone.
            self.elsewhere(Some(address).filter(|a| !a.starts_with(':')).map(|a| self.reached(a)));
        }
    }

    /// Looks for the server anew at the next request.
    pub(crate) fn elsewhere(&self, hint: Option<String>) {
        let mut state = self.state();
        // What was on its way there ends as it will.
        state.link = None;
        state.hint = hint;
    }

    /// Runs a script; and whether an earlier attempt at it may have been done, so that the answer is that of a repeat.
    pub(crate) async fn run(
        &self,
        does: Does,
        deadline: Deadline,
        request: &Request,
    ) -> Result<(Answer, bool)> {
        let answer = self.ask(does, deadline, |link| async move { request.send(&link).await });
        let (answer, is_repeat) = answer.await?;
        Ok((Answer(answer), is_repeat))
    }

    /// A command of the server's own that changes nothing.
    pub(crate) async fn command(
        &self,
        deadline: Deadline,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<Answer> {
        let answer = self.ask(Does::Read, deadline, |link| async move {
            link.call(command, arguments.iter().map(|argument| Value::from(*argument)).collect()).await
        });
        Ok(Answer(answer.await?.0))
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
async fn load(link: &Link) -> Result<(), Failed> {
    let all = script::all();
    let names = std::iter::once("EXISTS".into()).chain(all.iter().map(|script| script.sha.as_str().into()));
    let known = match link.call("SCRIPT", names.collect()).await {
        Ok(Value::Array(known)) => known,
        // Then each call brings its own.
        Err(Failed { fate: Fate::Refused | Fate::Failed, .. }) | Ok(_) => return Ok(()),
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
