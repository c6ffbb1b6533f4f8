//! The table of what there is: servers, and tools that are fetched beside them.

use crate::{
    error::Error,
    packages::{self, Suite},
};
use std::fmt;

/// Servers that are started and spoken to in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// etcd 3.
    Etcd,
    /// Consul.
    Consul,
    /// ZooKeeper, which runs on a Java.
    Zookeeper,
    /// Redis, and Valkey, which speaks as it does.
    Redis,
    /// An emulator of DynamoDB.
    Dynamodb,
    /// No server, but what builds and tests need besides.
    Tool,
}

/// One kind of server, or of tool.
pub struct Kind {
    /// Its name, which is also that of its folder.
    pub name: &'static str,
    /// The way in which it is started and spoken to.
    pub family: Family,
    /// Its server's name below `bin/`; a tool's own.
    pub server: &'static str,
    /// Its command-line client's name below `bin/`.
    pub client: Option<&'static str>,
    /// The packages that it is unpacked from, by Debian's suites; empty for what is built.
    pub packages: &'static [(Suite, &'static [&'static str])],
}

/// All kinds, in the order in which they are fetched.
pub static KINDS: [Kind; 12] = [
    server("etcd", Family::Etcd, "etcd", Some("etcdctl"), &packages::ETCD),
    server("etcd34", Family::Etcd, "etcd", Some("etcdctl"), &packages::ETCD34),
    server("consul", Family::Consul, "consul", Some("consul"), &packages::CONSUL),
    server("zookeeper", Family::Zookeeper, "zookeeper", Some("zkCli"), &packages::ZOOKEEPER),
    server("zookeeper38", Family::Zookeeper, "zookeeper", Some("zkCli"), &packages::ZOOKEEPER38),
    server("redis", Family::Redis, "redis-server", Some("redis-cli"), &packages::REDIS),
    server("redis8", Family::Redis, "redis-server", Some("redis-cli"), &packages::REDIS8),
    server("valkey", Family::Redis, "valkey-server", Some("valkey-cli"), &packages::VALKEY),
    server("dynamodb", Family::Dynamodb, "dynamodb", None, &[]),
    server("protoc", Family::Tool, "protoc", None, &packages::PROTOC),
    server("faketime", Family::Tool, "libfaketime.so.1", None, &packages::FAKETIME),
    server("java", Family::Tool, "java", None, &packages::JAVA),
];

const fn server(
    name: &'static str,
    family: Family,
    server: &'static str,
    client: Option<&'static str>,
    packages: &'static [(Suite, &'static [&'static str])],
) -> Kind {
    Kind { name, family, server, client, packages }
}

impl Kind {
    /// Finds the kind of this name.
    ///
    /// # Errors
    /// There is none; the message lists those that there are.
    pub fn named(name: &str) -> Result<&'static Self, Error> {
        KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            Error::misuse(format!("unknown kind '{name}' (one of: {})", names.join(" ")))
        })
    }

    /// Tells whether it is built here instead of unpacked.
    #[must_use]
    pub fn is_built(&self) -> bool {
        self.packages.is_empty()
    }

    /// Tells whether it can be started.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.family != Family::Tool
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
