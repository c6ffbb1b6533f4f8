//! Certificates that are replaced while a handle is open.

mod common;

use common::{Node, tls::server};
use kv_core::{ErrorKind, Kv, WatchEvent};
use kv_testsuite::{Failure, Rotation};
use kv_zookeeper::Config;
use std::time::Duration;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

async fn restart(node: &Node) -> Result<(), Failure> {
    node.daemon.stop();
    node.daemon.spawn()?;
    node.listens().await
}

/// Puts until it is done: the connection may still be down.
async fn put(kv: &Kv, value: &'static str) -> Result<kv_core::Version, Failure> {
    let putting = async {
        loop {
            match kv.put("k", value).await {
                Ok(written) => return written.version,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    Ok(timeout(SOON, putting).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_for_new_connections() -> Result<(), Failure> {
    let certificates = Rotation::new()?;
    let ours = &certificates.client;
    let node = server(&certificates.server, "zookeeper", "need").await?;
    let config = Config::new([node.address.to_string()]).prefix("renewed").tls(ours.of_client());
    let kv = config.open().await?;
    kv.put("k", "v").await?;
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let lease = kv.lease(Duration::from_secs(45)).await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(45)).acquire().await?;
    let mut told = async |version| {
        let reading = async {
            loop {
                if let WatchEvent::Put(e) = watch.event().await?
                    && e.version == version
                {
                    return Ok::<_, Failure>(());
                }
            }
        };
        timeout(SOON, reading).await?
    };

    // All certificates are renewed at once.
    certificates.renew_server()?;
    certificates.renew_client()?;
    restart(&node).await?;
    told(put(&kv, "next").await?).await?;
    assert!(guard.is_held() && lease.is_held());
    kv.put("fenced", "v").fenced(&guard).await?;
    kv.put("leased", "v").lease(&lease).await?;

    // The server's are renewed first: meanwhile errors tell why there is no connection, and
    // waiting calls go on waiting.
    certificates.renew_server()?;
    restart(&node).await?;
    let untrusted = async {
        loop {
            match kv.get("k").deadline(Duration::from_millis(1500)).await {
                Err(e) if e.to_string().contains("not trusted") => return Ok(e),
                Err(_) => {}
                Ok(_) => return Err("it was trusted"),
            }
        }
    };
    let e = timeout(SOON, untrusted).await??;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("`ca`"), "{e}");
    // One new file of three does not fit the others.
    ours.take(&certificates.server, &["client.pem"])?;
    assert!(kv.get("k").deadline(Duration::from_millis(300)).await.is_err());
    certificates.renew_client()?;
    told(put(&kv, "last").await?).await?;
    assert!(guard.release().await? && lease.revoke().await?);
    Ok(kv.close().await?)
}
