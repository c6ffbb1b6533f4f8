//! Describes a request: its purpose, and what is sent.

use bytes::Bytes;
use kv_core::{Consistency, backend::retry::RetrySafety, driver::ReadOptions};
use reqwest::Method;
use std::sync::{Arc, atomic::AtomicUsize};

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A read, which changes nothing.
    Read,
    /// A read that any server answers, without a leader.
    Stale,
    /// A read for a watch.
    WatchRead,
    /// A read that is answered when something changes; it is sent to one agent, once.
    BlockingQuery,
    /// A write: another client may write between it and a repeat.
    Write,
    /// A write whose effect is bound to an id of our own.
    Repeatable,
    /// A repeatable write that gives a lock or a session back, or that prolongs the life of a key
    /// whose put took long: it waits for nothing else.
    Release,
    /// A renewal of a session, on which locks and leases hang: it does not even wait for what is
    /// given back.
    Session,
}

impl Purpose {
    /// Returns the purpose of a read, by the consistency that it asks for.
    pub(crate) fn of(read: &ReadOptions) -> Self {
        match read.consistency {
            Consistency::Linearizable => Self::Read,
            Consistency::Stale => Self::Stale,
        }
    }

    /// Returns what repeating a request of this purpose would do.
    pub(crate) fn safety(self) -> RetrySafety {
        match self {
            Self::Read | Self::Stale | Self::WatchRead | Self::BlockingQuery => RetrySafety::Read,
            Self::Repeatable | Self::Release | Self::Session => RetrySafety::Repeatable,
            Self::Write => RetrySafety::Write,
        }
    }

    /// Tells whether the request is more than a read.
    pub(crate) fn changes(self) -> bool {
        self.safety() != RetrySafety::Read
    }
}

/// One request, to be sent to one agent or another.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Counts how often the request was sent.
    pub(super) count: Option<Arc<AtomicUsize>>,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: Bytes::new(), count: None }
    }

    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, path: path.into(), query: Vec::new(), body: body.into(), count: None }
    }

    /// Adds a parameter; of many parameters only the presence counts.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Counts in `count` each time that the request begins to be sent.
    pub(crate) fn counted(self, count: Arc<AtomicUsize>) -> Self {
        Self { count: Some(count), ..self }
    }
}
