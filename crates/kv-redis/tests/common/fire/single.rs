//! One server. Clients know a password, and the tests have a user of their own. It speaks TLS on
//! another port.

use super::{super::*, clock::Clock, damage::Damage};
use kv_core::driver::async_trait;
use kv_redis::Config;
use kv_testsuite::{Rotation, Server, Troubles, failover::soon, torture::nemesis::Stroke};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// The password of the default user.
pub const WORD: &str = "client-word";
/// The user and password of the tests, which no stroke takes away.
pub const TOOLS: (&str, &str) = ("tools", "tools-word");

pub struct Single {
    pub node: Node,
    clock: Option<Clock>,
    /// The connection that tells the server to take others again.
    kept: Mutex<Option<Resp>>,
    /// The number of crowds so far.
    crowds: AtomicU32,
    damage: Damage,
    tls: Port,
    certificates: Rotation,
}

impl Single {
    pub async fn start(kind: &str) -> Result<Self, Failure> {
        let (name, word) = (TOOLS.0, format!(">{}", TOOLS.1));
        let user = ["--user", name, "on", &word, "allkeys", "allchannels", "allcommands"];
        let (tls, certificates) = (Port::new()?, Rotation::new()?);
        // The server must not check certificates of clients: by a clock that jumps none would be
        // valid.
        let with_tls = with_tls(&certificates.server, tls.address(), "no");
        let with_tls = with_tls.iter().map(String::as_str);
        let settings: Vec<_> = ["--requirepass", WORD].into_iter().chain(with_tls).chain(user).collect();
        let clock = Clock::new()?;
        let variables = clock.as_ref().map(Clock::variables);
        let node = Node::within(kind, &settings, variables.as_ref().map_or(&[], |all| all))?;
        let (kept, crowds, damage) = (Mutex::default(), AtomicU32::new(0), Damage::default());
        let single = Self { node, clock, kept, crowds, damage, tls, certificates };
        single.node.start().await?;
        single.serves().await?;
        Ok(single)
    }

    /// Returns the address at which it speaks TLS.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls.address()
    }

    /// Adds the settings that a client needs for TLS.
    pub fn with_tls(&self, config: Config) -> Config {
        config.tls(self.certificates.client.of_client())
    }

    async fn exchange_certificates(&self) -> Result<(), Failure> {
        self.node.daemon.stop();
        self.certificates.renew_server()?;
        self.node.start().await?;
        self.serves().await
    }

    /// Connects with the bare protocol, as the user of the tests.
    pub async fn tools(&self) -> Result<Resp, Failure> {
        let mut resp = self.node.resp().await?;
        told(&mut resp, &format!("AUTH {} {}", TOOLS.0, TOOLS.1)).await?;
        Ok(resp)
    }

    /// Waits until clients are answered.
    async fn serves(&self) -> Result<(), Failure> {
        let answers = async || {
            let mut resp = self.node.resp().await?;
            told(&mut resp, &format!("AUTH {WORD}")).await?;
            told(&mut resp, "PING").await
        };
        soon("the server to serve", async {
            while answers().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    fn kept(&self) -> MutexGuard<'_, Option<Resp>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a limit of memory below what is used.
    async fn fill(&self) -> Result<(), Failure> {
        let mut resp = self.tools().await?;
        let used = number(&mut resp, "INFO memory", "used_memory:").await?;
        told(&mut resp, &format!("CONFIG SET maxmemory {}", used / 2)).await?;
        soon("the server to be full", async {
            while !matches!(resp.say("SET ballast 1").await?, Reply::Error(why) if why.starts_with("OOM")) {
                resp.say("DEL ballast").await?;
            }
            Ok(())
        })
        .await?
    }

    /// Leaves no place for another connection, and every other time not even for all present ones.
    async fn crowd(&self) -> Result<(), Failure> {
        let mut resp = self.tools().await?;
        let there = number(&mut resp, "INFO clients", "connected_clients:").await?;
        if self.crowds.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            told(&mut resp, &format!("CONFIG SET maxclients {}", (there * 3 / 4).max(1))).await?;
            resp.say("CLIENT KILL USER default").await?;
        } else {
            told(&mut resp, &format!("CONFIG SET maxclients {there}")).await?;
        }
        *self.kept() = Some(resp);
        Ok(())
    }

    async fn let_in(&self) -> Result<(), Failure> {
        let kept = self.kept().take();
        let mut resp = match kept {
            Some(resp) => resp,
            None => self.tools().await?,
        };
        told(&mut resp, "CONFIG SET maxclients 10000").await
    }

    async fn lock_out(&self) -> Result<(), Failure> {
        let mut resp = self.tools().await?;
        told(&mut resp, "ACL SETUSER default resetpass >another-word").await?;
        // Without this, connected clients would stay.
        let killed = resp.say("CLIENT KILL USER default").await?;
        matches!(killed, Reply::Number(_)).then_some(()).ok_or_else(|| format!("{killed:?}").into())
    }

    fn clock(&self) -> Result<&Clock, Failure> {
        self.clock.as_ref().ok_or_else(|| "this server has the system's clock".into())
    }
}

/// Returns the number that a line of the server's answer holds, by its beginning.
async fn number(resp: &mut Resp, ask: &str, line: &str) -> Result<u64, Failure> {
    let said = resp.say(ask).await?.text();
    let found = said.lines().find_map(|told| told.strip_prefix(line)?.trim().parse().ok());
    found.ok_or_else(|| format!("{ask} lacks {line} {said}").into())
}

/// Sends a command that must not be refused.
async fn told(resp: &mut Resp, words: &str) -> Result<(), Failure> {
    match resp.say(words).await? {
        Reply::Error(why) => Err(format!("{words}: {why}").into()),
        _ => Ok(()),
    }
}

#[async_trait]
impl Troubles for Single {
    fn known(&self) -> Vec<Stroke> {
        let clock = self.clock.is_some().then_some(Stroke::Clock);
        use Stroke::*;
        [Full, Crowded, Rights, Credentials, Damage, Certificates].into_iter().chain(clock).collect()
    }

    async fn begin(&self, stroke: Stroke, _: usize) -> Result<(), Failure> {
        match stroke {
            Stroke::Full => self.fill().await,
            Stroke::Crowded => self.crowd().await,
            Stroke::Rights => told(&mut self.tools().await?, "ACL SETUSER default -@write").await,
            Stroke::Credentials => self.lock_out().await,
            Stroke::Damage => self.damage.begin(&mut self.tools().await?).await,
            Stroke::Certificates => self.exchange_certificates().await,
            Stroke::Clock => self.clock()?.jump(&mut self.tools().await?).await,
            other => Err(format!("no server of this kind has {}", other.name()).into()),
        }
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        match stroke {
            Stroke::Full => told(&mut self.tools().await?, "CONFIG SET maxmemory 0").await?,
            Stroke::Crowded => self.let_in().await?,
            Stroke::Rights => told(&mut self.tools().await?, "ACL SETUSER default +@write").await?,
            Stroke::Credentials => {
                let back = format!("ACL SETUSER default resetpass >{WORD}");
                told(&mut self.tools().await?, &back).await?;
            }
            Stroke::Damage => Damage::end(&mut self.tools().await?).await?,
            Stroke::Certificates => self.certificates.renew_client()?,
            Stroke::Clock => self.clock()?.back(&mut self.tools().await?).await?,
            _ => {}
        }
        self.serves().await
    }
}

#[async_trait]
impl Server for Single {
    async fn stop(&self) {
        self.node.daemon.stop();
    }
    async fn kill(&self) {
        self.node.daemon.kill();
    }
    async fn start(&self) {
        self.node.start().await.expect("it started before");
        self.serves().await.expect("it served before");
    }
    async fn pause(&self) {
        self.node.daemon.pause();
    }
    async fn resume(&self) {
        self.node.daemon.resume();
    }
    async fn save(&self) -> bool {
        self.node.save().await;
        self.serves().await.expect("it served before");
        true
    }
    async fn restore_saved(&self) {
        self.node.restore_saved().await;
        self.serves().await.expect("it served before");
    }
}
