//! Servers with authentication switched on.

use super::{Node, Setup, nodes};
use kv_core::Kv;
use kv_etcd::Config;
use kv_testsuite::{Failure, failover::soon, make_signing_keys, process::run};
use std::{net::SocketAddr, path::Path};

/// Starts a server on which logins take a while.
pub async fn with_slow_logins() -> Result<Node, Failure> {
    let setup = Setup { more: vec!["--bcrypt-cost=11".into()], ..Setup::single("etcd") };
    let node = nodes(&setup, 1)?.remove(0);
    node.start().await?;
    with_users(&node)?;
    Ok(node)
}

/// Starts a server whose tokens are signed, and hold the state of users and roles at the time of
/// the login.
pub async fn with_signed_tokens(kind: &str, folder: &Path) -> Result<Node, Failure> {
    make_signing_keys(folder, "jwt")?;
    let (key, public) = (folder.join("jwt.key"), folder.join("jwt.pub"));
    let token = format!(
        "--auth-token=jwt,pub-key={},priv-key={},sign-method=RS256,ttl=10m",
        public.display(),
        key.display()
    );
    let node = nodes(&Setup { more: vec![token], ..Setup::single(kind) }, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

pub fn ctl(node: &Node, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = node.etcdctl();
    command.args(arguments);
    run(command, b"").map(drop)
}

pub fn as_root(node: &Node, arguments: &[&str]) -> Result<(), Failure> {
    told_as_root(node, arguments).map(drop)
}

pub fn told_as_root(node: &Node, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = node.etcdctl();
    command.arg("--user=root:root-word").args(arguments);
    Ok(String::from_utf8(run(command, b"")?)?)
}

/// Switches authentication on, with `me`, who may touch what lies below `mine/`, and `reader`, who
/// may read it.
pub fn with_users(node: &Node) -> Result<(), Failure> {
    ctl(node, &["user", "add", "root:root-word"])?;
    ctl(node, &["role", "add", "root"])?;
    ctl(node, &["user", "grant-role", "root", "root"])?;
    for (user, rights) in [("me", "readwrite"), ("reader", "read")] {
        ctl(node, &["user", "add", &format!("{user}:my-word")])?;
        ctl(node, &["role", "add", user])?;
        ctl(node, &["role", "grant-permission", user, rights, "--prefix=true", "mine/"])?;
        ctl(node, &["user", "grant-role", user, user])?;
    }
    ctl(node, &["auth", "enable"])
}

pub async fn open(node: &Node, user: &str) -> Result<Kv, Failure> {
    opened(node, user, "my-word").await
}

pub async fn open_as_root(node: &Node) -> Result<Kv, Failure> {
    opened(node, "root", "root-word").await
}

pub async fn opened(node: &Node, user: &str, word: &str) -> Result<Kv, Failure> {
    opened_at(node.address, user, word).await
}

pub async fn opened_at(address: SocketAddr, user: &str, word: &str) -> Result<Kv, Failure> {
    let config = Config::new([address.to_string()]).prefix("mine/").user(user, word);
    Ok(config.open().await?)
}

/// Returns when somebody waits for a lock that is held.
pub async fn two_in_line(node: &Node, lock: &str) -> Result<(), Failure> {
    let line = format!("mine/\u{1}lock/{lock}\u{1}");
    soon("the other to be in line", async {
        let names = ["get", "--prefix", "--keys-only", &line];
        while told_as_root(node, &names)?.lines().filter(|name| !name.is_empty()).count() < 2 {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?
}
