//! Makes the operations of a write, and reads what their answer means.

use crate::client::api::{Fault, Op, Pair};
use kv_core::{Error, ErrorKind, Result, Version, driver::Expect};
use std::sync::Arc;

/// Returns the server's index of a version. For a version that cannot be Consul's it is one that
/// equals nothing there.
pub(super) fn modify_index(version: Version) -> u64 {
    match version.parts() {
        (index, 0) => index,
        _ => u64::MAX,
    }
}

/// Adds the operations that make the key anew: otherwise the same bytes would keep their version,
/// and the key its session.
pub(super) fn make(ops: &mut Vec<Op>, name: &str, value: &[u8], session: Option<&Arc<str>>, may_exist: bool) {
    if may_exist {
        ops.push(Op::delete(name));
    }
    ops.push(Op::write(name, value, session));
}

/// Tells whether a write with this answer certainly took no effect.
pub(super) fn is_undone<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(e) if e.kind() != ErrorKind::OutcomeUnknown)
}

/// Returns the version of what was written last.
pub(super) fn version_of(done: &[Pair]) -> Result<Version> {
    let last = done.last().ok_or_else(|| {
        let why = "the server did not tell the version of what it wrote";
        Error::new(ErrorKind::OutcomeUnknown, why)
    });
    last.map(Pair::version)
}

/// Returns the error of a write whose condition did not hold.
pub(super) fn conflict(expect: Expect, faults: &[Fault]) -> Error {
    let said = faults.first().map_or("", |fault| &fault.what);
    match expect {
        Expect::Version(version) => {
            Error::new(ErrorKind::KeyModified, format!("expected version {version}; the server says: {said}"))
        }
        Expect::Missing => {
            Error::new(ErrorKind::KeyExists, format!("expected no key; the server says: {said}"))
        }
        Expect::Anything => Error::new(ErrorKind::Other, format!("the server says: {said}")),
    }
}
