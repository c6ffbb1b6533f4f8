//! Consul under a name.

use super::{Named, PATIENCE, PROBE};
use crate::{
    error::Error,
    launch::{
        Tls,
        consul::{Server, add, command, tls, tokens},
    },
    program::{Said, Spec, write},
};
use serde_json::json;
use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

const ROOT: &str = "00000000-0000-0000-0000-726f6f740000";
const KV: &str = "00000000-0000-0000-0000-6b7600000000";
const USERS_MADE: &str = "auth-enabled";
const RULES: &str = r#"key_prefix "" { policy = "write" } session_prefix "" { policy = "write" }
    agent_prefix "" { policy = "read" } node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }"#;

pub(super) struct Consul;

fn client_at(spec: &Spec, at: SocketAddr) -> Result<Command, Error> {
    let mut command = Command::new(spec.folder.client(spec.kind)?);
    let scheme = if spec.is_tls { "https" } else { "http" };
    command.env("CONSUL_HTTP_ADDR", format!("{scheme}://{at}"));
    if spec.has_users {
        command.env("CONSUL_HTTP_TOKEN", ROOT);
    }
    if spec.is_tls {
        let at = spec.certificates();
        command.env("CONSUL_CACERT", at.join("ca.pem"));
        command.env("CONSUL_CLIENT_CERT", at.join("client.pem"));
        command.env("CONSUL_CLIENT_KEY", at.join("client.key"));
    }
    Ok(command)
}

/// Runs a command of `consul acl`, again and again while a new leader does not take tokens yet.
fn step(spec: &Spec, arguments: &[&str]) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = Said::by(Consul.client(spec)?.arg("acl").args(arguments), "", PATIENCE);
        let says = |words: [&str; 2]| words.iter().any(|words| said.err.contains(words));
        if said.is_success || says(["already exists", "already in use"]) {
            return Ok(());
        }
        if !says(["legacy mode", "ACL not found"]) || Instant::now() > deadline {
            let (name, what, why) = (&spec.name, arguments[..2].join(" "), said.last_line());
            return Err(Error::new(format!("{name}: 'consul acl {what}' failed: {why}")));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

impl Named for Consul {
    fn ports(&self) -> usize {
        3
    }

    fn users(&self) -> String {
        format!("tokens: {KV} (all keys and sessions); {ROOT} (everything)")
    }

    fn url(&self, spec: &Spec) -> String {
        let token = spec.has_users.then(|| format!("token={KV}"));
        let tls = spec.is_tls.then(|| spec.tls_parameters());
        let parameters: Vec<_> = token.into_iter().chain(tls).collect();
        let asks = if parameters.is_empty() { "" } else { "?" };
        format!("consul://{}/{asks}{}", spec.hosts(""), parameters.join("&"))
    }

    fn command(&self, spec: &Spec, number: usize) -> Result<Command, Error> {
        let server = Server {
            name: format!("n{number}"),
            data: spec.data(number),
            http: spec.address(number, 0),
            rpc: spec.address(number, 1),
            serf: spec.address(number, 2),
            all: spec.addresses(2),
        };
        let mut settings = server.settings();
        settings["limits"] = json!({ "http_max_conns_per_client": 2000 });
        if spec.is_tls {
            settings["ports"]["http"] = json!(-1);
            settings["ports"]["https"] = json!(server.http.port());
            add(&mut settings, &tls(&Tls::within(&spec.certificates())));
        }
        if spec.has_users {
            add(&mut settings, &tokens(ROOT));
        }
        let file = spec.node(number).join("consul.json");
        write(&file, &format!("{settings:#}\n"))?;
        Ok(command(&spec.folder.server(spec.kind)?, &file))
    }

    /// Returns the client for the first node that answers: the tool takes one address.
    fn client(&self, spec: &Spec) -> Result<Command, Error> {
        let answers = spec.addresses(0).into_iter().find(|at| TcpStream::connect(at).is_ok());
        client_at(spec, answers.unwrap_or(spec.address(1, 0)))
    }

    /// Tells whether a node takes writes, by a write that leaves nothing: a leader is known a
    /// little earlier than writes are taken.
    fn is_ready(&self, spec: &Spec, number: usize) -> bool {
        client_at(spec, spec.address(number, 0)).is_ok_and(|mut client| {
            Said::by(client.args(["kv", "delete", "ci-servers-ready"]), "", PROBE).is_success
        })
    }

    /// Makes the tokens that docs/servers.md names, once, when the server is new.
    fn prepare(&self, spec: &Spec) -> Result<(), Error> {
        if !spec.has_users || spec.is_done(USERS_MADE) {
            return Ok(());
        }
        step(spec, &["policy", "create", "-name", "kv", "-rules", RULES])?;
        step(spec, &["token", "create", "-secret", KV, "-policy-name", "kv"])?;
        spec.is_done_now(USERS_MADE)
    }

    fn put(&self, spec: &Spec, key: &str, value: &str) -> Result<(), Error> {
        Said::by(self.client(spec)?.args(["kv", "put", key, value]), "", PATIENCE).ok().map(drop)
    }

    fn get(&self, spec: &Spec, key: &str) -> Result<String, Error> {
        Said::by(self.client(spec)?.args(["kv", "get", key]), "", PATIENCE).ok()
    }
}
