//! The server that takes the writes: how it is found, what it is asked, and what is done when it fails.

use crate::{
    config::Access,
    error::{Failed, Fate, unknown},
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

/// A connection on which nothing is heard for so long while one waits for an answer is given up.
const SILENCE: Duration = Duration::from_secs(1);
/// The least version: that of the sharded channels.
const OLDEST: u32 = 7;

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

/// How the server is found.
#[derive(Clone)]
pub(crate) enum Find {
    /// The one of these that is no replica.
    Single(Vec<String>),
    /// The one that these sentinels name.
    Sentinel(Vec<String>, Access, String),
    /// The one that has this slot, as these nodes tell.
    Cluster(Vec<String>, u16),
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
    find: Find,
    access: Access,
    state: Mutex<State>,
    connecting: Turn<()>,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    /// Where the server was last seen to be, or said to be.
    hint: Option<String>,
    /// The nodes of the cluster, as one of them told.
    nodes: Vec<String>,
    /// Which host is asked first.
    turn: usize,
    closed: bool,
}

impl Client {
    pub(crate) fn new(find: Find, access: Access) -> Self {
        Self { find, access, state: Mutex::default(), connecting: Turn::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
        if let Some(link) = self.standing()? {
            return Ok(link);
        }
        let _turn = self.connecting.lock().await;
        if let Some(link) = self.standing()? {
            return Ok(link);
        }
        let link = Arc::new(self.connect().await?);
        load(&link).await?;
        let mut state = self.state();
        if !state.closed {
            state.link = Some(link.clone());
        }
        Ok(link)
    }

    /// A new connection to the server that takes the writes.
    pub(crate) async fn connect(&self) -> Result<Link, Failed> {
        let hint = self.state().hint.take();
        if let Some(address) = hint
            && let Ok(link) = self.master_at(&address).await
        {
            return Ok(self.seen(link));
        }
        let hosts = self.hosts();
        let first = self.state().turn;
        let mut last = None;
        for at in (0..hosts.len()).map(|n| (first + n) % hosts.len()) {
            // Whoever is given up half-way is not the first to be asked again.
            self.state().turn = at + 1;
            match self.by(&hosts[at]).await {
                Ok(link) => {
                    self.state().turn = at;
                    return Ok(self.seen(link));
                }
                Err(failed) => last = worse(last, failed),
            }
        }
        let none =
            || Failed::new(Fate::Undone, ErrorKind::Unavailable, "no server is known that takes writes");
        Err(last.unwrap_or_else(none))
    }

    /// Who may know where the server is.
    fn hosts(&self) -> Vec<String> {
        match &self.find {
            Find::Single(hosts) | Find::Sentinel(hosts, ..) => hosts.clone(),
            Find::Cluster(nodes, _) => {
                let known = self.state().nodes.clone();
                nodes.iter().cloned().chain(known.into_iter().filter(|node| !nodes.contains(node))).collect()
            }
        }
    }

    /// The server, as this host knows it.
    async fn by(&self, host: &str) -> Result<Link, Failed> {
        match &self.find {
            Find::Single(_) => self.master_at(host).await,
            Find::Sentinel(_, access, master) => {
                let address = of_sentinel(host, access, master).await?;
                self.master_at(&self.reached(address)).await
            }
            Find::Cluster(_, slot) => {
                let link = Link::open(host, &self.access).await?;
                let (address, nodes) = owner(&link, *slot).await?;
                self.state().nodes = nodes.into_iter().map(|node| self.reached(node)).collect();
                match self.reached(address) {
                    address if address == link.address => self.checked(link).await,
                    address => self.master_at(&address).await,
                }
            }
        }
    }

    /// Where a server of this name is reached from here.
    fn reached(&self, named: String) -> String {
        self.access.reached.get(&named).cloned().unwrap_or(named)
    }

    fn seen(&self, link: Link) -> Link {
        if !matches!(self.find, Find::Single(_)) {
            self.state().hint = Some(link.address.clone());
        }
        link
    }

    /// A connection to this server, if it takes writes.
    async fn master_at(&self, address: &str) -> Result<Link, Failed> {
        self.checked(Link::open(address, &self.access).await?).await
    }

    /// The same connection, if its server is one that takes writes.
    async fn checked(&self, link: Link) -> Result<Link, Failed> {
        let address = &link.address;
        let said = link.call("HELLO", Vec::new()).await?;
        let Value::Map(said) = said else { return Ok(link) };
        let said = said.inner();
        let told =
            |name: &str| said.iter().find(|(k, _)| k.as_str() == Some(name)).and_then(|(_, v)| v.as_string());
        let version = told("version").unwrap_or_default();
        if version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok())
            .is_some_and(|major| major < OLDEST)
        {
            let why = format!("{address} is Redis {version}; kv-redis needs 7.0 or newer");
            return Err(Failed::new(Fate::Refused, ErrorKind::Unsupported, why));
        }
        let is_cluster = told("mode").as_deref() == Some("cluster");
        if is_cluster != matches!(self.find, Find::Cluster(..)) {
            let why = match is_cluster {
                true => format!("{address} is a node of a cluster; open it as redis-cluster://"),
                false => format!("{address} is no node of a cluster; open it as redis://"),
            };
            return Err(Failed::new(Fate::Refused, ErrorKind::InvalidArgument, why));
        }
        if told("role").is_some_and(|role| role != "master") {
            let why = format!("{address} is a replica, which takes no writes; name its master too");
            return Err(Failed::new(Fate::Undone, ErrorKind::Unavailable, why));
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
    /// deadline, so that what is known is told.
    pub(crate) async fn ask<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn(Arc<Link>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let mut left = deadline.remaining();
        left -= left / 50;
        let deadline = Deadline::after(left);
        let (mut maybe_done, mut tries, mut before) = (false, 0_u32, None);
        loop {
            let Failed { fate, mut error } = match self.attempt(does, deadline, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            // An attempt that was cut off says less than the one before it.
            if let (ErrorKind::Timeout, Some(before)) = (error.kind(), before.take()) {
                error = before;
            }
            maybe_done |= fate == Fate::Unknown;
            match fate {
                Fate::Unknown | Fate::Failed if does == Does::Write => return Err(unknown(error)),
                Fate::Refused | Fate::Failed => return Err(error),
                Fate::Moved(_) => self.moved(fate),
                // What a server says before it does anything, it says because another one is to be asked, or later.
                Fate::Undone => self.elsewhere(None),
                Fate::Unknown | Fate::NoScript => {}
            }
            tries += 1;
            if deadline.has_passed() {
                return Err(if maybe_done && does == Does::Repeatable { unknown(error) } else { error });
            }
            before = Some(error);
            let pause = Duration::from_millis(10 << tries.min(5));
            tokio::time::sleep(pause.min(deadline.remaining())).await;
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
    fn elsewhere(&self, hint: Option<String>) {
        let mut state = self.state();
        // What was on its way there ends as it will.
        state.link = None;
        state.hint = hint;
    }

    /// Runs a script.
    pub(crate) async fn run(&self, does: Does, deadline: Deadline, request: &Request) -> Result<Answer> {
        let answer = self.ask(does, deadline, |link| async move { request.send(&link).await });
        Ok(Answer(answer.await?))
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
        Ok(Answer(answer.await?))
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

/// The one to tell: what will not change by trying again.
fn worse(last: Option<Failed>, next: Failed) -> Option<Failed> {
    match last {
        Some(last) if last.fate == Fate::Refused && next.fate != Fate::Refused => Some(last),
        _ => Some(next),
    }
}

async fn of_sentinel(sentinel: &str, access: &Access, master: &str) -> Result<String, Failed> {
    let link = Link::open(sentinel, access).await?;
    let found = link.call("SENTINEL", vec!["GET-MASTER-ADDR-BY-NAME".into(), master.into()]).await?;
    let Value::Array(parts) = found else {
        let why = format!("the sentinel {sentinel} knows no master {master:?}");
        return Err(Failed::new(Fate::Refused, ErrorKind::InvalidArgument, why));
    };
    let text = |at: usize| parts.get(at).and_then(Value::as_string).unwrap_or_default();
    Ok(address(&text(0), &text(1), sentinel))
}

/// Who has the slot, and all nodes there are, by the node at the other end.
async fn owner(link: &Link, slot: u16) -> Result<(String, Vec<String>), Failed> {
    let none =
        |why: &str| Failed::new(Fate::Undone, ErrorKind::Unavailable, format!("{}: {why}", link.address));
    let Value::Array(ranges) = link.call("CLUSTER", vec!["SLOTS".into()]).await? else {
        return Err(none("the cluster has no slots"));
    };
    let (mut owner, mut nodes) = (None, Vec::new());
    for range in ranges {
        let Value::Array(parts) = range else { continue };
        let slot_at = |at: usize| parts.get(at).and_then(Value::as_i64).unwrap_or(-1);
        let has_it = (slot_at(0)..=slot_at(1)).contains(&i64::from(slot));
        for (n, node) in parts.iter().skip(2).enumerate() {
            let Value::Array(node) = node else { continue };
            let text = |at: usize| node.get(at).and_then(Value::as_string).unwrap_or_default();
            let address = address(&text(0), &text(1), &link.address);
            if has_it && n == 0 {
                owner = Some(address.clone());
            }
            if !nodes.contains(&address) {
                nodes.push(address);
            }
        }
    }
    if let Some(owner) = owner {
        return Ok((owner, nodes));
    }
    Err(none("the cluster gives the slot of these names to no node"))
}

/// A server that does not know its own name is the one that was asked.
fn address(host: &str, port: &str, asked: &str) -> String {
    let host = match host {
        "" | "?" => asked.rsplit_once(':').map_or(asked, |(host, _)| host),
        host => host,
    };
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Find::Single(hosts) | Find::Sentinel(hosts, ..) | Find::Cluster(hosts, _)) = &self.find;
        f.write_str(&hosts.join(","))
    }
}
