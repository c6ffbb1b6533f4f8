//! The ports of servers, which outlive the program that chose them.

use crate::error::Error;
use rustix::process::Pid;
use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::{SocketAddr, TcpStream},
};

const SPAN: u16 = 10240;
const TRIES: usize = 1000;

/// Chooses `count` ports, `first` among them if it is given. Nobody listens on them, and no other
/// name keeps them. Those that are not given lie below the range from which the system hands out
/// ports, so that no client's connection and no test that binds port 0 sits on one.
pub(super) fn choose(first: Option<u16>, count: usize, kept: &BTreeSet<u16>) -> Result<Vec<u16>, Error> {
    let mut ports = Vec::new();
    if let Some(first) = first {
        if is_taken(first) {
            return Err(Error::new(format!("port {first} is taken; without --port a free one is found")));
        }
        ports.push(first);
    }
    let low = lowest_handed_out();
    for _ in 0..TRIES {
        if ports.len() == count {
            return Ok(ports);
        }
        let candidate = low - 1 - any_below(SPAN);
        if !kept.contains(&candidate) && !ports.contains(&candidate) && !is_taken(candidate) {
            ports.push(candidate);
        }
    }
    Err(Error::new("no free port found"))
}

fn lowest_handed_out() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = range.split_whitespace().next().and_then(|low| low.parse().ok());
    low.filter(|low| *low >= 2 * SPAN).unwrap_or(32768)
}

/// Returns a random number below this one.
fn any_below(end: u16) -> u16 {
    let number = RandomState::new().build_hasher().finish() % u64::from(end);
    u16::try_from(number).unwrap_or_default()
}

pub(super) fn is_taken(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}

/// Returns the addresses at which a process listens and that others could reach, as the kernel
/// shows them.
pub(super) fn beyond_loopback(pid: Pid) -> Vec<String> {
    let sockets = sockets(pid);
    let listed = |table: &str| {
        let is_udp = table.starts_with("udp");
        let lines = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let found = lines.lines().skip(1).filter_map(|line| reachable(line, is_udp, &sockets));
        found.collect::<Vec<_>>()
    };
    ["tcp", "tcp6", "udp", "udp6"].into_iter().flat_map(listed).collect()
}

fn sockets(pid: Pid) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid()));
    open.into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}

fn reachable(line: &str, is_udp: bool, sockets: &BTreeSet<String>) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
    let listens = state == if is_udp { "07" } else { "0A" };
    let address = local.split(':').next()?;
    (listens && sockets.contains(inode) && !is_loopback(address)).then(|| local.to_owned())
}

/// Tells whether an address of the kernel's tables, in words of four bytes, each the other way
/// round, is loopback: 127.x.y.z, the same within IPv6, or ::1.
fn is_loopback(address: &str) -> bool {
    let v4 = address.strip_prefix("0000000000000000FFFF0000").unwrap_or(address);
    (v4.len() == 8 && v4.ends_with("7F")) || address == "00000000000000000000000001000000"
}

#[cfg(test)]
mod tests {
    use super::{any_below, choose, is_loopback, reachable};
    use std::{collections::BTreeSet, net::TcpListener};

    #[test]
    fn only_loopback_is_loopback() {
        for own in ["0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["00000000", "0100A8C0", "0000000000000000FFFF00000100A8C0", "7F000000", &"0".repeat(32)]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn what_listens_for_others_is_shown() {
        let line = "  0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1";
        let ours = BTreeSet::from(["77".to_owned()]);
        assert_eq!(reachable(line, false, &ours).as_deref(), Some("00000000:1F90"));
        assert_eq!(reachable(line, true, &ours), None);
        assert_eq!(reachable(line, false, &BTreeSet::new()), None);
    }

    #[test]
    fn a_taken_port_is_not_chosen() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(choose(Some(port), 1, &BTreeSet::new()).is_err());
        let three = choose(None, 3, &BTreeSet::new()).unwrap();
        assert_eq!(three.iter().collect::<BTreeSet<_>>().len(), 3);
        assert!((0..1000).all(|_| any_below(7) < 7));
    }
}
