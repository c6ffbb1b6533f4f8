//! Certificates that are replaced while a handle is open.

mod common;

use common::{
    Node,
    tls::{Certificates, FILES},
};
use kv_core::{ErrorKind, Kv, WatchEvent};
use kv_testsuite::Failure;
use kv_zookeeper::Config;
use std::{fs, path::Path, time::Duration};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

/// Puts the files of one into the place of the other's.
fn replace(new: &Certificates, folder: &Path) -> Result<(), Failure> {
    for file in FILES {
        fs::copy(new.file(file), folder.join(file))?;
    }
    Ok(())
}

async fn restart(node: &Node) -> Result<(), Failure> {
    node.daemon.stop();
    node.daemon.spawn()?;
    node.listens().await
}

/// Until it is done: the connection may still be away.
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
    let (server, next, last) = (Certificates::new()?, Certificates::new()?, Certificates::new()?);
    let node = server.server("zookeeper", "need").await?;
    // The client has its files elsewhere.
    let files = tempfile::tempdir()?;
    replace(&server, files.path())?;
    let file = |name: &str| files.path().join(name);
    let config = Config::new([node.address.to_string()]).prefix("renewed").ca(file("ca.pem"));
    let config = config.client_certificate(file("client.pem"), file("client.key"));
    let kv = Kv::new(config.open().await?);
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

    // All at once.
    replace(&next, server.folder())?;
    replace(&next, files.path())?;
    restart(&node).await?;
    told(put(&kv, "next").await?).await?;
    assert!(guard.is_held() && lease.is_held());
    kv.put("fenced", "v").fenced(&guard).await?;
    kv.put("leased", "v").lease(&lease).await?;

    // The server's first: meanwhile one is told why there is no connection, and what waits goes on waiting.
    replace(&last, server.folder())?;
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
    // One file of three alone fits nothing.
    fs::copy(last.file("client.pem"), file("client.pem"))?;
    assert!(kv.get("k").deadline(Duration::from_millis(300)).await.is_err());
    replace(&last, files.path())?;
    told(put(&kv, "last").await?).await?;
    assert!(guard.release().await? && lease.revoke().await?);
    Ok(kv.close().await?)
}
