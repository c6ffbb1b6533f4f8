//! What a failed request means: whether it took effect, and what to do about it.

use etcd_client::Error as ClientError;
use kv_core::{Error, ErrorKind};
use rustls::{Error as TlsError, InvalidMessage};
use std::{error::Error as StdError, fmt, io};
use tonic::{Code, ConnectError, Status};

const NO_TLS: &str = "does not speak TLS; leave the TLS settings away, or switch TLS on there";
const WANTS_CERTIFICATE: &str = "refused TLS with us; it may want a client certificate, `cert` and `key`";

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

/// A request that failed at one member.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) fate: Fate,
    pub(crate) error: Error,
}

/// Reads what the client says of a request to the member of this name, which may have answered before.
pub(crate) fn failed(member: &str, has_answered: bool, error: ClientError) -> Failed {
    let (fate, kind, why) = match &error {
        ClientError::GRpcStatus(status) => of_status(status, has_answered),
        ClientError::InvalidMetadataValue(_) => (Fate::Refused, ErrorKind::Other, None),
        ClientError::LeaseKeepAliveError(_) => (Fate::Refused, ErrorKind::LeaseLost, None),
        ClientError::InvalidArgs(_) | ClientError::InvalidUri(_) => {
            (Fate::Refused, ErrorKind::InvalidArgument, None)
        }
        _ => (Fate::Unknown, ErrorKind::Unavailable, None),
    };
    let message = match why {
        Some(why) => format!("{member}: {why}"),
        None => member.to_owned(),
    };
    Failed { fate, error: Error::new(kind, message).with_cause(Said(error)) }
}

/// The client's error, in the words of the server or of the system alone.
#[derive(Debug)]
struct Said(ClientError);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientError::GRpcStatus(status) = &self.0 else { return write!(f, "{}", self.0) };
        let innermost = chain(status).last().map(ToString::to_string).unwrap_or_default();
        match status.message() {
            "" => write!(f, "{:?} {innermost}", status.code()),
            said if said.contains(&innermost) => f.write_str(said),
            said => write!(f, "{said} ({innermost})"),
        }
    }
}

impl StdError for Said {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |&e| e.source())
}

fn of_status(status: &Status, has_answered: bool) -> (Fate, ErrorKind, Option<&'static str>) {
    if let Some(tls) = chain(status).find_map(tls) {
        return of_tls(tls);
    }
    // What one hears as the first thing from a server is about TLS, also where the client kept only the words. Later it
    // is an outage.
    let heard =
        |words: &str| !has_answered && chain(status).last().is_some_and(|e| e.to_string().contains(words));
    if heard("received fatal alert") {
        return (Fate::Refused, ErrorKind::Unauthenticated, Some(WANTS_CERTIFICATE));
    }
    if heard("tls handshake eof") {
        return (Fate::Refused, ErrorKind::InvalidArgument, Some(NO_TLS));
    }
    // The connection was never made, so that nothing was sent.
    if chain(status).any(|e| e.is::<ConnectError>()) {
        return (Fate::Undone, ErrorKind::Unavailable, Some("cannot be reached"));
    }
    of_answer(status)
}

fn tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref::<TlsError>().or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

fn of_tls(error: &TlsError) -> (Fate, ErrorKind, Option<&'static str>) {
    let (kind, why) = match error {
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => (
            ErrorKind::Unauthenticated,
            "its certificate is not trusted; name its CA as `ca`, and its name as `server_name` where it differs",
        ),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => (ErrorKind::InvalidArgument, NO_TLS),
        TlsError::AlertReceived(_) => (ErrorKind::Unauthenticated, WANTS_CERTIFICATE),
        _ => (ErrorKind::Unauthenticated, "TLS failed"),
    };
    (Fate::Refused, kind, Some(why))
}

/// What the server's own words mean. A refusal by its front door took no effect; a time-out behind it may have.
fn of_answer(status: &Status) -> (Fate, ErrorKind, Option<&'static str>) {
    let says = |part: &str| status.message().contains(part);
    match status.code() {
        Code::Unauthenticated => (Fate::Refused, ErrorKind::Unauthenticated, None),
        Code::PermissionDenied => (Fate::Refused, ErrorKind::PermissionDenied, None),
        Code::NotFound if says("lease not found") => (Fate::Refused, ErrorKind::LeaseLost, None),
        Code::InvalidArgument if says("authentication failed") => {
            (Fate::Refused, ErrorKind::Unauthenticated, Some("does not know this user and password"))
        }
        Code::InvalidArgument if says("user name is empty") => {
            (Fate::Refused, ErrorKind::Unauthenticated, Some("asks for a user and a password"))
        }
        Code::InvalidArgument if says("revision of auth store is old") => {
            (Fate::Undone, ErrorKind::Unavailable, None)
        }
        Code::InvalidArgument if says("too large") || says("too many operations") => {
            (Fate::Refused, ErrorKind::TooLarge, Some("allows less than etcd's defaults"))
        }
        Code::InvalidArgument => (Fate::Refused, ErrorKind::InvalidArgument, None),
        Code::ResourceExhausted if says("larger than max") => (Fate::Refused, ErrorKind::TooLarge, None),
        Code::FailedPrecondition if says("authentication is not enabled") => (
            Fate::Refused,
            ErrorKind::InvalidArgument,
            Some("has authentication switched off; leave user and password away"),
        ),
        Code::ResourceExhausted if says("too many requests") => (Fate::Undone, ErrorKind::Unavailable, None),
        Code::Unavailable
            if says("etcdserver: no leader")
                || says("rpc not supported for learner")
                || says("not capable") =>
        {
            (Fate::Undone, ErrorKind::Unavailable, None)
        }
        // A member that lags behind the one which told the revision.
        Code::OutOfRange if says("future revision") => (Fate::Undone, ErrorKind::Unavailable, None),
        Code::OutOfRange | Code::FailedPrecondition | Code::ResourceExhausted | Code::Unimplemented => {
            (Fate::Refused, ErrorKind::Other, None)
        }
        Code::DataLoss => (Fate::Refused, ErrorKind::Corrupt, None),
        _ => (Fate::Unknown, ErrorKind::Unavailable, None),
    }
}

/// Whether the client's error behind this one has these words of the server.
pub(crate) fn says(error: &Error, part: &str) -> bool {
    let cause = error.cause().and_then(|c| c.downcast_ref::<Said>());
    matches!(cause, Some(Said(ClientError::GRpcStatus(status))) if status.message().contains(part))
}
