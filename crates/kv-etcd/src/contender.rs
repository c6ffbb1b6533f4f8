//! What an attempt puts in a lock's line, and how it is taken out again.

use crate::{
    client::Purpose,
    session::{Floor, Own},
    store::Inner,
    txn::{deleted, found, is_missing},
};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use kv_core::{
    backend::{Undo, retry::Answered, unique},
    *,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The key of one attempt. It does not keep the session alive on which the key hangs.
pub(crate) struct Contender {
    inner: Arc<Inner>,
    pub(crate) lease: i64,
    pub(crate) floor: Arc<Floor>,
    /// Among those of the session.
    pub(crate) number: u64,
    pub(crate) name: Vec<u8>,
    each_request: Duration,
    /// Whether the request to enter was sent at all, and whether a copy of it may still arrive.
    pub(crate) was_sent: AtomicBool,
    pub(crate) has_copies: AtomicBool,
}

impl Contender {
    pub(crate) fn new(inner: &Arc<Inner>, lock: &Key, session: &Own, each_request: Duration) -> Self {
        Self {
            inner: inner.clone(),
            lease: session.lease,
            floor: session.floor.clone(),
            number: session.floor.next(),
            name: inner.names.contender(lock, unique()),
            each_request,
            was_sent: AtomicBool::new(false),
            has_copies: AtomicBool::new(false),
        }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    pub(crate) fn floor_name(&self) -> Vec<u8> {
        self.inner.names.floor(self.lease)
    }

    /// Whether no attempt of a greater number was given up.
    pub(crate) fn is_above(&self) -> Compare {
        Compare::value(self.floor_name(), CompareOp::Less, Floor::spelt(self.number))
    }

    /// Puts the floor, up to this number.
    pub(crate) fn raise(&self, to: u64) -> TxnOp {
        let with_session = PutOptions::new().with_lease(self.lease);
        TxnOp::put(self.floor_name(), Floor::spelt(to), Some(with_session))
    }

    /// The answer says that nothing was put in line. What undoes it is needed all the same where a copy of the request may
    /// do it behind the answer.
    pub(crate) fn is_answered(&self, give_up: Undo) {
        match self.has_copies.load(Ordering::Relaxed) {
            true => drop(give_up),
            false => give_up.forget(),
        }
    }

    /// Deletes it; where a copy of the request that made it may still arrive, that one will do nothing. Whether it was there,
    /// and whether a lost answer may have said so before.
    pub(crate) async fn delete(&self) -> Result<(bool, bool)> {
        if self.has_copies.load(Ordering::Relaxed) {
            match self.refuse_late().await {
                Err(e) if e.kind() == ErrorKind::NoSpace => {}
                answer => return answer,
            }
        }
        let delete = self.inner.client.ask(Purpose::Repeatable, self.deadline(), |service| {
            let name = self.name.clone();
            async move { service.kv_client().delete(name, None).await }
        });
        let Answered { answer, is_repeat } = delete.await?;
        Ok((answer?.deleted() > 0, is_repeat))
    }

    /// Deletes it, and has the request that makes it do nothing should it still arrive.
    pub(crate) async fn refuse_late(&self) -> Result<(bool, bool)> {
        let (mut was_there, mut maybe) = (false, false);
        loop {
            let when = if self.floor.is_made() { self.is_above() } else { is_missing(self.floor_name()) };
            let delete = || TxnOp::delete(self.name.clone(), None);
            let txn = Txn::new()
                .when([when])
                .and_then([delete(), self.raise(self.number)])
                .or_else([delete(), TxnOp::get(self.floor_name(), None)]);
            let ask = self.inner.client.ask(Purpose::Repeatable, self.deadline(), |service| {
                let txn = txn.clone();
                async move { service.kv_client().txn(txn).await }
            });
            let Answered { answer, is_repeat } = ask.await?;
            let answer = answer?;
            (was_there, maybe) = (was_there || deleted(&answer) > Some(0), maybe || is_repeat);
            let floor = found(&answer).into_iter().flatten().next();
            self.floor.is(answer.succeeded() || floor.is_some());
            let is_refused = floor.is_some_and(|floor| floor.value() >= Floor::spelt(self.number).as_bytes());
            if answer.succeeded() || is_refused {
                return Ok((was_there, maybe));
            }
        }
    }
}
