//! Finds the master, which is the server that takes the writes, and checks that it is one.

use crate::{
    client::{access::Access, link::Link},
    error::{failure, silent},
};
use fred::types::Value;
use kv_core::{
    ErrorKind,
    backend::retry::{Effect, RequestError},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::timeout;

/// The time within which a server has to answer while the master is looked for: a link may die
/// behind a log-in, and watches have no deadline of their own.
pub(crate) const ANSWER: Duration = Duration::from_secs(3);

/// The oldest major version that is supported: the first one with sharded channels.
const OLDEST: u32 = 7;

/// The way in which the master is found.
#[derive(Clone)]
pub(crate) enum Find {
    /// The one of these hosts that is no replica.
    Single(Vec<String>),
    /// The master that these sentinels know by this name.
    Sentinel(Vec<String>, Access, String),
    /// The node that has this slot, as these nodes tell.
    Cluster(Vec<String>, u16),
}

impl Find {
    /// Returns whether there is one host alone to ask, and no sentinel.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self, Self::Single(hosts) if hosts.len() == 1)
    }

    /// Returns the hosts that the configuration names.
    pub(crate) fn named(&self) -> &[String] {
        let (Self::Single(hosts) | Self::Sentinel(hosts, ..) | Self::Cluster(hosts, _)) = self;
        hosts
    }

    /// Returns the connection if its server takes writes and is of a kind that is supported.
    pub(crate) async fn checked(&self, link: Link) -> Result<Link, RequestError> {
        let address = &link.address;
        let said = hello(&link).await?;
        let told = |name: &str| said.get(name).map(String::as_str);
        let version = told("version").unwrap_or_default();
        if version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok())
            .is_some_and(|major| major < OLDEST)
        {
            let why = format!("{address} is Redis {version}; kv-redis needs 7.0 or newer");
            return Err(failure(Effect::Refused, ErrorKind::Unsupported, why));
        }
        let is_cluster = told("mode") == Some("cluster");
        if is_cluster != matches!(self, Self::Cluster(..)) {
            let why = match is_cluster {
                true => format!("{address} is a node of a cluster; open it as redis-cluster://"),
                false => format!("{address} is no node of a cluster; open it as redis://"),
            };
            return Err(failure(Effect::Refused, ErrorKind::InvalidArgument, why));
        }
        if !is_master(&said) {
            let why = format!("{address} is a replica, which takes no writes; name its master too");
            return Err(failure(Effect::RefusedHere, ErrorKind::Unavailable, why));
        }
        Ok(link)
    }
}

async fn ask(link: &Link, command: &'static str, arguments: Vec<Value>) -> Result<Value, RequestError> {
    let silent = |_| Err(silent(&link.address, Effect::None, "answer", ANSWER));
    timeout(ANSWER, link.call(command, arguments)).await.unwrap_or_else(silent)
}

/// Returns the fields of `HELLO`, which every user may call.
pub(crate) async fn hello(link: &Link) -> Result<HashMap<String, String>, RequestError> {
    let Value::Map(said) = ask(link, "HELLO", Vec::new()).await? else { return Ok(HashMap::new()) };
    let said = said.inner().into_iter();
    Ok(said.filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value.as_string()?))).collect())
}

/// Returns whether a `HELLO` is that of a master; one without a role counts as a master.
pub(crate) fn is_master(said: &HashMap<String, String>) -> bool {
    said.get("role").is_none_or(|role| role == "master")
}

/// Returns the failure to report: a refusal that another attempt will not mend, else the newer
/// one.
pub(crate) fn worse(last: Option<RequestError>, next: RequestError) -> Option<RequestError> {
    match last {
        Some(last) if last.effect == Effect::Refused && next.effect != Effect::Refused => Some(last),
        _ => Some(next),
    }
}

/// Asks a sentinel where the master is.
pub(crate) async fn of_sentinel(
    sentinel: &str,
    access: &Access,
    master: &str,
) -> Result<String, RequestError> {
    let link = Link::open(sentinel, access).await?;
    let found = ask(&link, "SENTINEL", vec!["GET-MASTER-ADDR-BY-NAME".into(), master.into()]).await?;
    let Value::Array(parts) = found else {
        let why = format!("the sentinel {sentinel} knows no master {master:?}");
        return Err(failure(Effect::Refused, ErrorKind::InvalidArgument, why));
    };
    let text = |at: usize| parts.get(at).and_then(Value::as_string).unwrap_or_default();
    Ok(address(&text(0), &text(1), sentinel))
}

/// Asks the node at the other end for the owner of the slot, and for all nodes of the cluster.
pub(crate) async fn owner(link: &Link, slot: u16) -> Result<(String, Vec<String>), RequestError> {
    let none =
        |why: &str| failure(Effect::RefusedHere, ErrorKind::Unavailable, format!("{}: {why}", link.address));
    let Value::Array(ranges) = ask(link, "CLUSTER", vec!["SLOTS".into()]).await? else {
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

/// Joins host and port. A node that does not know its own host is at the host that was asked.
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
