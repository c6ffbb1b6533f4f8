//! What a failed request means: whether it took effect, and what to do about it.

use crate::access::Access;
use fred::error::{Error as ClientError, ErrorKind as ClientKind};
use kv_core::{Error, ErrorKind};

const NO_TLS: &str = "does not speak TLS; leave the TLS settings away, or switch TLS on there";
const NOT_TRUSTED: &str =
    "its certificate is not trusted; name its CA as `ca`, and its name as `server_name` where it differs";
const NO_REDIS: &str =
    "hung up, or did not answer as a Redis does; is it one? And it may want TLS, `tls=true`";
const WANTS_CERTIFICATE: &str = "refused TLS with us; it may want a client certificate, `cert` and `key`";

const DOWN: &str = "its cluster is down";

/// What became of a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took no effect; later or elsewhere it may succeed.
    Undone,
    /// It took no effect: another server, whose address this is, has these names.
    Moved(String),
    /// It took no effect: the server does not know the script.
    NoScript,
    /// It may have taken effect.
    Unknown,
    /// The server said that it failed, perhaps half-way; trying again does not help.
    Failed,
    /// It took no effect, and trying again does not help.
    Refused,
}

/// A request that failed at one server.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) fate: Fate,
    pub(crate) error: Error,
}

impl Failed {
    pub(crate) fn new(fate: Fate, kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { fate, error: Error::new(kind, why.into()) }
    }

    /// Whether this is the one answer that the client beneath gives to requests that had none.
    pub(crate) fn is_cluster_down(&self) -> bool {
        self.error.cause().is_some_and(|said| said.to_string().starts_with("CLUSTERDOWN"))
    }
}

/// The server's or the system's words.
#[derive(Debug)]
struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// Reads what came in place of an answer.
pub(crate) fn failed(server: &str, error: &ClientError) -> Failed {
    let said = error.details();
    let (fate, kind, why) = of_answer(said).unwrap_or_else(|| match error.kind() {
        // The client looked at what it was to send, and sent nothing.
        ClientKind::InvalidArgument | ClientKind::InvalidCommand | ClientKind::Backpressure => {
            (Fate::Refused, ErrorKind::Other, None)
        }
        _ => (Fate::Unknown, ErrorKind::Unavailable, None),
    });
    told(server, fate, kind, why, said)
}

/// Reads why no connection was made: nothing of ours was sent.
pub(crate) fn not_connected(server: &str, access: &Access, error: &ClientError) -> Failed {
    // The client hands on what the system and TLS say as they show themselves to programmers.
    let said = error.details();
    let has = |part: &str| said.contains(part);
    let (fate, kind, why) = if let Some(answer) = of_answer(said) {
        answer
    } else if let Some((kind, why)) = of_tls(said) {
        match access.was_right() {
            true => (Fate::Undone, ErrorKind::Unavailable, Some(why)),
            false => (Fate::Refused, kind, Some(why)),
        }
    } else if has("failed to lookup address") {
        (Fate::Undone, ErrorKind::Unavailable, Some("its name is not known"))
    } else if has("ConnectionRefused") || is_system(said) || access.tls.is_some() {
        (Fate::Undone, ErrorKind::Unavailable, Some("cannot be reached"))
    } else {
        (Fate::Undone, ErrorKind::Unavailable, Some(NO_REDIS))
    };
    let fate = match fate {
        Fate::Unknown => Fate::Undone,
        Fate::Failed => Fate::Refused,
        fate => fate,
    };
    told(server, fate, kind, why, said)
}

/// What TLS has against the server, or the server against us.
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

/// Whether the system says that there is no way to the server: what it says of one that hung up may be the server's own doing.
fn is_system(said: &str) -> bool {
    ["HostUnreachable", "NetworkUnreachable", "NetworkDown", "AddrNotAvailable", "TimedOut"]
        .iter()
        .any(|kind| said.contains(kind))
}

/// A server that was spoken to in TLS, and answers to plain text.
pub(crate) fn no_tls(server: &str) -> Failed {
    Failed::new(Fate::Refused, ErrorKind::InvalidArgument, format!("{server}: {NO_TLS}"))
}

/// A node that refuses everything, because it does not see enough of the others.
pub(crate) fn cluster_down(server: &str) -> Failed {
    Failed::new(Fate::Undone, ErrorKind::Unavailable, format!("{server}: {DOWN}"))
}

fn told(server: &str, fate: Fate, kind: ErrorKind, why: Option<&str>, said: &str) -> Failed {
    let message = why.map_or_else(|| server.to_owned(), |why| format!("{server}: {why}"));
    Failed { fate, error: Error::new(kind, message).with_cause(Said(plain(said))) }
}

/// The words alone. The client shows the system's errors as programmers see them: `Custom { kind: …, error: "…" }`, `Os {
/// code: …, message: "…" }`, `Kind(ConnectionReset)`.
fn plain(said: &str) -> String {
    for field in ["message: \"", "error: \""] {
        if let Some((_, rest)) = said.split_once(field) {
            return rest.split('"').next().unwrap_or(rest).to_owned();
        }
    }
    if let Some(kind) = said.strip_prefix("Kind(").and_then(|rest| rest.strip_suffix(')')) {
        return words(kind);
    }
    // A line is enough; scripts tell where they stood behind it.
    let said = said.split(" script: ").next().unwrap_or(said).lines().next().unwrap_or_default();
    said.strip_prefix("KVDAMAGED ").unwrap_or(said).to_owned()
}

/// `ConnectionReset` as people write it.
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

/// What the server's first word means, which is a code: `None` for what is no answer of a server. But for the last two, it
/// says them before it does anything of a script of ours. `CLUSTERDOWN` is the server's own for the request that it answers
/// alone: the client beneath ends the connection, and says so of all that was on its way.
fn of_answer(said: &str) -> Option<(Fate, ErrorKind, Option<&'static str>)> {
    let mut words = said.split_whitespace();
    Some(match words.next()? {
        "NOSCRIPT" => (Fate::NoScript, ErrorKind::Other, None),
        "MOVED" => match words.nth(1) {
            Some(address) => (Fate::Moved(address.to_owned()), ErrorKind::Unavailable, None),
            None => (Fate::Undone, ErrorKind::Unavailable, None),
        },
        "ASK" | "TRYAGAIN" => {
            (Fate::Undone, ErrorKind::Unavailable, Some("is moving the slot of these names"))
        }
        "READONLY" => (Fate::Undone, ErrorKind::Unavailable, Some("is a replica by now")),
        "MISCONF" if said.contains("No space left") => {
            (Fate::Refused, ErrorKind::NoSpace, Some("has no space left on its disk"))
        }
        "LOADING" | "MASTERDOWN" | "BUSY" | "NOREPLICAS" | "MISCONF" => {
            (Fate::Undone, ErrorKind::Unavailable, None)
        }
        "OOM" => (Fate::Refused, ErrorKind::NoSpace, Some("has no memory left by its `maxmemory`")),
        // Of our own scripts, before they write anything.
        "KVDAMAGED" => (
            Fate::Refused,
            ErrorKind::Corrupt,
            Some("a record of this library's was changed by somebody else; delete it there"),
        ),
        "NOAUTH" => (Fate::Refused, ErrorKind::Unauthenticated, Some("asks for a user and a password")),
        "WRONGPASS" => {
            (Fate::Refused, ErrorKind::Unauthenticated, Some("does not know this user and password"))
        }
        "NOPERM" => (Fate::Refused, ErrorKind::PermissionDenied, None),
        "NOPROTO" => (Fate::Refused, ErrorKind::Unsupported, Some("is too old; kv-redis needs Redis 7.0")),
        "DENIED" => (Fate::Refused, ErrorKind::PermissionDenied, None),
        // Of what a script of ours may not do, which it finds out before it changes anything.
        "ERR"
            if said.contains("The user executing the script can't")
                || said.contains("ACL failure in script") =>
        {
            (Fate::Refused, ErrorKind::PermissionDenied, None)
        }
        "ERR" if said.contains("max number of clients") => {
            let why = "takes no more connections by its `maxclients`";
            (Fate::Undone, ErrorKind::Unavailable, Some(why))
        }
        "ERR" if said.contains("DB index is out of range") => {
            let why = "has no database of this number, `db`; its setting `databases` tells how many it has";
            (Fate::Refused, ErrorKind::InvalidArgument, Some(why))
        }
        "ERR" if said.contains("cluster support disabled") => {
            (Fate::Refused, ErrorKind::InvalidArgument, Some("is no cluster; open it as redis://"))
        }
        "CLUSTERDOWN" => (Fate::Undone, ErrorKind::Unavailable, Some(DOWN)),
        "WRONGTYPE" => (Fate::Failed, ErrorKind::Corrupt, None),
        code if code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            (Fate::Failed, ErrorKind::Other, None)
        }
        _ => return None,
    })
}

/// What an answer says of whether there was something to undo: after an earlier try, the answer to which was lost, that
/// there is nothing left tells nothing.
pub(crate) fn undone(was_there: bool, is_repeat: bool) -> Result<bool, Error> {
    if was_there || !is_repeat {
        return Ok(was_there);
    }
    let why = "it is over on the server, by an earlier try whose answer was lost or before that";
    Err(Error::new(ErrorKind::OutcomeUnknown, why))
}

pub(crate) fn unknown(error: Error) -> Error {
    let why = "the write may or may not have happened, so read before writing again";
    Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
}

pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// Nothing was heard.
pub(crate) fn silent(server: &str, within: std::time::Duration) -> Failed {
    Failed::new(Fate::Unknown, ErrorKind::Timeout, format!("{server}: no answer within {within:?}"))
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
