//! A server of our own for workloads under fire: with users, with a quota that can be reached, by
//! TLS and without.

use super::*;
use crate::common::suite::{Tool, leftovers, relieve, shows_nothing};
use etcd_client::{Client, ConnectOptions, Error as ClientError, Permission, PutOptions};
use kv_core::{Kv, Result, driver::async_trait};
use kv_testsuite::{
    Foreign, Harness, Proxy, Rotation, Server, Troubles, process::launch::etcd::tls_of_clients,
    torture::nemesis::Stroke,
};
use std::sync::Arc;
use tonic::Code;

/// Sets the server's room: more than the workloads write until history goes, so that they do not
/// fill it.
const ROOM: u32 = 64 << 20;
/// Sets the size of what fills the room, in few requests.
const PIECE: usize = 8 << 20;
const FILLER: &str = "\u{1}filler";
/// Names the user of each kind, and its role; the second word is the password.
const TOOL: (&str, &str) = ("root", "root-word");
const CLIENTS: (&str, &str) = ("clients", "their-word");

/// A server on which all clients are one user, and the tool of the tests is another.
pub struct Fire(Arc<Guarded>);

struct Guarded {
    node: Arc<Node>,
    tool: Client,
    tls: Port,
    certificates: Rotation,
}

impl Fire {
    pub async fn start(kind: &str) -> Result<Self, Failure> {
        let (tls, certificates) = (Port::new()?, Rotation::new()?);
        let mut more = tls_of_clients(&certificates.server.of_server(), true);
        more.extend([
            format!("--quota-backend-bytes={ROOM}"),
            // History would fill the room otherwise.
            "--auto-compaction-mode=periodic".into(),
            "--auto-compaction-retention=5s".into(),
            format!("--max-request-bytes={}", PIECE * 2),
            // All clients log in at once after each outage.
            "--bcrypt-cost=4".into(),
        ]);
        let setup = Setup { more, tls_too: Some(tls.address()), ..Setup::single(kind) };
        let node = nodes(&setup, 1)?.remove(0);
        node.start().await?;
        with_users(&Client::connect([node.address.to_string()], None).await?).await?;
        let root = ConnectOptions::new().with_user(TOOL.0, TOOL.1).with_auto_token_refresh(true);
        let tool = Client::connect([node.address.to_string()], Some(root)).await?;
        Ok(Self(Arc::new(Guarded { node: Arc::new(node), tool, tls, certificates })))
    }
}

/// Adds the users and their roles, and switches authentication on.
async fn with_users(tool: &Client) -> Result<(), Failure> {
    let mut users = tool.auth_client();
    for (name, password) in [TOOL, CLIENTS] {
        users.user_add(name, password, None).await?;
        users.role_add(name).await?;
        users.user_grant_role(name, name).await?;
    }
    users.role_grant_permission(CLIENTS.0, Permission::read_write("").with_all_keys()).await?;
    users.auth_enable().await?;
    Ok(())
}

fn url(hosts: &str, prefix: &str) -> String {
    format!("etcd://{}:{}@{hosts}/{prefix}", CLIENTS.0, CLIENTS.1)
}

#[async_trait]
impl Harness for Fire {
    fn name(&self) -> String {
        "etcd-3.5".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_etcd::open(&url(&self.0.node.address.to_string(), prefix)).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(&self.url_through(proxy, prefix)?).await)
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.0.node.address)
    }

    fn other_addresses(&self) -> Vec<SocketAddr> {
        vec![self.0.tls.address()]
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.0.node.clone())
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.0.tool.clone(), String::new())))
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(url(&self.0.node.address.to_string(), prefix))
    }

    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        let url = url(&proxy.address().to_string(), prefix);
        let is_tls = proxy.server() == self.0.tls.address();
        Some(if is_tls { format!("{url}?{}", self.0.certificates.client.parameters()) } else { url })
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_etcd::open(url).await)
    }

    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(self.0.clone())
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        leftovers(&self.0.tool, prefix.as_bytes()).await.unwrap_or_else(|e| vec![e.to_string()])
    }
}

impl Drop for Fire {
    fn drop(&mut self) {
        shows_nothing(&[&self.0.node], &self.0.tool);
    }
}

impl Guarded {
    /// Takes all the room. The server writes again and again what is there: only the first request
    /// is large.
    async fn fill(&self) -> Result<(), Failure> {
        let (mut value, mut options) = (vec![0; PIECE], PutOptions::new());
        loop {
            match self.tool.kv_client().put(FILLER, value, Some(options)).await {
                Ok(_) => (value, options) = (Vec::new(), PutOptions::new().with_ignore_value()),
                Err(ClientError::GRpcStatus(status)) if status.code() == Code::ResourceExhausted => {
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn give(&self, permission: Permission) -> Result<(), Failure> {
        // A right to the same keys takes the place of the right from before.
        self.tool.auth_client().role_grant_permission(CLIENTS.0, permission.with_all_keys()).await?;
        Ok(())
    }

    async fn set_password(&self, password: &str) -> Result<(), Failure> {
        self.tool.auth_client().user_change_password(CLIENTS.0, password).await?;
        Ok(())
    }
}

#[async_trait]
impl Troubles for Guarded {
    fn known(&self) -> Vec<Stroke> {
        vec![Stroke::Full, Stroke::Rights, Stroke::Credentials, Stroke::Certificates]
    }

    async fn begin(&self, stroke: Stroke, _: usize) -> Result<(), Failure> {
        // The token from before went with the process that gave it, and this part of the client
        // does not log in by itself.
        self.tool.refresh_token().await?;
        match stroke {
            Stroke::Full => self.fill().await,
            Stroke::Rights => self.give(Permission::read("")).await,
            Stroke::Credentials => self.set_password("another-word").await,
            Stroke::Certificates => {
                self.node.daemon.stop();
                self.certificates.renew_server()?;
                self.node.start().await
            }
            other => Err(format!("{} is not known here", other.name()).into()),
        }
    }

    async fn end(&self, stroke: Stroke) -> Result<(), Failure> {
        match stroke {
            Stroke::Full => {
                relieve(&self.tool, FILLER).await?;
                self.tool.kv_client().put(FILLER, "", None).await?;
                self.tool.kv_client().delete(FILLER, None).await?;
                Ok(())
            }
            Stroke::Rights => self.give(Permission::read_write("")).await,
            Stroke::Credentials => self.set_password(CLIENTS.1).await,
            Stroke::Certificates => self.certificates.renew_client(),
            _ => Ok(()),
        }
    }
}
