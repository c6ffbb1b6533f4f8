//! A server on which workloads are under fire: its clients have a token from a file, and it has
//! the troubles of its kind.

use super::{guarded::Guarded, suite::Suite, *};
use kv_core::{ErrorKind, Kv, driver::async_trait};
use kv_testsuite::{Rotation, Troubles, failover::soon, process::run, torture::nemesis::Stroke};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Mutex as AsyncMutex;

/// Names the policy of the clients; `MAY_ALL` is what it lets them do.
const CLIENTS: &str = "clients";
const MAY_ALL: &str = r#"key_prefix "" { policy = "write" } session_prefix "" { policy = "write" } agent_prefix "" { policy = "read" }"#;
/// Identifies the token of those who have none: the tools of the tests, and the watch over what is
/// left on the server.
const ANONYMOUS: &str = "00000000-0000-0000-0000-000000000002";
/// Leaves room for all connections; `CROWDED` leaves room for one alone.
const ROOMY: u32 = 4000;
const CROWDED: u32 = 1;

/// Opens the suite on a server of our own with all of that, or on the live one.
pub async fn suite() -> Result<Suite, Failure> {
    if std::env::var_os(LIVE).is_some() {
        return suite::suite().await;
    }
    let fire = Fire::start().await?;
    let parameters = format!("?token_file={}", fire.file().display());
    let with_tls = format!("{parameters}&{}", fire.certificates.client.parameters());
    Ok(Suite::of(fire.guarded.0.clone(), parameters, Some(Arc::new(fire)))?.with_tls(with_tls))
}

struct Fire {
    guarded: Guarded,
    certificates: Rotation,
    /// Holds the token that the clients' file holds, or is to hold.
    token: AsyncMutex<String>,
    /// Counts the troubles with rights, and `credentials` those with credentials: each kind comes
    /// in several ways, one after another.
    rights: AtomicUsize,
    credentials: AtomicUsize,
    /// Holds a client from before the trouble.
    before: AsyncMutex<Option<Kv>>,
    /// Holds a connection that takes the only place.
    taken: AsyncMutex<Option<TcpStream>>,
}

/// The way in which the clients' token goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// Another token is in the file before the old one is deleted: nobody should notice.
    Exchanged,
    /// The token is deleted, and made again.
    Deleted,
    /// The token is deleted, and another one is in the file a while later.
    ExchangedLate,
}

impl Fire {
    async fn start() -> Result<Self, Failure> {
        let limits = json!({ "http_max_conns_per_client": ROOMY });
        let certificates = Rotation::new()?;
        let theirs = |name| certificates.server.file(name);
        let guarded = Guarded::start(&json!({
            "limits": limits, "verify_incoming_https": true, "ca_file": theirs("ca.pem"),
            "cert_file": theirs("server.pem"), "key_file": theirs("server.key"),
        }))
        .await?;
        guarded.ask("PUT /v1/acl/policy", &json!({ "Name": "tools", "Rules": MAY_ALL })).await?;
        let tools = json!({ "Policies": [{ "Name": "tools" }] });
        guarded.ask(&format!("PUT /v1/acl/token/{ANONYMOUS}"), &tools).await?;
        let token = guarded.token(CLIENTS, MAY_ALL).await?;
        let fire = Self {
            guarded,
            certificates,
            token: AsyncMutex::new(token.clone()),
            rights: AtomicUsize::default(),
            credentials: AtomicUsize::default(),
            before: AsyncMutex::default(),
            taken: AsyncMutex::default(),
        };
        fire.write(&token)?;
        fire.guarded.0.ready().await?;
        Ok(fire)
    }

    fn file(&self) -> PathBuf {
        self.guarded.0.folder.path().join("token")
    }

    /// Puts the token in the file, so that nobody reads half of it.
    fn write(&self, token: &str) -> Result<(), Failure> {
        let new = self.file().with_extension("new");
        fs::write(&new, token)?;
        Ok(fs::rename(new, self.file())?)
    }

    async fn make(&self, secret: Option<&str>) -> Result<String, Failure> {
        let mut token = json!({ "Policies": [{ "Name": CLIENTS }] });
        if let Some(secret) = secret {
            token["SecretID"] = json!(secret);
        }
        let made = self.guarded.ask("PUT /v1/acl/token", &token).await?;
        Ok(made["SecretID"].as_str().ok_or("a token")?.to_owned())
    }

    async fn until_known(&self, token: &str, is: bool) -> Result<(), Failure> {
        let known = async { while self.guarded.knows(token).await.ok() != Some(is) {} };
        soon("the server to know what tokens there are", known).await
    }

    async fn lose(&self, how: Lost) -> Result<(), Failure> {
        let mut token = self.token.lock().await;
        let old = token.clone();
        if how == Lost::Exchanged {
            *token = self.make(None).await?;
            self.until_known(&token, true).await?;
            self.write(&token)?;
        }
        self.guarded.delete(&old).await?;
        self.until_known(&old, false).await
    }

    async fn find(&self, how: Lost) -> Result<(), Failure> {
        let mut token = self.token.lock().await;
        if !self.guarded.knows(&token).await? {
            let secret = Some(token.as_str()).filter(|_| how != Lost::ExchangedLate);
            *token = self.make(secret).await?;
        }
        self.until_known(&token, true).await?;
        self.write(&token)
    }

    /// Takes from the clients what they need to write keys, or what they need to have sessions.
    async fn withdraw(&self) -> Result<(), Failure> {
        let is_of_keys = self.rights.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let (what, request, body) = match is_of_keys {
            true => ("key_prefix", "DELETE /v1/kv/of-nobody", ""),
            false => ("session_prefix", "PUT /v1/session/create", r#"{"TTL":"10s"}"#),
        };
        let write = format!(r#"{what} "" {{ policy = "write" }}"#);
        self.guarded.change(CLIENTS, &MAY_ALL.replace(&write, &write.replace("write", "read"))).await?;
        let header = format!("X-Consul-Token: {}\r\n", self.token.lock().await);
        let refused = async {
            loop {
                let address = self.guarded.0.address;
                let answer = http_with(address, request, &header, body.as_bytes()).await?;
                if answer.status == 403 {
                    return Ok(());
                }
                if let Some(session) =
                    answer.json().ok().and_then(|made| made["ID"].as_str().map(String::from))
                {
                    self.guarded.ask(&format!("PUT /v1/session/destroy/{session}"), &Value::Null).await?;
                }
            }
        };
        soon("the right to be gone", refused).await?
    }

    /// Has the server read its settings again, with room for so many connections of one client.
    fn reload(&self, connections: u32) -> Result<(), Failure> {
        let folder = self.guarded.0.folder.path();
        let file = folder.join("consul.json");
        let mut settings: Value = serde_json::from_slice(&fs::read(&file)?)?;
        settings["limits"]["http_max_conns_per_client"] = json!(connections);
        fs::write(file, serde_json::to_vec(&settings)?)?;
        let mut hang_up = Command::new("kill");
        hang_up.arg("-HUP").arg(fs::read_to_string(folder.join("pid"))?.trim());
        run(hang_up, b"").map(drop)
    }

    async fn crowd(&self) -> Result<(), Failure> {
        let address = self.guarded.0.address;
        *self.taken.lock().await = Some(TcpStream::connect(address).await?);
        self.reload(CROWDED)?;
        let closed = async { while http(address, "GET /v1/status/leader", b"").await.is_ok() {} };
        soon("further connections to be closed", closed).await
    }

    /// Checks that a client that the server refused is not refused any more: neither at its first
    /// call, nor later.
    async fn is_served(&self) -> Result<(), Failure> {
        let Some(kv) = self.before.lock().await.take() else { return Ok(()) };
        let served = soon("a client from before the trouble to be served", async {
            loop {
                let work = async {
                    kv.put("key", "").await?;
                    kv.delete("key").await?;
                    kv.new_lock("lock").acquire().await?.release().await
                };
                match work.await {
                    Err(e)
                        if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Unauthenticated) =>
                    {
                        return Err(e);
                    }
                    Err(_) => {}
                    Ok(_) => return Ok(()),
                }
            }
        });
        served.await?.map_err(|e| format!("what was refused before is allowed, and refused still: {e}"))?;
        Ok(kv.close().await?)
    }

    async fn open(&self) -> Result<Kv, Failure> {
        let (address, file) = (self.guarded.0.address, self.file());
        Ok(kv_consul::open(&format!("consul://{address}/before/?token_file={}", file.display())).await?)
    }

    fn how(turn: usize) -> Lost {
        [Lost::Exchanged, Lost::Deleted, Lost::ExchangedLate][turn % 3]
    }
}

#[async_trait]
impl Troubles for Fire {
    fn known(&self) -> Vec<Stroke> {
        vec![Stroke::Crowded, Stroke::Rights, Stroke::Credentials, Stroke::Certificates]
    }

    async fn begin(&self, stroke: Stroke, _: usize) -> Result<(), Failure> {
        if stroke.denies() {
            let kv = self.open().await?;
            // The client has read the file by now, and has a connection.
            kv.exists("key").await?;
            *self.before.lock().await = Some(kv);
        }
        match stroke {
            Stroke::Crowded => self.crowd().await,
            Stroke::Rights => self.withdraw().await,
            Stroke::Certificates => {
                self.guarded.0.daemon.stop();
                self.certificates.renew_server()?;
                self.guarded.0.start().await
            }
            _ => self.lose(Self::how(self.credentials.load(Ordering::Relaxed))).await,
        }
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        match stroke {
            Stroke::Crowded => {
                self.reload(ROOMY)?;
                self.taken.lock().await.take();
                self.guarded.0.ready().await?;
            }
            Stroke::Rights => self.guarded.change(CLIENTS, MAY_ALL).await?,
            Stroke::Certificates => self.certificates.renew_client()?,
            _ => self.find(Self::how(self.credentials.fetch_add(1, Ordering::Relaxed))).await?,
        }
        self.is_served().await
    }
}
