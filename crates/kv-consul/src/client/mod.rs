//! Sends requests to the agents of one datacenter, until one of them answers.

mod agent;
mod answer;
pub(crate) mod api;
mod body;
mod pool;
mod request;
mod settings;
mod times;
mod turns;

pub(crate) use agent::Common;
pub(crate) use answer::{Answer, Mark};
pub(crate) use pool::Pool;
pub(crate) use request::{Purpose, Request};
pub(crate) use settings::Token;
pub(crate) use times::{GRACE, a_moment_before, on_a_task};

use crate::error::{AgentError, Blames};
use agent::Agent;
use kv_core::{
    Error, ErrorKind, Result, Tls,
    backend::{
        apart,
        retry::{Answered, Attempt, Effect, RequestError, Servers, before},
    },
    driver::Deadline,
};
use reqwest::header::HeaderValue;
use settings::read_tls;
use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Instant,
};
use times::Times;
use tokio::sync::{OnceCell, SemaphorePermit};
use turns::{AtOnce, CALLS, Turn, Turns};

/// The agents of one datacenter.
pub(crate) struct Client {
    /// Holds the agents; `None` once the store is closed.
    agents: RwLock<Option<Arc<Servers<Agent>>>>,
}

impl Client {
    pub(crate) fn new(endpoints: &[String], settings: Tls, common: Common) -> Result<Self> {
        let tls = read_tls(&settings)?;
        let (settings, common) = (Arc::new(settings), Arc::new(common));
        let agent = |endpoint: &String| Agent::new(endpoint, settings.clone(), tls.clone(), common.clone());
        let agents: Vec<_> = endpoints.iter().map(agent).collect::<Result<_>>()?;
        Ok(Self { agents: RwLock::new(Some(Arc::new(Servers::new(agents)?))) })
    }

    fn agents(&self) -> Result<Arc<Servers<Agent>>> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner).clone();
        agents.ok_or_else(|| Error::new(ErrorKind::Closed, "the store was closed"))
    }

    /// Notes that the store is open: from now on settings that were right then are not taken for
    /// wrong.
    pub(crate) fn opened(&self) {
        if let Ok(agents) = self.agents() {
            agents.all().iter().for_each(Agent::opened);
        }
    }

    /// Returns the token that requests carry now.
    pub(crate) fn token(&self) -> Option<HeaderValue> {
        self.agents().ok().and_then(|agents| agents.preferred().token())
    }

    /// Reads the file of the token again, and tells whether the token is another one now than
    /// this. Another request may have read the file meanwhile.
    pub(crate) fn renews(&self, token: Option<&HeaderValue>) -> bool {
        self.agents().is_ok_and(|agents| agents.preferred().renews(token))
    }

    /// Returns what all stores of the process share at the agent that is asked first.
    pub(crate) fn pool(&self) -> Result<Arc<Pool>> {
        Ok(self.agents()?.preferred().pool.clone())
    }

    /// Sends a request to the agents until one answers, by the rules of
    /// [`retry`](kv_core::backend::retry). `read` returns what was asked for; an answer for which
    /// it returns `None` is not believed to be Consul's, unless it is one of its refusals.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        request: Request,
        read: impl Fn(&Answer) -> Option<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let read = move |answer: &Answer| read(answer).map(|read| Ok(Ok(read)));
        self.ask(purpose, deadline, request, read).await.map(|answered| answered.answer)
    }

    /// Sends a request as [`call`](Self::call) does, for an answer that is another one when the
    /// request was done before. `read` may also return a refusal, or an error that ends the call
    /// and is the whole answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        request: Request,
        read: impl Fn(&Answer) -> Option<Result<Result<T>, AgentError>> + Send + Sync + 'static,
    ) -> Result<Answered<T>> {
        let agents = self.agents()?;
        let pool = agents.preferred().pool.clone();
        let turns = pool.turns();
        let turn = turns.of(purpose).map(Turn::at_once);
        let goes_apart = matches!(turn, Some(None));
        let asking = async move {
            let call = Call {
                purpose,
                request: &request,
                is_alone: agents.all().len() == 1,
                pool: &pool,
                turns: &turns,
                turn: turn.flatten(),
                has_turn: OnceCell::new(),
                unknown: OnceLock::new(),
                failed: OnceLock::new(),
            };
            let attempt = |attempt| call.attempt(attempt, &read);
            let Answered { answer, is_repeat } = agents.run(purpose.safety(), deadline, attempt).await?;
            Ok(Answered { answer: answer?, is_repeat })
        };
        // It is boxed, for it is large and would be a part of whatever waits for an answer.
        let asking = Box::pin(asking);
        if goes_apart { apart(asking).await } else { asking.await }
    }

    /// Ends the connections.
    pub(crate) fn close(&self) {
        *self.agents.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The state that the attempts of one call share.
struct Call<'a> {
    purpose: Purpose,
    request: &'a Request,
    /// Tells whether there is no other agent to ask.
    is_alone: bool,
    pool: &'a Pool,
    turns: &'a Turns,
    /// Holds the turn that the call had at once.
    turn: Option<AtOnce>,
    has_turn: OnceCell<Option<SemaphorePermit<'a>>>,
    /// Holds since when the token is not known.
    unknown: OnceLock<Instant>,
    /// Holds the error of the only attempt of a blocking query.
    failed: OnceLock<Error>,
}

impl<'a> Call<'a> {
    async fn attempt<T>(
        &self,
        attempt: Attempt<'_, Agent>,
        read: &(impl Fn(&Answer) -> Option<Result<Result<T>, AgentError>> + Sync),
    ) -> Result<Result<T>, RequestError> {
        // A blocking query waits behind an index that a server may not have any more: its caller
        // reads anew.
        if let Some(error) = self.failed.get() {
            return Ok(Err(error.clone()));
        }
        self.wait_for_turn(attempt.deadline).await?;
        let agent = attempt.server;
        let (token, tls) = (agent.token(), agent.tls());
        let times = self.times(&attempt);
        let AgentError { failed, blames } = match agent.attempt(self.purpose, times, self.request, read).await
        {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let is_mended = match blames {
            Blames::Nothing => false,
            Blames::Certificates => agent.renews_tls(tls.as_ref()),
            Blames::Token => agent.renews(token.as_ref()),
        };
        if self.purpose == Purpose::BlockingQuery && !is_mended {
            let _ = self.failed.set(failed.error.clone());
        }
        if failed.error.kind() == ErrorKind::Unauthenticated && agent.is_open() && self.may_pass() {
            return Err(RequestError { effect: Effect::None, is_mended, ..failed });
        }
        Err(failed.mended(is_mended))
    }

    /// Tells whether a server may come to know the token yet.
    fn may_pass(&self) -> bool {
        self.unknown.get_or_init(Instant::now).elapsed() < GRACE
    }

    fn times(&self, attempt: &Attempt<'_, Agent>) -> Times {
        let whole = match self.purpose {
            Purpose::BlockingQuery => attempt.deadline,
            // A large directory takes its time, and there is no other agent to ask.
            Purpose::WatchRead if self.is_alone => attempt.deadline,
            _ => attempt.patience(),
        };
        Times { connect: attempt.connect_patience(), whole }
    }

    /// Waits until the call may be under way, once for all of its attempts.
    async fn wait_for_turn(&self, deadline: Deadline) -> Result<(), RequestError> {
        // A call that is woken too late sends nothing.
        if before(deadline, self.has_turn.get_or_init(|| self.next_turn())).await.is_some()
            && !deadline.has_passed()
        {
            return Ok(());
        }
        let others = self.turns.of(self.purpose).map_or(CALLS, Turn::most);
        let why =
            format!("nothing was sent within {deadline}, with at most {others} calls under way at once");
        Err(RequestError::new(Effect::None, Error::new(ErrorKind::Timeout, why)))
    }

    async fn next_turn(&self) -> Option<SemaphorePermit<'a>> {
        let turn = match (&self.turn, self.turns.of(self.purpose)) {
            (None, Some(turn)) => turn.wait().await,
            _ => None,
        };
        if self.purpose.changes() {
            self.pool.listen().await;
        }
        turn
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = self.agents();
        let names = agents.iter().flat_map(|agents| agents.all()).map(|agent| &agent.name);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    /// Makes an address to which no connection can be made, and none is refused: its queue is
    /// full.
    async fn mute() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (listener, mut queue) = (socket.listen(1).unwrap(), Vec::new());
        let address = listener.local_addr().unwrap();
        let soon = Duration::from_millis(50);
        while let Ok(next) = tokio::time::timeout(soon, TcpStream::connect(address)).await {
            queue.push(next.unwrap());
        }
        (listener, queue)
    }

    #[tokio::test]
    async fn a_runtime_that_stands_still_over_the_deadline_hears_that_nothing_was_sent() {
        let (listener, _queue) = mute().await;
        let common = Common::new(Token::new(None, None).unwrap(), None, None);
        let client =
            Client::new(&[listener.local_addr().unwrap().to_string()], Tls::default(), common).unwrap();
        let request = Request::put("/v1/txn", "[]");
        for purpose in [Purpose::Write, Purpose::Repeatable, Purpose::Release, Purpose::Session] {
            let callers = Deadline::after(Duration::from_millis(300));
            let call = callers.limit(client.call(purpose, callers, request.clone(), |_| Some(())));
            let stands_still = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                std::thread::sleep(Duration::from_millis(200));
            };
            let (answer, ()) = tokio::join!(call, stands_still);
            let kind = answer.map(|answer| answer.unwrap_err().kind());
            assert_eq!(kind, Some(ErrorKind::Timeout), "{purpose:?}");
        }
    }
}
