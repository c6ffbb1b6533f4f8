//! The meaning of a failed request: its effect, and what to do about it.

use kv_core::{
    Error, ErrorKind,
    backend::retry::{Effect, RequestError},
};
use rustls::{AlertDescription, Error as TlsError, InvalidMessage};
use std::{error::Error as StdError, io};

const NO_TLS: &str = "does not speak TLS; leave out the TLS settings, or switch TLS on there";
const WANTS_CERTIFICATE: &str = "refused TLS with us; it may want a client certificate, `cert` and `key`";
/// Explains a connection that was ended in silence: an agent that has as many connections of one
/// address as it takes ends further ones at once.
pub(crate) const CROWDED: &str = "; an agent that has all the connections of one address that it takes does so \
                       (`http_max_conns_per_client` in its `limits`, 200 by default)";

/// The settings of ours that the other side finds wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blames {
    Nothing,
    Certificates,
    Token,
}

/// A request that failed at one agent.
#[derive(Debug)]
pub(crate) struct AgentError {
    pub(crate) failed: RequestError,
    pub(crate) blames: Blames,
}

impl AgentError {
    pub(crate) fn new(effect: Effect, kind: ErrorKind, why: impl Into<String>) -> Self {
        Self::of(effect, Error::new(kind, why.into()))
    }

    fn of(effect: Effect, error: Error) -> Self {
        Self { failed: RequestError::new(effect, error), blames: Blames::Nothing }
    }

    /// Makes the failure of an operation that the datacenter refused.
    pub(crate) fn refused(error: Error) -> Self {
        let blames = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::Unauthenticated => Blames::Token,
            _ => Blames::Nothing,
        };
        Self::of(Effect::Refused, error).blaming(blames)
    }

    pub(crate) fn blaming(self, blames: Blames) -> Self {
        Self { blames, ..self }
    }
}

/// Returns the failure that the client's error means, for a request to the agent of this name.
/// `is_sent` tells whether any part of the request can have been sent. `is_open` tells that the
/// store is open, so that the settings were right: what looks like wrong settings is then an
/// outage, or certificates that are exchanged on one side before the other.
pub(crate) fn failed(agent: &str, is_sent: bool, is_open: bool, error: reqwest::Error) -> AgentError {
    // The message has the address already, and a path may be long.
    let error = error.without_url();
    if let Some(tls) = chain(&error).find_map(tls) {
        let (kind, why) = of_tls(tls);
        let (effect, kind) = match is_open {
            // A TLS error can come after the request was done, unless it is one of the handshake.
            true if is_sent && !is_of_handshakes(tls) => (Effect::Unknown, ErrorKind::Unavailable),
            true => (Effect::None, ErrorKind::Unavailable),
            false => (Effect::RefusedHere, kind),
        };
        return AgentError::new(effect, kind, format!("{agent}: {why}: {tls}")).blaming(Blames::Certificates);
    }
    let innermost = chain(&error).last().map(ToString::to_string).unwrap_or_default();
    if !is_open && chain(&error).any(|e| e.to_string().contains("tls handshake eof")) {
        return AgentError::new(
            Effect::RefusedHere,
            ErrorKind::InvalidArgument,
            format!("{agent}: {NO_TLS}"),
        );
    }
    let (effect, what, hint) = match error.is_connect() {
        true => (Effect::None, "cannot be reached", ""),
        false if !is_sent => (Effect::None, "the connection was lost before the request was sent", CROWDED),
        false => (Effect::Unknown, "the connection was lost", CROWDED),
    };
    AgentError::new(effect, ErrorKind::Unavailable, format!("{agent}: {what}: {innermost}{hint}"))
}

fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error as &'a (dyn StdError + 'static)), |&e| e.source())
}

/// Finds the TLS error in an error. The system's errors wrap one another, but are then not sources
/// of one another.
fn tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref::<TlsError>().or_else(|| tls(error.downcast_ref::<io::Error>()?.get_ref()?))
}

/// Tells whether the error says that a certificate was not accepted: nothing that is sent after
/// such a handshake is read.
fn is_of_handshakes(error: &TlsError) -> bool {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        NoCertificate, UnknownCA, UnsupportedCertificate,
    };
    match error {
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => true,
        TlsError::AlertReceived(alert) => matches!(
            alert,
            NoCertificate
                | BadCertificate
                | UnsupportedCertificate
                | CertificateRevoked
                | CertificateExpired
                | CertificateUnknown
                | UnknownCA
                | CertificateRequired
        ),
        _ => false,
    }
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
