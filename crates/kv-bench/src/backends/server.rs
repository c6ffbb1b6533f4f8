//! Servers of a run: each is one process, with its data below the run's folder.

use crate::side::Done;
use kv_testsuite::{
    Failure,
    process::{Daemon, Port, ask, server},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The time that a question to a server may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs until this is dropped, and the ports that it has.
pub(super) struct Running {
    _daemon: Daemon,
    _ports: Vec<Port>,
}

/// Takes so many free ports.
pub(super) fn ports<const N: usize>() -> Done<([SocketAddr; N], Vec<Port>)> {
    let ports = (0..N).map(|_| Port::new()).collect::<Result<Vec<_>, Failure>>()?;
    let mut addresses = ports.iter().map(Port::address);
    Ok((std::array::from_fn(|_| addresses.next().expect("as many as ports")), ports))
}

/// Returns the path of the server of a kind.
pub(super) fn program(kind: &str) -> Done<PathBuf> {
    // No variable names another server: what is not started here is not measured.
    server(kind, "KV_SERVERS_DIR")
}

/// Starts a server, and returns when the probe says that it serves.
pub(super) async fn start<F>(
    command: Command,
    folder: &Path,
    ports: Vec<Port>,
    probe: impl FnMut() -> F,
) -> Done<Running>
where
    F: Future<Output = bool>,
{
    let daemon = Daemon::new(command, folder.join("log"));
    daemon.spawn()?;
    daemon.serves(probe).await?;
    Ok(Running { _daemon: daemon, _ports: ports })
}

/// Sends a plain request, and returns all that is answered.
pub(super) async fn question(at: SocketAddr, request: &str) -> Done<String> {
    Ok(String::from_utf8(ask(at, request.as_bytes(), PATIENCE).await?)?)
}

/// Asks for a path by HTTP, and returns the whole answer.
pub(super) async fn http(at: SocketAddr, path: &str) -> Done<String> {
    question(at, &format!("GET {path} HTTP/1.0\r\n\r\n")).await
}
