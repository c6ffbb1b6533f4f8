//! Three servers on hosts of their own, and what can happen to them.

use super::{
    suite::{Tool, nothing_left},
    *,
};
use kv_core::{Kv, async_trait};
use kv_testsuite::{
    Foreign, Harness, Proxy, Server, Troubles, failover::soon, process::copy, torture::nemesis::Stroke,
};
use std::fs;
use tokio::runtime::Handle;

/// What members are set besides. Who is taken for dead keeps its vote: else one that is back gets it anew, ten seconds later.
fn settings() -> Value {
    json!({
        "limits": { "http_max_conns_per_client": 4000 },
        "autopilot": { "cleanup_dead_servers": false },
    })
}

/// A cluster of our own, which serves.
pub async fn suite() -> Result<Clustered, Failure> {
    let network = Network::of(3)?;
    let members = hosts(&network, 3, &settings())?;
    let ensemble = Ensemble { network, members, met: Mutex::default() };
    ensemble.spawn()?;
    ensemble.serves().await?;
    Ok(Clustered(Arc::new(ensemble)))
}

struct Ensemble {
    network: Network,
    members: Vec<Node>,
    /// Whom the trouble of this moment met.
    met: Mutex<Option<usize>>,
}

impl Ensemble {
    fn spawn(&self) -> Result<(), Failure> {
        self.members.iter().try_for_each(|member| member.daemon.spawn())
    }

    /// Returns when each member takes writes, and knows all of them as well, and with a vote.
    async fn serves(&self) -> Result<(), Failure> {
        for member in &self.members {
            member.ready().await?;
        }
        for member in &self.members {
            let is_whole = || async {
                let is = self.is_whole_at(member).await.unwrap_or(false);
                if !is {
                    self.bring_together(member).await;
                }
                is
            };
            member.daemon.serves(is_whole).await?;
        }
        Ok(())
    }

    /// Tells the member where the others are, as an operator does: by themselves those who took each other for dead look
    /// again after half a minute.
    async fn bring_together(&self, member: &Node) {
        for other in self.members.iter().filter(|other| other.name != member.name) {
            // It may not be there yet, and is told again then.
            let _ = http(member.address, &format!("PUT /v1/agent/join/{}", other.serf), b"").await;
        }
    }

    async fn is_whole_at(&self, member: &Node) -> Result<bool, Failure> {
        let gossip = http(member.address, "GET /v1/agent/members", b"").await?.json()?;
        let votes = http(member.address, "GET /v1/operator/raft/configuration", b"").await?.json()?;
        let alive = |of: &&Value| of["Status"] == 1;
        let has_vote = |of: &&Value| of["Voter"] == true;
        let count = |all: &Value, is: &dyn Fn(&&Value) -> bool| {
            all.as_array().map_or(0, |all| all.iter().filter(is).count())
        };
        let all = self.members.len();
        Ok(count(&gossip, &alive) == all && count(&votes["Servers"], &has_vote) == all)
    }

    /// Who leads, as most members say.
    async fn leader(&self) -> Result<usize, Failure> {
        let leads = async {
            loop {
                let mut said = Vec::new();
                for member in &self.members {
                    let answer = http(member.address, "GET /v1/status/leader", b"").await;
                    said.extend(answer.ok().and_then(|answer| answer.json().ok()));
                }
                let leads = self.members.iter().position(|member| {
                    let name = json!(member.rpc.to_string());
                    said.iter().filter(|said| **said == name).count() * 2 > self.members.len()
                });
                if let Some(leads) = leads {
                    return leads;
                }
            }
        };
        soon("a leader", leads).await
    }

    fn met(&self) -> Option<usize> {
        self.met.lock().expect("nobody panics").take()
    }

    fn copies(&self, from: &str, to: &str) {
        for member in &self.members {
            let folder = member.folder.path();
            copy(&folder.join(from), &folder.join(to)).expect("a copy of the data");
        }
    }
}

/// The number of the host of the member at this place.
fn host(place: usize) -> Result<u8, Failure> {
    Ok(u8::try_from(place + 1)?)
}

/// All members at once.
#[async_trait]
impl Server for Ensemble {
    async fn stop(&self) {
        // Side by side: each takes its time.
        let all = || {
            std::thread::scope(|at_once| {
                for member in &self.members {
                    at_once.spawn(|| member.daemon.stop());
                }
            });
        };
        tokio::task::block_in_place(all);
    }
    async fn kill(&self) {
        self.members.iter().for_each(|member| member.daemon.kill());
    }
    async fn start(&self) {
        self.spawn().expect("they started before");
        self.serves().await.expect("they served before");
    }
    async fn pause(&self) {
        self.members.iter().for_each(|member| member.daemon.pause());
    }
    async fn resume(&self) {
        self.members.iter().for_each(|member| member.daemon.resume());
        self.serves().await.expect("they served before");
    }
    async fn save(&self) -> bool {
        self.stop().await;
        self.copies("data", "saved");
        self.start().await;
        true
    }
    async fn restore_saved(&self) {
        self.stop().await;
        self.copies("saved", "data");
        self.start().await;
    }
}

#[async_trait]
impl Troubles for Ensemble {
    fn known(&self) -> Vec<Stroke> {
        use Stroke::*;
        vec![KillLeader, KillMember, PauseMember, CutOffLeader, CutOffMember, OneWay]
    }

    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure> {
        use Stroke::*;
        let place = match stroke {
            KillLeader | CutOffLeader => self.leader().await?,
            _ => member,
        };
        *self.met.lock().expect("nobody panics") = Some(place);
        match stroke {
            KillLeader | KillMember => self.members[place].daemon.kill(),
            PauseMember => self.members[place].daemon.pause(),
            CutOffLeader | CutOffMember => self.network.cut_off(host(place)?)?,
            _ => self.network.mute(host(place)?)?,
        }
        Ok(())
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        use Stroke::*;
        let Some(place) = self.met() else { return Ok(()) };
        match stroke {
            KillLeader | KillMember => self.members[place].daemon.spawn()?,
            PauseMember => self.members[place].daemon.resume(),
            CutOffLeader | CutOffMember => self.network.join(host(place)?)?,
            _ => self.network.unmute(host(place)?)?,
        }
        self.serves().await
    }

    fn members(&self) -> usize {
        self.members.len()
    }
}

pub struct Clustered(Arc<Ensemble>);

impl Clustered {
    /// A store on the first of these, and the others when it fails.
    async fn open_at(&self, first: SocketAddr, prefix: &str) -> kv_core::Result<Kv> {
        kv_consul::open(&self.url_at(first, prefix)).await
    }

    fn url_at(&self, first: SocketAddr, prefix: &str) -> String {
        let others = self.0.members.iter().skip(1).map(|member| member.address);
        let hosts: Vec<_> = [first].into_iter().chain(others).map(|at| at.to_string()).collect();
        format!("consul://{}/{prefix}", hosts.join(","))
    }

    fn first(&self) -> &Node {
        &self.0.members[0]
    }
}

#[async_trait]
impl Harness for Clustered {
    fn name(&self) -> String {
        "consul-cluster".into()
    }

    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        self.open_at(self.first().address, prefix).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<kv_core::Result<Kv>> {
        Some(self.open_at(proxy.address(), prefix).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.first().address)
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.0.clone())
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(self.0.clone())
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.first().address, String::new())))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(self.url_at(self.first().address, prefix))
    }

    async fn open_url(&self, url: &str) -> Option<kv_core::Result<Kv>> {
        Some(kv_consul::open(url).await)
    }

    fn speaks_http(&self) -> bool {
        true
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        Some(self.leftovers(prefix).await)
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        names(self.first().address, prefix).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

/// When the last round has ended, the members show nothing of ours.
impl Drop for Clustered {
    fn drop(&mut self) {
        let is_panicking = std::thread::panicking();
        let left = match is_panicking {
            true => Ok(()),
            false => Handle::current().block_on(nothing_left(self.first())),
        };
        for member in &self.0.members {
            member.daemon.kill();
            let _ = fs::remove_dir_all(member.folder.path());
        }
        assert!(left.is_ok(), "left on the servers when everything was closed: {left:?}");
    }
}
