//! Searches for the master, and connects to it.

use crate::{
    client::{
        Client,
        find::{Find, of_sentinel, owner, worse},
        link::Link,
    },
    error::failure,
};
use kv_core::{
    ErrorKind,
    backend::retry::{Effect, RequestError},
};

impl Client {
    /// Makes a new connection to the master. Once a master was found, an answer that contradicts
    /// the settings is an outage: a sentinel was reset and knows no master yet, or an address is
    /// that of another server for a while.
    pub(crate) async fn connect(&self) -> Result<Link, RequestError> {
        self.search().await.map_err(|failed| match failed.error.kind() {
            ErrorKind::InvalidArgument if self.state().was_found => RequestError {
                effect: Effect::RefusedHere,
                error: failed.error.with_kind(ErrorKind::Unavailable),
                ..failed
            },
            _ => failed,
        })
    }

    async fn search(&self) -> Result<Link, RequestError> {
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
            // A host at which the call's time ran out is not the first to be asked again.
            self.state().turn = at + 1;
            match self.by(&hosts[at]).await {
                Ok(link) => {
                    self.state().turn = at;
                    return Ok(self.seen(link));
                }
                Err(failed) => last = worse(last, failed),
            }
        }
        let none = || failure(Effect::None, ErrorKind::Unavailable, "no server is known that takes writes");
        Err(last.unwrap_or_else(none))
    }

    /// Returns the hosts that may know where the master is.
    fn hosts(&self) -> Vec<String> {
        match &self.find {
            Find::Single(hosts) | Find::Sentinel(hosts, ..) => hosts.clone(),
            Find::Cluster(nodes, _) => {
                let known = self.state().nodes.clone();
                nodes.iter().cloned().chain(known.into_iter().filter(|node| !nodes.contains(node))).collect()
            }
        }
    }

    /// Connects to the master by what this host knows of it.
    async fn by(&self, host: &str) -> Result<Link, RequestError> {
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
                    address if address == link.address => self.find.checked(link).await,
                    address => self.master_at(&address).await,
                }
            }
        }
    }

    /// Returns the address at which the server of this name is reached from here.
    pub(super) fn reached(&self, named: String) -> String {
        self.access.reached.get(&named).cloned().unwrap_or(named)
    }

    fn seen(&self, link: Link) -> Link {
        let mut state = self.state();
        state.was_found = true;
        // Sentinels are asked each time: where the master was seen, a deposed one may be back that
        // takes itself for the master for a while.
        if matches!(self.find, Find::Cluster(..)) {
            state.hint = Some(link.address.clone());
        }
        link
    }

    /// Connects to this server, if it takes writes.
    async fn master_at(&self, address: &str) -> Result<Link, RequestError> {
        self.find.checked(Link::open(address, &self.access).await?).await
    }
}
