//! The versions of etcd that are supported, and those with known faults, of which the store warns.

use kv_core::{Error, ErrorKind, Result};

/// Refuses a server that is too old, and warns of one that is known to lose leases or events.
pub(crate) fn check(version: &str) -> Result<()> {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found < (3, 4, 0) {
        let why = format!("the server is etcd {version}; kv-etcd needs 3.4 or newer");
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let (old_leader, old_compaction) = match (found.0, found.1) {
        (3, 4) => ((3, 4, 31), (3, 4, 36)),
        (3, 5) => ((3, 5, 13), (3, 5, 18)),
        _ => return Ok(()),
    };
    if found < old_leader {
        tracing::warn!(
            version,
            "this etcd can revoke leases that are still renewed, when its leader gets stuck (etcd issue 15247): locks and \
             leases can end early; update to 3.4.31, 3.5.13 or newer"
        );
    }
    if found < old_compaction {
        tracing::warn!(
            version,
            "this etcd can lose events of deletions around a compaction (etcd issues 18089 and 19179); update to 3.4.36, \
             3.5.18 or newer"
        );
    }
    Ok(())
}
