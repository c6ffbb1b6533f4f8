//! Sends requests through the session that they need, and again where that is safe.

use super::{Client, connection::Connection, session::Ephemeral};
use crate::error::{Answer, Problem, failed};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{
        catch_up,
        retry::{Answered, Attempt, Effect, RequestError, RetrySafety, Servers},
    },
    driver::Deadline,
};
use std::{future::Future, sync::Arc};

/// The session that requests go through.
#[derive(Clone, Copy)]
pub(crate) enum Via<'a> {
    /// The session of the client, for requests that need no session of their own.
    Any(&'a Client),
    /// The session that is to own the created nodes.
    Own(&'a Ephemeral),
}

impl<'a> Via<'a> {
    async fn link(self, deadline: Deadline) -> Result<Arc<Connection>> {
        match self {
            Self::Any(client) => client.link(deadline).await,
            Self::Own(session) => session.link(deadline).await,
        }
    }

    fn servers(self) -> &'a Servers<()> {
        match self {
            Self::Any(client) => &client.servers,
            Self::Own(session) => session.servers(),
        }
    }

    /// Sends a request by the rules of [`retry`](kv_core::backend::retry). The server's refusals
    /// that speak of nodes are returned as an [`Answer`].
    pub(crate) async fn call<T, F>(
        self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(Arc<Connection>) -> F,
    ) -> Result<Result<T, Answer>>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let attempt = |attempt: Attempt<'a, ()>| self.attempt(safety, attempt.deadline, &request);
        let Answered { answer, is_repeat } = self.servers().run(safety, deadline, attempt).await?;
        Ok(answer.map_err(|answer| Answer { is_repeat, ..answer }))
    }

    /// Sends the request once there is a connection, and waits until the deadline: the session's
    /// connection is the only way, and the client ends it by itself when nothing is heard on it.
    async fn attempt<T, F>(
        self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(Arc<Connection>) -> F,
    ) -> Result<Result<T, Answer>, RequestError>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let connection = self.link(deadline).await.map_err(not_connected)?;
        if safety == RetrySafety::Write {
            // If the runtime stood still, the end of the connection may have arrived without
            // having been read.
            catch_up(deadline, || !connection.stands()).await;
        }
        if deadline.has_passed() {
            return Err(late(Effect::None, "nothing could be sent", deadline));
        }
        if !connection.stands() {
            let error = Error::new(ErrorKind::Unavailable, "the connection was lost");
            return Err(RequestError::new(Effect::None, error));
        }
        match deadline.limit(request(connection)).await {
            Some(Ok(answer)) => Ok(Ok(answer)),
            Some(Err(Problem { error, at })) => match Answer::of(&error, at) {
                Some(answer) => Ok(Err(answer)),
                None => Err(failed(error)),
            },
            None => Err(late(Effect::Unknown, "no answer", deadline)),
        }
    }
}

/// Makes the failure of a request that was not sent. Another attempt may find a connection, unless
/// the error lasts: the store is closed, the session is over, or the server refuses.
#[cold]
fn not_connected(error: Error) -> RequestError {
    let effect = if error.is_transient() { Effect::None } else { Effect::Refused };
    RequestError::new(effect, error)
}

#[cold]
fn late(effect: Effect, what: &str, deadline: Deadline) -> RequestError {
    let why = format!("{what} within {deadline}");
    RequestError::new(effect, Error::new(ErrorKind::Timeout, why))
}
