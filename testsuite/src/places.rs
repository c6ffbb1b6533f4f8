//! Places at which the members of a cluster run: ports of loopback, or hosts of their own.

use crate::{Failure, network::Network, process::Port};
use std::{array, net::SocketAddr, process::Command};

/// A place at which a member runs, with so many addresses.
#[derive(Debug)]
pub struct Place<'a, const N: usize> {
    /// The number of the place, and of its host, from one.
    pub number: u8,
    /// The addresses at which the member listens.
    pub addresses: [SocketAddr; N],
    /// The ports of loopback. Nobody else gets them as long as they are kept.
    pub ports: Vec<Port>,
    network: Option<&'a Network>,
}

impl<const N: usize> Place<'_, N> {
    /// Returns a command that runs this one at the place.
    #[must_use]
    pub fn command(&self, command: Command) -> Command {
        match self.network {
            Some(network) => network.on(self.number, &command),
            None => command,
        }
    }
}

/// A port of a host, by those who reach it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// Clients reach it, whatever happens between the hosts.
    Clients(u16),
    /// The other hosts reach it.
    Peers(u16),
}

/// Makes places on loopback, on free ports.
///
/// # Errors
/// There are not so many free ports.
pub fn on_loopback<const N: usize>(count: u8) -> Result<Vec<Place<'static, N>>, Failure> {
    let place = |number| {
        let ports = (0..N).map(|_| Port::new()).collect::<Result<Vec<_>, Failure>>()?;
        let addresses = array::from_fn(|n| ports[n].address());
        Ok(Place { number, addresses, ports, network: None })
    };
    (1..=count).map(place).collect()
}

/// Makes places on the first hosts of the network, with these ports on each.
#[must_use]
pub fn on_hosts<const N: usize>(network: &Network, count: u8, ports: [HostPort; N]) -> Vec<Place<'_, N>> {
    let place = |number| {
        let addresses = ports.map(|port| match port {
            HostPort::Clients(port) => (network.address(number), port).into(),
            HostPort::Peers(port) => (network.peer_address(number), port).into(),
        });
        Place { number, addresses, ports: Vec::new(), network: Some(network) }
    };
    (1..=count).map(place).collect()
}
