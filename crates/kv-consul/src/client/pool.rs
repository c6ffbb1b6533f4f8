//! Keeps what all stores of a process share at one agent: its connections, and the limits of their
//! number. An agent counts the connections of all programs behind one address together, and takes
//! 200 by default.

use super::{
    settings::Tls,
    turns::{CALLS, RELEASES, Turns},
};
use kv_core::backend::{Home, Mutex, WhileUsed};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    sync::{Arc, LazyLock, Weak, atomic::AtomicUsize},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Handle, Id},
    sync::watch,
};

/// Limits how long making a connection may take, TLS included, before the next agent is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Sets the time without an answer after which connections may have ended unnoticed: the runtime
/// may have stood still.
const STILL: Duration = Duration::from_millis(100);
/// Limits how long a connection that nobody uses is kept; those of renewals are kept as long as
/// the other side keeps them, so that a renewal needs no new one.
const IDLE: Duration = Duration::from_secs(30);

static POOLS: LazyLock<WhileUsed<Arc<str>, Pool>> = LazyLock::new(WhileUsed::new);

/// The state that all stores of this process share at one agent.
pub(crate) struct Pool {
    agent: Arc<str>,
    links: Mutex<Vec<Links>>,
    /// Holds the TLS settings that agents have now, so that those of one content are one value.
    tls: Mutex<Vec<Weak<Tls>>>,
    turns: Mutex<Vec<(Id, Home, Arc<Turns>)>>,
    /// Counts the polls of each width but the widest.
    pub(crate) widths: [AtomicUsize; 3],
    /// Tells that connections went silent.
    silence: watch::Sender<()>,
    heard: Mutex<Instant>,
}

/// Connections that live on one runtime, and end with it, or with their TLS settings.
struct Links {
    runtime: Id,
    home: Home,
    /// Refers to the settings, which end when no agent has them any more.
    tls: Option<Weak<Tls>>,
    calls: Client,
    keeps: Client,
}

impl Links {
    /// Tells whether nobody uses the connections any more.
    fn are_left(&self) -> bool {
        self.home.is_gone() || self.tls.as_ref().is_some_and(|tls| tls.strong_count() == 0)
    }

    fn are_of(&self, runtime: Id, tls: Option<&Arc<Tls>>) -> bool {
        let is_same = match (&self.tls, tls) {
            (Some(own), Some(tls)) => Weak::as_ptr(own) == Arc::as_ptr(tls),
            (None, None) => true,
            _ => false,
        };
        is_same && self.runtime == runtime
    }
}

impl Pool {
    pub(crate) fn of(agent: &Arc<str>) -> Arc<Self> {
        POOLS.get_or(agent.clone(), || Self {
            agent: agent.clone(),
            links: Mutex::new(Vec::new()),
            tls: Mutex::new(Vec::new()),
            turns: Mutex::new(Vec::new()),
            widths: Default::default(),
            silence: watch::Sender::new(()),
            heard: Mutex::new(Instant::now()),
        })
    }

    /// Returns the TLS settings that are to be used in the place of these: equal ones that another
    /// agent has already, or these.
    pub(crate) fn one_of(&self, tls: Arc<Tls>) -> Arc<Tls> {
        let mut all = self.tls.lock();
        all.retain(|there| there.strong_count() > 0);
        if let Some(there) = all.iter().filter_map(Weak::upgrade).find(|there| *there == tls) {
            return there;
        }
        all.push(Arc::downgrade(&tls));
        tls
    }

    /// Returns the connections of this runtime with these settings, which [`one_of`](Self::one_of)
    /// has returned; drops those of runtimes and settings that have ended.
    pub(crate) fn connections(&self, tls: Option<&Arc<Tls>>, keeps: bool) -> reqwest::Result<Client> {
        let runtime = Handle::current().id();
        let mut links = self.links.lock();
        links.retain(|links| !links.are_left());
        let of = |links: &Links| if keeps { links.keeps.clone() } else { links.calls.clone() };
        if let Some(there) = links.iter().find(|links| links.are_of(runtime, tls)) {
            return Ok(of(there));
        }
        let new = Links {
            runtime,
            home: Home::here(),
            tls: tls.map(Arc::downgrade),
            calls: connections(&self.agent, tls, CALLS, Some(IDLE))?,
            keeps: connections(&self.agent, tls, RELEASES / 4, None)?,
        };
        let client = of(&new);
        links.push(new);
        Ok(client)
    }

    /// Returns the turns of this runtime.
    pub(crate) fn turns(&self) -> Arc<Turns> {
        let runtime = Handle::current().id();
        let mut turns = self.turns.lock();
        turns.retain(|(_, home, _)| !home.is_gone());
        if let Some((.., there)) = turns.iter().find(|(of, ..)| *of == runtime) {
            return there.clone();
        }
        let new = Arc::new(Turns::new());
        turns.push((runtime, Home::here(), new.clone()));
        new
    }

    /// Lets the runtime hear of connections that ended while it stood still, as between two
    /// `block_on`: a write that is sent on such a connection has an unknown outcome.
    pub(crate) async fn listen(&self) {
        if self.heard.lock().elapsed() > STILL {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn silence(&self) -> watch::Receiver<()> {
        self.silence.subscribe()
    }

    /// Notes that an answer came.
    pub(crate) fn heard(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Notes that nothing came on one connection: the connections that nobody uses are likely no
    /// better, and where nothing came on any, all are given up.
    pub(crate) fn is_silent(&self, tls: Option<&Arc<Tls>>, since: Instant) {
        let runtime = Handle::current().id();
        self.links.lock().retain(|links| !links.are_of(runtime, tls));
        if *self.heard.lock() < since {
            self.silence.send_replace(());
        }
    }
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

fn connections(
    agent: &Arc<str>,
    tls: Option<&Arc<Tls>>,
    most: usize,
    idle: Option<Duration>,
) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // The caller alone decides what may be sent again.
        .retry(reqwest::retry::never())
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(most);
    match tls {
        Some(tls) => {
            builder = tls.set(builder);
            if tls.server_name().is_some() {
                builder = builder.dns_resolver(Renamed(agent.clone()));
            }
        }
        // Otherwise the client reads all certificates that the system trusts, for nothing.
        None => builder = builder.tls_certs_only([]),
    }
    builder.build()
}
