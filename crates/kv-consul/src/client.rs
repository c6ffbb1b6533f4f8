//! The agents: which one is asked, and what is done when it fails.

use crate::{
    error::{Blames, Failed, Fate},
    http::{Agent, Answer, Common, Does, Request},
    pool::{CALLS, KEEPS, LIVES, Pool},
    settings::TlsSource,
};
use kv_core::{Deadline, Error, ErrorKind, Result, backend::Backoff};
use reqwest::header::HeaderValue;
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// So long before its deadline a call ends at least, where that leaves most of it.
const MOMENT: Duration = Duration::from_millis(25);

/// For so long a server that does not know the token of an open store is asked again: tokens are exchanged on one side before the
/// other, and a server that has just begun knows none before it has read what it had.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What ends a moment before the deadline, so that there is time to tell what is known.
pub(crate) fn before(deadline: Deadline) -> Deadline {
    let left = deadline.remaining();
    Deadline::after(left - (left / 50).max(MOMENT).min(left / 4))
}

/// For work on a task of its own, whose caller's time began before it.
pub(crate) fn on_a_task(within: Duration) -> Deadline {
    Deadline::after(within - within / 10)
}

/// The agents of one datacenter.
pub(crate) struct Client {
    /// Empty once closed.
    agents: RwLock<Arc<[Agent]>>,
    /// The agent that is asked first.
    preferred: AtomicUsize,
}

/// What a call gave, and whether an attempt before the one that was answered may have had its effect already.
pub(crate) struct Told<T> {
    pub(crate) it: T,
    pub(crate) is_repeat: bool,
}

impl Client {
    pub(crate) fn new(endpoints: &[String], source: TlsSource, common: Common) -> Result<Self> {
        if endpoints.is_empty() {
            let why = "no host is given; a URL looks like consul://host:8500/prefix";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let tls = source.read()?;
        let (source, common) = (Arc::new(source), Arc::new(common));
        let agent = |endpoint: &String| Agent::new(endpoint, source.clone(), tls.clone(), common.clone());
        let agents = endpoints.iter().map(agent).collect::<Result<Arc<[_]>>>()?;
        Ok(Self { agents: RwLock::new(agents), preferred: AtomicUsize::new(0) })
    }

    fn agents(&self) -> Result<Arc<[Agent]>> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner).clone();
        if agents.is_empty() {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        Ok(agents)
    }

    /// From now on what was right when the store was opened is not taken for wrong.
    pub(crate) fn opened(&self) {
        if let Ok(agents) = self.agents() {
            agents.iter().for_each(Agent::opened);
        }
    }

    /// What requests carry now.
    pub(crate) fn token(&self) -> Option<HeaderValue> {
        self.agents().ok().and_then(|agents| agents[0].token())
    }

    /// Reads the file of the token again; whether it is another one now than this. Another request may have read it meanwhile.
    pub(crate) fn renews(&self, token: Option<&HeaderValue>) -> bool {
        self.agents().is_ok_and(|agents| agents[0].renews(token))
    }

    /// What the process has in common at the agent that is asked first.
    pub(crate) fn pool(&self) -> Result<Arc<Pool>> {
        let agents = self.agents()?;
        Ok(agents[self.preferred.load(Ordering::Relaxed) % agents.len()].pool.clone())
    }

    /// Sends a request to the agent that answered last, and to the next one when it is certain that it took no effect
    /// there, or that a repeat is harmless. Ends a moment before the deadline, so that what is known is told. `read` makes of an
    /// answer what was asked for; whatever it makes nothing of is not believed to be Consul's, but for its refusals.
    pub(crate) async fn call<T>(
        &self,
        does: Does,
        deadline: Deadline,
        request: &Request,
        read: impl Fn(&Answer) -> Option<T> + Sync,
    ) -> Result<T> {
        self.noting(does, deadline, request, read).await.map(|told| told.it)
    }

    /// The same, for an answer that is another one when the request was done before.
    pub(crate) async fn noting<T>(
        &self,
        does: Does,
        deadline: Deadline,
        request: &Request,
        read: impl Fn(&Answer) -> Option<T> + Sync,
    ) -> Result<Told<T>> {
        let (agents, pool) = (self.agents()?, self.pool()?);
        let turns = pool.turns();
        let deadline = before(deadline);
        let left = deadline.within();
        // Those for watches are counted where they are made.
        let turn = async {
            let turn = match does {
                Does::Look | Does::Poll => None,
                Does::Keeps => turns.keep().await,
                Does::Lives => turns.live().await,
                Does::Read | Does::Stale | Does::Write | Does::Repeatable => turns.call().await,
            };
            if does.changes() {
                pool.listen().await;
            }
            turn
        };
        // Who is woken too late sends nothing.
        let Some(_turn) = deadline.limit(turn).await.filter(|_| !deadline.has_passed()) else {
            let others = match does {
                Does::Lives => LIVES,
                Does::Keeps => KEEPS,
                _ => CALLS,
            };
            let why =
                format!("nothing was sent within {left:?}, with at most {others} calls under way at once");
            return Err(Error::new(ErrorKind::Timeout, why));
        };
        let is_over = || deadline.remaining() <= left / 10;
        let (mut is_repeat, mut refusals, mut tries) = (false, 0, 0_usize);
        let mut unknown_since = None;
        let mut backoff = Backoff::new(Duration::from_millis(40), Duration::from_millis(640));
        loop {
            let at = self.preferred.load(Ordering::Relaxed) % agents.len();
            // An agent that is silent must leave time for another one, or for another connection.
            let part = (deadline.remaining() / 2).max(Duration::from_millis(50));
            let within = match does {
                Does::Write | Does::Poll => deadline,
                // A large directory takes its time, and there is nobody else to ask.
                Does::Look if agents.len() == 1 => deadline,
                // Counted from now, it would be behind the deadline.
                _ if part >= deadline.remaining() => deadline,
                _ => Deadline::after(part),
            };
            let token = agents[at].token();
            let Failed { fate, blames, error } = match agents[at].attempt(does, within, request, &read).await
            {
                Ok(it) => return Ok(Told { it, is_repeat }),
                Err(failed) => failed,
            };
            tries += 1;
            is_repeat |= fate == Fate::Unknown;
            let is_mended = match blames {
                Blames::Nothing => false,
                Blames::Certificates => agents[at].renew_tls(),
                Blames::Token => agents[at].renews(token.as_ref()),
            };
            let is_lost = fate == Fate::Unknown && does == Does::Write;
            if is_mended && !is_lost && !deadline.has_passed() {
                refusals = 0;
                continue;
            }
            refusals = if fate == Fate::Refused { refusals + 1 } else { 0 };
            let may_pass = error.kind() == ErrorKind::Unauthenticated
                && agents[at].is_open()
                && unknown_since.get_or_insert_with(Instant::now).elapsed() < GRACE;
            match fate {
                Fate::Refused if may_pass => {}
                // An answer of the datacenter is one answer for all; TLS and addresses are each agent's own.
                Fate::Refused if is_the_datacenters(error.kind()) || refusals >= agents.len() => {
                    return Err(of_repeat(does, is_repeat, error));
                }
                _ => {}
            }
            // Also behind a write that ends here: who does nothing but write would stay with an agent that hangs.
            let next = (at + 1) % agents.len();
            let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            if is_lost {
                return Err(unknown(error));
            }
            if does == Does::Poll {
                return Err(error);
            }
            // Not even a pause of nothing once the time is over: it ends with the next tick, and the caller's time may too.
            if tries.is_multiple_of(agents.len()) && !is_over() {
                let pause = backoff.delay().min(deadline.remaining() / 2);
                deadline.limit(tokio::time::sleep(pause)).await;
            }
            // Nothing is begun that would not be answered.
            if is_over() {
                return Err(of_repeat(does, is_repeat, error));
            }
        }
    }

    /// Ends the connections.
    pub(crate) fn close(&self) {
        let closed: Arc<[Agent]> = Arc::new([]);
        *self.agents.write().unwrap_or_else(PoisonError::into_inner) = closed;
    }
}

fn is_the_datacenters(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::Unauthenticated | ErrorKind::InvalidArgument)
}

/// What the error of a call is where an attempt before the last one may have had its effect: what was refused now, that one may have
/// done. Of a session that is gone nothing is left.
pub(crate) fn of_repeat(does: Does, is_repeat: bool, error: Error) -> Error {
    let is_known = matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::OutcomeUnknown);
    if is_repeat && does.changes() && !is_known { unknown(error) } else { error }
}

fn unknown(error: Error) -> Error {
    let why = "the write may or may not have happened, so read before writing again";
    Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(agents.iter().map(|agent| &agent.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Token;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    /// An address to which no connection can be made, and none is refused: its queue is full.
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
        let source = TlsSource { tls: None, ca: None, cert: None, key: None, server_name: None };
        let common = Common::new(Token::new(None, None).unwrap(), None, None);
        let client = Client::new(&[listener.local_addr().unwrap().to_string()], source, common).unwrap();
        let request = Request::put("/v1/txn", "[]");
        for does in [Does::Write, Does::Repeatable, Does::Keeps, Does::Lives] {
            let callers = Deadline::after(Duration::from_millis(300));
            let call = callers.limit(client.call(does, callers, &request, |_| Some(())));
            let stands_still = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                std::thread::sleep(Duration::from_millis(200));
            };
            let (answer, ()) = tokio::join!(call, stands_still);
            let kind = answer.map(|answer| answer.unwrap_err().kind());
            assert_eq!(kind, Some(ErrorKind::Timeout), "{does:?}");
        }
    }
}
