//! Learns from one host, when a store is opened, what the server is and which time-outs it grants
//! sessions.

use super::{
    connect::Options,
    limits::Limits,
    probe::{self, Probe},
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::retry::{Effect, RequestError, RetrySafety, Servers},
    driver::Deadline,
};

/// Returns what a host that serves tells of itself, and the time-outs that it grants. An error
/// that no other attempt mends is returned at once if no host does better.
pub(crate) async fn any(options: &Options, deadline: Deadline) -> Result<(Probe, Limits)> {
    let hosts = Servers::new(&options.hosts)?;
    let asked = hosts.run(RetrySafety::Read, deadline, |attempt| async move {
        let asked = ask(options, attempt.server, attempt.patience()).await;
        asked.map_err(|error| {
            let effect = if error.is_transient() { Effect::None } else { Effect::RefusedHere };
            RequestError::new(effect, error)
        })
    });
    Ok(asked.await?.answer)
}

async fn ask(options: &Options, host: &str, deadline: Deadline) -> Result<(Probe, Limits)> {
    let tls = options.tls();
    let found = probe::probe(host, tls.as_ref(), deadline, true).await?;
    check_version(&found.version)?;
    Ok((found, probe::limits(host, tls.as_ref(), deadline).await?))
}

fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if !version.is_empty() && (next(), next()) < (3, 6) {
        let why = format!("the server is ZooKeeper {version}; kv-zookeeper needs 3.6 or newer");
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    Ok(())
}
