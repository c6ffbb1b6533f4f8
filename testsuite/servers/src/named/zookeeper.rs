//! ZooKeeper under a name. Anyone may call themselves `kv`; with users nobody may come without a
//! name.

use super::{Named, PATIENCE};
use crate::{
    error::Error,
    launch::zookeeper::{OF_TLS, OF_USERS, Server, command, plain, tls},
    program::{Said, Spec, tls as over_tls, tools, write},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

pub(super) struct Zookeeper;

const ANSWERS: Duration = Duration::from_secs(2);

/// Writes a key and its certificate into one file, as Java wants them.
fn join(spec: &Spec, who: &str, into: &Path) -> Result<(), Error> {
    let mut both = String::new();
    for name in [format!("{who}.key"), format!("{who}.pem")] {
        let file = spec.certificates().join(name);
        both += &fs::read_to_string(&file).map_err(|e| Error::file("read", &file, &e))?;
    }
    write(into, &both)
}

/// Asks `srvr`, a command of four letters.
fn ask(spec: &Spec, at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(ANSWERS)).ok()?;
    if spec.is_tls {
        return over_tls::ask(stream, &spec.certificates(), b"srvr");
    }
    stream.write_all(b"srvr").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Runs a command of the client. With users the command is given as input: one that is given as
/// arguments is run before anyone has told a name.
fn run(spec: &Spec, words: &[&str]) -> Result<String, Error> {
    let mut client = Zookeeper.client(spec)?;
    if !spec.has_users {
        return Said::by(client.args(words), "", PATIENCE).ok();
    }
    let input = format!("addauth digest kv:kv-password\n{}\n", words.join(" "));
    Said::by(&mut client, &input, PATIENCE).ok()
}

impl Named for Zookeeper {
    fn ports(&self) -> usize {
        3
    }

    fn url(&self, spec: &Spec) -> String {
        let login = if spec.has_users { "kv:kv-password@" } else { "" };
        let tls = if spec.is_tls { format!("?{}", spec.tls_parameters()) } else { String::new() };
        format!("zookeeper://{login}{}/{tls}", spec.hosts(""))
    }

    fn command(&self, spec: &Spec, number: usize) -> Result<Command, Error> {
        tools::needs_java(&spec.folder)?;
        let (node, at) = (spec.node(number), spec.address(number, 0));
        let all = spec.addresses(1).into_iter().zip(spec.addresses(2));
        let server = Server {
            id: u8::try_from(number).unwrap_or_default(),
            data: spec.data(number),
            members: if spec.nodes > 1 { all.collect() } else { Vec::new() },
        };
        if spec.nodes > 1 {
            write(&server.data.join("myid"), &server.myid())?;
        }
        let mut lines = server.settings();
        let mut options = Vec::new();
        if spec.is_tls {
            let (both, ca) = (node.join("server.pem"), spec.certificates().join("ca.pem"));
            join(spec, "server", &both)?;
            lines.extend(tls(&at.ip().to_string(), &at.port().to_string(), &both, &ca, "need"));
            options.push(OF_TLS);
        } else {
            lines.extend(plain(at));
        }
        if spec.has_users {
            options.push(OF_USERS);
        }
        let file = node.join("zoo.cfg");
        write(&file, &(lines.join("\n") + "\n"))?;
        Ok(command(&spec.folder.server(spec.kind)?, &file, &options.join(" ")))
    }

    fn client(&self, spec: &Spec) -> Result<Command, Error> {
        tools::needs_java(&spec.folder)?;
        let mut client = Command::new(spec.folder.client(spec.kind)?);
        client.args(["-server", &spec.hosts("")]);
        if spec.is_tls {
            let (ca, both) =
                (spec.certificates().join("ca.pem"), spec.certificates().join("client-both.pem"));
            join(spec, "client", &both)?;
            let options = [
                "client.secure=true".to_owned(),
                "clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty".into(),
                format!("ssl.trustStore.location={}", ca.display()),
                "ssl.trustStore.type=PEM".into(),
                format!("ssl.keyStore.location={}", both.display()),
                "ssl.keyStore.type=PEM".into(),
            ];
            let options = options.map(|option| format!("-Dzookeeper.{option}"));
            client.env("JVMFLAGS", options.join(" "));
        }
        Ok(client)
    }

    /// Tells whether requests are served: as soon as they are, "Mode:" is in the answer.
    fn is_ready(&self, spec: &Spec, number: usize) -> bool {
        ask(spec, spec.address(number, 0)).is_some_and(|answer| answer.contains("Mode:"))
    }

    fn put(&self, spec: &Spec, key: &str, value: &str) -> Result<(), Error> {
        run(spec, &["create", &format!("/{key}"), value]).map(drop)
    }

    fn get(&self, spec: &Spec, key: &str) -> Result<String, Error> {
        let said = run(spec, &["get", &format!("/{key}")])?;
        Ok(said.lines().next_back().unwrap_or_default().to_owned())
    }
}
