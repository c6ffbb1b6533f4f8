//! The meaning of failed requests: whether one took effect, and what to do about it.

use crate::client::access::Access;
use fred::error::{Error as ClientError, ErrorKind as ClientKind};
use kv_core::{
    Error, ErrorKind,
    backend::retry::{Effect, RequestError},
};
use std::time::Duration;

const NO_TLS: &str = "does not speak TLS; leave out the TLS settings, or switch TLS on there";
const NOT_TRUSTED: &str =
    "its certificate is not trusted; name its CA as `ca`, and its name as `server_name` where it differs";
const NO_REDIS: &str =
    "hung up, or did not answer as a Redis does; is it one? And it may want TLS, `tls=true`";
const WANTS_CERTIFICATE: &str = "refused TLS with us; it may want a client certificate, `cert` and `key`";

const DOWN: &str = "its cluster is down";

/// The code of a failure, where it tells more than the effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The server does not know the script.
    NoScript,
    /// Another server, whose address this is, has these names.
    Moved(String),
    /// The cluster is down. The client reports this for every request that has no answer.
    ClusterDown,
    /// The server refused a request that it may have begun: nobody knows how much of a write was
    /// done.
    Stopped,
}

/// The words of the server or of the system.
#[derive(Debug)]
struct Said {
    words: String,
    code: Option<Code>,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Said {}

/// Returns the code of a failure, if it has one.
pub(crate) fn code(failed: &RequestError) -> Option<&Code> {
    failed.error.cause()?.downcast_ref::<Said>()?.code.as_ref()
}

/// The meaning of an answer, or of the lack of one.
struct Meaning {
    effect: Effect,
    kind: ErrorKind,
    why: Option<&'static str>,
    code: Option<Code>,
}

impl Meaning {
    fn new(effect: Effect, kind: ErrorKind) -> Self {
        Self { effect, kind, why: None, code: None }
    }

    fn why(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }

    fn code(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }

    fn told(self, server: &str, said: &str) -> RequestError {
        let message = self.why.map_or_else(|| server.to_owned(), |why| format!("{server}: {why}"));
        let said = Said { words: plain(said), code: self.code };
        RequestError::new(self.effect, Error::new(self.kind, message).with_cause(said))
    }
}

/// Makes the failure of a request for a reason that this library found.
pub(crate) fn failure(effect: Effect, kind: ErrorKind, why: impl Into<String>) -> RequestError {
    RequestError::new(effect, Error::new(kind, why.into()))
}

/// Reads the error that came in place of an answer.
pub(crate) fn failed(server: &str, error: &ClientError) -> RequestError {
    let said = error.details();
    let meaning = of_answer(said).unwrap_or_else(|| match error.kind() {
        // The client checked the request and did not send it.
        ClientKind::InvalidArgument | ClientKind::InvalidCommand | ClientKind::Backpressure => {
            Meaning::new(Effect::Refused, ErrorKind::Other)
        }
        _ => Meaning::new(Effect::Unknown, ErrorKind::Unavailable),
    });
    meaning.told(server, said)
}

/// Reads why no connection was made. Nothing was sent.
pub(crate) fn not_connected(server: &str, access: &Access, error: &ClientError) -> RequestError {
    // The client passes on the errors of the system and of TLS in their `Debug` form.
    let said = error.details();
    let has = |part: &str| said.contains(part);
    let unavailable = |why| Meaning::new(Effect::None, ErrorKind::Unavailable).why(why);
    let meaning = if let Some(answer) = of_answer(said) {
        answer
    } else if let Some((kind, why)) = of_tls(said) {
        match access.was_right() {
            true => unavailable(why),
            false => Meaning::new(Effect::Refused, kind).why(why),
        }
    } else if has("failed to lookup address") {
        unavailable("its name is not known")
    } else if has("ConnectionRefused") || is_system(said) || access.tls.is_some() {
        unavailable("cannot be reached")
    } else {
        unavailable(NO_REDIS)
    };
    let effect = match meaning.effect {
        Effect::Unknown => Effect::None,
        effect => effect,
    };
    Meaning { effect, ..meaning }.told(server, said)
}

/// Returns the meaning of a TLS error, be it ours about the server or the server's about us.
fn of_tls(said: &str) -> Option<(ErrorKind, &'static str)> {
    let has = |part: &str| said.contains(part);
    if has("InvalidCertificate") {
        Some((ErrorKind::Unauthenticated, NOT_TRUSTED))
    } else if has("InvalidContentType") || has("CorruptMessage") {
        Some((ErrorKind::InvalidArgument, NO_TLS))
    } else {
        has("AlertReceived").then_some((ErrorKind::Unauthenticated, WANTS_CERTIFICATE))
    }
}

/// Returns whether the system says that there is no way to the server. What it says of a server
/// that hung up does not count, for that may be the server's own doing.
fn is_system(said: &str) -> bool {
    ["HostUnreachable", "NetworkUnreachable", "NetworkDown", "AddrNotAvailable", "TimedOut"]
        .iter()
        .any(|kind| said.contains(kind))
}

/// Makes the failure of a server that was spoken to in TLS and answers in plain text.
pub(crate) fn no_tls(server: &str) -> RequestError {
    failure(Effect::Refused, ErrorKind::InvalidArgument, format!("{server}: {NO_TLS}"))
}

/// Makes the failure of a node that refuses everything, because it does not see enough of the
/// others.
pub(crate) fn cluster_down(server: &str) -> RequestError {
    failure(Effect::RefusedHere, ErrorKind::Unavailable, format!("{server}: {DOWN}"))
}

/// Returns the words alone. The client shows the system's errors in their `Debug` form: `Custom {
/// kind: …, error: "…" }`, `Os { code: …, message: "…" }`, `Kind(ConnectionReset)`.
fn plain(said: &str) -> String {
    for field in ["message: \"", "error: \""] {
        if let Some((_, rest)) = said.split_once(field) {
            return rest.split('"').next().unwrap_or(rest).to_owned();
        }
    }
    if let Some(kind) = said.strip_prefix("Kind(").and_then(|rest| rest.strip_suffix(')')) {
        return words(kind);
    }
    // The first line is enough. Errors in scripts also tell the place in the script.
    let said = said.split(" script: ").next().unwrap_or(said).lines().next().unwrap_or_default();
    said.strip_prefix("KVDAMAGED ").unwrap_or(said).to_owned()
}

/// Writes a name such as `ConnectionReset` as words: `connection reset`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// Returns the meaning of the server's first word, which is a code; `None` for what is no answer
/// of a server. The server gives all codes but the last two of the list before a script of ours
/// does anything. `CLUSTERDOWN` is the server's answer to one request alone: the client then ends
/// the connection, and reports the same for all requests under way.
fn of_answer(said: &str) -> Option<Meaning> {
    let refused = |kind| Meaning::new(Effect::Refused, kind);
    let busy = || Meaning::new(Effect::RefusedHere, ErrorKind::Unavailable);
    let mut words = said.split_whitespace();
    Some(match words.next()? {
        "NOSCRIPT" => busy().code(Code::NoScript),
        "MOVED" => match words.nth(1) {
            Some(address) => busy().code(Code::Moved(address.to_owned())),
            None => busy(),
        },
        "ASK" | "TRYAGAIN" => busy().why("is moving the slot of these names"),
        "READONLY" => busy().why("is a replica by now"),
        "MISCONF" if said.contains("No space left") => {
            refused(ErrorKind::NoSpace).why("has no space left on its disk")
        }
        // A file that could not be written, which lasts until a later attempt succeeds.
        "MISCONF" => refused(ErrorKind::NoSpace)
            .why("cannot write to its disk, and takes no writes until it can; its log tells why"),
        "LOADING" | "MASTERDOWN" | "BUSY" | "NOREPLICAS" => busy(),
        "OOM" => refused(ErrorKind::NoSpace).why("has no memory left by its `maxmemory`"),
        // Our own scripts give this code, before they write anything.
        "KVDAMAGED" => refused(ErrorKind::Corrupt)
            .why("a record of this library's was changed by somebody else; delete it there"),
        "NOAUTH" => refused(ErrorKind::Unauthenticated).why("asks for a user and a password"),
        "WRONGPASS" => refused(ErrorKind::Unauthenticated).why("does not know this user and password"),
        "NOPERM" | "DENIED" => refused(ErrorKind::PermissionDenied),
        "NOPROTO" => refused(ErrorKind::Unsupported).why("is too old; kv-redis needs Redis 7.0"),
        // A script lacks a right, and finds that out before it changes anything.
        "ERR"
            if said.contains("The user executing the script can't")
                || said.contains("ACL failure in script") =>
        {
            refused(ErrorKind::PermissionDenied)
        }
        "ERR" if said.contains("max number of clients") => {
            busy().why("takes no more connections by its `maxclients`")
        }
        "ERR" if said.contains("DB index is out of range") => refused(ErrorKind::InvalidArgument)
            .why("has no database of this number, `db`; its setting `databases` tells how many it has"),
        "ERR" if said.contains("cluster support disabled") => {
            refused(ErrorKind::InvalidArgument).why("is no cluster; open it as redis://")
        }
        "CLUSTERDOWN" => busy().why(DOWN).code(Code::ClusterDown),
        "WRONGTYPE" => refused(ErrorKind::Corrupt).code(Code::Stopped),
        code if code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            refused(ErrorKind::Other).code(Code::Stopped)
        }
        _ => return None,
    })
}

/// Tells by an answer whether there was something to undo. Behind an earlier try whose answer was
/// lost, an answer that there is nothing left does not tell it.
pub(crate) fn undone(was_there: bool, is_repeat: bool) -> Result<bool, Error> {
    if was_there || !is_repeat {
        return Ok(was_there);
    }
    let why = "it is over on the server, by an earlier try whose answer was lost or before that";
    Err(Error::new(ErrorKind::OutcomeUnknown, why))
}

/// Returns the error of settings that make no sense.
pub(crate) fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, why.to_owned())
}

/// Returns the error of a record or an answer that this library never writes.
pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// Makes the failure of a request for which nothing was heard in time.
pub(crate) fn silent(server: &str, effect: Effect, what: &str, within: Duration) -> RequestError {
    failure(effect, ErrorKind::Timeout, format!("{server}: no {what} within {within:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_told_in_words() {
        for (said, words) in [
            (
                r#"Custom { kind: Uncategorized, error: "failed to lookup address information: Name or service not known" }"#,
                "failed to lookup address information: Name or service not known",
            ),
            (r#"Os { code: 32, kind: BrokenPipe, message: "Broken pipe" }"#, "Broken pipe"),
            ("Kind(ConnectionReset)", "connection reset"),
            ("OOM command not allowed script: abc, on @user_script:1.", "OOM command not allowed"),
        ] {
            assert_eq!(plain(said), words);
        }
    }
}
