//! The meaning of a failed request: its effect, and what to do about it.

use etcd_client::{Error as ClientError, WatchResponse};
use kv_core::{
    Error, ErrorKind,
    backend::retry::{Effect, RequestError},
};
use rustls::{Error as TlsError, InvalidMessage};
use std::{error::Error as StdError, fmt, io, sync::Arc};
use tonic::{Code, ConnectError, Status};

const NO_TLS: &str = "does not speak TLS; leave out the TLS settings, or switch TLS on there";
const WANTS_CERTIFICATE: &str = "refused TLS with us; it may want a client certificate, `cert` and `key`";
pub(crate) const NO_ETCD: &str = "does not answer as an etcd does; is it one?";
const NOT_ITS_WORD: &str = "something answered in its place, which is no etcd";

/// A request that failed at one member.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) failed: RequestError,
    pub(crate) about: About,
}

/// The subject of a failure, besides its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The data, of which the server tells something: an answer like any other, which shows what
    /// an earlier attempt did.
    Data,
    /// The token, which the server does not accept.
    Token,
    /// TLS: the two sides did not trust or understand one another.
    Tls,
    Other,
}

impl Failure {
    pub(crate) fn new(effect: Effect, error: Error) -> Self {
        Self { failed: RequestError::new(effect, error), about: About::Other }
    }

    pub(crate) fn with_effect(mut self, effect: Effect) -> Self {
        self.failed.effect = effect;
        self
    }

    /// Makes the failure a refusal that may pass.
    pub(crate) fn passing(mut self) -> Self {
        self.failed.error = Error::new(ErrorKind::Unavailable, "it may pass").with_cause(self.failed.error);
        self.with_effect(Effect::RefusedHere)
    }
}

/// Returns the effect of a refusal with an error of this kind: nothing was done. TLS, addresses
/// and logins are each member's own; any other refusal holds for all members.
pub(crate) fn refusal(kind: ErrorKind) -> Effect {
    match kind {
        ErrorKind::Unauthenticated | ErrorKind::InvalidArgument => Effect::RefusedHere,
        _ => Effect::Refused,
    }
}

/// Returns the failure that the client's error means, for a request to the member of this name.
/// `was_right` tells that the settings are known to be right, since the member has answered
/// before: what looks like wrong settings is then an outage, or the rotation of a certificate.
pub(crate) fn classify(member: &str, was_right: bool, error: impl Into<Arc<ClientError>>) -> Failure {
    let error = error.into();
    let (effect, kind, why) = match &*error {
        ClientError::GRpcStatus(status) => of_status(status, was_right),
        ClientError::InvalidMetadataValue(_) => refused(ErrorKind::Other, None),
        ClientError::LeaseKeepAliveError(_) => refused(ErrorKind::LeaseLost, None),
        ClientError::InvalidArgs(_) | ClientError::InvalidUri(_) => refused(ErrorKind::InvalidArgument, None),
        _ => (Effect::Unknown, ErrorKind::Unavailable, None),
    };
    let message = match why {
        Some(why) => format!("{member}: {why}"),
        None => member.to_owned(),
    };
    let about = match &*error {
        _ if kind == ErrorKind::LeaseLost => About::Data,
        ClientError::GRpcStatus(status) => about(status),
        _ => About::Other,
    };
    let error = Error::new(kind, message).with_cause(Said(error));
    Failure { failed: RequestError::new(effect, error), about }
}

fn about(status: &Status) -> About {
    let says = |part: &str| status.message().contains(part);
    match code(status) {
        _ if chain(status).any(|e| tls(e).is_some()) => About::Tls,
        _ if !says(MARK) => About::Other,
        Code::Unauthenticated => About::Token,
        Code::InvalidArgument if says(OLD) || says(EMPTY) => About::Token,
        Code::FailedPrecondition if says(LEASE_EXISTS) => About::Data,
        _ => About::Other,
    }
}

/// Returns the refusal of a watch, which the server sends in the stream, as an error like that of
/// any other request.
pub(crate) fn refused_watch(said: Option<&WatchResponse>) -> ClientError {
    let reason = said.map_or("", WatchResponse::cancel_reason);
    ClientError::GRpcStatus(match reason {
        _ if reason.contains("permission denied") => Status::permission_denied(DENIED),
        _ if reason.contains("auth token") => Status::unauthenticated(format!("{MARK} invalid auth token")),
        _ if reason.contains("auth store is old") => Status::invalid_argument(format!("{MARK} {OLD}")),
        _ if reason.contains(EMPTY) => Status::invalid_argument(format!("{MARK} {EMPTY}")),
        "" => Status::unavailable("the server ended the watch at once"),
        _ => Status::unavailable(format!("the server refused the watch: {reason}")),
    })
}

/// The client's error, shown in the words of the server or of the system alone.
#[derive(Debug)]
struct Said(Arc<ClientError>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientError::GRpcStatus(status) = &*self.0 else { return write!(f, "{}", self.0) };
        let innermost = chain(status).last().map(ToString::to_string).unwrap_or_default();
        match status.message() {
            "" => write!(f, "{:?} {innermost}", status.code()),
            said if said.contains(&innermost) => f.write_str(said),
            said => write!(f, "{said} ({innermost})"),
        }
    }
}

/// Names no source: the text says all that the client's error says.
impl StdError for Said {}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |&e| e.source())
}

fn innermost_says(status: &Status, words: &str) -> bool {
    chain(status).last().is_some_and(|e| e.to_string().contains(words))
}

type Meaning = (Effect, ErrorKind, Option<&'static str>);

fn refused(kind: ErrorKind, why: Option<&'static str>) -> Meaning {
    (refusal(kind), kind, why)
}

/// Returns the meaning of an error before which nothing was sent.
fn unsent(why: &'static str) -> Meaning {
    (Effect::None, ErrorKind::Unavailable, Some(why))
}

/// Means that the server answered that it did nothing, and that it or another member may do it
/// later.
const BUSY: Meaning = (Effect::RefusedHere, ErrorKind::Unavailable, None);

fn of_status(status: &Status, was_right: bool) -> Meaning {
    if let Some(tls) = chain(status).find_map(tls) {
        return of_tls(tls, was_right);
    }
    // As the first thing that is heard from a server, these words are about TLS, even where the
    // client kept only the words. Later they are an outage.
    let heard = |words: &str| !was_right && innermost_says(status, words);
    if heard("received fatal alert") {
        return refused(ErrorKind::Unauthenticated, Some(WANTS_CERTIFICATE));
    }
    if heard("tls handshake eof") {
        return refused(ErrorKind::InvalidArgument, Some(NO_TLS));
    }
    // The connection was never made, so that nothing was sent.
    if chain(status).any(|e| e.is::<ConnectError>()) {
        return unsent("cannot be reached");
    }
    of_answer(status, was_right)
}

fn tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref::<TlsError>().or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

fn of_tls(error: &TlsError, was_right: bool) -> Meaning {
    let (kind, why) = match error {
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => (
            ErrorKind::Unauthenticated,
            "its certificate is not trusted; name its CA as `ca`, and its name as `server_name` where it differs",
        ),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => (ErrorKind::InvalidArgument, NO_TLS),
        TlsError::AlertReceived(_) => (ErrorKind::Unauthenticated, WANTS_CERTIFICATE),
        _ => (ErrorKind::Unauthenticated, "TLS failed"),
    };
    match was_right {
        // An alert can come after the request was sent.
        true if matches!(error, TlsError::AlertReceived(_)) => {
            (Effect::Unknown, ErrorKind::Unavailable, Some(why))
        }
        true => unsent(why),
        false => refused(kind, Some(why)),
    }
}

/// Begins every message of etcd's own.
const MARK: &str = "etcdserver:";
const DENIED: &str = "etcdserver: permission denied";
/// Tells that the token is from before a change of users or roles.
const OLD: &str = "revision of auth store is old";
/// Tells that there was no token.
const EMPTY: &str = "user name is empty";
const LEASE_EXISTS: &str = "lease already exists";

/// Returns the server's code. Where there is none it is read from the message: a proxy of etcd's
/// own (`etcd grpc-proxy`) passes on the message alone.
fn code(status: &Status) -> Code {
    const WORDS: &[(&str, Code)] = &[
        ("invalid auth token", Code::Unauthenticated),
        ("permission denied", Code::PermissionDenied),
        ("lease not found", Code::NotFound),
        ("authentication failed", Code::InvalidArgument),
        (EMPTY, Code::InvalidArgument),
        (OLD, Code::InvalidArgument),
        ("too large", Code::InvalidArgument),
        ("too many operations", Code::InvalidArgument),
        ("space exceeded", Code::ResourceExhausted),
        ("too many requests", Code::ResourceExhausted),
        (NOT_ENABLED, Code::FailedPrecondition),
        ("no leader", Code::Unavailable),
        ("future revision", Code::OutOfRange),
    ];
    let known = || WORDS.iter().find(|(words, _)| status.message().contains(words)).map(|(_, code)| *code);
    match status.code() {
        Code::Unknown => known().unwrap_or(Code::Unknown),
        code => code,
    }
}

/// Returns the meaning of the server's own words. A request that was refused at once took no
/// effect; one that timed out later may have taken effect.
fn of_answer(status: &Status, was_right: bool) -> Meaning {
    use ErrorKind::{
        InvalidArgument, LeaseLost, NoSpace, Other, PermissionDenied, TooLarge, Unauthenticated,
    };
    let says = |part: &str| status.message().contains(part);
    if says("larger than max") && status.code() == Code::ResourceExhausted {
        return refused(TooLarge, Some("allows less than etcd's defaults"));
    }
    // These are the words of something between us and the server, which had the request and may
    // have passed it on.
    if !says(MARK) {
        let is_no_grpc = says("HTTP status code") || says("h2 protocol error") && !was_right;
        let why = is_no_grpc.then_some(if was_right { NOT_ITS_WORD } else { NO_ETCD });
        return (Effect::Unknown, ErrorKind::Unavailable, why);
    }
    match code(status) {
        // Its code differs between versions.
        _ if says("not supported for learner") => BUSY,
        Code::Unauthenticated => refused(Unauthenticated, None),
        Code::PermissionDenied => refused(PermissionDenied, None),
        Code::NotFound if says("lease not found") => refused(LeaseLost, None),
        Code::InvalidArgument if says("authentication failed") => {
            refused(Unauthenticated, Some("does not know this user and password"))
        }
        Code::InvalidArgument if says(EMPTY) => {
            refused(Unauthenticated, Some("asks for a user and a password"))
        }
        Code::InvalidArgument if says(OLD) => BUSY,
        Code::InvalidArgument if says("too large") || says("too many operations") => {
            refused(TooLarge, Some("allows less than etcd's defaults"))
        }
        Code::InvalidArgument => refused(InvalidArgument, None),
        Code::ResourceExhausted if says("space exceeded") => refused(NoSpace, Some(FULL)),
        Code::FailedPrecondition if says(NOT_ENABLED) => {
            refused(InvalidArgument, Some("has authentication switched off; leave out user and password"))
        }
        Code::ResourceExhausted if says("too many requests") => BUSY,
        Code::Unavailable if ["etcdserver: no leader", "not capable"].into_iter().any(says) => BUSY,
        // This member lags behind the one that told the revision.
        Code::OutOfRange if says("future revision") => BUSY,
        Code::OutOfRange | Code::FailedPrecondition | Code::ResourceExhausted | Code::Unimplemented => {
            refused(Other, None)
        }
        Code::DataLoss => refused(Other, Some("has the alarm that its members' data differ")),
        _ => (Effect::Unknown, ErrorKind::Unavailable, None),
    }
}

const FULL: &str = "is over its quota (`--quota-backend-bytes`) and takes no writes; delete, compact and \
                    defragment, then disarm its alarm";
const NOT_ENABLED: &str = "authentication is not enabled";

/// Tells whether the connection ended before the request left, or before a word of its answer.
pub(crate) fn is_cut_off(status: &Status) -> bool {
    // As `h2` calls the end of a connection that the other side ended.
    const ENDED: &str = "closed because of a broken pipe";
    status.code() == Code::Cancelled || innermost_says(status, ENDED)
}

/// Returns the error of an answer that makes no sense.
pub(crate) fn unexpected(why: &'static str) -> Error {
    Error::new(ErrorKind::Other, why)
}

/// Tells whether the server says that a lease of this number exists.
pub(crate) fn is_lease_there(error: &Error) -> bool {
    says(error, LEASE_EXISTS)
}

/// Tells whether a login failed because authentication is switched off.
pub(crate) fn needs_no_login(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains(NOT_ENABLED))
}

/// Tells whether the server's message behind this error contains these words.
pub(crate) fn says(error: &Error, part: &str) -> bool {
    let said = error.cause().and_then(|c| c.downcast_ref::<Said>()).map(|said| &*said.0);
    matches!(said, Some(ClientError::GRpcStatus(status)) if status.message().contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_hands_on_the_words_alone_is_understood() {
        for (words, kind) in [
            ("etcdserver: requested lease not found", ErrorKind::LeaseLost),
            ("etcdserver: permission denied", ErrorKind::PermissionDenied),
            ("etcdserver: mvcc: database space exceeded", ErrorKind::NoSpace),
            ("etcdserver: request is too large", ErrorKind::TooLarge),
            ("etcdserver: too many requests", ErrorKind::Unavailable),
        ] {
            let (effect, found, _) = of_answer(&Status::new(Code::Unknown, words), true);
            assert_eq!(found, kind, "{words}");
            assert_ne!(effect, Effect::Unknown, "{words}: the server refused it");
        }
        let (effect, ..) = of_answer(&Status::new(Code::Unknown, "etcdserver: something new"), true);
        assert_eq!(effect, Effect::Unknown);
    }
}
