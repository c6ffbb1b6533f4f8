//! Clusters of six nodes: three masters with a replica each.

use super::*;
use kv_testsuite::{failover::soon, own, process::run};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The time for which a replica that was asked to take over tries to, and a little more.
const BY_HAND: Duration = Duration::from_secs(6);

pub struct Cluster(pub Vec<Node>);

/// The role of a node by its own word: a master, or the replica of the master at this port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Master,
    ReplicaOf(u16),
}

impl Node {
    pub async fn role(&self) -> Result<Role, Failure> {
        let role = self.resp().await?.say("ROLE").await?.list();
        match (role.first().map(Reply::text).as_deref(), role.get(2)) {
            (Some("master"), _) => Ok(Role::Master),
            (Some("slave"), Some(Reply::Number(port))) => Ok(Role::ReplicaOf(u16::try_from(*port)?)),
            _ => Err(format!("{} is neither master nor replica: {role:?}", self.address).into()),
        }
    }

    /// Has this replica take its master's place, with the master's help, so that they are in step.
    pub async fn takes_over(&self) -> Result<(), Failure> {
        let taken = async {
            loop {
                // `OK` says that it tries. It refuses while the link to the master is down, and
                // gives up when the master, or most of the others, do not answer in time.
                self.resp().await?.say("CLUSTER FAILOVER").await?;
                let trying = async {
                    while self.role().await? != Role::Master {
                        sleep(Duration::from_millis(20)).await;
                    }
                    Ok(())
                };
                if let Ok(taken) = timeout(BY_HAND, trying).await {
                    return taken;
                }
            }
        };
        soon("the replica to take the place", taken).await?
    }
}

impl Cluster {
    /// Starts a cluster, and returns when it serves and its replicas are in step. A master is
    /// taken for lost after `patience` milliseconds.
    pub async fn start(kind: &str, patience: u32) -> Result<Self, Failure> {
        Self::with(kind, patience, &[]).await
    }

    /// Does the same with further settings.
    pub async fn with(kind: &str, patience: u32, more: &[&str]) -> Result<Self, Failure> {
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", &patience.to_string()];
        let settings = [&settings, more].concat();
        let nodes = (0..6).map(|_| Node::new(kind, &settings)).collect::<Result<Vec<_>, _>>()?;
        own::start(&nodes).await?;
        let mut create = nodes[0].cli();
        create.args(["--cluster", "create"]).args(nodes.iter().map(|node| node.address.to_string()));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        run(create, b"")?;
        let cluster = Self(nodes);
        cluster.serves().await?;
        Ok(cluster)
    }

    /// Waits until every node knows all slots, and every replica is in step.
    pub async fn serves(&self) -> Result<(), Failure> {
        for node in &self.0 {
            node.ready().await?;
        }
        soon("the cluster to be whole", self.whole()).await?
    }

    async fn whole(&self) -> Result<(), Failure> {
        for node in &self.0 {
            loop {
                let mut resp = node.resp().await?;
                let state = resp.say("CLUSTER INFO").await?.text();
                let role = resp.say("INFO replication").await?.text();
                let in_step = role.contains("role:master") && role.contains("connected_slaves:1")
                    || role.contains("master_link_status:up");
                if state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:6") && in_step {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.0.iter().map(|node| node.address.to_string()).collect();
        format!("redis-cluster://{}/", hosts.join(","))
    }

    /// Returns the node that has the slot of this name, as the nodes that answer tell.
    pub async fn owner(&self, name: &str) -> Result<&Node, Failure> {
        for node in &self.0 {
            let Ok(mut resp) = node.resp().await else { continue };
            let asked = timeout(Duration::from_secs(1), async {
                let slot = match resp.ask(&[b"CLUSTER", b"KEYSLOT", name.as_bytes()]).await? {
                    Reply::Number(slot) => slot,
                    other => return Err(format!("no slot: {other:?}").into()),
                };
                Ok::<_, Failure>((slot, resp.say("CLUSTER SLOTS").await?))
            });
            let Ok(Ok((slot, ranges))) = asked.await else { continue };
            for range in ranges.list() {
                let parts = range.list();
                let [Reply::Number(first), Reply::Number(last), master, ..] = &parts[..] else { continue };
                if !(*first..=*last).contains(&slot) {
                    continue;
                }
                let master = master.clone().list();
                if let Some(Reply::Number(port)) = master.get(1)
                    && let Some(found) = self.0.iter().find(|node| i64::from(node.address.port()) == *port)
                {
                    return Ok(found);
                }
            }
        }
        Err("nobody knows who has the slot".into())
    }
}
