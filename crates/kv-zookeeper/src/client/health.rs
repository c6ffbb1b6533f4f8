//! Asks each host for its health, once a read has shown that the ensemble serves.

use super::{
    Client,
    multi::Ask,
    probe::{Probe, probe},
    read::read,
};
use crate::names::Names;
use futures::future::join_all;
use kv_core::{
    Health, Result,
    driver::{Deadline, ReadOptions},
};

/// Returns the leader, its version and the hosts:
/// [`Store::health`](kv_core::driver::Store::health). While no leader answers, the version is that
/// of the first host that tells one.
pub(crate) async fn health(client: &Client, names: &Names, deadline: Deadline) -> Result<Health> {
    let ask = [Ask::Children(names.own())];
    read(client, &ReadOptions::default().deadline(deadline), &ask).await?;
    let hosts = &client.options.hosts;
    let each = Deadline::after(deadline.remaining() / 2);
    let tls = client.options.tls();
    let looks = hosts.iter().map(|host| probe(host, tls.as_ref(), each, false));
    let found = join_all(looks).await.into_iter().map(Result::ok);
    Ok(of_all(hosts, found))
}

/// Returns what the hosts tell, in their order; `None` is told by a host that does not answer.
fn of_all(hosts: &[String], found: impl IntoIterator<Item = Option<Probe>>) -> Health {
    let mut health = Health::default();
    for (host, found) in hosts.iter().zip(found) {
        let Some(Probe { version, mode }) = found else { continue };
        let leads = matches!(&*mode, "leader" | "standalone");
        if leads {
            health.leader = Some(host.clone());
        }
        if leads || health.version.is_empty() {
            health.version = version;
        }
    }
    health.members = hosts.to_vec();
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_leaders_whoever_answers_besides() {
        let hosts = ["h1", "h2", "h3"].map(str::to_owned);
        let host = |version: &str, mode: &str| Some(Probe { version: version.into(), mode: mode.into() });
        let (old, new) = (host("3.8.4", "follower"), host("3.9.3", "leader"));
        // The whitelist of the last one does not allow `srvr`.
        for found in [
            [old.clone(), new.clone(), old.clone()],
            [new.clone(), old.clone(), None],
            [None, new.clone(), host("", "")],
        ] {
            let health = of_all(&hosts, found.clone());
            assert_eq!(health.version, "3.9.3", "{found:?}");
            assert!(health.leader.is_some_and(|leader| leader != "h3"), "{found:?}");
            assert_eq!(health.members, hosts);
        }
        let health = of_all(&hosts, [host("", ""), old, None]);
        assert_eq!((health.version.as_str(), health.leader), ("3.8.4", None));
    }
}
