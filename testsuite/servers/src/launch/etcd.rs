//! etcd, which takes all its settings as flags.

use super::Tls;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The times of elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The time between two of a leader's signs of life.
    pub heartbeat: Duration,
    /// The time without a sign of life after which another leader is elected.
    pub election: Duration,
}

impl Timing {
    /// Returns the timing of a cluster of so many members.
    #[must_use]
    pub fn of(members: usize) -> Self {
        let heartbeat = Duration::from_millis(if members > 1 { 50 } else { 10 });
        Self { heartbeat, election: heartbeat * 10 }
    }
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The folder of its data.
    pub data: PathBuf,
    /// The URL for clients.
    pub clients: String,
    /// More URLs for clients.
    pub clients_too: Vec<String>,
    /// The URL for the other members.
    pub peers: String,
    /// All members, itself too, by their names and the URLs for one another.
    pub cluster: Vec<(String, String)>,
    /// The times that tell how soon a leader is missed.
    pub timing: Timing,
}

impl Member {
    /// Returns the command that starts it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let listens = [std::slice::from_ref(&self.clients), &self.clients_too].concat().join(",");
        let cluster: Vec<_> = self.cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let mut command = Command::new(program);
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        command.arg(format!("--data-dir={}", self.data.display())).args([
            format!("--name={}", self.name),
            format!("--listen-client-urls={listens}"),
            format!("--advertise-client-urls={}", self.clients),
            format!("--listen-peer-urls={}", self.peers),
            format!("--initial-advertise-peer-urls={}", self.peers),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--heartbeat-interval={}", self.timing.heartbeat.as_millis()),
            format!("--election-timeout={}", self.timing.election.as_millis()),
            "--log-level=warn".into(),
        ]);
        command
    }
}

/// Returns the flags by which a member speaks TLS to its clients, and asks for their certificates
/// if told to.
#[must_use]
pub fn tls_of_clients(files: &Tls, asks_clients: bool) -> Vec<String> {
    let mut flags = vec![format!("--client-cert-auth={asks_clients}")];
    flags.extend(named("", files));
    flags
}

/// Returns the flags by which members speak TLS to one another, with certificates of both.
#[must_use]
pub fn tls_of_peers(files: &Tls) -> Vec<String> {
    let mut flags = vec!["--peer-client-cert-auth".to_owned()];
    flags.extend(named("peer-", files));
    flags
}

fn named(whose: &str, files: &Tls) -> [String; 3] {
    [("trusted-ca-file", &files.ca), ("cert-file", &files.cert), ("key-file", &files.key)]
        .map(|(name, file)| format!("--{whose}{name}={}", file.display()))
}
