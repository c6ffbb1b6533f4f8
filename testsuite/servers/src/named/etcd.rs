//! etcd under a name.

use super::{Named, PATIENCE, PROBE};
use crate::{
    error::Error,
    launch::{
        Tls,
        etcd::{Member, Timing, tls_of_clients, tls_of_peers},
    },
    program::{Said, Spec},
};
use std::process::Command;

const USERS_MADE: &str = "auth-enabled";

pub(super) struct Etcd;

fn scheme(spec: &Spec) -> &'static str {
    if spec.is_tls { "https://" } else { "http://" }
}

fn client_at(spec: &Spec, endpoints: &str) -> Result<Command, Error> {
    let mut command = Command::new(spec.folder.client(spec.kind)?);
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints, "--command-timeout", "3s"]);
    command.args(spec.tls_arguments());
    if spec.is_done(USERS_MADE) {
        command.args(["--user", "root:root-password"]);
    }
    Ok(command)
}

fn step(spec: &Spec, arguments: &[&str]) -> Result<(), Error> {
    let said = Said::by(client_at(spec, &spec.hosts(scheme(spec)))?.args(arguments), "", PATIENCE);
    if said.is_success || said.err.contains("already exists") {
        return Ok(());
    }
    let (name, what, why) = (&spec.name, arguments.join(" "), said.last_line());
    Err(Error::new(format!("{name}: 'etcdctl {what}' failed: {why}")))
}

impl Named for Etcd {
    fn ports(&self) -> usize {
        2
    }

    fn users(&self) -> String {
        "users: kv, kv-password (all keys); root, root-password".into()
    }

    fn url(&self, spec: &Spec) -> String {
        let login = if spec.has_users { "kv:kv-password@" } else { "" };
        let tls = if spec.is_tls { format!("?{}", spec.tls_parameters()) } else { String::new() };
        format!("etcd://{login}{}/{tls}", spec.hosts(""))
    }

    fn command(&self, spec: &Spec, number: usize) -> Result<Command, Error> {
        let url = |number, nth| format!("{}{}", scheme(spec), spec.address(number, nth));
        let member = Member {
            name: format!("n{number}"),
            data: spec.data(number),
            clients: url(number, 0),
            clients_too: Vec::new(),
            peers: url(number, 1),
            cluster: spec.numbers().map(|n| (format!("n{n}"), url(n, 1))).collect(),
            timing: Timing::of(spec.nodes),
        };
        let mut command = member.command(&spec.folder.server(spec.kind)?);
        if spec.is_tls {
            let files = Tls::within(&spec.certificates());
            command.args(tls_of_clients(&files, true)).args(tls_of_peers(&files));
        }
        Ok(command)
    }

    fn client(&self, spec: &Spec) -> Result<Command, Error> {
        client_at(spec, &spec.hosts(scheme(spec)))
    }

    fn is_ready(&self, spec: &Spec, number: usize) -> bool {
        let endpoint = format!("{}{}", scheme(spec), spec.address(number, 0));
        client_at(spec, &endpoint)
            .is_ok_and(|mut client| Said::by(client.args(["endpoint", "health"]), "", PROBE).is_success)
    }

    /// Makes the users that docs/servers.md names, once, when the server is new.
    fn prepare(&self, spec: &Spec) -> Result<(), Error> {
        if !spec.has_users || spec.is_done(USERS_MADE) {
            return Ok(());
        }
        step(spec, &["user", "add", "root:root-password"])?;
        step(spec, &["role", "add", "root"])?;
        step(spec, &["user", "grant-role", "root", "root"])?;
        step(spec, &["user", "add", "kv:kv-password"])?;
        step(spec, &["role", "add", "kv"])?;
        step(spec, &["role", "grant-permission", "kv", "--prefix=true", "readwrite", ""])?;
        step(spec, &["user", "grant-role", "kv", "kv"])?;
        step(spec, &["auth", "enable"])?;
        spec.is_done_now(USERS_MADE)
    }

    fn put(&self, spec: &Spec, key: &str, value: &str) -> Result<(), Error> {
        Said::by(self.client(spec)?.args(["put", key, value]), "", PATIENCE).ok().map(drop)
    }

    fn get(&self, spec: &Spec, key: &str) -> Result<String, Error> {
        let mut client = self.client(spec)?;
        Said::by(client.args(["get", key, "--print-value-only"]), "", PATIENCE).ok()
    }
}
