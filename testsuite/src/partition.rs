//! Clusters whose leader is cut off from its peers, and not from clients: it does not know yet
//! that it leads nobody.

use crate::{
    Failure,
    cluster::{Cluster, Member},
    failover::{goes_on, soon},
    network::{Network, inside},
};
use kv_core::{Error, ErrorKind, Linearizable};
use std::time::Duration;

/// Three members; each is on the host whose number is the member's place and one.
#[derive(Debug)]
pub struct Apart<M> {
    cluster: Cluster<M>,
    network: Network,
}

/// Makes the members of the test of this name, which runs within a network of its own, each on its
/// host; starts them, and has them tested.
///
/// # Errors
/// Those of [`inside`], of [`Network::of`] and of [`Cluster::start`], and those of the test.
pub async fn apart<M: Member>(
    name: &str,
    members: impl FnOnce(&Network) -> Result<Vec<M>, Failure>,
    test: impl AsyncFnOnce(Apart<M>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !inside(name)? {
        return Ok(());
    }
    let network = Network::of(3)?;
    let cluster = Cluster::start(members(&network)?).await?;
    Box::pin(test(Apart { cluster, network })).await
}

impl<M: Member> Apart<M> {
    /// Returns the members as a cluster.
    pub fn cluster(&self) -> &Cluster<M> {
        &self.cluster
    }

    /// Cuts the member at this place off from the others.
    ///
    /// # Errors
    /// Those of [`Network::cut_off`].
    pub fn cut_off(&self, place: usize) -> Result<(), Failure> {
        self.network.cut_off(u8::try_from(place + 1)?)
    }

    /// Undoes [`cut_off`](Self::cut_off).
    ///
    /// # Errors
    /// Those of [`Network::join`].
    pub fn join(&self, place: usize) -> Result<(), Failure> {
        self.network.join(u8::try_from(place + 1)?)
    }

    /// Checks that [everything goes on](goes_on) while the leader is cut off from its peers. A
    /// client that asks the leader first must find another member; a client that asks another
    /// first must not need the leader.
    ///
    /// # Errors
    /// Something did not go on in time.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn goes_on(self) -> Result<(), Failure> {
        for first in [true, false] {
            let [leads, next, last] = self.cluster.leader().await?;
            let order = if first { [leads, next, last] } else { [next, last, leads] };
            let away = async || {
                self.cut_off(leads)?;
                self.cluster.leads(&[next, last], Some(leads)).await.map(drop)
            };
            goes_on(async || Ok(self.cluster.open(&order).await?), away, async || self.join(leads)).await?;
        }
        Ok(())
    }

    /// Checks a leader that is cut off from its peers. It may go on for a while, and renew what it
    /// is asked to renew, but not so long that somebody else has the lock by then. It must not
    /// answer reads.
    ///
    /// # Errors
    /// A call failed, or nobody else got the lock in time.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn loses_in_time(self) -> Result<(), Failure> {
        let [leads, others @ ..] = self.cluster.leader().await?;
        let (kv, others) = (self.cluster.open(&[leads]).await?, self.cluster.open(&others).await?);
        assert_eq!(kv.capabilities().linearizable, Linearizable::Always);
        kv.put("k", "v").await?;
        let ttl = kv.capabilities().lock.as_ref().map(|locking| locking.ttl.least).unwrap_or_default();
        let ttl = ttl.max(Duration::from_secs(2));
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        self.cut_off(leads)?;
        let read = kv.get("k").await;
        assert!(
            read.as_ref().is_err_and(Error::is_transient),
            "a leader without followers answered {read:?}"
        );
        let next = soon("the lock", async {
            loop {
                match others.new_lock("l").ttl(ttl).acquire().await {
                    Err(e) if e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown => {}
                    got => return got,
                }
            }
        });
        let next = next.await??;
        assert!(!guard.is_held() && next.token() > guard.token(), "two hold the lock");
        Ok(())
    }
}
