//! Members of a cluster, each on a host of its own: together they are one server of the suite, and
//! each can have troubles of its own.

use crate::{
    Failure, Server, Troubles,
    cluster::Member,
    network::Network,
    process::copy,
    torture::stroke::Stroke::{self, *},
};
use kv_core::driver::async_trait;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// The pause between two questions for the leader, and the longest time until one leads.
const LOOK: Duration = Duration::from_millis(20);
const ELECTS: Duration = Duration::from_secs(60);

/// The members; each is on the host whose number is the member's place and one.
pub struct Ensemble<M> {
    members: Vec<M>,
    network: Network,
    /// The place of the member that the stroke met.
    met: Mutex<Option<usize>>,
}

impl<M: Member> Ensemble<M> {
    /// Starts the members, and returns when all serve.
    ///
    /// # Errors
    /// A member cannot be started, or does not serve in time.
    pub async fn start(network: Network, members: Vec<M>) -> Result<Self, Failure> {
        let new = Self { members, network, met: Mutex::default() };
        new.spawn()?;
        new.serve().await?;
        Ok(new)
    }

    /// Returns the members by their places.
    pub fn members(&self) -> &[M] {
        &self.members
    }

    fn spawn(&self) -> Result<(), Failure> {
        self.members.iter().try_for_each(|member| member.daemon().spawn())
    }

    async fn serve(&self) -> Result<(), Failure> {
        for member in &self.members {
            member.serves(&self.members).await?;
        }
        Ok(())
    }

    async fn leader(&self) -> Result<usize, Failure> {
        let leader = async {
            loop {
                for (place, member) in self.members.iter().enumerate() {
                    if member.leads().await {
                        return place;
                    }
                }
                sleep(LOOK).await;
            }
        };
        timeout(ELECTS, leader).await.map_err(|_| format!("no member leads within {ELECTS:?}").into())
    }

    /// Does this to all members side by side: a member may take its time, and wait for the others.
    fn all(&self, to_one: impl Fn(&M) + Sync) {
        let to_one = &to_one;
        thread::scope(|threads| {
            for member in &self.members {
                threads.spawn(move || to_one(member));
            }
        });
    }
}

#[async_trait]
impl<M: Member> Troubles for Ensemble<M> {
    fn known(&self) -> Vec<Stroke> {
        vec![KillLeader, KillMember, PauseMember, CutOffLeader, CutOffMember, OneWay]
    }

    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure> {
        let place = if matches!(stroke, KillLeader | CutOffLeader) { self.leader().await? } else { member };
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        let (daemon, host) = (self.members[place].daemon(), u8::try_from(place + 1)?);
        match stroke {
            KillLeader | KillMember => daemon.kill(),
            PauseMember => daemon.pause(),
            CutOffLeader | CutOffMember => self.network.cut_off(host)?,
            OneWay => self.network.mute(host)?,
            other => return Err(format!("the stroke `{}` does not meet one member", other.name()).into()),
        }
        Ok(())
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        let Some(place) = self.met.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let (daemon, host) = (self.members[place].daemon(), u8::try_from(place + 1)?);
        match stroke {
            KillLeader | KillMember => daemon.spawn()?,
            PauseMember => daemon.resume(),
            CutOffLeader | CutOffMember => self.network.join(host)?,
            OneWay => self.network.unmute(host)?,
            other => return Err(format!("the stroke `{}` does not meet one member", other.name()).into()),
        }
        self.serve().await
    }

    fn members(&self) -> usize {
        self.members.len()
    }
}

/// Takes away and gives back all members at once.
#[async_trait]
impl<M: Member> Server for Ensemble<M> {
    async fn stop(&self) {
        self.all(|member| member.daemon().stop());
    }
    async fn kill(&self) {
        self.all(|member| member.daemon().kill());
    }
    async fn start(&self) {
        self.spawn().expect("they started before");
        self.serve().await.expect("they served before");
    }
    async fn pause(&self) {
        self.all(|member| member.daemon().pause());
    }
    async fn resume(&self) {
        self.all(|member| member.daemon().resume());
        self.serve().await.expect("they served before");
    }
    async fn save(&self) -> bool {
        self.stop().await;
        self.all(|member| copy(&member.data(), &member.saved()).expect("the folder is ours"));
        self.start().await;
        true
    }
    async fn restore_saved(&self) {
        self.stop().await;
        self.all(|member| copy(&member.saved(), &member.data()).expect("the folder is ours"));
        self.start().await;
    }
}

impl<M> fmt::Debug for Ensemble<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ensemble({} members)", self.members.len())
    }
}
