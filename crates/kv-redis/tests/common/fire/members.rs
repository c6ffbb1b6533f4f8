//! The members of a cluster: they are killed, paused, and take each other's places.

use super::super::{
    cluster::{Cluster, Role},
    *,
};
use kv_core::driver::async_trait;
use kv_testsuite::{Server, Troubles, failover::soon, torture::nemesis::Stroke};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub struct Members {
    cluster: Cluster,
    /// The number of the master that clients reach through proxies; it has our slot, if there is
    /// one.
    home: usize,
    pub is_spread: bool,
    /// The member that each kind of stroke met.
    met: Mutex<HashMap<Stroke, usize>>,
}

impl Members {
    pub async fn new(cluster: Cluster, tag: &str, is_spread: bool) -> Result<Self, Failure> {
        let home = cluster.owner(tag).await?.address;
        let home = cluster.0.iter().position(|node| node.address == home).ok_or("one of them")?;
        Ok(Self { cluster, home, is_spread, met: Mutex::default() })
    }

    /// Returns the node that has our slot while there is no stroke, if there is one slot.
    pub fn home(&self) -> &Node {
        &self.cluster.0[self.home]
    }

    pub fn others(&self) -> impl Iterator<Item = &Node> {
        self.cluster.0.iter().enumerate().filter(|(n, _)| *n != self.home).map(|(_, node)| node)
    }

    pub async fn masters(&self) -> Result<Vec<&Node>, Failure> {
        Ok(self.are(|role| role == Role::Master).await?.into_iter().map(|n| &self.cluster.0[n]).collect())
    }

    /// Returns the numbers of the members with such a role.
    async fn are(&self, is: impl Fn(Role) -> bool) -> Result<Vec<usize>, Failure> {
        let mut are = Vec::new();
        for (n, node) in self.cluster.0.iter().enumerate() {
            if is(node.role().await?) {
                are.push(n);
            }
        }
        Ok(are)
    }

    /// Returns the members that a stroke may meet. The keys of our slot may be lost with its
    /// master, and that is allowed in a failover alone.
    async fn met_by(&self, stroke: Stroke) -> Result<Vec<usize>, Failure> {
        match stroke {
            Stroke::Failover if self.is_spread => self.are(|role| role == Role::Master).await,
            Stroke::Failover => Ok(vec![self.home]),
            // A master that is paused for so long that it is taken for lost loses as much.
            Stroke::PauseMember if self.is_spread => self.are(|role| role != Role::Master).await,
            Stroke::KillMember if self.is_spread => Ok((0..self.members()).collect()),
            _ => Ok((0..self.members()).filter(|n| *n != self.home).collect()),
        }
    }

    /// Has the replica of a master take its place: the master is killed, paused, or the replica is
    /// asked to.
    async fn fail_over(&self, old: usize, way: usize) -> Result<(), Failure> {
        let old = &self.cluster.0[old];
        let port = old.address.port();
        let replica = self.are(|role| role == Role::ReplicaOf(port)).await?;
        let new = replica.first().map(|n| &self.cluster.0[*n]).ok_or("the master has a replica")?;
        match way {
            0 => old.daemon.kill(),
            1 => return new.takes_over().await,
            _ => old.daemon.pause(),
        }
        soon("the replica to take over", async {
            while new.role().await? != Role::Master {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await?
    }

    /// Waits until all members serve, and the home is a master again.
    async fn settles(&self) -> Result<(), Failure> {
        // On a busy machine it may take longer than one such wait.
        if self.cluster.serves().await.is_err() {
            self.cluster.serves().await?;
        }
        if self.home().role().await? != Role::Master {
            self.home().takes_over().await?;
            self.cluster.serves().await?;
        }
        Ok(())
    }

    /// Lets replicas take the places of masters by themselves, or not.
    async fn let_take_over(&self, on: bool) -> Result<(), Failure> {
        let set = format!("CONFIG SET cluster-replica-no-failover {}", if on { "no" } else { "yes" });
        for node in &self.cluster.0 {
            node.resp().await?.say(&set).await?;
        }
        Ok(())
    }

    fn met(&self) -> MutexGuard<'_, HashMap<Stroke, usize>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self, order: impl Fn(&Node)) {
        self.cluster.0.iter().for_each(order);
    }
}

#[async_trait]
impl Troubles for Members {
    fn known(&self) -> Vec<Stroke> {
        vec![Stroke::Failover, Stroke::KillMember, Stroke::PauseMember]
    }

    fn members(&self) -> usize {
        self.cluster.0.len()
    }

    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure> {
        let all = self.met_by(stroke).await?;
        let met = *all.get(member % all.len().max(1)).ok_or("nobody whom it may meet")?;
        self.met().insert(stroke, met);
        self.let_take_over(true).await?;
        match stroke {
            Stroke::Failover => self.fail_over(met, member % 3).await?,
            Stroke::KillMember => self.cluster.0[met].daemon.kill(),
            Stroke::PauseMember => self.cluster.0[met].daemon.pause(),
            other => return Err(format!("no cluster of this kind has {}", other.name()).into()),
        }
        Ok(())
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        let met = self.met().remove(&stroke);
        if let Some(node) = met.map(|met| &self.cluster.0[met]) {
            node.daemon.resume();
            node.daemon.spawn()?;
        }
        self.settles().await?;
        self.let_take_over(false).await
    }
}

#[async_trait]
impl Server for Members {
    async fn stop(&self) {
        self.each(|node| node.daemon.stop());
    }
    async fn kill(&self) {
        self.each(|node| node.daemon.kill());
    }
    async fn start(&self) {
        self.each(|node| node.daemon.spawn().expect("it started before"));
        self.settles().await.expect("it served before");
    }
    async fn pause(&self) {
        self.each(|node| node.daemon.pause());
    }
    async fn resume(&self) {
        self.each(|node| node.daemon.resume());
        self.settles().await.expect("it served before");
    }
}
