//! What a failed request means: whether it took effect, and what to do about it.

use kv_core::{Error, ErrorKind};
use rustls::{Error as TlsError, InvalidMessage};
use std::{error::Error as StdError, io};

const NO_TLS: &str = "does not speak TLS; leave the TLS settings away, or switch TLS on there";
const ONLY_TLS: &str = "speaks TLS alone; give the TLS setting `ca`, or `tls`";
const WANTS_CERTIFICATE: &str = "refused TLS with us; it may want a client certificate, `cert` and `key`";
/// How much of what a server says is shown.
const SHOWN: usize = 256;

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took no effect; elsewhere or later it may succeed.
    Undone,
    /// It may have taken effect.
    Unknown,
    /// It took no effect, and trying again does not help.
    Refused,
}

/// A request that failed at one agent.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) fate: Fate,
    pub(crate) error: Error,
}

impl Failed {
    pub(crate) fn new(fate: Fate, kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { fate, error: Error::new(kind, why.into()) }
    }
}

/// What the client says of a request to the agent of this name. `is_sent` tells whether any of it can have been sent.
pub(crate) fn failed(agent: &str, is_sent: bool, error: reqwest::Error) -> Failed {
    // The address is ours to tell, and a path may be long.
    let error = error.without_url();
    if let Some(tls) = chain(&error).find_map(tls) {
        let (kind, why) = of_tls(tls);
        return Failed::new(Fate::Refused, kind, format!("{agent}: {why}: {tls}"));
    }
    let innermost = chain(&error).last().map(ToString::to_string).unwrap_or_default();
    if chain(&error).any(|e| e.to_string().contains("tls handshake eof")) {
        return Failed::new(Fate::Refused, ErrorKind::InvalidArgument, format!("{agent}: {NO_TLS}"));
    }
    let (fate, what) = match error.is_connect() {
        true => (Fate::Undone, "cannot be reached"),
        false if !is_sent => (Fate::Undone, "the connection was lost before the request was sent"),
        false => (Fate::Unknown, "the connection was lost"),
    };
    Failed::new(fate, ErrorKind::Unavailable, format!("{agent}: {what}: {innermost}"))
}

fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error as &'a (dyn StdError + 'static)), |&e| e.source())
}

/// The system's errors wrap one another, and are no sources of one another then.
fn tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref::<TlsError>().or_else(|| tls(error.downcast_ref::<io::Error>()?.get_ref()?))
}

fn of_tls(error: &TlsError) -> (ErrorKind, &'static str) {
    match error {
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => (
            ErrorKind::Unauthenticated,
            "its certificate is not trusted; name its CA as `ca`, and its name as `server_name` where it differs",
        ),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => (ErrorKind::InvalidArgument, NO_TLS),
        TlsError::AlertReceived(_) => (ErrorKind::Unauthenticated, WANTS_CERTIFICATE),
        _ => (ErrorKind::Unauthenticated, "TLS failed"),
    }
}

/// What an answer means that is none of success, *missing* and *conflict*. The texts are those of Consul's sources: it tells
/// errors apart by nothing else.
pub(crate) fn refused(agent: &str, status: u16, body: &[u8]) -> Failed {
    let said = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    let said = said.trim();
    let says = |part: &str| said.contains(part);
    use ErrorKind::{InvalidArgument, Other, TooLarge, Unauthenticated, Unavailable};
    let (fate, kind) = match status {
        _ if says("ACL not found") => (Fate::Refused, Unauthenticated),
        401 => (Fate::Refused, Unauthenticated),
        403 => (Fate::Refused, ErrorKind::PermissionDenied),
        _ if says("Permission denied") => (Fate::Refused, ErrorKind::PermissionDenied),
        400 if says("HTTP request to an HTTPS server") => {
            return Failed::new(Fate::Refused, InvalidArgument, format!("{agent}: {ONLY_TLS}"));
        }
        413 => (Fate::Refused, TooLarge),
        429 | 503 => (Fate::Undone, Unavailable),
        500 if says("No path to datacenter") || says("Invalid Session TTL") => {
            (Fate::Refused, InvalidArgument)
        }
        // Refused at the door, by an agent that knows no leader, a server that is none, or a leader that is new. A server that
        // has only just begun may not be registered as a node yet.
        500 if [
            "No cluster leader",
            "node is not the leader",
            "Not ready to serve consistent reads",
            "timed out enqueuing operation",
            "Missing node registration",
            "rate limit",
        ]
        .iter()
        .any(|door| says(door)) =>
        {
            (Fate::Undone, Unavailable)
        }
        500..600 => (Fate::Unknown, Unavailable),
        400..500 => (Fate::Refused, InvalidArgument),
        _ => (Fate::Unknown, Other),
    };
    Failed::new(fate, kind, format!("{agent}: the answer {status}: {said}"))
}
