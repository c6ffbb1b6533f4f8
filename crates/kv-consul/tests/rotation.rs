//! Certificates that are exchanged: what is left of the old ones.

mod common;

use common::{Node, with};
use kv_consul::Config;
use kv_core::ErrorKind;
use kv_testsuite::{Failure, Rotation, failover::soon, process::run};
use serde_json::json;
use std::{net::SocketAddr, process::Command, time::Duration};

/// Counts the connections of this process to the server.
fn connections(to: SocketAddr) -> Result<usize, Failure> {
    let port = format!(":{:04X}", to.port());
    let established = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(2).is_some_and(|remote| remote.ends_with(&port)) && columns.get(3) == Some(&"01")
    };
    Ok(std::fs::read_to_string("/proc/net/tcp")?.lines().filter(established).count())
}

/// The server takes other certificates without being started anew: what was open stays open, and
/// further connections need the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_certificates_that_were_exchanged() -> Result<(), Failure> {
    const ROUNDS: usize = 10;
    /// The calls that are made at once, each of which may need a connection of its own.
    const AT_ONCE: usize = 16;
    let certificates = Rotation::new()?;
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| certificates.server.file(name));
    let node = with(&json!({
        "cert_file": cert, "key_file": key, "ca_file": ca, "verify_incoming_https": true,
    }))
    .await?;
    let config = || Config::new([node.tls_address().to_string()]).prefix("tls/");
    let kv = config().tls(certificates.client.of_client()).open().await?;
    for round in 0..ROUNDS {
        let gets = (0..4).map(|n| kv.get(format!("{round}/{n}")).into_future());
        futures::future::try_join_all(gets).await?;
        assert!(kv.new_lock("l").acquire().await?.release().await?);
        certificates.renew_server()?;
        hang_up(&node)?;
        soon("the server to take the new certificates", async {
            loop {
                match config().tls(certificates.server.of_client()).open().await {
                    Ok(new) => break new.close().await,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e}"),
                }
            }
        })
        .await??;
        certificates.renew_client()?;
        // More calls at once than there are connections, so that some need a new one.
        let gets = (0..AT_ONCE).map(|n| kv.get(format!("{round}/{n}")).into_future());
        futures::future::try_join_all(gets).await?;
    }
    assert!(kv.new_lock("l").acquire().await?.release().await?);
    let mut left = 0;
    let few = async {
        loop {
            left = connections(node.tls_address())?;
            // Those of the last certificates: of the calls, and of the lock.
            if left < AT_ONCE + 4 {
                return Ok::<_, Failure>(());
            }
            kv.get("a").await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let few = soon("the connections of old certificates to end", few).await;
    assert!(few.is_ok(), "{left} connections are left of {ROUNDS} certificates");
    few?
}

/// Has the server read its settings and its certificates again.
fn hang_up(node: &Node) -> Result<(), Failure> {
    let mut hang_up = Command::new("kill");
    hang_up.arg("-HUP").arg(std::fs::read_to_string(node.folder.path().join("pid"))?.trim());
    run(hang_up, b"").map(drop)
}
