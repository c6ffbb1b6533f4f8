//! The contender of one acquisition, which waits in the queue of a lock, and the condition that
//! keeps a late request out.

use super::{
    delete_watcher::{DeleteWatch, DeleteWatcher},
    sessions::{Floor, LockSession},
};
use crate::client::txn::{is_missing, only_the_key};
use etcd_client::{Compare, CompareOp, PutOptions, TxnOp};
use kv_core::{
    Error, Result,
    backend::{LetGo, queue::Left},
};
use std::sync::{Arc, Weak};

/// The key of one acquisition. It does not keep alive the session that the key hangs on.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) lease: i64,
    pub(crate) floor: Arc<Floor>,
    pub(crate) let_go: LetGo,
    /// Holds the number of the acquisition, among those of the session.
    pub(crate) number: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) floor_name: Vec<u8>,
    pub(crate) watcher: Weak<DeleteWatcher>,
}

impl Contender {
    pub(crate) fn new(session: &LockSession, name: Vec<u8>, floor_name: Vec<u8>) -> Self {
        Self {
            lease: session.lease,
            floor: session.floor.clone(),
            let_go: session.let_go.clone(),
            number: session.floor.next(),
            name,
            floor_name,
            watcher: Arc::downgrade(&session.watcher),
        }
    }

    /// Compares the floor: true unless an acquisition of this or a greater number was given up.
    /// `is_made` tells whether the floor exists, as far as it is known.
    pub(crate) fn may_enter(&self, is_made: bool) -> Compare {
        match is_made {
            true => Compare::value(self.floor_name.clone(), CompareOp::Less, Floor::spelt(self.number)),
            false => is_missing(self.floor_name.clone()),
        }
    }

    /// Puts the floor, with this number.
    pub(crate) fn raise(&self, to: u64) -> TxnOp {
        let with_session = PutOptions::new().with_lease(self.lease);
        TxnOp::put(self.floor_name.clone(), Floor::spelt(to), Some(with_session))
    }

    /// Reads the floor.
    pub(crate) fn look_at_floor(&self) -> TxnOp {
        TxnOp::get(self.floor_name.clone(), None)
    }

    /// Takes the contender out of the queue.
    pub(crate) fn delete(&self) -> TxnOp {
        TxnOp::delete(self.name.clone(), None)
    }

    /// Reads the contender, without its value.
    pub(crate) fn look(&self) -> TxnOp {
        only_the_key(self.name.clone())
    }

    /// Watches a name of the queue from this revision on, or from now on where it is 0; `None`
    /// where nobody watches any more.
    pub(crate) fn watch(&self, name: Vec<u8>, from: i64) -> Option<DeleteWatch> {
        self.watcher.upgrade().map(|watcher| watcher.watch(name, from))
    }

    /// Notes how the attempt to take the contender out has ended. A contender whose removal is
    /// refused may stay for as long as its session, which other contenders that wait would keep
    /// alive.
    pub(crate) fn left(&self, left: Result<Left>) -> Result<Left> {
        if left.as_ref().is_err_and(Error::is_lasting) {
            self.let_go.begin();
        }
        left
    }
}
