//! The messages of the protocol, in frames of a length and a message. A value goes as one piece:
//! number by number, it would keep the connection from everything else meanwhile.

mod behind;

use kv_core::{
    Condition, Directory, Entry, Error, ErrorKind, Fence, HeldLock, Holder, Item, Key, LeaseId, Position,
    Result, Version, WatchEvent, Written,
    driver::{Decision, Expect, PutOptions, Target, Transaction, Write},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

pub(super) type Id = u64;
type Bytes = Vec<u8>;
type At = (u64, u64);

/// A request: its number, by which answers name it, and what is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request(pub(super) u64, pub(super) Ask);

/// An answer to the request of this number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response(pub(super) u64, pub(super) Answer);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The first request of a connection: the prefix of all names.
    Hello(String),
    Ping,
    Get(String),
    Put {
        key: String,
        #[serde(with = "serde_bytes")]
        value: Bytes,
        expect: Expected,
        ttl: Option<Duration>,
        lease: Option<String>,
    },
    Delete {
        key: String,
        expect: Expected,
    },
    List {
        directory: String,
        recursive: bool,
        keys_only: bool,
        limit: Option<u64>,
        after: Option<String>,
        from: Option<Bytes>,
    },
    DeleteTree(String),
    Transact {
        conditions: Vec<If>,
        writes: Vec<Then>,
    },
    /// The next events of a watch, which the first of these begins.
    Next {
        id: Id,
        begin: Option<Watched>,
    },
    Unwatch(Id),
    /// Asks for a lock; the first answer is `Queued` when the request has to wait.
    Lock {
        id: Id,
        name: String,
        ttl: Duration,
        #[serde(with = "serde_bytes")]
        value: Bytes,
        wait: bool,
    },
    Lease {
        id: Id,
        ttl: Duration,
    },
    /// Renews a lock or lease.
    Renew(Id),
    /// Gives a lock, a place in the queue or a lease back.
    End(Id),
    Holder(String),
    Locks {
        directory: String,
        from: Option<Bytes>,
    },
    /// Changes the value of the holder, if it has this token.
    SetHolder {
        name: String,
        token: u64,
        #[serde(with = "serde_bytes")]
        value: Bytes,
    },
    /// Takes the lock from the holder of this token.
    Break {
        name: String,
        token: u64,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Failed {
        kind: u8,
        message: String,
    },
    Done(bool),
    Entry(Option<Row>),
    Written(At, Option<Duration>),
    Page(Vec<Listed>, Option<Bytes>),
    Deleted(Option<u64>),
    Committed(Vec<Option<(At, Option<Duration>)>>),
    Refused(u64),
    Events(Vec<Event>),
    Queued,
    Locked(Option<u64>),
    Leased(String),
    /// The token, how often the value was changed, and the value.
    Holder(Option<(u64, u64, Bytes)>),
    Locks(Vec<Lock>, Option<Bytes>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row(String, #[serde(with = "serde_bytes")] Bytes, At);

/// A lock that is held.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lock {
    name: String,
    token: u64,
    changes: u64,
    #[serde(with = "serde_bytes")]
    value: Bytes,
    waiters: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Listed {
    Entry(Row),
    Key(String, At),
    Directory(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Expected {
    Anything,
    Missing,
    Version(At),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum If {
    Version(String, At),
    Exists(String),
    Missing(String),
    Held(String, u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Then {
    Put(String, #[serde(with = "serde_bytes")] Bytes, Option<Duration>, Option<String>),
    Delete(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Watched {
    Key(String),
    Tree(String),
    Holder(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Event {
    Put(Row),
    Delete(String, At),
    Synced,
}

/// The message of the error for an answer that is not the server's.
pub(super) const FOREIGN: &str = "an answer of HTTP, which the server does not speak";

pub(super) fn frame(message: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    bytes.extend(
        postcard::to_stdvec(message).map_err(|e| garbled("a message that cannot be sent").with_cause(e))?,
    );
    let length = u32::try_from(bytes.len() - 4).map_err(|e| garbled("too long a message").with_cause(e))?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Reads a message; fails when no byte comes for `idle`.
pub(super) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    idle: Duration,
) -> io::Result<T> {
    let length = timeout(idle, from.read_u32()).await??;
    if length.to_be_bytes() == *b"HTTP" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, FOREIGN));
    }
    let length = u64::from(length);
    let (mut bytes, mut from) = (Vec::new(), from.take(length));
    while timeout(idle, from.read_buf(&mut bytes)).await?? > 0 {}
    if from.limit() > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

pub(super) fn garbled(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

pub(super) fn at(version: Version) -> At {
    version.parts()
}

pub(super) fn version((high, low): At) -> Version {
    Version::new(high, low)
}

pub(super) fn key(name: &str) -> Result<Key> {
    Key::from_stored(name).ok_or_else(|| garbled("a name that is no key"))
}

pub(super) fn directory(name: &str) -> Result<Directory> {
    if name.is_empty() { Ok(Directory::root()) } else { Ok(key(name)?.as_directory()) }
}

/// Reads a place in a listing, as [`Position::start`] gives it.
pub(super) fn position(name: &str) -> Result<Position> {
    Ok(match name.strip_suffix('/') {
        Some(name) => directory(name)?.into(),
        None => key(name)?.into(),
    })
}

pub(super) fn written(written: Written) -> (At, Option<Duration>) {
    (at(written.version), written.ttl)
}

pub(super) fn was_written((at, ttl): (At, Option<Duration>)) -> Written {
    Written::new(version(at), ttl)
}

const KINDS: [ErrorKind; 16] = [
    ErrorKind::Other,
    ErrorKind::InvalidKey,
    ErrorKind::InvalidArgument,
    ErrorKind::KeyExists,
    ErrorKind::KeyModified,
    ErrorKind::TooLarge,
    ErrorKind::Unsupported,
    ErrorKind::Unauthenticated,
    ErrorKind::PermissionDenied,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::OutcomeUnknown,
    ErrorKind::LockLost,
    ErrorKind::LeaseLost,
    ErrorKind::Closed,
    ErrorKind::Corrupt,
];

pub(super) fn failed(error: &Error) -> Answer {
    let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or_default();
    Answer::Failed { kind: kind as u8, message: error.to_string() }
}

pub(super) fn failure(kind: u8, message: String) -> Error {
    Error::new(KINDS.get(usize::from(kind)).copied().unwrap_or(ErrorKind::Other), message)
}

impl From<&Entry> for Row {
    fn from(entry: &Entry) -> Self {
        Self(entry.key.to_string(), entry.value.to_vec(), at(entry.version))
    }
}

impl Row {
    pub(super) fn entry(self) -> Result<Entry> {
        Ok(Entry::new(key(&self.0)?, self.1, version(self.2)))
    }
}

impl From<&HeldLock> for Lock {
    fn from(lock: &HeldLock) -> Self {
        let HeldLock { name, holder, waiters, .. } = lock;
        let (token, changes, value) = (holder.token, holder.changes, holder.value.to_vec());
        Self { name: name.to_string(), token, changes, value, waiters: *waiters }
    }
}

impl Lock {
    pub(super) fn held(self) -> Result<HeldLock> {
        let holder = Holder::new(self.token, self.value).with_changes(self.changes);
        Ok(HeldLock::new(key(&self.name)?, holder, self.waiters))
    }
}

impl From<&Item> for Listed {
    fn from(item: &Item) -> Self {
        match item {
            Item::Entry(entry) => Self::Entry(entry.into()),
            Item::Key(key, version) => Self::Key(key.to_string(), at(*version)),
            Item::Directory(directory) => Self::Directory(directory.as_str().to_owned()),
        }
    }
}

impl Listed {
    pub(super) fn item(self) -> Result<Item> {
        Ok(match self {
            Self::Entry(row) => Item::Entry(row.entry()?),
            Self::Key(name, at) => Item::Key(key(&name)?, version(at)),
            Self::Directory(name) => Item::Directory(directory(&name)?),
        })
    }
}

impl From<Expect> for Expected {
    fn from(expect: Expect) -> Self {
        match expect {
            Expect::Anything => Self::Anything,
            Expect::Missing => Self::Missing,
            Expect::Version(version) => Self::Version(at(version)),
        }
    }
}

impl From<Expected> for Expect {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Anything => Self::Anything,
            Expected::Missing => Self::Missing,
            Expected::Version(at) => Self::Version(version(at)),
        }
    }
}

pub(super) fn lease_name(options: &PutOptions) -> Option<String> {
    options.lease.as_ref().map(|lease| lease.as_str().to_owned())
}

pub(super) fn put_options(ttl: Option<Duration>, lease: Option<String>) -> PutOptions {
    PutOptions::default().ttl(ttl).lease(lease.map(LeaseId::new))
}

pub(super) fn steps(transaction: Transaction) -> Ask {
    let conditions = transaction.conditions.into_iter().map(|condition| match condition {
        Condition::Version(key, version) => If::Version(key.to_string(), at(version)),
        Condition::Exists(key) => If::Exists(key.to_string()),
        Condition::Missing(key) => If::Missing(key.to_string()),
        Condition::Held(fence) => If::Held(fence.lock().to_string(), fence.token()),
    });
    let writes = transaction.writes.into_iter().map(|write| match write {
        Write::Put { key, value, options } => {
            Then::Put(key.to_string(), value.into(), options.ttl, lease_name(&options))
        }
        Write::Delete { key } => Then::Delete(key.to_string()),
    });
    Ask::Transact { conditions: conditions.collect(), writes: writes.collect() }
}

pub(super) fn transaction(conditions: Vec<If>, writes: Vec<Then>) -> Result<Transaction> {
    let conditions = conditions.into_iter().map(|condition| {
        Ok(match condition {
            If::Version(name, at) => Condition::Version(key(&name)?, version(at)),
            If::Exists(name) => Condition::Exists(key(&name)?),
            If::Missing(name) => Condition::Missing(key(&name)?),
            If::Held(name, token) => Condition::Held(Fence::new(key(&name)?, token, Bytes::new())),
        })
    });
    let writes = writes.into_iter().map(|write| {
        Ok(match write {
            Then::Put(name, value, ttl, lease) => {
                Write::Put { key: key(&name)?, value: value.into(), options: put_options(ttl, lease) }
            }
            Then::Delete(name) => Write::Delete { key: key(&name)? },
        })
    });
    Ok(Transaction::new(conditions.collect::<Result<_>>()?, writes.collect::<Result<_>>()?))
}

pub(super) fn outcome(outcome: Decision) -> Answer {
    match outcome {
        Decision::Committed(done) => Answer::Committed(done.into_iter().map(|w| w.map(written)).collect()),
        Decision::Refused { condition } => Answer::Refused(condition as u64),
    }
}

impl From<&Target> for Watched {
    fn from(target: &Target) -> Self {
        let name = target.name().to_owned();
        match target {
            Target::Key(_) => Self::Key(name),
            Target::Tree(_) => Self::Tree(name),
            Target::Holder(_) => Self::Holder(name),
        }
    }
}

impl Watched {
    pub(super) fn target(&self) -> Result<Target> {
        Ok(match self {
            Self::Key(name) => Target::Key(key(name)?),
            Self::Tree(name) => Target::Tree(directory(name)?),
            Self::Holder(name) => Target::Holder(key(name)?),
        })
    }
}

impl From<&WatchEvent> for Event {
    fn from(event: &WatchEvent) -> Self {
        match event {
            WatchEvent::Put(entry) => Self::Put(entry.into()),
            WatchEvent::Delete { key, version } => Self::Delete(key.to_string(), at(*version)),
            WatchEvent::Synced => Self::Synced,
        }
    }
}

impl Event {
    pub(super) fn event(self) -> Result<WatchEvent> {
        Ok(match self {
            Self::Put(row) => WatchEvent::Put(row.entry()?),
            Self::Delete(name, at) => WatchEvent::Delete { key: key(&name)?, version: version(at) },
            Self::Synced => WatchEvent::Synced,
        })
    }
}
