//! Consul: one file of settings, in JSON.

use super::Tls;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// The folder of its data.
    pub data: PathBuf,
    /// The address at which it takes requests.
    pub http: SocketAddr,
    /// The address at which it speaks to other servers.
    pub rpc: SocketAddr,
    /// The address at which it hears who else is there.
    pub serf: SocketAddr,
    /// The addresses at which the servers of its datacenter, itself too, hear who else is there.
    pub all: Vec<SocketAddr>,
}

impl Server {
    /// Returns its settings.
    #[must_use]
    pub fn settings(&self) -> Value {
        let mut settings = json!({
            "server": true, "bootstrap_expect": self.all.len(), "node_name": self.name, "data_dir": self.data,
            "bind_addr": self.rpc.ip(), "client_addr": self.http.ip(),
            "log_level": "warn", "disable_update_check": true,
            "ports": {
                "http": self.http.port(), "https": -1, "server": self.rpc.port(),
                "serf_lan": self.serf.port(), "serf_wan": -1, "dns": -1, "grpc": -1,
            },
            "performance": { "raft_multiplier": 1 },
        });
        if self.all.len() > 1 {
            let all: Vec<_> = self.all.iter().map(SocketAddr::to_string).collect();
            settings["retry_join"] = json!(all);
            settings["retry_interval"] = json!("200ms");
        }
        settings
    }
}

/// Adds the settings that an object has, each in the place of one of the same name.
pub fn add(settings: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        settings[name] = value.clone();
    }
}

/// Returns the settings of one that speaks TLS with clients and servers, and asks all of them for
/// certificates.
#[must_use]
pub fn tls(files: &Tls) -> Value {
    json!({
        "ca_file": files.ca, "cert_file": files.cert, "key_file": files.key,
        "verify_incoming": true, "verify_outgoing": true,
    })
}

/// Returns the settings of one that asks for tokens, and knows `root`, which may do everything.
#[must_use]
pub fn tokens(root: &str) -> Value {
    json!({ "acl": {
        "enabled": true, "default_policy": "deny", "tokens": { "master": root, "agent": root },
    } })
}

/// Returns the command that starts one with this file of settings.
#[must_use]
pub fn command(program: &Path, settings: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("agent").arg("-config-file").arg(settings);
    command
}
