//! The events that contenders tell, one line each, from whichever process.

use kv_core::Version;
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Returns the microseconds of the wall clock, which all processes of a machine share.
pub(super) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The fate of a fenced write that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// It was refused, since the lock was lost.
    Refused,
    /// It had no effect, for another reason.
    Failed,
    /// Nobody knows whether it had an effect.
    Unknown,
}

/// One thing that a contender did or saw. An attempt has one name in the whole run, which others
/// read as the holder's value. The time of an event was taken after it, unless the variant says
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Asks for the lock of this number; the time was taken before.
    Asks { attempt: String, lock: usize },
    /// Has the lock.
    Granted { attempt: String, token: u64 },
    /// Was told that it does not have the lock, or gave up, or had an error: only the first is an
    /// answer.
    Missed { attempt: String, is_answer: bool },
    /// Was told that it still holds the lock, by this call; the time was taken before.
    Held { attempt: String, by: String },
    /// Its release has freed the lock.
    Released { attempt: String },
    /// Has put its token, by a fenced write.
    Wrote { attempt: String, began: u64, version: Version },
    /// Has not put its token.
    Unwritten { attempt: String, began: u64, how: Unwritten },
    /// Has read a token of a fenced write.
    Found { lock: usize, began: u64, version: Version, token: u64 },
    /// Has read who holds the lock.
    Holder { lock: usize, began: u64, holder: Option<(u64, String)> },
    /// A read had no answer.
    Unread,
    /// Has closed its handle; `is_ok` tells whether that gave all back, and is `None` when `close`
    /// never answered.
    Closed { began: u64, is_ok: Option<bool> },
    /// Was killed, stopped or cut off, until now; told by whoever did it.
    Struck { began: u64 },
    /// Saw what must not be.
    Wrong { what: String },
    /// Ends; the last line of a process that was not killed.
    Ends,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asks { attempt, lock } => write!(f, "asks {attempt} {lock}"),
            Self::Granted { attempt, token } => write!(f, "granted {attempt} {token}"),
            Self::Missed { attempt, is_answer } => write!(f, "missed {attempt} {is_answer}"),
            Self::Held { attempt, by } => write!(f, "held {attempt} {by}"),
            Self::Released { attempt } => write!(f, "released {attempt}"),
            Self::Wrote { attempt, began, version } => write!(f, "wrote {attempt} {began} {version}"),
            Self::Unwritten { attempt, began, how } => {
                let how = match how {
                    Unwritten::Refused => "refused",
                    Unwritten::Failed => "failed",
                    Unwritten::Unknown => "unknown",
                };
                write!(f, "unwritten {attempt} {began} {how}")
            }
            Self::Found { lock, began, version, token } => {
                write!(f, "found {lock} {began} {version} {token}")
            }
            Self::Holder { lock, began, holder: None } => write!(f, "nobody {lock} {began}"),
            Self::Holder { lock, began, holder: Some((token, value)) } => {
                write!(f, "holder {lock} {began} {token} {value}")
            }
            Self::Unread => write!(f, "unread"),
            Self::Closed { began, is_ok } => {
                let how = is_ok.map_or("never", |is_ok| if is_ok { "ok" } else { "failed" });
                write!(f, "closed {began} {how}")
            }
            Self::Struck { began } => write!(f, "struck {began}"),
            Self::Wrong { what } => write!(f, "wrong {}", what.replace('\n', " ")),
            Self::Ends => write!(f, "ends"),
        }
    }
}

impl Event {
    /// Reads an event from its text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        Some(match *words.as_slice() {
            ["asks", attempt, lock] => Self::Asks { attempt: attempt.into(), lock: lock.parse().ok()? },
            ["granted", attempt, token] => {
                Self::Granted { attempt: attempt.into(), token: token.parse().ok()? }
            }
            ["missed", attempt, is_answer] => {
                Self::Missed { attempt: attempt.into(), is_answer: is_answer.parse().ok()? }
            }
            ["held", attempt, by] => Self::Held { attempt: attempt.into(), by: by.into() },
            ["released", attempt] => Self::Released { attempt: attempt.into() },
            ["wrote", attempt, began, version] => {
                let (began, version) = (began.parse().ok()?, version.parse().ok()?);
                Self::Wrote { attempt: attempt.into(), began, version }
            }
            ["unwritten", attempt, began, how] => {
                let how = match how {
                    "refused" => Unwritten::Refused,
                    "failed" => Unwritten::Failed,
                    "unknown" => Unwritten::Unknown,
                    _ => return None,
                };
                Self::Unwritten { attempt: attempt.into(), began: began.parse().ok()?, how }
            }
            ["found", lock, began, version, token] => {
                let (version, token) = (version.parse().ok()?, token.parse().ok()?);
                Self::Found { lock: lock.parse().ok()?, began: began.parse().ok()?, version, token }
            }
            ["nobody", lock, began] => {
                Self::Holder { lock: lock.parse().ok()?, began: began.parse().ok()?, holder: None }
            }
            ["holder", lock, began, token, value] => {
                let holder = Some((token.parse().ok()?, value.into()));
                Self::Holder { lock: lock.parse().ok()?, began: began.parse().ok()?, holder }
            }
            ["unread"] => Self::Unread,
            ["closed", began, how] => {
                let is_ok = match how {
                    "ok" => Some(true),
                    "failed" => Some(false),
                    "never" => None,
                    _ => return None,
                };
                Self::Closed { began: began.parse().ok()?, is_ok }
            }
            ["struck", began] => Self::Struck { began: began.parse().ok()? },
            ["wrong", ..] => Self::Wrong { what: words[1..].join(" ") },
            ["ends"] => Self::Ends,
            _ => return None,
        })
    }
}

/// The word that begins every line by which a process tells an event.
const MARK: &str = "told";

/// Returns the line of an event.
pub(super) fn line(at: u64, event: &Event) -> String {
    format!("{MARK} {at} {event}")
}

/// Reads the events of what a process printed, and the panics. A last line that a killed process
/// did not print to its end is left out.
pub(super) fn read(printed: &str) -> Vec<(u64, Event)> {
    let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
    let event = |text: &str| {
        if let Some((at, event)) = text.strip_prefix(MARK).and_then(|rest| rest.trim_start().split_once(' '))
        {
            return Some((at.parse().ok()?, Event::parse(event)?));
        }
        text.contains("panicked at").then(|| (0, Event::Wrong { what: text.into() }))
    };
    whole.lines().filter_map(event).collect()
}
