//! Redis and Valkey under a name. More than one node is a cluster: three masters or more, from six
//! on with a replica each.

use super::{Named, PATIENCE, PROBE};
use crate::{
    error::Error,
    kinds::Kind,
    launch::{
        Tls,
        redis::{cluster, lines, settings, tls},
    },
    program::{Said, Spec, is_running, write},
};
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

const CLUSTER_MADE: &str = "cluster-made";
const PATIENCE_IN_MS: u32 = 1000;

pub(super) struct Redis;

fn client_at(spec: &Spec, number: usize) -> Result<Command, Error> {
    let mut command = Command::new(spec.folder.client(spec.kind)?);
    command.args(["-p", &spec.address(number, 0).port().to_string()]);
    if spec.is_tls {
        command.arg("--tls").args(spec.tls_arguments());
    }
    if spec.has_users {
        command.args(["--no-auth-warning", "--user", "root", "--pass", "root-password"]);
    }
    Ok(command)
}

fn make_cluster(spec: &Spec) -> Result<(), Error> {
    let mut create = client_at(spec, 1)?;
    create.args(["--cluster", "create"]).args(spec.addresses(0).iter().map(ToString::to_string));
    let replicas = if spec.nodes >= 6 { "1" } else { "0" };
    create.args(["--cluster-replicas", replicas, "--cluster-yes"]);
    let said = Said::by(&mut create, "", PATIENCE);
    if !said.is_success {
        let (name, out, err) = (&spec.name, said.out.trim_end(), said.err.trim_end());
        return Err(Error::new(format!("{name}: the cluster could not be made: {out}{err}")));
    }
    spec.is_done_now(CLUSTER_MADE)
}

impl Named for Redis {
    fn ports(&self) -> usize {
        2
    }

    fn enough(&self) -> usize {
        6
    }

    fn check_nodes(&self, kind: &Kind, nodes: usize) -> Result<(), Error> {
        match nodes {
            2 => Err(Error::new(format!(
                "a cluster of {} has three masters at least: --nodes 3, or 6 for a replica each",
                kind.name
            ))),
            _ => Ok(()),
        }
    }

    fn users(&self) -> String {
        "users: kv, kv-password (all keys); root, root-password".into()
    }

    fn url(&self, spec: &Spec) -> String {
        let scheme = if spec.nodes > 1 { "redis-cluster" } else { "redis" };
        let login = if spec.has_users { "kv:kv-password@" } else { "" };
        let tls = if spec.is_tls { format!("?{}", spec.tls_parameters()) } else { String::new() };
        format!("{scheme}://{login}{}/{tls}", spec.hosts(""))
    }

    fn command(&self, spec: &Spec, number: usize) -> Result<Command, Error> {
        let at = spec.address(number, 0);
        let mut settings = settings(at, &spec.data(number));
        settings.push(("notify-keyspace-events", "KEA".into()));
        if spec.is_tls {
            settings.extend(tls(at.port(), &Tls::within(&spec.certificates()), "yes"));
            settings.extend([
                ("port", "0".into()),
                ("tls-replication", "yes".into()),
                ("tls-cluster", "yes".into()),
            ]);
        }
        if spec.has_users {
            settings.extend([
                ("user", "default off".into()),
                ("user", "root on >root-password ~* &* +@all".into()),
                ("user", "kv on >kv-password ~* &* +@all".into()),
                ("masteruser", "root".into()),
                ("masterauth", "root-password".into()),
            ]);
        }
        if spec.nodes > 1 {
            settings.extend(cluster(spec.address(number, 1), PATIENCE_IN_MS));
        }
        let file = spec.node(number).join("redis.conf");
        write(&file, &lines(&settings))?;
        let mut command = Command::new(spec.folder.server(spec.kind)?);
        command.arg(file);
        Ok(command)
    }

    /// Returns the client for the first node that answers; in a cluster that node leads the client
    /// to the one that has the key.
    fn client(&self, spec: &Spec) -> Result<Command, Error> {
        let answers = spec.numbers().find(|number| self.is_ready(spec, *number));
        let mut command = client_at(spec, answers.unwrap_or(1))?;
        if spec.nodes > 1 {
            command.arg("-c");
        }
        Ok(command)
    }

    fn is_ready(&self, spec: &Spec, number: usize) -> bool {
        client_at(spec, number)
            .is_ok_and(|mut client| Said::by(client.arg("ping"), "", PROBE).out.trim_end() == "PONG")
    }

    /// Makes a new server's nodes a cluster, and waits until each of those that run knows it
    /// whole.
    fn prepare(&self, spec: &Spec) -> Result<(), Error> {
        if spec.nodes == 1 {
            return Ok(());
        }
        if !spec.is_done(CLUSTER_MADE) {
            make_cluster(spec)?;
        }
        let deadline = Instant::now() + PATIENCE;
        for number in spec.numbers().filter(|number| is_running(spec, *number)) {
            let is_whole = || {
                let said = Said::by(client_at(spec, number)?.args(["cluster", "info"]), "", PROBE);
                Ok(said.out.contains("cluster_state:ok"))
            };
            while !is_whole()? {
                if Instant::now() > deadline {
                    return Err(Error::new(format!("{}: node {number} knows no whole cluster", spec.name)));
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    fn put(&self, spec: &Spec, key: &str, value: &str) -> Result<(), Error> {
        let said = Said::by(self.client(spec)?.args(["set", key, value]), "", PATIENCE).ok()?;
        match said.trim_end() {
            "OK" => Ok(()),
            other => Err(Error::new(other)),
        }
    }

    fn get(&self, spec: &Spec, key: &str) -> Result<String, Error> {
        Said::by(self.client(spec)?.args(["get", key]), "", PATIENCE).ok()
    }
}
