//! The servers of each family under a name: they are started with the table's settings and their
//! own options, found to be ready, and spoken to.

mod consul;
mod dynamodb;
mod etcd;
mod redis;
mod zookeeper;

use crate::{
    error::Error,
    kinds::{Family, Kind},
    program::Spec,
};
use std::{process::Command, time::Duration};

/// The time that a command-line client may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time that a client may take that only asks whether a server is ready.
const PROBE: Duration = Duration::from_secs(3);

/// One family.
pub(crate) trait Named: Sync {
    /// Returns which of `nodes`, `tls` and `auth` its servers take.
    fn options(&self) -> &'static [&'static str] {
        &["nodes", "tls", "auth"]
    }

    /// Returns how many ports a node has; the first is its clients'.
    fn ports(&self) -> usize;

    /// Returns how many nodes it takes to go on without one.
    fn enough(&self) -> usize {
        3
    }

    /// Refuses a number of nodes that makes no cluster.
    fn check_nodes(&self, _kind: &Kind, _nodes: usize) -> Result<(), Error> {
        Ok(())
    }

    /// Returns who may come when there are users, in words.
    fn users(&self) -> String {
        String::new()
    }

    /// Returns the URL for users of the library.
    fn url(&self, spec: &Spec) -> String;

    /// Writes a node's settings, and returns the command that becomes its process.
    fn command(&self, spec: &Spec, number: usize) -> Result<Command, Error>;

    /// Returns the command-line client, with all it needs to reach the server.
    fn client(&self, spec: &Spec) -> Result<Command, Error>;

    /// Tells whether a node takes writes.
    fn is_ready(&self, spec: &Spec, number: usize) -> bool;

    /// Does what a server needs once it is ready: cluster or users. It runs at every start.
    fn prepare(&self, _spec: &Spec) -> Result<(), Error> {
        Ok(())
    }

    /// Writes a key with the server's own client.
    fn put(&self, spec: &Spec, key: &str, value: &str) -> Result<(), Error>;

    /// Reads a key with the server's own client.
    fn get(&self, spec: &Spec, key: &str) -> Result<String, Error>;
}

/// Returns the family of a kind, which must be one of servers.
pub(crate) fn of(kind: &Kind) -> &'static dyn Named {
    match kind.family {
        Family::Etcd => &etcd::Etcd,
        Family::Consul => &consul::Consul,
        Family::Zookeeper => &zookeeper::Zookeeper,
        Family::Redis => &redis::Redis,
        Family::Dynamodb => &dynamodb::Dynamodb,
        Family::Tool => unreachable!("{} is no server, which is looked at before", kind.name),
    }
}
