//! Servers and clusters for workloads under fire, with the troubles that each can have.

use super::{
    cluster::Cluster,
    suite::{Tool, left_by},
    *,
};
use kv_core::{Kv, Result, driver::async_trait};
use kv_redis::Config;
use kv_testsuite::{Base, Foreign, Harness, Proxy, Server, Troubles, leavings::none_at_the_end};
use std::sync::Arc;

mod clock;
mod damage;
mod members;
mod single;

use members::Members;
use single::{Single, WORD};

/// The tag that all names in a cluster begin with: it puts them into one slot.
const TAG: &str = "{fire}";

/// Makes a server whose clients need a password.
pub async fn single(kind: &str, name: &'static str) -> Result<Fire, Failure> {
    let single = Arc::new(Single::start(kind).await?);
    let base = Base::new(format!("redis://:{WORD}@{}/", single.node.address))?;
    Ok(Fire { name, base, place: Place::Single(single) })
}

/// Makes a cluster that soon takes a master for lost, with the keys in one slot, or spread over so
/// many parts. On a busy machine a master may stand still by chance: so replicas take over during
/// strokes alone.
pub async fn cluster(name: &'static str, spread: Option<u16>) -> Result<Fire, Failure> {
    let cluster = Cluster::with("redis", 1500, &["--cluster-replica-no-failover", "yes"]).await?;
    let url = cluster.url();
    let base = match spread {
        Some(parts) => Base::new(format!("{url}?spread={parts}"))?,
        None => Base::new(format!("{url}{TAG}/"))?,
    };
    let members = Arc::new(Members::new(cluster, TAG, spread.is_some()).await?);
    Ok(Fire { name, base, place: Place::Cluster(members) })
}

pub struct Fire {
    name: &'static str,
    base: Base,
    place: Place,
}

enum Place {
    Single(Arc<Single>),
    Cluster(Arc<Members>),
}

impl Fire {
    fn is_spread(&self) -> bool {
        matches!(&self.place, Place::Cluster(members) if members.is_spread)
    }

    /// Returns connections to all servers that have names of ours.
    async fn all(&self) -> Result<Vec<Resp>, Failure> {
        match &self.place {
            Place::Single(single) => Ok(vec![single.tools().await?]),
            Place::Cluster(members) => {
                let mut all = Vec::new();
                for node in members.masters().await? {
                    all.push(node.resp().await?);
                }
                Ok(all)
            }
        }
    }

    /// Returns our names below the prefix, and everything below an empty one.
    async fn left(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let below = match prefix {
            "" => String::new(),
            // Each part has a tag of its own.
            _ if self.is_spread() => format!("{{{}", self.base.name_of(prefix)),
            _ => self.base.name_of(prefix),
        };
        let mut left = Vec::new();
        for mut resp in self.all().await? {
            left.extend(left_by(&mut resp, &below).await?);
        }
        Ok(left)
    }
}

#[async_trait]
impl Harness for Fire {
    fn name(&self) -> String {
        self.name.into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_redis::open(&self.base.with_prefix(prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        let prefix = self.base.name_of(prefix);
        let config = match &self.place {
            Place::Single(single) => {
                let config = Config::new([proxy.address().to_string()]).password(WORD);
                if proxy.server() == single.tls_address() { single.with_tls(config) } else { config }
            }
            Place::Cluster(members) if members.is_spread => return None,
            Place::Cluster(members) => {
                let home = members.home().address;
                let others = members.others().map(|node| node.address.to_string());
                let all = std::iter::once(proxy.address().to_string()).chain(others);
                Config::cluster(all).reached(home.to_string(), proxy.address().to_string())
            }
        };
        Some(config.prefix(prefix).open().await)
    }

    fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Single(single) => Some(single.node.address),
            // With a spread store, this is one link among several, to several masters.
            Place::Cluster(members) => (!members.is_spread).then(|| members.home().address),
        }
    }

    fn other_addresses(&self) -> Vec<SocketAddr> {
        match &self.place {
            Place::Single(single) => vec![single.tls_address()],
            Place::Cluster(_) => Vec::new(),
        }
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(match &self.place {
            Place::Single(single) => single.clone(),
            Place::Cluster(members) => members.clone(),
        })
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        // The names of a spread store are none that another tool would use.
        (!self.is_spread()).then_some(())?;
        let (at, tools) = match &self.place {
            Place::Single(single) => (single.node.address, Some(single::TOOLS)),
            Place::Cluster(members) => (members.home().address, None),
        };
        Some(Arc::new(Tool::new(at, self.base.name_of("")).with_user(tools)))
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(match &self.place {
            Place::Single(single) => single.clone(),
            Place::Cluster(members) => members.clone(),
        })
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.base.with_prefix(prefix))
    }

    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        let Place::Single(single) = &self.place else { return None };
        let (at, is_tls) = (proxy.server().to_string(), proxy.server() == single.tls_address());
        (!is_tls).then(|| self.base.with_prefix(prefix).replace(&at, &proxy.address().to_string()))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_redis::open(url).await)
    }

    fn is_documented(&self) -> bool {
        // A spread store is the code of the cluster with fewer capabilities.
        !self.is_spread()
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        self.left(prefix).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

/// Checks that nothing of ours is left when the last round has ended.
impl Drop for Fire {
    fn drop(&mut self) {
        none_at_the_end(async || self.left("").await).unwrap();
    }
}
