//! Sends one request to one agent.

use super::{
    answer::{Answer, Mark, refused},
    body::{Body, WAITS, give_up},
    pool::Pool,
    request::{Purpose, Request},
    settings::{Tls, Token, read_tls_anew},
    times::Times,
};
use crate::{
    error::{AgentError, failed},
    names::encoded,
};
use kv_core::{Error, ErrorKind, Result, backend::retry::Effect, driver::Deadline};
use reqwest::{
    Method, RequestBuilder,
    header::{HeaderMap, HeaderValue},
};
use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

/// Limits how long an agent has to tell the leader when its refusal is in doubt.
const HEARD: Duration = Duration::from_secs(2);

/// The settings that all requests share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) token: Token,
    query: String,
    /// Tells whether the store was opened: settings that were right then are not wrong now.
    is_open: AtomicBool,
}

impl Common {
    pub(crate) fn new(token: Token, datacenter: Option<&str>, namespace: Option<&str>) -> Self {
        let mut query = String::new();
        for (name, value) in [("dc", datacenter), ("ns", namespace)] {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        Self { token, query, is_open: AtomicBool::new(false) }
    }
}

/// One agent.
pub(crate) struct Agent {
    pub(crate) name: Arc<str>,
    base: String,
    settings: Arc<kv_core::Tls>,
    tls: RwLock<Option<Arc<Tls>>>,
    common: Arc<Common>,
    pub(crate) pool: Arc<Pool>,
}

impl Agent {
    pub(crate) fn new(
        name: &str,
        settings: Arc<kv_core::Tls>,
        tls: Option<Arc<Tls>>,
        common: Arc<Common>,
    ) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (_, port) = name.rsplit_once(':').unwrap_or((name, ""));
        let base = match tls.as_ref().and_then(|tls| tls.server_name()) {
            Some(server_name) => format!("{scheme}://{server_name}:{port}"),
            None => format!("{scheme}://{name}"),
        };
        let nonsense = |e: &dyn fmt::Display| {
            let why = format!("the address {name:?} makes no sense: {e}");
            Error::new(ErrorKind::InvalidArgument, why)
        };
        let is_bare = |url: &reqwest::Url| url.path() == "/" && url.query().is_none() && url.host().is_some();
        reqwest::Url::parse(&base).map_err(|e| nonsense(&e)).and_then(|url| {
            is_bare(&url).then_some(()).ok_or_else(|| nonsense(&"it is no host with a port"))
        })?;
        let name: Arc<str> = name.into();
        let pool = Pool::of(&name);
        let tls = tls.map(|tls| pool.one_of(tls));
        Ok(Self { name, base, settings, tls: RwLock::new(tls), common, pool })
    }

    /// Returns the TLS settings that requests go by now.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files of the TLS settings again, and tells whether the settings are others now
    /// than these. Another request may have read the files meanwhile. Nothing is taken from files
    /// that cannot be read, or that are half replaced.
    pub(crate) fn renews_tls(&self, used: Option<&Arc<Tls>>) -> bool {
        let is_used = |now: &Option<Arc<Tls>>| now.as_ref().map(Arc::as_ptr) == used.map(Arc::as_ptr);
        if is_used(&self.tls()) {
            let Ok(Some(new)) = read_tls_anew(&self.settings, used.map(|tls| &**tls)) else { return false };
            let new = Some(self.pool.one_of(new));
            *self.tls.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        true
    }

    /// Reads the file of the token again, and tells whether the token is another one now than
    /// this.
    pub(crate) fn renews(&self, token: Option<&HeaderValue>) -> bool {
        self.common.token.renew() || self.token().as_ref() != token
    }

    /// Returns the token that requests carry now.
    pub(crate) fn token(&self) -> Option<HeaderValue> {
        self.common.token.get()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.common.is_open.load(Ordering::Acquire)
    }

    pub(crate) fn opened(&self) {
        self.common.is_open.store(true, Ordering::Release);
    }

    fn url(&self, purpose: Purpose, request: &Request) -> String {
        let consistency = match purpose {
            Purpose::Read | Purpose::WatchRead | Purpose::BlockingQuery => "consistent",
            Purpose::Stale => "stale",
            Purpose::Write | Purpose::Repeatable | Purpose::Release | Purpose::Session => "",
        };
        let mut url = format!("{}{}?{consistency}", self.base, request.path);
        for (name, value) in &request.query {
            url.push_str(&format!("&{name}={value}"));
        }
        url.push_str(&self.common.query);
        url
    }

    fn request(
        &self,
        purpose: Purpose,
        tls: Option<&Arc<Tls>>,
        request: &Request,
        sending: &Arc<AtomicU8>,
    ) -> Result<RequestBuilder, AgentError> {
        let own = matches!(purpose, Purpose::Release | Purpose::Session);
        let http = self.pool.connections(tls, own).map_err(|e| {
            let why = format!("{}: the TLS settings make no sense: {}", self.name, e.without_url());
            AgentError::new(Effect::RefusedHere, ErrorKind::InvalidArgument, why)
        })?;
        let mut headers = HeaderMap::new();
        if let Some(token) = self.common.token.get() {
            headers.insert("x-consul-token", token);
        }
        let mut sent = http.request(request.method.clone(), self.url(purpose, request)).headers(headers);
        if request.method == Method::PUT {
            let (bytes, count) = (Some(request.body.clone()), request.count.clone());
            sent = sent.body(reqwest::Body::wrap(Body { bytes, sending: sending.clone(), count }));
        }
        Ok(sent)
    }

    /// Makes one attempt. `read` returns what was asked for; `None` for an answer that does not
    /// hold it.
    pub(crate) async fn attempt<T>(
        &self,
        purpose: Purpose,
        times: Times,
        request: &Request,
        read: &(impl Fn(&Answer) -> Option<Result<T, AgentError>> + Sync),
    ) -> Result<T, AgentError> {
        let (sending, began) = (Arc::new(AtomicU8::new(WAITS)), Instant::now());
        // The subscription begins before the connections are taken, so that giving them up is not
        // missed.
        let mut silence = self.pool.silence();
        let tls = self.tls();
        let sent = self.request(purpose, tls.as_ref(), request, &sending)?;
        let answer = async { Answer::whole(sent.send().await?).await };
        let answered = match purpose {
            // A blocking query may be silent for good reasons, and goes by what other requests
            // hear.
            Purpose::BlockingQuery => tokio::select! {
                answered = times.whole.limit(answer) => answered,
                _ = silence.changed() => None,
            },
            Purpose::Write => written(times, &sending, answer).await,
            _ => times.whole.limit(answer).await,
        };
        // A connection may be about to send the request at this moment: from now on it does not.
        let is_sent = !give_up(&sending);
        match answered {
            Some(Ok(answer)) => {
                self.pool.heard();
                if let Some(read) = read(&answer) {
                    return read;
                }
                Err(self.refused(tls.as_ref(), times.whole, answer).await)
            }
            Some(Err(e)) => Err(failed(&self.name, is_sent, self.is_open(), e)),
            None => {
                // A write that was not sent was given up early: no connection has been silent.
                if purpose != Purpose::BlockingQuery && (is_sent || purpose != Purpose::Write) {
                    self.pool.is_silent(tls.as_ref(), began);
                }
                let (effect, what) = match is_sent {
                    true => (Effect::Unknown, "no answer"),
                    false => (Effect::None, "no connection, or no answer,"),
                };
                let why = format!("{}: {what} within {:?}", self.name, began.elapsed());
                Err(AgentError::new(effect, ErrorKind::Timeout, why))
            }
        }
    }
}

impl Agent {
    /// Returns the failure that an answer means which does not hold what was asked for. Where it
    /// says that something is wrong for good, and has no mark but one that proxies have as well,
    /// an agent must be heard first.
    async fn refused(&self, tls: Option<&Arc<Tls>>, deadline: Deadline, mut answer: Answer) -> AgentError {
        let is_open = self.is_open();
        let error = refused(&self.name, is_open, &answer);
        if answer.mark != Mark::Weak || error.failed.error.is_transient() {
            return error;
        }
        if self.is_heard(tls, deadline).await {
            return error;
        }
        answer.mark = Mark::None;
        refused(&self.name, is_open, &answer)
    }

    /// Asks for the leader, whom an agent tells to everybody, and tells whether the answer is that
    /// of an agent which has no other mark.
    async fn is_heard(&self, tls: Option<&Arc<Tls>>, deadline: Deadline) -> bool {
        let Ok(http) = self.pool.connections(tls, false) else { return false };
        // No token and no datacenter is told, which may be what was refused.
        let sent = http.get(format!("{}/v1/status/leader", self.base));
        let within = Deadline::after(deadline.remaining().min(HEARD));
        let answer = within.limit(async { Answer::whole(sent.send().await?).await }).await;
        matches!(answer, Some(Ok(answer)) if answer.is_an_old_agents_leader())
    }
}

/// Waits for the answer to a write. Without a connection nothing is sent, so that the write is
/// given up while there is time for another agent.
async fn written<T>(times: Times, sending: &AtomicU8, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let answered = times.connect.limit(answer.as_mut()).await;
    if answered.is_some() || give_up(sending) {
        return answered;
    }
    times.whole.limit(answer).await
}
