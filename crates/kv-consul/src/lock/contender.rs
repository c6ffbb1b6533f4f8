//! Enters the queue of a lock, for one acquisition, and leaves it again.

use super::sessions::LockSession;
use crate::{
    client::{
        Purpose,
        api::{Done, Fault, Op, Pair},
        on_a_task,
    },
    core::Core,
    names,
};
use kv_core::{
    Error, ErrorKind, Key, Result,
    backend::{LetGo, queue::Left, retry::Answered, unique},
    driver::Deadline,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::watch;

/// The key of one acquisition. It does not keep alive the session that the key hangs on.
pub(crate) struct Contender {
    core: Arc<Core>,
    pub(super) session: Arc<str>,
    pub(crate) let_go: LetGo,
    id: String,
    pub(crate) key: Key,
    /// Holds the server's name of the contender.
    pub(crate) name: String,
    /// Holds its token, once it has entered.
    pub(super) token: OnceLock<u64>,
    each_request: Duration,
    entry: watch::Sender<Entry>,
}

/// The state of the request to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Nothing was sent, or nothing was done and nothing will be.
    Outside,
    /// The request is under way.
    Asking,
    /// All copies of the request are answered.
    Inside,
    /// A copy of the request may still arrive: one of several was answered, or none.
    Late,
}

/// The server's answer to the request to enter.
pub(crate) enum Entering {
    /// The contender is in the queue, which is this; only the contender, where the queue was not
    /// asked for.
    Inside(Vec<Pair>),
    /// An earlier copy of the request put the contender into the queue.
    Before,
    /// The server refuses this contender.
    Refused,
}

/// The place, in the request to enter, of the check that the contender is not there yet.
const IS_NEW: usize = 1;

impl Entering {
    fn of(done: Done, lists: bool) -> Self {
        match done {
            // Before the listing of the queue comes what the write gave.
            Done::Committed(mut pairs) if lists => Self::Inside(pairs.split_off(1.min(pairs.len()))),
            Done::Committed(pairs) => Self::Inside(pairs),
            Done::Refused(faults) if is_there(&faults) => Self::Before,
            Done::Refused(_) => Self::Refused,
        }
    }
}

/// Tells whether a request to enter was refused for nothing but that the contender is there.
fn is_there(faults: &[Fault]) -> bool {
    faults.iter().all(|fault| fault.at == IS_NEW)
}

/// Notes, when it is dropped, that its runtime did not finish a request.
struct LateOnDrop(watch::Sender<Entry>);

impl Drop for LateOnDrop {
    fn drop(&mut self) {
        self.0.send_if_modified(|entry| {
            let is_asking = *entry == Entry::Asking;
            if is_asking {
                *entry = Entry::Late;
            }
            is_asking
        });
    }
}

impl Contender {
    pub(crate) fn new(
        core: &Arc<Core>,
        lock: &Key,
        session: &LockSession,
        each_request: Duration,
    ) -> Result<Self> {
        let id = names::id(unique());
        let key = names::contender(lock, &id)?;
        let name = core.names.name(key.as_str());
        let entry = watch::Sender::new(Entry::Outside);
        let (session, let_go) = (session.id.clone(), session.let_go.clone());
        let token = OnceLock::new();
        Ok(Self { core: core.clone(), session, let_go, id, key, name, token, each_request, entry })
    }

    /// Returns the proof of the contender's fence.
    pub(crate) fn proof(&self) -> String {
        format!("{} {}", self.session, self.name)
    }

    /// Returns the server's name of the mark by which a late request does nothing.
    fn mark(&self) -> String {
        self.core.names.given_up(&self.id)
    }

    /// Enters the queue. The request goes on when its caller does not, since the answer alone
    /// tells whether there is something to take out. Lists the queue of this name as well.
    pub(crate) async fn enter(&self, queue: Option<&str>, value: &[u8]) -> Result<Answered<Entering>> {
        let mut ops = vec![
            Op::check_missing(&self.mark()),
            // A copy that comes late leaves the contender as it is: its holder may have changed
            // its value.
            Op::check_missing(&self.name),
            Op::write(&self.name, value, Some(&self.session)),
        ];
        ops.extend(queue.map(Op::get_tree));
        let (core, each_request) = (self.core.clone(), self.each_request);
        self.entry.send_replace(Entry::Asking);
        let entry = LateOnDrop(self.entry.clone());
        let asking = async move {
            // A repeat finds that the first attempt made the contender.
            let asked = core.ask(Purpose::Repeatable, Deadline::after(each_request), &ops).await;
            entry.0.send_replace(known_by(&asked));
            asked
        };
        let asked = self.core.tasks.to_its_end(asking).await.flatten()?;
        Ok(asked.map(|done| Entering::of(done, queue.is_some())))
    }

    /// Takes the contender out, once the request to enter is answered.
    pub(crate) async fn take_out(&self) -> Result<Left> {
        let mut entry = self.entry.subscribe();
        // The sender is ours, so waiting cannot fail; the request has a deadline of its own.
        let entry = entry.wait_for(|entry| *entry != Entry::Asking).await.map_or(Entry::Late, |entry| *entry);
        let left = match entry {
            Entry::Outside | Entry::Asking => Ok(Left::NotThere),
            Entry::Inside => self.delete(false).await,
            Entry::Late => self.delete(true).await,
        };
        if left.as_ref().is_err_and(Error::is_lasting) {
            // The contender may stay for as long as its session, which others who wait would keep
            // alive.
            self.let_go.begin();
        }
        left
    }

    /// Deletes the contender. Where a copy of the request that made it may still arrive, a mark is
    /// written with it, by which the copy does nothing: otherwise the copy would take the place
    /// anew, and make a fence true again that was given back. The mark goes with the session, as
    /// the copy does: nobody knows how long a server hangs.
    async fn delete(&self, is_late: bool) -> Result<Left> {
        let mut ops = vec![Op::get(&self.name), Op::delete(&self.name)];
        if is_late {
            ops.push(Op::write(&self.mark(), b"", Some(&self.session)));
        }
        let deadline = on_a_task(self.each_request);
        let asked = match self.core.ask(Purpose::Release, deadline, &ops).await {
            // With the session everything of ours is gone, and nothing can come. An earlier
            // attempt may have deleted the contender.
            Err(e) if e.kind() == ErrorKind::LeaseLost => return Ok(Left::Maybe),
            asked => asked?,
        };
        let left = match asked {
            Answered { answer: Done::Committed(_), .. } => return Ok(Left::Gone),
            Answered { is_repeat: false, .. } => Left::NotThere,
            Answered { is_repeat: true, .. } => Left::Maybe,
        };
        if is_late {
            match self.core.txn(Purpose::Release, deadline, &ops[1..]).await {
                Err(e) if e.kind() == ErrorKind::LeaseLost => {}
                marked => drop(marked?),
            }
        }
        Ok(left)
    }
}

fn known_by(asked: &Result<Answered<Done>>) -> Entry {
    match asked {
        Ok(Answered { is_repeat: true, .. }) => Entry::Late,
        Ok(Answered { answer: Done::Refused(faults), .. }) if is_there(faults) => Entry::Late,
        Ok(Answered { answer: Done::Committed(_), .. }) => Entry::Inside,
        Err(e) if e.kind() == ErrorKind::OutcomeUnknown => Entry::Late,
        // A session that is gone takes the contender with it.
        Ok(Answered { answer: Done::Refused(_), .. }) | Err(_) => Entry::Outside,
    }
}
