//! Certificates that are replaced while handles are open.

mod common;

use common::{Node, Setup, nodes};
use kv_etcd::Config;
use kv_testsuite::{Certificates, Failure, Rotation, tls};

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
    let node = server(&certificates.server).await?;
    let config = Config::new([node.address.to_string()]).prefix("rotated");
    let kv = config.tls(certificates.client.of_client()).open().await?;
    tls::rotation(&kv, &certificates, || node.daemon.kill(), async || node.start().await).await
}
