//! The members of the cluster: which one is asked, and what is done when it fails.

use crate::{
    error::{Failed, Fate, failed},
    link::{Connector, Link},
};
use etcd_client::{Channel, Client as Service, ConnectOptions, Error as ClientError};
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
use tokio::sync::OnceCell;
use tonic::transport::{ClientTlsConfig, Endpoint};

/// How long making a connection may take, TLS included, before the next member is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Servers end a connection that is pinged more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// A connection on which nothing is heard for so long while one waits for an answer is given up.
const SILENCE: Duration = Duration::from_secs(1);
/// What a watch that is not read may hold back, each; together they must not hold back one another.
const WATCH_WINDOW: u32 = 128 << 10;
const CALL_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// As a read, from any member and without a leader.
    Stale,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: renewals, revocations, releases.
    Repeatable,
    /// Opens a stream on the connection for them.
    Stream,
}

/// The members of one cluster.
pub(crate) struct Client {
    /// Empty once closed.
    members: RwLock<Arc<[Member]>>,
    /// The member that is asked first.
    preferred: AtomicUsize,
}

struct Member {
    name: Arc<str>,
    login: Option<(String, Secret)>,
    calls: Pipe,
    streams: Pipe,
    has_answered: AtomicBool,
    is_plain: bool,
    /// Clients that want the member to know a leader, and one that does not.
    led: OnceCell<Service>,
    unled: OnceCell<Service>,
    streaming: OnceCell<Service>,
}

/// A connection that is made when first needed, and made again when it breaks.
struct Pipe {
    channel: tonic::transport::Channel,
    link: Arc<Link>,
}

impl Pipe {
    fn new(address: &Arc<str>, tls: Option<ClientTlsConfig>, window: u32) -> Result<Self> {
        let refused = |e: tonic::transport::Error| {
            let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            let why = format!("the address {address:?} or the TLS settings make no sense: {cause}");
            Error::new(ErrorKind::InvalidArgument, why).with_cause(e)
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(refused)?;
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).map_err(refused)?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(false)
            .initial_stream_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let link = Arc::<Link>::default();
        let connector = Connector { address: address.clone(), link: link.clone() };
        Ok(Self { channel: endpoint.connect_with_connector_lazy(connector), link })
    }
}

impl Member {
    async fn service(&self, does: Does) -> Result<&Service, ClientError> {
        let (cell, pipe) = match does {
            Does::Stream => (&self.streaming, &self.streams),
            Does::Stale => (&self.unled, &self.calls),
            Does::Read | Does::Write | Does::Repeatable => (&self.led, &self.calls),
        };
        cell.get_or_try_init(|| async {
            let mut options = ConnectOptions::new().with_require_leader(does != Does::Stale);
            if let Some((user, password)) = &self.login {
                options = options.with_user(user, password.reveal()).with_auto_token_refresh(true);
            }
            Service::from_channel(Channel::Tonic(pipe.channel.clone()), Some(options)).await
        })
        .await
    }

    fn link(&self, does: Does) -> &Link {
        if does == Does::Stream { &self.streams.link } else { &self.calls.link }
    }

    /// One attempt, until the deadline; given up earlier, after `patience`, when the member says nothing at all.
    async fn attempt<T, F>(
        &self,
        does: Does,
        patience: Option<Deadline>,
        deadline: Deadline,
        request: impl FnOnce(Service) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let link = self.link(does);
        let ((made, stands), heard) = (link.state(), link.heard());
        let within = patience.unwrap_or(deadline);
        let service = match within.limit(self.service(does)).await {
            Some(Ok(service)) => service.clone(),
            Some(Err(e)) => {
                let mut failed = self.failed(does, e);
                // Only the log-in was sent.
                if failed.fate == Fate::Unknown {
                    failed.fate = Fate::Undone;
                }
                return Err(failed);
            }
            None => return Err(self.silent(Fate::Undone, within)),
        };
        let mut request = std::pin::pin!(request(service));
        let mut answer = within.limit(request.as_mut()).await;
        if answer.is_none() && link.heard() != heard {
            answer = deadline.limit(request).await;
        }
        match answer {
            Some(Ok(answer)) => {
                self.has_answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Some(Err(e)) => Err(self.failed(does, e)),
            None => {
                let sent = stands || link.state().0 > made;
                // A route that was lost stays so; another connection may find one.
                if link.heard() == heard && within.within() >= SILENCE {
                    link.reset();
                }
                Err(self.silent(if sent { Fate::Unknown } else { Fate::Undone }, within))
            }
        }
    }

    fn failed(&self, does: Does, error: ClientError) -> Failed {
        let failed = failed(&self.name, self.has_answered.load(Ordering::Relaxed), error);
        if !self.is_plain || !self.link(does).is_hung_up_on() {
            return failed;
        }
        let hint = "hangs up without a word; if it wants TLS, name its CA as `ca`, or say `tls=true`";
        let error =
            Error::new(failed.error.kind(), format!("{}: {hint}", self.name)).with_cause(failed.error);
        Failed { error, ..failed }
    }

    fn silent(&self, fate: Fate, cut: Deadline) -> Failed {
        let within = cut.within();
        let why = match fate {
            Fate::Unknown => format!("{}: no answer within {within:?}", self.name),
            _ => format!("{}: no connection within {within:?}", self.name),
        };
        Failed { fate, error: Error::new(ErrorKind::Timeout, why) }
    }
}

impl Client {
    pub(crate) fn new(
        endpoints: &[String],
        tls: Option<ClientTlsConfig>,
        login: Option<(String, Secret)>,
    ) -> Result<Self> {
        if endpoints.is_empty() {
            let why = "no host is given; a URL looks like etcd://host:2379/prefix";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let member = |endpoint: &String| {
            let name: Arc<str> = endpoint.as_str().into();
            Ok(Member {
                login: login.clone(),
                calls: Pipe::new(&name, tls.clone(), CALL_WINDOW)?,
                streams: Pipe::new(&name, tls.clone(), WATCH_WINDOW)?,
                name,
                has_answered: AtomicBool::new(false),
                is_plain: tls.is_none(),
                led: OnceCell::new(),
                unled: OnceCell::new(),
                streaming: OnceCell::new(),
            })
        };
        let members = endpoints.iter().map(member).collect::<Result<Arc<[_]>>>()?;
        Ok(Self { members: RwLock::new(members), preferred: AtomicUsize::new(0) })
    }

    /// Sends a request to the member that answered last, and to the next one when it is certain that it took no effect
    /// there, or that a repeat is harmless. Ends a moment before the deadline, so that what is known is told.
    pub(crate) async fn call<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn(Service) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner).clone();
        if members.is_empty() {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        let mut left = deadline.remaining();
        left -= left / 50;
        let deadline = Deadline::after(left);
        let (mut maybe_done, mut refusals, mut tries) = (false, 0, 0_u32);
        let mut before = None;
        loop {
            let at = self.preferred.load(Ordering::Relaxed) % members.len();
            // A member that is silent must leave time for another one, or for another connection.
            let patience = (deadline.remaining() / 2).max(Duration::from_millis(50));
            let patience = (does != Does::Write).then(|| Deadline::after(patience));
            let Failed { fate, error } = match members[at].attempt(does, patience, deadline, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tries += 1;
            maybe_done |= fate == Fate::Unknown;
            refusals = if fate == Fate::Refused { refusals + 1 } else { 0 };
            match fate {
                // An answer of the cluster is one answer for all; TLS and addresses are each member's own.
                Fate::Refused if is_the_clusters(error.kind()) || refusals >= members.len() => {
                    return Err(error);
                }
                Fate::Unknown if does == Does::Write => return Err(unknown(error)),
                _ => {}
            }
            let next = (at + 1) % members.len();
            let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            if (tries as usize).is_multiple_of(members.len()) {
                let pause = Duration::from_millis(20 << (tries as usize / members.len()).min(5));
                tokio::time::sleep(pause.min(deadline.remaining())).await;
            }
            if deadline.has_passed() {
                // An attempt that was cut short before anything was sent knows less than the one before it.
                let is_cut = fate == Fate::Undone && error.kind() == ErrorKind::Timeout;
                let error = if is_cut { before.unwrap_or(error) } else { error };
                return Err(if maybe_done && does == Does::Repeatable { unknown(error) } else { error });
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
