//! The agents: which one is asked, over HTTP, and what is done when it fails.

use crate::{
    error::{Failed, Fate, failed, refused},
    names::encoded,
};
use bytes::Bytes;
use kv_core::{Deadline, Error, ErrorKind, Result, Secret, backend::TlsFiles};
use reqwest::{
    Certificate, Identity, Method, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderValue},
};
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{Semaphore, watch};

/// How long making a connection may take, TLS included, before the next agent is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// How many calls are under way at once: an agent allows 200 connections by default to all of a machine.
const CALLS: usize = 32;
/// A connection that nobody uses is kept for so long.
const IDLE: Duration = Duration::from_secs(30);

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// As a read, from any server and without a leader.
    Stale,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: renewals, revocations, releases.
    Repeatable,
    /// A read that is answered when something changes; it is asked of one agent once.
    Poll,
}

/// One request, to be sent to one agent or another.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, path: path.into(), query: Vec::new(), body: body.into() }
    }

    /// With a parameter; for many only the presence counts.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

/// An answer of an agent: success, *missing* or *conflict*.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Consul-Index`; 0 where there is none.
    pub(crate) index: u64,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn is_missing(&self) -> bool {
        self.status == 404
    }
}

/// The TLS settings of all agents.
#[derive(Clone)]
pub(crate) struct Tls {
    ca: Option<Vec<Certificate>>,
    identity: Option<Identity>,
    server_name: Option<String>,
}

impl Tls {
    pub(crate) fn new(TlsFiles { ca, identity, server_name }: TlsFiles) -> Result<Self> {
        let nonsense = |what: &str| {
            Error::new(ErrorKind::InvalidArgument, format!("the TLS settings make no sense: {what}"))
        };
        let ca = ca.map(|pem| match Certificate::from_pem_bundle(pem.bytes()) {
            Ok(all) if !all.is_empty() => Ok(all),
            _ => Err(pem.wrong()),
        });
        let identity = identity.map(|(cert, key)| {
            let both = [cert.bytes(), b"\n", key.bytes()].concat();
            Identity::from_pem(&both)
                .map_err(|_| nonsense("`cert` and `key` are no certificate and its key in PEM"))
        });
        if server_name
            .as_ref()
            .is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok() || name.is_empty())
        {
            return Err(nonsense("`server_name` is the name of a host"));
        }
        Ok(Self { ca: ca.transpose()?, identity: identity.transpose()?, server_name })
    }
}

/// What all requests have.
#[derive(Clone)]
pub(crate) struct Common {
    headers: HeaderMap,
    query: String,
}

impl Common {
    pub(crate) fn new(
        token: Option<Secret>,
        datacenter: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let refused = |_| {
                let why = "the `token` holds characters that no token has";
                Error::new(ErrorKind::InvalidArgument, why)
            };
            let mut token = HeaderValue::from_str(token.reveal()).map_err(refused)?;
            token.set_sensitive(true);
            headers.insert("x-consul-token", token);
        }
        let mut query = String::new();
        for (name, value) in [("dc", datacenter), ("ns", namespace)] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        Ok(Self { headers, query })
    }
}

/// The agents of one datacenter.
pub(crate) struct Client {
    /// Empty once closed.
    agents: RwLock<Arc<[Agent]>>,
    /// The agent that is asked first.
    preferred: AtomicUsize,
    calls: Semaphore,
}

struct Agent {
    name: Arc<str>,
    base: String,
    tls: Option<Tls>,
    common: Common,
    /// Its connections; others when these went silent.
    http: RwLock<reqwest::Client>,
    /// Tells that they did.
    silence: watch::Sender<()>,
}

/// Finds the agent's address for the name that its certificate has.
struct Renamed(Arc<str>);

impl Resolve for Renamed {
    fn resolve(&self, _: Name) -> Resolving {
        let agent = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host(&*agent).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Agent {
    fn new(name: &str, tls: Option<Tls>, common: Common) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (_, port) = name.rsplit_once(':').unwrap_or((name, ""));
        let base = match tls.as_ref().and_then(|tls| tls.server_name.as_ref()) {
            Some(server_name) => format!("{scheme}://{server_name}:{port}"),
            None => format!("{scheme}://{name}"),
        };
        let nonsense = |e: &dyn fmt::Display| {
            let why = format!("the address {name:?} or the TLS settings make no sense: {e}");
            Error::new(ErrorKind::InvalidArgument, why)
        };
        let is_bare = |url: &reqwest::Url| url.path() == "/" && url.query().is_none() && url.host().is_some();
        reqwest::Url::parse(&base).map_err(|e| nonsense(&e)).and_then(|url| {
            is_bare(&url).then_some(()).ok_or_else(|| nonsense(&"it is no host with a port"))
        })?;
        let name: Arc<str> = name.into();
        let http = RwLock::new(connections(&name, tls.as_ref()).map_err(|e| nonsense(&e))?);
        Ok(Self { name, base, tls, common, http, silence: watch::Sender::new(()) })
    }

    /// Gives its connections up: nothing was heard on one of them, and others are likely no better.
    fn reset(&self) {
        if let Ok(new) = connections(&self.name, self.tls.as_ref()) {
            *self.http.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        self.silence.send_replace(());
    }

    /// One attempt.
    async fn attempt(&self, does: Does, within: Deadline, request: &Request) -> Result<Answer, Failed> {
        let mut url = format!(
            "{}{}?{}",
            self.base,
            request.path,
            match does {
                Does::Read | Does::Poll => "consistent",
                Does::Stale => "stale",
                Does::Write | Does::Repeatable => "",
            }
        );
        for (name, value) in &request.query {
            url.push_str(&format!("&{name}={value}"));
        }
        url.push_str(&self.common.query);
        let is_sent = Arc::new(AtomicBool::new(false));
        // Before the connections are taken, so that giving them up is not missed.
        let mut silence = self.silence.subscribe();
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sent = http.request(request.method.clone(), url).headers(self.common.headers.clone());
        if request.method == Method::PUT {
            let body = Body { bytes: Some(request.body.clone()), is_sent: is_sent.clone() };
            sent = sent.body(reqwest::Body::wrap(body));
        }
        let answer = within.limit(async { whole(sent.send().await?).await });
        let answered = match does {
            // It may be silent for good reasons, and goes by what other requests hear.
            Does::Poll => tokio::select! {
                answered = answer => answered,
                _ = silence.changed() => None,
            },
            _ => answer.await,
        };
        let is_sent = is_sent.load(Ordering::Acquire);
        match answered {
            Some(Ok(answer)) if matches!(answer.status, 200 | 404 | 409) => Ok(answer),
            Some(Ok(answer)) => Err(refused(&self.name, answer.status, &answer.body)),
            Some(Err(e)) => Err(failed(&self.name, is_sent, e)),
            None => {
                if does != Does::Poll {
                    self.reset();
                }
                let (fate, what) = match is_sent {
                    true => (Fate::Unknown, "no answer"),
                    false => (Fate::Undone, "no connection, or no answer,"),
                };
                let why = format!("{}: {what} within {:?}", self.name, within.within());
                Err(Failed::new(fate, ErrorKind::Timeout, why))
            }
        }
    }
}

fn connections(agent: &Arc<str>, tls: Option<&Tls>) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // What may be sent again is decided here alone.
        .retry(reqwest::retry::never())
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(CALLS);
    if let Some(tls) = tls {
        builder = builder.tls_backend_rustls().https_only(true);
        if let Some(ca) = &tls.ca {
            builder = builder.tls_certs_only(ca.clone());
        }
        if let Some(identity) = &tls.identity {
            builder = builder.identity(identity.clone());
        }
        if tls.server_name.is_some() {
            builder = builder.dns_resolver(Renamed(agent.clone()));
        }
    }
    builder.build()
}

async fn whole(response: Response) -> reqwest::Result<Answer> {
    let index = response.headers().get("x-consul-index");
    let index = index.and_then(|index| index.to_str().ok()?.parse().ok()).unwrap_or(0);
    Ok(Answer { status: response.status().as_u16(), index, body: response.bytes().await? })
}

/// The body of a request, which notes when it begins to be sent: without its body no request has an effect.
struct Body {
    bytes: Option<Bytes>,
    is_sent: Arc<AtomicBool>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.is_sent.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }

    // Not even an empty one may go unnoticed.
    fn is_end_stream(&self) -> bool {
        false
    }
}

impl Client {
    pub(crate) fn new(endpoints: &[String], tls: Option<Tls>, common: Common) -> Result<Self> {
        if endpoints.is_empty() {
            let why = "no host is given; a URL looks like consul://host:8500/prefix";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let agent = |endpoint: &String| Agent::new(endpoint, tls.clone(), common.clone());
        let agents = endpoints.iter().map(agent).collect::<Result<Arc<[_]>>>()?;
        Ok(Self { agents: RwLock::new(agents), preferred: AtomicUsize::new(0), calls: Semaphore::new(CALLS) })
    }

    /// Sends a request to the agent that answered last, and to the next one when it is certain that it took no effect
    /// there, or that a repeat is harmless. Ends a moment before the deadline, so that what is known is told.
    pub(crate) async fn call(&self, does: Does, deadline: Deadline, request: &Request) -> Result<Answer> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner).clone();
        if agents.is_empty() {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        let mut left = deadline.remaining();
        left -= left / 50;
        let deadline = Deadline::after(left);
        // Polls are few, and counted where they are made.
        let _turn = match does {
            Does::Poll => None,
            _ => match deadline.limit(self.calls.acquire()).await {
                Some(turn) => turn.ok(),
                None => {
                    let why = format!(
                        "nothing was sent within {left:?}: {CALLS} other calls wait for their answers"
                    );
                    return Err(Error::new(ErrorKind::Timeout, why));
                }
            },
        };
        let (mut maybe_done, mut refusals, mut tries) = (false, 0, 0_u32);
        loop {
            let at = self.preferred.load(Ordering::Relaxed) % agents.len();
            // An agent that is silent must leave time for another one, or for another connection.
            let within = match does {
                Does::Write | Does::Poll => deadline,
                _ => Deadline::after(
                    (deadline.remaining() / 2).max(Duration::from_millis(50)).min(deadline.remaining()),
                ),
            };
            let Failed { fate, error } = match agents[at].attempt(does, within, request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tries += 1;
            maybe_done |= fate == Fate::Unknown;
            refusals = if fate == Fate::Refused { refusals + 1 } else { 0 };
            match fate {
                // An answer of the datacenter is one answer for all; TLS and addresses are each agent's own.
                Fate::Refused if is_the_datacenters(error.kind()) || refusals >= agents.len() => {
                    return Err(error);
                }
                Fate::Unknown if does == Does::Write => return Err(unknown(error)),
                _ => {}
            }
            let next = (at + 1) % agents.len();
            let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            if does == Does::Poll {
                return Err(error);
            }
            if (tries as usize).is_multiple_of(agents.len()) {
                let pause = Duration::from_millis(20 << (tries as usize / agents.len()).min(5));
                tokio::time::sleep(pause.min(deadline.remaining())).await;
            }
            if deadline.has_passed() {
                return Err(if maybe_done && does == Does::Repeatable { unknown(error) } else { error });
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
