//! Certificates that are replaced while handles are open.

mod common;

use common::{Node, Setup, nodes};
use kv_core::WatchEvent;
use kv_etcd::Config;
use kv_testsuite::{Certificates, Failure, Rotation, failover::soon};
use std::time::Duration;

async fn server(certificates: &Certificates) -> Result<Node, Failure> {
    let more = ["cert-file=server.pem", "key-file=server.key", "trusted-ca-file=ca.pem"];
    let more = more.iter().filter_map(|setting| {
        let (name, file) = setting.split_once('=')?;
        Some(format!("--{name}={}", certificates.file(file).display()))
    });
    let more = more.chain(["--client-cert-auth".into()]).collect();
    let node = nodes(&Setup { tls: true, more, ..Setup::single("etcd") }, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_again_for_new_connections() -> Result<(), Failure> {
    let certificates = Rotation::new()?;
    let ours = &certificates.client;
    let node = server(&certificates.server).await?;
    let config = Config::new([node.address.to_string()]).prefix("rotated").tls(ours.of_client());
    let kv = config.open().await?;
    let mut watch = kv.watch_tree("").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Synced));
    let guard = kv.new_lock("l").ttl(Duration::from_secs(60)).acquire().await?;
    for round in 0..2 {
        node.daemon.kill();
        certificates.renew_server()?;
        if round == 1 {
            // The server is back before our files are there.
            node.start().await?;
            let refused = kv.get("a").await.unwrap_err();
            assert!(refused.to_string().contains("not trusted") && refused.is_transient(), "{refused:?}");
        }
        certificates.renew_client()?;
        node.start().await?;
        kv.put("a", round.to_string()).fenced(&guard).await?;
        soon("the change", async {
            while !matches!(watch.event().await?, WatchEvent::Put(_)) {}
            Ok::<_, Failure>(())
        })
        .await??;
    }
    assert!(guard.is_held() && guard.release().await?);
    Ok(())
}
