//! Redis and Valkey: settings by their names, from a file or as arguments.

use super::Tls;
use std::{net::SocketAddr, path::Path};

/// Settings with their values, in order.
pub type Settings = Vec<(&'static str, String)>;

/// Returns the settings of a server that has every write on the disk before it is answered.
#[must_use]
pub fn settings(at: SocketAddr, data: &Path) -> Settings {
    vec![
        ("bind", at.ip().to_string()),
        ("port", at.port().to_string()),
        ("dir", data.display().to_string()),
        ("save", String::new()),
        ("appendonly", "yes".into()),
        ("appendfsync", "always".into()),
        ("repl-diskless-sync-delay", "0".into()),
    ]
}

/// Returns the settings of a cluster's node, which speaks to the others at `bus`, and misses one
/// after so many milliseconds.
#[must_use]
pub fn cluster(bus: SocketAddr, patience_in_ms: u32) -> Settings {
    vec![
        ("cluster-enabled", "yes".into()),
        ("cluster-port", bus.port().to_string()),
        ("cluster-node-timeout", patience_in_ms.to_string()),
    ]
}

/// Returns the settings of one that speaks TLS on this port, and asks clients for certificates:
/// `yes`, `optional` or `no`.
#[must_use]
pub fn tls(port: u16, files: &Tls, asks: &str) -> Settings {
    vec![
        ("tls-port", port.to_string()),
        ("tls-ca-cert-file", files.ca.display().to_string()),
        ("tls-cert-file", files.cert.display().to_string()),
        ("tls-key-file", files.key.display().to_string()),
        ("tls-auth-clients", asks.into()),
    ]
}

/// Returns the settings of a sentinel that, with another of its opinion, replaces this master when
/// it is silent.
#[must_use]
pub fn sentinel(at: SocketAddr, master: SocketAddr) -> Settings {
    vec![
        ("port", at.port().to_string()),
        ("bind", at.ip().to_string()),
        ("sentinel", format!("monitor mymaster {} {} 2", master.ip(), master.port())),
        ("sentinel", "down-after-milliseconds mymaster 500".into()),
        ("sentinel", "failover-timeout mymaster 3000".into()),
    ]
}

/// Returns the lines of a file with these settings.
#[must_use]
pub fn lines(settings: &Settings) -> String {
    settings.iter().map(|(name, value)| format!("{name} {}\n", quoted(value))).collect()
}

/// Returns the settings as arguments.
#[must_use]
pub fn arguments(settings: &Settings) -> Vec<String> {
    settings.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]).collect()
}

/// Puts an empty value, and a path, which may have spaces, into quotes. Several words are several
/// values.
fn quoted(value: &str) -> String {
    match value.is_empty() || value.starts_with('/') {
        true => format!("{value:?}"),
        false => value.to_owned(),
    }
}
