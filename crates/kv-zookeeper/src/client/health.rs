//! Asks each host for its health, once a read has shown that the ensemble serves.

use super::{Client, multi::Ask, probe::probe, read::read};
use crate::names::Names;
use futures::future::join_all;
use kv_core::{
    Health, Result,
    driver::{Deadline, ReadOptions},
};

/// Returns the leader, the version and the hosts:
/// [`Store::health`](kv_core::driver::Store::health).
pub(crate) async fn health(client: &Client, names: &Names, deadline: Deadline) -> Result<Health> {
    let ask = [Ask::Children(names.own())];
    read(client, &ReadOptions::default().deadline(deadline), &ask).await?;
    let hosts = &client.options.hosts;
    let each = Deadline::after(deadline.remaining() / 2);
    let tls = client.options.tls();
    let looks = hosts.iter().map(|host| probe(host, tls.as_ref(), each, false));
    let mut health = Health::default();
    for (host, found) in hosts.iter().zip(join_all(looks).await) {
        let Ok(found) = found else { continue };
        if matches!(&*found.mode, "leader" | "standalone") {
            health.leader = Some(host.clone());
        }
        health.version = found.version;
    }
    health.members = hosts.clone();
    Ok(health)
}
