//! Clusters whose leader is cut off from its peers, and not from clients: it does not know yet
//! that it leads nobody.

use crate::{
    Failure,
    failover::{goes_on, soon},
    network::Network,
};
use kv_core::{Error, ErrorKind, Kv, Linearizable, Result};
use std::{net::SocketAddr, time::Duration};

/// Three members; each is on the host whose number is the member's place and one.
#[derive(Debug)]
pub struct Cluster<'a, O> {
    network: &'a Network,
    /// The name that [`health`](Kv::health) gives each as the leader, and the address for clients.
    members: Vec<(String, SocketAddr)>,
    open: O,
}

impl<'a, O: AsyncFn(String) -> Result<Kv>> Cluster<'a, O> {
    /// Makes a cluster of members that serve. `open` opens a store on the hosts that it gets, with
    /// commas between them.
    pub fn new(
        network: &'a Network,
        members: impl IntoIterator<Item = (String, SocketAddr)>,
        open: O,
    ) -> Self {
        Self { network, members: members.into_iter().collect(), open }
    }

    /// Opens a store on the members at these places, in this order, with a short deadline.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn open(&self, places: &[usize]) -> Result<Kv, Failure> {
        let hosts: Vec<_> = places.iter().map(|&place| self.members[place].1.to_string()).collect();
        Ok((self.open)(hosts.join(",")).await?.with_deadline(Duration::from_secs(2)))
    }

    /// Returns the place of the member that leads, and those of the others.
    ///
    /// # Errors
    /// No member leads soon.
    pub async fn leader(&self) -> Result<(usize, [usize; 2]), Failure> {
        let leads = self.leads(&[0, 1, 2], None).await?;
        Ok((leads, [(leads + 1) % 3, (leads + 2) % 3]))
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

    /// Waits until the members at these places name a leader other than `not`, and returns its
    /// place.
    async fn leads(&self, places: &[usize], not: Option<usize>) -> Result<usize, Failure> {
        let kv = self.open(places).await?;
        let leads = soon("a leader", async {
            loop {
                // Until there is a leader, `health` may fail.
                let leads = kv.health().await.ok().and_then(|health| health.leader);
                let place = self.members.iter().position(|(name, _)| Some(name) == leads.as_ref());
                if let Some(place) = place.filter(|place| Some(*place) != not) {
                    return place;
                }
            }
        });
        let leads = leads.await?;
        kv.close().await?;
        Ok(leads)
    }

    /// Runs [`goes_on`] while the leader is cut off from its peers. A client that asks the leader
    /// first must find another member; a client that asks another first must not need the leader.
    ///
    /// # Errors
    /// Something did not go on in time.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn goes_on(&self) -> Result<(), Failure> {
        for first in [true, false] {
            let (leads, others @ [next, last]) = self.leader().await?;
            let kv = self.open(&if first { [leads, next, last] } else { [next, last, leads] }).await?;
            let away = async || {
                self.cut_off(leads)?;
                self.leads(&others, Some(leads)).await.map(drop)
            };
            goes_on(&kv, away, async || self.join(leads)).await?;
            kv.close().await?;
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
    pub async fn loses_in_time(&self) -> Result<(), Failure> {
        let (leads, others) = self.leader().await?;
        let (kv, others) = (self.open(&[leads]).await?, self.open(&others).await?);
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
