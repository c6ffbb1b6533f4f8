//! Clusters of three members: their leader is killed, paused or cut off from clients, the answer
//! to a write is lost, and a member is left without a quorum.

use crate::{
    Failure, OwnServer, Proxy, Server,
    failover::{PATIENT, goes_on, soon, written},
    own::start,
};
use kv_core::{ErrorKind, Health, Kv, Result, Version, driver::async_trait};
use std::{net::SocketAddr, time::Duration};

/// The deadline of calls, short, so that many of them meet the loss of a leader.
const DEADLINE: Duration = Duration::from_secs(2);
/// The prefix of the stores.
const PREFIX: &str = "cluster/";

/// A member of a cluster, of one kind of server.
#[async_trait]
pub trait Member: OwnServer + Sized + 'static {
    /// The scheme of the backend's URLs.
    const SCHEME: &'static str;
    /// Returns the address for clients.
    fn address(&self) -> SocketAddr;
    /// Returns the name that [`health`](Kv::health) gives the member as the leader. Provided: its
    /// address.
    fn named(&self) -> String {
        self.address().to_string()
    }
    /// Tells whether the member leads, as it says itself; `false` when it cannot be asked.
    async fn leads(&self) -> bool;
    /// Waits until the member serves together with `all`, which run. Provided: until it is
    /// [`ready`](OwnServer::ready).
    ///
    /// # Errors
    /// It does not serve in time.
    async fn serves(&self, all: &[Self]) -> Result<(), Failure> {
        let _ = all;
        self.ready().await
    }
    /// Opens a store by its URL.
    ///
    /// # Errors
    /// The store cannot be opened.
    async fn open(url: &str) -> Result<Kv>;
    /// Returns the URL of a store on these hosts.
    fn url(hosts: &[SocketAddr], prefix: &str) -> String {
        let hosts: Vec<_> = hosts.iter().map(SocketAddr::to_string).collect();
        format!("{}://{}/{prefix}", Self::SCHEME, hosts.join(","))
    }
}

/// Three members that serve.
#[derive(Debug)]
pub struct Cluster<M> {
    members: Vec<M>,
}

impl<M: Member> Cluster<M> {
    /// Starts the members, and returns when all serve.
    ///
    /// # Errors
    /// A member cannot be started, or does not serve in time.
    pub async fn start(members: Vec<M>) -> Result<Self, Failure> {
        start(&members).await?;
        Ok(Self { members })
    }

    /// Returns the members by their places.
    pub fn members(&self) -> &[M] {
        &self.members
    }

    /// Opens a store on the members at these places, in this order, with a short deadline.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn open(&self, places: &[usize]) -> Result<Kv> {
        let hosts: Vec<_> = places.iter().map(|place| self.members[*place].address()).collect();
        Self::open_at(&hosts).await
    }

    async fn open_at(hosts: &[SocketAddr]) -> Result<Kv> {
        Ok(M::open(&M::url(hosts, PREFIX)).await?.with_deadline(DEADLINE))
    }

    /// Returns the place of the member that leads, and those of the others behind it.
    ///
    /// # Errors
    /// No member leads soon.
    ///
    /// # Panics
    /// [`health`](Kv::health) tells of other members.
    pub async fn leader(&self) -> Result<[usize; 3], Failure> {
        let (leads, health) = self.leads(&[0, 1, 2], None).await?;
        assert_eq!(health.members.len(), 3, "{health:?}");
        Ok([leads, (leads + 1) % 3, (leads + 2) % 3])
    }

    /// Waits until the members at these places name a leader other than `not`, which takes itself
    /// for the leader too, and returns its place.
    pub(crate) async fn leads(
        &self,
        places: &[usize],
        not: Option<usize>,
    ) -> Result<(usize, Health), Failure> {
        let naming = async {
            // Until there is a leader, a store may not open, and `health` may fail.
            let kv = loop {
                match self.open(places).await {
                    Err(e) if e.is_transient() => {}
                    opened => break opened?,
                }
            };
            loop {
                let health = match kv.health().await {
                    Err(e) if e.is_transient() => continue,
                    health => health?,
                };
                let is_it = |member: &M| health.leader.as_ref() == Some(&member.named());
                let Some(place) = self.members.iter().position(is_it) else { continue };
                if Some(place) != not && self.members[place].leads().await {
                    kv.close().await?;
                    return Ok::<_, Failure>((place, health));
                }
            }
        };
        soon("a leader", naming).await?
    }

    /// Checks that [everything goes on](goes_on) while the leader, which clients ask first, is
    /// killed, and when it is started again.
    ///
    /// # Errors
    /// Something did not go on in time.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn the_leader_is_killed(&self) -> Result<(), Failure> {
        let order = self.leader().await?;
        let leader = &self.members[order[0]];
        let away = async || {
            leader.kill().await;
            Ok(())
        };
        let back = async || {
            leader.start().await;
            Ok(())
        };
        goes_on(async || Ok(self.open(&order).await?), away, back).await
    }

    /// Checks the same while the leader is paused.
    ///
    /// # Errors
    /// Something did not go on in time.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn the_leader_is_paused(&self) -> Result<(), Failure> {
        let order = self.leader().await?;
        let leader = &self.members[order[0]];
        let away = async || {
            leader.pause().await;
            Ok(())
        };
        let back = async || {
            leader.resume().await;
            Ok(())
        };
        goes_on(async || Ok(self.open(&order).await?), away, back).await
    }

    /// Checks the same while clients cannot reach the leader, which goes on leading: it is silent,
    /// or refuses connections.
    ///
    /// # Errors
    /// Something did not go on in time.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn the_leader_is_cut_off_from_us(&self) -> Result<(), Failure> {
        let [leader, second, third] = self.leader().await?.map(|place| self.members[place].address());
        for is_silent in [true, false] {
            let proxy = Proxy::start(leader).await;
            let hosts = [proxy.address(), second, third];
            let away = async || {
                match is_silent {
                    true => proxy.freeze(),
                    false => proxy.cut().await,
                }
                Ok(())
            };
            let back = async || {
                proxy.heal().await;
                Ok(())
            };
            goes_on(async || Ok(Self::open_at(&hosts).await?), away, back).await?;
        }
        Ok(())
    }

    /// Checks that a write whose answer was lost is not sent to another member, which would write
    /// over what others have written since. The backend asks the first host of a URL first.
    ///
    /// # Errors
    /// The write was not done, or a call failed.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn an_answer_is_lost(&self) -> Result<(), Failure> {
        self.leader().await?;
        let [first, second, third] = [0, 1, 2].map(|place: usize| self.members[place].address());
        let proxy = Proxy::start(first).await;
        let other = Self::open_at(&[second]).await?;
        for round in 0..5 {
            let key = format!("k{round}");
            // The member behind the proxy is asked first again.
            let kv = Self::open_at(&[proxy.address(), second, third]).await?;
            kv.get("up").deadline(PATIENT).await?;
            proxy.hold_answer_to(format!("{PREFIX}{key}"));
            let put = tokio::spawn(kv.put(&key, "ours").into_future());
            soon("the request", proxy.trapped()).await?;
            soon("its effect", async {
                while other.get(&key).deadline(PATIENT).await?.is_none() {}
                Ok::<_, kv_core::Error>(())
            })
            .await??;
            let version = other.put(&key, "theirs").deadline(PATIENT).await?.version;
            proxy.reset().await;
            let e = put.await?.err().ok_or("the answer was lost")?;
            assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
            proxy.heal().await;
            // The next call goes elsewhere or comes through, and finds what the other wrote.
            let found = kv.get(&key).deadline(PATIENT).await?.ok_or("it is there")?;
            assert_eq!((found.text(), found.version), (Some("theirs"), version));
            kv.close().await?;
        }
        Ok(other.close().await?)
    }

    /// Checks a member that is left without a quorum: it misses the leader, and neither reads nor
    /// listings nor [`health`](Kv::health) are answered. What else it does is checked by
    /// `meanwhile`, which gets a store on this member alone, and the version of the key `k`. When
    /// the others are back, it takes writes again.
    ///
    /// # Errors
    /// The leader was not missed, or no write was taken in the end; or a call failed.
    ///
    /// # Panics
    /// A promise was broken.
    pub async fn the_quorum_is_lost(
        &self,
        meanwhile: impl AsyncFnOnce(&Kv, Version) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.leader().await?;
        let kv = self.open(&[0]).await?;
        let before = kv.put("k", "v").deadline(PATIENT).await?.version;
        assert!(kv.exists("k").deadline(PATIENT).await?);
        // The other two alone could have acknowledged the write.
        soon("the write on this member", async {
            while kv.get("k").stale().deadline(PATIENT).await?.is_none() {}
            Ok::<_, kv_core::Error>(())
        })
        .await??;
        let others = &self.members[1..];
        others.iter().for_each(|member| member.daemon().kill());
        // A leader that lost the quorum gives its leadership up within an election time-out.
        soon("the leader to be missed", async { while kv.get("k").await.is_ok() {} }).await?;
        for refused in [
            kv.get("k").await.map(drop).err(),
            kv.list("").await.map(drop).err(),
            kv.health().await.map(drop).err(),
        ] {
            let e = refused.ok_or("a member without a quorum answered")?;
            assert!(matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{e}");
        }
        meanwhile(&kv, before).await?;
        start(others).await?;
        written(&kv, "k").await?;
        Ok(kv.close().await?)
    }
}

/// Checks that a member without a quorum answers a read that may be stale.
///
/// # Errors
/// The read failed, or found nothing.
///
/// # Panics
/// It found another version of the key `k`.
pub async fn answers_stale_reads(kv: &Kv, version: Version) -> Result<(), Failure> {
    let found = kv.get("k").stale().deadline(PATIENT).await?.ok_or("it is there")?;
    assert_eq!(found.version, version);
    Ok(())
}

/// Checks that a member without a quorum refuses writes at once: a write that is refused so never
/// happens.
///
/// # Errors
/// The outcome of every write was unknown, or one was done.
///
/// # Panics
/// A write failed in another way.
pub async fn refuses_writes(kv: &Kv) -> Result<(), Failure> {
    let refused = soon("a refusal", async {
        loop {
            match kv.put("k", "never").await {
                Ok(_) => return Err(Failure::from("a member without a quorum wrote")),
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
                Err(e) => return Ok(e),
            }
        }
    });
    let refused = refused.await??;
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    Ok(())
}
