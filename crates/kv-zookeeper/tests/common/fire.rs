//! The suite on a server that has the troubles of one in use: quotas, crowds, rights that are
//! withdrawn.

use super::{suite::Suite, *};
use kv_core::driver::async_trait;
use kv_testsuite::{Base, Rotation, Troubles, process::Port, torture::nemesis::Stroke};
use std::{
    io::ErrorKind::WouldBlock,
    sync::{Arc, Mutex},
};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error, Permission};

/// The node that every store lies below, and that has the quota.
const ROOT: &str = "/fire";
const LIMITS: &str = "/zookeeper/quota/fire/zookeeper_limits";
/// The quota without a limit, and one below what is used. The server enforces the part behind the
/// semicolon.
const ROOM: &str = "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=-1";
const NO_ROOM: &str = "count=0,bytes=0=;byteHardLimit=0;countHardLimit=0";
/// The most connections of one address: more than the workloads have.
const CONNECTIONS: usize = 200;
/// The number of connections that are opened at a time.
const CROWD: usize = 16;
/// The user who may do everything, and the digest of that name and password by which the server
/// knows it.
const SUPER: &[u8] = b"super:put-right";
const DIGEST: &str = "super:qBxmZAIJH+FXpsVsOrlBeeGhOlI=";
const SOON: Duration = Duration::from_secs(30);

/// Makes the suite on the live server, or on one of our own that has every stroke.
pub async fn suite(kind: &'static str, name: &'static str) -> Result<Suite, Failure> {
    if let Some(base) = Base::live(LIVE)? {
        return Suite::live(base).await;
    }
    let mut setup = Setup::new(kind);
    setup.more = vec!["enforceQuota=true".into(), format!("maxClientCnxns={CONNECTIONS}")];
    setup.flags.push_str(&format!(" -Dzookeeper.DigestAuthenticationProvider.superDigest={DIGEST}"));
    let (tls, certificates) = (Port::new()?, Rotation::new()?);
    setup.with_tls(&certificates.server, "need", "127.0.0.1", &tls.address().port().to_string());
    let node = Arc::new(start(&setup).await?);
    let with_tls = (tls.address(), format!("?{}", certificates.client.parameters()));
    let fire = Fire { node: node.clone(), crowd: Mutex::default(), certificates, _tls: tls };
    fire.limit().await?;
    let base = Base::new(format!("zookeeper://{}{ROOT}/", node.address))?;
    Ok(Suite::ours(name, kind, base, node).with_tls(with_tls).with_troubles(Arc::new(fire)))
}

struct Fire {
    node: Arc<Node>,
    /// The task that takes all connections.
    crowd: Mutex<Option<JoinSet<()>>>,
    certificates: Rotation,
    _tls: Port,
}

impl Fire {
    /// A client that may do everything.
    async fn tool(&self) -> Result<Client, Failure> {
        let connected = async {
            loop {
                let tool = Client::connector().with_auth("digest", SUPER);
                match tool.connect(&self.node.address.to_string()).await {
                    Ok(tool) => return tool,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        Ok(timeout(SOON, connected).await?)
    }

    /// Makes the quota, which limits nothing yet.
    async fn limit(&self) -> Result<(), Failure> {
        let (tool, create) = (self.tool().await?, CreateMode::Persistent.with_acls(Acls::anyone_all()));
        tool.mkdir(ROOT, &create).await?;
        tool.mkdir(&format!("/zookeeper/quota{ROOT}"), &create).await?;
        tool.create(LIMITS, ROOM.as_bytes(), &create).await?;
        tool.create(&format!("/zookeeper/quota{ROOT}/zookeeper_stats"), b"count=1,bytes=0", &create).await?;
        Ok(())
    }

    async fn set_limits(&self, limits: &str) -> Result<(), Failure> {
        let tool = self.tool().await?;
        tool.set_data(LIMITS, limits.as_bytes(), None).await?;
        let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let (probe, is_full) = (format!("{ROOT}/is-there-room"), limits == NO_ROOM);
        match tool.create(&probe, b"", &create).await {
            Err(Error::QuotaExceeded) if is_full => Ok(()),
            Ok(_) => {
                tool.delete(&probe, None).await?;
                if is_full { Err("there is room for a node".into()) } else { Ok(()) }
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Opens connections until the server refuses one, and takes each that becomes free.
    async fn crowd(&self) -> Result<(), Failure> {
        let (address, (full, is_full)) = (self.node.address, oneshot::channel());
        let mut crowd = JoinSet::new();
        crowd.spawn(async move {
            let (mut held, mut full) = (Vec::<TcpStream>::new(), Some(full));
            loop {
                let more = (0..CROWD).map(|_| TcpStream::connect(address));
                held.extend(futures::future::join_all(more).await.into_iter().flatten());
                // Time for the server to end those that are too many.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let all = held.len();
                held.retain(|one| matches!(one.try_read(&mut [0]), Err(e) if e.kind() == WouldBlock));
                if held.len() < all {
                    // The receiver may have given up.
                    full.take().map(|full| full.send(()));
                }
            }
        });
        *self.crowd.lock().expect("nothing panics with it") = Some(crowd);
        Ok(timeout(SOON, is_full).await??)
    }

    async fn disperse(&self) -> Result<(), Failure> {
        let crowd = self.crowd.lock().expect("nothing panics with it").take();
        if let Some(mut crowd) = crowd {
            crowd.shutdown().await;
        }
        // Waits until the server takes a connection again.
        self.node.ready().await
    }

    /// Gives all nodes this ACL, from the top down: below a node that forbids it, no node can be
    /// made that would be missed here.
    async fn allow(&self, permission: Permission) -> Result<(), Failure> {
        let (tool, anyone) = (self.tool().await?, [Acl::new(permission, zookeeper_client::AuthId::anyone())]);
        let mut level = vec![ROOT.to_owned()];
        while !level.is_empty() {
            let below = level.iter().map(async |path| {
                match tool.set_acl(path, &anyone, None).await {
                    Err(Error::NoNode) => return Ok(Vec::new()),
                    set => drop(set?),
                }
                match tool.list_children(path).await {
                    Err(Error::NoNode) => Ok(Vec::new()),
                    children => Ok(children?.iter().map(|child| format!("{path}/{child}")).collect()),
                }
            });
            let below: Vec<Vec<_>> = futures::future::try_join_all(below).await.map_err(|e: Error| e)?;
            level = below.concat();
        }
        let anyone = Client::connect(&self.node.address.to_string()).await?;
        match (anyone.set_data(ROOT, b"", None).await, permission == Permission::ALL) {
            (Ok(_), true) | (Err(Error::NoAuth), false) => Ok(()),
            (Ok(_), false) => Err("anyone may write".into()),
            (Err(e), _) => Err(e.into()),
        }
    }
}

#[async_trait]
impl Troubles for Fire {
    fn known(&self) -> Vec<Stroke> {
        vec![Stroke::Full, Stroke::Crowded, Stroke::Rights, Stroke::Certificates]
    }

    async fn begin(&self, stroke: Stroke, _: usize) -> Result<(), Failure> {
        match stroke {
            Stroke::Full => self.set_limits(NO_ROOM).await,
            Stroke::Crowded => self.crowd().await,
            Stroke::Rights => self.allow(Permission::READ).await,
            Stroke::Certificates => {
                self.node.daemon.stop();
                self.certificates.renew_server()?;
                self.node.start().await
            }
            other => Err(format!("{other:?} is not one of these").into()),
        }
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        match stroke {
            Stroke::Full => self.set_limits(ROOM).await,
            Stroke::Crowded => self.disperse().await,
            Stroke::Rights => self.allow(Permission::ALL).await,
            Stroke::Certificates => self.certificates.renew_client(),
            other => Err(format!("{other:?} is not one of these").into()),
        }
    }
}
