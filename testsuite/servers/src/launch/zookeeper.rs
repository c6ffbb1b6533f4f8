//! ZooKeeper: a file of settings, one a line, and options of its Java. What is set twice has its
//! last value.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its number among the members, from one.
    pub id: u8,
    /// The folder of its data.
    pub data: PathBuf,
    /// The addresses at which the members, itself too, speak to one another, and those at which
    /// they elect; empty for one that is alone.
    pub members: Vec<(SocketAddr, SocketAddr)>,
}

impl Server {
    /// Returns its settings, without the address at which it listens.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        let mut lines = vec![
            "tickTime=200".to_owned(),
            "initLimit=50".into(),
            "syncLimit=10".into(),
            "minSessionTimeout=200".into(),
            "maxSessionTimeout=60000".into(),
            format!("dataDir={}", self.data.display()),
            "maxClientCnxns=0".into(),
            "admin.enableServer=false".into(),
            "4lw.commands.whitelist=*".into(),
        ];
        lines.extend(self.members.iter().zip(1..).map(|((peers, election), id)| {
            format!("server.{id}={}:{}:{}", peers.ip(), peers.port(), election.port())
        }));
        lines
    }

    /// Returns the content of the file `myid` that lies with its data.
    #[must_use]
    pub fn myid(&self) -> String {
        self.id.to_string()
    }
}

/// Returns the settings of one that takes plain connections here.
#[must_use]
pub fn plain(at: SocketAddr) -> [String; 2] {
    [format!("clientPort={}", at.port()), format!("clientPortAddress={}", at.ip())]
}

/// The option of Java without which a server cannot speak TLS.
pub const OF_TLS: &str = "-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory";
/// The options of Java by which a server takes nobody without a name.
pub const OF_USERS: &str = "-Dzookeeper.enforce.auth.enabled=true -Dzookeeper.enforce.auth.schemes=digest";

/// Returns the settings of one that speaks TLS there: `both` is a file with its key and its
/// certificate, since Java wants them in one, and `asks` tells what it asks of clients (`need`,
/// `want` or `none`).
#[must_use]
pub fn tls(host: &str, port: &str, both: &Path, ca: &Path, asks: &str) -> [String; 7] {
    [
        format!("secureClientPort={port}"),
        format!("secureClientPortAddress={host}"),
        format!("ssl.keyStore.location={}", both.display()),
        "ssl.keyStore.type=PEM".into(),
        format!("ssl.trustStore.location={}", ca.display()),
        "ssl.trustStore.type=PEM".into(),
        format!("ssl.clientAuth={asks}"),
    ]
}

/// Returns the command that starts one with this file of settings and these options of its Java.
#[must_use]
pub fn command(program: &Path, settings: &Path, options: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(settings).env("JVMFLAGS", options);
    command
}
