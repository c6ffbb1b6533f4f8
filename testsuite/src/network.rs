//! Members of a cluster as hosts of their own, joined by links that a test takes down.
//!
//! Each host is a network namespace with two links: one to the test, which plays the clients, and
//! one to the other hosts. This works on Linux alone; users other than root need the right to make
//! user namespaces (`unshare -rn true` tells whether they have it). A test that needs this is
//! `#[ignore]`d, with that reason, and begins with [`inside`]:
//!
//! ```no_run
//! use kv_testsuite::{Failure, network::{Network, inside}};
//!
//! #[tokio::test]
//! #[ignore = "makes network namespaces: needs root, or the right to make user namespaces"]
//! async fn a_member_is_cut_off() -> Result<(), Failure> {
//!     if !inside("a_member_is_cut_off")? {
//!         return Ok(());
//!     }
//!     let network = Network::of(3)?;
//!     network.cut_off(1)?;
//!     network.join(1)
//! }
//! ```

use crate::{Failure, process::run};
use std::{
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

/// The name of the variable that tells a process that it has namespaces of its own.
const INSIDE: &str = "KV_TESTSUITE_INSIDE";

/// Tells whether the calling test has a network of its own. At first it has none: then the test of
/// this name is run again, in a process that has one, and `false` says that it succeeded there.
///
/// # Errors
/// Namespaces cannot be made, or the test failed in there.
pub fn inside(test: &str) -> Result<bool, Failure> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let status = Command::new("unshare")
        .args(["--map-root-user", "--net"])
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .map_err(|e| format!("unshare (of util-linux) cannot be run: {e}"))?;
    if status.success() {
        Ok(false)
    } else {
        Err(format!("{test}, run again in a network of its own, failed: {status}").into())
    }
}

/// Runs the whole program in a network of its own: as another process, whose exit code becomes
/// that of this one. Ends the program with 77 where namespaces cannot be made.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let can = Command::new("unshare").args(["--map-root-user", "--net", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("this machine lets nobody make namespaces (unshare --map-root-user --net)");
        std::process::exit(77);
    }
    let status = std::env::current_exe().and_then(|program| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]).arg(program).args(std::env::args_os().skip(1));
        command.env(INSIDE, "1").status()
    });
    std::process::exit(status.ok().and_then(|status| status.code()).unwrap_or(101));
}

/// Some hosts, numbered from 1, and the test, which reaches each of them.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
}

/// A process that does nothing, and keeps its namespace as long as it lives.
#[derive(Debug)]
struct Host(Child);

impl Host {
    fn new() -> Result<Self, Failure> {
        // The process answers when its namespace is there, and ends when the test does.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(out) = &mut child.stdout {
            std::io::Read::read_exact(out, &mut [0])?;
        }
        Ok(Self(child))
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("--").arg(program);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) -> Result<(), Failure> {
    let mut ip = Command::new("ip");
    ip.args(arguments.split(' '));
    run(ip, b"").map(drop)
}

impl Network {
    /// Makes so many hosts, which all reach each other.
    ///
    /// # Errors
    /// The test is not [`inside`], or the machine lacks `ip` (iproute2).
    pub fn of(count: u8) -> Result<Self, Failure> {
        let network = Self { hosts: (0..count).map(|_| Host::new()).collect::<Result<_, _>>()? };
        ip("link set lo up")?;
        ip("link add peers type bridge")?;
        ip("link set peers up")?;
        for (host, n) in network.hosts.iter().zip(1..) {
            let pid = host.0.id();
            ip(&format!("link add client{n} type veth peer name client netns {pid}"))?;
            ip(&format!("address add {}/24 dev client{n}", Ipv4Addr::new(10, 1, n, 1)))?;
            ip(&format!("link set client{n} up"))?;
            ip(&format!("link add peer{n} type veth peer name peer netns {pid}"))?;
            ip(&format!("link set peer{n} master peers up"))?;
            let mut within = host.enter("sh");
            within.arg("-ec").arg(format!(
                "ip link set lo up
                 ip address add {}/24 dev client
                 ip link set client up
                 ip address add {}/24 dev peer
                 ip link set peer up",
                network.address(n),
                network.peer_address(n),
            ));
            run(within, b"")?;
        }
        Ok(network)
    }

    /// Returns the address at which the test reaches the host.
    #[must_use]
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, host, 2)
    }

    /// Returns the address at which the other hosts reach this one.
    #[must_use]
    pub fn peer_address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 2, 0, host)
    }

    /// Returns a command that runs this one on the host.
    ///
    /// # Panics
    /// There is no such host.
    #[must_use]
    pub fn on(&self, host: u8, command: &Command) -> Command {
        let mut within = self.hosts[usize::from(host) - 1].enter("env");
        within.arg(command.get_program()).args(command.get_args());
        within.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        within
    }

    /// Cuts the host off from the other hosts: what either sends is lost without a word. Clients
    /// still reach the host.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn cut_off(&self, host: u8) -> Result<(), Failure> {
        ip(&format!("link set peer{host} down"))
    }

    /// Loses without a word what the host sends to the other hosts; what they send arrives.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn mute(&self, host: u8) -> Result<(), Failure> {
        // The host sends to an address of the link that nobody has.
        self.others(host, |address| {
            format!("replace {address} lladdr 02:00:00:00:00:01 nud permanent dev peer")
        })
    }

    /// Undoes [`mute`](Self::mute).
    ///
    /// # Errors
    /// `ip` failed.
    pub fn unmute(&self, host: u8) -> Result<(), Failure> {
        self.others(host, |address| format!("delete {address} dev peer"))
    }

    /// Runs `ip neighbour` on the host, for each of the others.
    fn others(&self, host: u8, arguments: impl Fn(Ipv4Addr) -> String) -> Result<(), Failure> {
        for other in (1_u8..).zip(&self.hosts).map(|(other, _)| other).filter(|other| *other != host) {
            let mut ip = self.hosts[usize::from(host) - 1].enter("ip");
            ip.arg("neighbour").args(arguments(self.peer_address(other)).split(' '));
            run(ip, b"")?;
        }
        Ok(())
    }

    /// Undoes [`cut_off`](Self::cut_off).
    ///
    /// # Errors
    /// `ip` failed.
    pub fn join(&self, host: u8) -> Result<(), Failure> {
        ip(&format!("link set peer{host} up"))
    }
}
