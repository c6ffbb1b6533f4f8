//! Reads answers, and tells the meaning of those that do not hold what was asked for.

use crate::error::{AgentError, Blames, CROWDED};
use bytes::Bytes;
use kv_core::{ErrorKind, backend::retry::Effect};
use reqwest::Response;
use std::net::SocketAddr;

const ONLY_TLS: &str = "speaks TLS alone; give the TLS setting `ca`, or `tls`";
/// Limits the bytes of a server's message that are shown.
const SHOWN: usize = 256;

/// The mark of Consul in the head of an answer: only an agent is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The head is anybody's.
    None,
    /// The head says that answers are compressed on demand, as all agents say and others too.
    /// Agents older than 1.9 put no other mark on a refusal.
    Weak,
    /// The head has a line that Consul alone makes. Newer agents tell the default policy of their
    /// ACLs in each answer.
    Strong,
}

/// An answer, from an agent or from something in between.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Holds `X-Consul-Index`, which all answers have that tell what is there and what is not.
    pub(crate) index: Option<u64>,
    /// Tells whether the body is plain text, as all errors of Consul are.
    pub(crate) is_text: bool,
    pub(crate) mark: Mark,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads the whole of an answer.
    pub(super) async fn whole(response: Response) -> reqwest::Result<Self> {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let index = header("x-consul-index").and_then(|index| index.parse().ok());
        let is_text = header("content-type").is_none_or(|kind| kind.starts_with("text/plain"));
        let mark = if response.headers().keys().any(|name| name.as_str().starts_with("x-consul-")) {
            Mark::Strong
        } else if header("vary").is_some_and(|vary| vary.contains("Accept-Encoding")) {
            Mark::Weak
        } else {
            Mark::None
        };
        let status = response.status().as_u16();
        Ok(Answer { status, index, is_text, mark, body: response.bytes().await? })
    }

    /// Tells whether this is the answer of an agent without a strong mark to the question for the
    /// leader, whose address is empty where none is known.
    pub(super) fn is_an_old_agents_leader(&self) -> bool {
        let leader = serde_json::from_slice::<String>(&self.body);
        let is_leader = leader.is_ok_and(|leader| leader.is_empty() || leader.parse::<SocketAddr>().is_ok());
        self.status == 200 && self.mark == Mark::Weak && is_leader
    }
}

/// Lists what a server says when it refuses a request before anything is done: it knows no leader,
/// or is none, or a new one, or has only just begun and is not registered as a node yet.
const AT_THE_DOOR: [&str; 6] = [
    "No cluster leader",
    "node is not the leader",
    "Not ready to serve consistent reads",
    "timed out enqueuing operation",
    "Missing node registration",
    "rate limit",
];

/// Lists what the system says to a server that has no room to write in; the server passes it on.
const DISK_FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// Begins the refusal of a token that the server does not know.
const UNKNOWN: &str = "ACL not found";
const DENIED: &str = "Permission denied";
const REFUSALS: [&str; 2] = [UNKNOWN, DENIED];

/// Lists what agents say of a request that is wrong.
const MISTAKES: [&str; 8] = [
    "Missing key name",
    "Failed to parse body",
    "Request decode failed",
    "Invalid query parameter",
    "Invalid namespace",
    "Namespaces are a Consul Enterprise feature",
    "Conflicting",
    "Bad request",
];

/// Returns the failure that an answer means which does not hold what was asked for. The texts are
/// those of Consul's sources: it tells errors apart by nothing else, and by them it is known that
/// Consul spoke at all. An answer without a mark of Consul is the word of something in between,
/// which says nothing of what became of the request. Two are known all the same, which an agent
/// gives before it reads a request: by its TLS, and by its limit of connections.
pub(crate) fn refused(agent: &str, is_open: bool, answer: &Answer) -> AgentError {
    let Answer { status, is_text, mark, body, .. } = answer;
    let said = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    let said = said.trim();
    let is_plain = *is_text && !said.starts_with(['<', '{', '[']);
    let speaks = is_plain && *mark != Mark::None;
    let says = |part: &str| speaks && said.contains(part);
    let says_before = |part: &str| is_plain && said.contains(part);
    // An agent puts its own words in front of a server's; a name that is quoted behind them may
    // hold any words.
    let refusal = said.split(": ").find(|words| REFUSALS.iter().any(|refusal| words.starts_with(refusal)));
    let begins = |part: &str| speaks && refusal.is_some_and(|words| words.starts_with(part));
    let failed = |effect, kind, hint: &str| {
        AgentError::new(effect, kind, format!("{agent}: the answer {status}: {said}{hint}"))
    };
    use ErrorKind::{InvalidArgument, PermissionDenied, TooLarge, Unauthenticated, Unavailable};
    // What says that settings are wrong is an outage once they were right.
    let wrong_setting = if is_open { Unavailable } else { InvalidArgument };
    match status {
        403 | 500 if begins(UNKNOWN) => {
            let hint = "; the server knows no such token: give another one as `token` or in the file of `token_file`";
            failed(Effect::RefusedHere, Unauthenticated, hint).blaming(Blames::Token)
        }
        403 | 500 if begins(DENIED) => failed(Effect::Refused, PermissionDenied, "").blaming(Blames::Token),
        400 if says_before("HTTP request to an HTTPS server") => {
            AgentError::new(Effect::RefusedHere, wrong_setting, format!("{agent}: {ONLY_TLS}"))
        }
        400 if MISTAKES.iter().any(|mistake| says(mistake)) => {
            failed(Effect::RefusedHere, InvalidArgument, "")
        }
        413 if says("too large") || says("too many operations") => failed(Effect::Refused, TooLarge, ""),
        429 if says_before("too many concurrent connections") => {
            failed(Effect::RefusedHere, Unavailable, CROWDED)
        }
        // All agents that have such limits have the strong mark.
        429 | 503 if says("rate limit") && *mark == Mark::Strong => {
            failed(Effect::RefusedHere, Unavailable, "")
        }
        // The agent says so too while the servers there cannot be reached.
        500 if says("No path to datacenter") => failed(Effect::RefusedHere, wrong_setting, ""),
        500 if says("Invalid Session TTL") => failed(Effect::RefusedHere, InvalidArgument, ""),
        500 if AT_THE_DOOR.iter().any(|door| says(door)) => failed(Effect::RefusedHere, Unavailable, ""),
        // A write that the leader could not write down is done by nobody.
        500 if DISK_FULL.iter().any(|full| says(full)) => {
            failed(Effect::Refused, ErrorKind::NoSpace, "; the server's disk is full: make room there")
        }
        500 if speaks && !said.is_empty() => failed(Effect::Unknown, Unavailable, ""),
        _ => {
            let why = "is none of Consul's: something in between answers in its place, or this is no Consul";
            let why = format!("{agent}: the answer {status} {why}: {said}");
            AgentError::new(Effect::Unknown, Unavailable, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, is_text: bool, said: &'static str) -> (Effect, ErrorKind, Blames) {
        whose(status, is_text, Mark::Strong, said)
    }

    fn whose(status: u16, is_text: bool, mark: Mark, said: &'static str) -> (Effect, ErrorKind, Blames) {
        let answer = Answer { status, index: None, is_text, mark, body: said.into() };
        let AgentError { failed, blames } = refused("a", true, &answer);
        (failed.effect, failed.error.kind(), blames)
    }

    #[test]
    fn what_consul_says_is_known_by_its_words() {
        use ErrorKind::{NoSpace, PermissionDenied, Unauthenticated, Unavailable};
        let token = Blames::Token;
        for (status, said, means) in [
            (403, "Permission denied", (Effect::Refused, PermissionDenied, token)),
            (403, "rpc error making call: Permission denied", (Effect::Refused, PermissionDenied, token)),
            (
                403,
                "Permission denied: token with AccessorID 'x' lacks",
                (Effect::Refused, PermissionDenied, token),
            ),
            (
                403,
                "Permission denied: lacks 'key:read' on \"a: ACL not found\"",
                (Effect::Refused, PermissionDenied, token),
            ),
            (403, "ACL not found", (Effect::RefusedHere, Unauthenticated, token)),
            (
                500,
                "write /data/raft/raft.db: no space left on device",
                (Effect::Refused, NoSpace, Blames::Nothing),
            ),
            (500, "No path to datacenter", (Effect::RefusedHere, Unavailable, Blames::Nothing)),
            (500, "No cluster leader", (Effect::RefusedHere, Unavailable, Blames::Nothing)),
            (500, "rpc error making call: EOF", (Effect::Unknown, Unavailable, Blames::Nothing)),
        ] {
            assert_eq!(of(status, true, said), means, "{status} {said}");
        }
    }

    #[test]
    fn what_something_in_between_says_is_not_believed() {
        for (status, is_text, said) in [
            (200, false, "<html>welcome</html>"),
            (302, false, ""),
            (400, false, "<html><h1>400 Bad Request</h1></html>"),
            (400, true, ""),
            (401, true, "Unauthorized"),
            (403, true, "RBAC: access denied"),
            (403, false, "<html><h1>403 Forbidden</h1></html>"),
            (403, false, r#"{"message": "Permission denied"}"#),
            (403, true, ""),
            (404, true, "404 page not found"),
            (413, false, "<html>413 Request Entity Too Large</html>"),
            (429, true, "slow down"),
            (500, false, "<html>No cluster leader</html>"),
            (502, false, "<html>bad gateway</html>"),
            (503, true, "upstream connect error or disconnect/reset before headers"),
            (504, true, "stream timeout"),
        ] {
            let (effect, kind, _) = of(status, is_text, said);
            assert_eq!((effect, kind), (Effect::Unknown, ErrorKind::Unavailable), "{status} {said}");
        }
    }

    #[test]
    fn without_a_mark_of_consul_its_words_are_anybodys() {
        for (status, said) in [
            (400, "Bad request"),
            (400, "Missing key name"),
            (403, "Permission denied"),
            (403, "ACL not found"),
            (413, "Request body(600000 bytes) too large, max size: 524288 bytes"),
            (429, "rate limit exceeded"),
            (503, "local rate limit"),
            (500, "No path to datacenter"),
            (500, "Invalid Session TTL"),
            (500, "No cluster leader"),
            (500, "write /var/spool/request: no space left on device"),
        ] {
            let means = (Effect::Unknown, ErrorKind::Unavailable, Blames::Nothing);
            assert_eq!(whose(status, true, Mark::None, said), means, "{status} {said}");
        }
    }

    #[test]
    fn old_agents_have_the_weak_mark_and_no_limits() {
        for (said, kind) in [
            ("Permission denied", ErrorKind::PermissionDenied),
            ("ACL not found", ErrorKind::Unauthenticated),
        ] {
            assert_eq!(whose(403, true, Mark::Weak, said).1, kind, "{said}");
        }
        let means = (Effect::Unknown, ErrorKind::Unavailable, Blames::Nothing);
        assert_eq!(whose(429, true, Mark::Weak, "rate limit exceeded"), means);
        let leader = |status, mark, body: &'static str| {
            let answer = Answer { status, index: None, is_text: false, mark, body: body.into() };
            answer.is_an_old_agents_leader()
        };
        assert!(leader(200, Mark::Weak, "\"127.0.0.1:8300\"") && leader(200, Mark::Weak, "\"\""));
        for (status, mark, body) in [
            (200, Mark::Strong, "\"127.0.0.1:8300\""),
            (200, Mark::None, "\"127.0.0.1:8300\""),
            (403, Mark::Weak, "\"\""),
            (200, Mark::Weak, "\"welcome\""),
            (200, Mark::Weak, "Permission denied"),
        ] {
            assert!(!leader(status, mark, body), "{status} {mark:?} {body}");
        }
    }

    #[test]
    fn what_an_agent_says_before_it_reads_a_request_has_no_mark() {
        let said = "Client sent an HTTP request to an HTTPS server.\n";
        for (is_open, kind) in [(false, ErrorKind::InvalidArgument), (true, ErrorKind::Unavailable)] {
            let answer =
                Answer { status: 400, index: None, is_text: true, mark: Mark::None, body: said.into() };
            let AgentError { failed, .. } = refused("a", is_open, &answer);
            assert_eq!((failed.effect, failed.error.kind()), (Effect::RefusedHere, kind), "{is_open}");
        }
        let said = "Your IP is issuing too many concurrent connections, please rate limit your calls";
        let (effect, kind, _) = whose(429, true, Mark::None, said);
        assert_eq!((effect, kind), (Effect::RefusedHere, ErrorKind::Unavailable));
    }
}
