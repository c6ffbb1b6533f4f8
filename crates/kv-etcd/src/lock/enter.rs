//! Puts a contender into the queue of a lock, and keeps a request out that comes late.

use super::{
    contender::Contender,
    queue::{Before, JUNK, LockQueue, left},
    sessions::Floor,
};
use crate::client::{
    Purpose,
    answer::token,
    txn::{deleted, found, is_missing},
};
use etcd_client::{
    Client as Service, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnResponse,
};
use kv_core::{
    ErrorKind, Result,
    backend::{
        queue::{Entered, Left, Position, Sent},
        retry::Answered,
    },
};

/// The reason for which a contender was refused.
enum Refused {
    Is(Entered<Before>),
    /// Only names that are no contenders keep us from holding the lock at once.
    AmongJunk,
    /// The floor exists, or is missing, against what was assumed.
    Floor,
}

impl LockQueue {
    /// Puts a contender into the queue, unless it is to stay out.
    pub(super) async fn enter_queue(&self, own: &Contender, sent: &Sent) -> Result<Entered<Before>> {
        sent.nothing_yet();
        let mut wait = self.wait;
        loop {
            let is_made = own.floor.is_made();
            let txn = self.entry(own, is_made, wait);
            let request = |service: &Service| {
                sent.sending();
                let (mut kv, txn) = (service.kv_client(), txn.clone());
                async move { kv.txn(txn).await }
            };
            // A repeat finds the contender that the first attempt made, and leaves it as it is:
            // its holder may have changed its value.
            let asked = self.core.client.ask(Purpose::Repeatable, self.deadline(), request).await;
            let Answered { answer, is_repeat } = asked.inspect_err(|e| {
                if e.kind() == ErrorKind::NoSpace {
                    // A server that becomes full by a request does it, though it refuses it.
                    sent.answered(true, false);
                }
            })?;
            let answer = answer?;
            if answer.succeeded() {
                own.floor.set_made(true);
                sent.answered(true, is_repeat);
                return self.entered(own, sent, &answer).await;
            }
            let refused = self.refused(own, &answer, is_made);
            sent.answered(matches!(refused, Refused::Is(Entered::Queued { .. })), is_repeat);
            match refused {
                Refused::Is(entered) => return Ok(entered),
                Refused::AmongJunk => wait = true,
                Refused::Floor => {}
            }
        }
    }

    /// Makes the request that puts the contender at the end of the queue and reads who is before
    /// it. Without `wait` the contender enters only an empty queue.
    fn entry(&self, own: &Contender, is_made: bool, wait: bool) -> Txn {
        let is_new = match wait {
            true => is_missing(own.name.clone()),
            false => is_missing(self.range.start.clone()).with_range(self.range.end.clone()),
        };
        let when = vec![own.may_enter(is_made), is_new];
        let put = PutOptions::new().with_lease(own.lease);
        let last_two = self.all().with_sort(SortTarget::Create, SortOrder::Descend).with_limit(2);
        let mut then = vec![
            TxnOp::put(own.name.clone(), self.value.clone(), Some(put)),
            TxnOp::get(self.range.start.clone(), Some(last_two)),
        ];
        if !is_made {
            then.push(own.raise(0));
        }
        let others = TxnOp::get(self.range.start.clone(), Some(self.all().with_limit(JUNK)));
        Txn::new().when(when).and_then(then).or_else([own.look(), others, own.look_at_floor()])
    }

    /// Reads an answer by which the contender entered.
    async fn entered(&self, own: &Contender, sent: &Sent, answer: &TxnResponse) -> Result<Entered<Before>> {
        let mut last = found(answer).into_iter().flatten();
        let Some(found) = last.next().filter(|kv| kv.key() == own.name) else {
            // The request came twice, or it is not known what was done.
            sent.answered(true, true);
            return self.look_for(own).await;
        };
        let at = found.create_revision();
        let position = match last.next() {
            None => Some(Position::First),
            Some(before) if self.is_contender(&before) => Some(Position::Behind(Before::new(&before, at))),
            Some(_) => None,
        };
        Ok(queued(at, position))
    }

    /// Looks whether a contender is in the queue.
    async fn look_for(&self, own: &Contender) -> Result<Entered<Before>> {
        let keys_only = GetOptions::new().with_keys_only();
        let found = self.core.range(Purpose::Read, self.deadline(), &own.name, keys_only).await?;
        Ok(found.kvs().first().map_or(Entered::Lost, |own| queued(own.create_revision(), None)))
    }

    /// Reads an answer by which the contender was refused.
    fn refused(&self, own: &Contender, answer: &TxnResponse, was_made: bool) -> Refused {
        let mut found = found(answer).into_iter();
        let (there, all) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
        let floor = found.next().and_then(|mut floor| floor.pop());
        if let Some(there) = there.first() {
            return Refused::Is(queued(there.create_revision(), None));
        }
        own.floor.set_made(floor.is_some());
        match &floor {
            // The next acquisition has another session. Who waits by this one keeps its place.
            Some(floor) if !own.floor.check(floor.value()) => Refused::Is(Entered::Lost),
            // An acquisition of this or a greater number was given up meanwhile.
            Some(floor) if floor.value() >= Floor::spelt(own.number).as_bytes() => Refused::Is(Entered::Lost),
            floor if floor.is_some() != was_made => Refused::Floor,
            // A contender may stand behind the names that were read: from within the queue it is
            // seen.
            _ if !all.iter().any(|kv| self.is_contender(kv)) => Refused::AmongJunk,
            _ => Refused::Is(Entered::Taken),
        }
    }

    /// Takes a contender out of the queue; the request that makes it does nothing if it still
    /// arrives.
    pub(super) async fn refuse_late(&self, own: &Contender) -> Result<Left> {
        let (mut was_there, mut is_repeat) = (false, false);
        loop {
            let txn = Txn::new()
                .when([own.may_enter(own.floor.is_made())])
                .and_then([own.delete(), own.raise(own.number)])
                .or_else([own.delete(), own.look_at_floor()]);
            let request = |service: &Service| {
                let (mut kv, txn) = (service.kv_client(), txn.clone());
                async move { kv.txn(txn).await }
            };
            let asked = self.core.client.ask(Purpose::Repeatable, self.deadline(), request).await?;
            let answer = asked.answer?;
            was_there |= deleted(&answer) > Some(0);
            is_repeat |= asked.is_repeat;
            let floor = found(&answer).into_iter().flatten().next();
            own.floor.set_made(answer.succeeded() || floor.is_some());
            let is_refused = floor.is_some_and(|floor| floor.value() >= Floor::spelt(own.number).as_bytes());
            if answer.succeeded() || is_refused {
                return Ok(left(was_there, is_repeat));
            }
        }
    }
}

fn queued(create_revision: i64, position: Option<Position<Before>>) -> Entered<Before> {
    Entered::Queued { token: token(create_revision), position }
}
