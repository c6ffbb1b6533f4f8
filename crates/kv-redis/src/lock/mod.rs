//! Locks. The contenders of a lock stand in its queue, and hold the lock in the order of their
//! numbers.

mod contender;
pub(crate) mod holder;
mod known;
pub(crate) mod listed;
mod listen;
mod next_look;
mod requests;
pub(crate) mod session;
mod waiters;
mod waiting;

use crate::{
    client::{answer::next, script},
    core::Core,
    error::undone,
    lock::{
        contender::Contender,
        holder::{OWN, token},
        listen::listen,
        session::{Sessions, Use},
        waiters::QueuePosition,
        waiting::Waiting,
    },
};
use kv_core::{
    Bytes, ErrorKind, Fence, Key, Result,
    backend::{
        Alive, Undo,
        retry::{Answered, RetrySafety},
        unique,
    },
    driver::{Acquired, Deadline, LockOptions},
};
use std::{sync::Arc, time::Duration};

/// One attempt to hold one lock.
struct Attempt {
    core: Arc<Core>,
    used: Use,
    name: Key,
    contender: String,
    own: u64,
    each_request: Duration,
}

/// The server's answer to a contender that wants to enter the queue.
enum Entered {
    First(u64),
    /// The number, and the time that is left of the life of the contender in front.
    Waits(u64, Option<Duration>),
    Taken,
    /// The session is over.
    Over,
}

/// Acquires a lock: [`Store::lock`](kv_core::driver::Store::lock).
pub(crate) async fn lock(
    core: &Arc<Core>,
    sessions: &Sessions,
    name: &Key,
    options: &LockOptions,
) -> Result<Option<Acquired>> {
    loop {
        let used = sessions.use_one(core, options.ttl, options.each_request)?;
        let attempt = Arc::new(Attempt {
            core: core.clone(),
            name: name.clone(),
            contender: used.session.contender(),
            own: unique() % OWN,
            each_request: options.each_request,
            used,
        });
        let session = &attempt.used.session;
        // Both are made before anything is sent: so a dropped future leaves nothing behind, and a
        // message that comes early finds the wait.
        let leave = attempt.clone().leave();
        let mut waiting = Waiting::new(session, &attempt.contender);
        let asked = core.clock.now();
        let number = match attempt.enter(options).await {
            Ok((Entered::Over, is_repeat)) => {
                attempt.is_not_in_line(leave, is_repeat);
                session.forget();
                continue;
            }
            Ok((Entered::Taken, is_repeat)) => {
                attempt.is_not_in_line(leave, is_repeat);
                return Ok(None);
            }
            Err(e) => {
                // A script that the server stopped for another reason may have done a part.
                if !matches!(e.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Other) {
                    attempt.is_not_in_line(leave, false);
                }
                return Err(e);
            }
            Ok((Entered::First(number), _)) => {
                session.opened(asked);
                number
            }
            Ok((Entered::Waits(number, left), _)) => {
                session.opened(asked);
                session.waiting.entered(&attempt.contender);
                if let Some(left) = left {
                    session.next_look.dies(asked + left + Duration::from_millis(1), core.clock.now());
                }
                listen(session);
                if waiting.place().await == QueuePosition::Lost {
                    if session.is_over() {
                        session.forget();
                    }
                    continue;
                }
                number
            }
        };
        let Some(alive) = session.alive().map(Alive::another) else { continue };
        if !alive.is_held() {
            session.forget();
            continue;
        }
        let token = token(number, attempt.own)?;
        session.holds(&attempt.contender, &alive);
        drop(waiting);
        let fence = Fence::new(name.clone(), token, format!("{number} {}", attempt.contender));
        return Ok(Some(Acquired { fence, alive, release: leave }));
    }
}

impl Attempt {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    fn names(&self) -> [String; 3] {
        let [queue, brought] = self.core.names.lock(&self.name);
        [queue, brought, self.core.names.session(&self.used.session.id)]
    }

    /// Enters the queue, or acquires the lock at once. Also returns whether the answer is that of
    /// a repeat: an earlier attempt may be on its way still.
    async fn enter(&self, options: &LockOptions) -> Result<(Entered, bool)> {
        let session = &self.used.session;
        let flag = |on: bool| if on { "1" } else { "0" };
        let brought = [format!("{}\n", self.own).as_bytes(), &options.value].concat();
        let arguments = [
            self.name.as_str().into(),
            self.contender.as_str().into(),
            session.ttl.as_millis().to_string().into(),
            flag(session.alive().is_none()).into(),
            flag(options.wait).into(),
            Bytes::from(brought).into(),
        ];
        // A repeat finds the contender that the first attempt made.
        let request = self.core.request(&script::ENTER, self.names(), arguments);
        let answered = self.core.client.run(RetrySafety::Repeatable, self.deadline(), &request).await?;
        let Answered { answer, is_repeat } = answered;
        let mut answer = answer.list()?;
        let word = next(&mut answer)?.text()?;
        let mut number = || -> Result<u64> { next(&mut answer)?.unsigned() };
        let entered = match word.as_str() {
            "first" => Entered::First(number()?),
            "waits" => {
                let (number, left) = (number()?, next(&mut answer)?.number()?);
                Entered::Waits(number, u64::try_from(left).ok().map(Duration::from_millis))
            }
            "taken" => Entered::Taken,
            _ => Entered::Over,
        };
        Ok((entered, is_repeat))
    }

    /// Makes the undo that leaves the queue, or has a request to enter that is still on its way do
    /// nothing. It returns `true` if the contender was in front.
    fn leave(self: Arc<Self>) -> Undo {
        let tasks = self.core.tasks.clone();
        tasks.undo_repeatable(move || self.clone().give_back())
    }

    async fn give_back(self: Arc<Self>) -> Result<bool> {
        let (session, each) = (&self.used.session, self.each_request);
        session.holds_no_more(&self.contender);
        session.may_be_open();
        let contender = Contender::new(&self.core, session, &self.name, &self.contender, each);
        let left = contender.take_out().await;
        if left.is_err() {
            contender.take_out_later();
        }
        // What a repeat finds does not answer for the first attempt.
        left.and_then(|left| undone(left.answer, left.is_repeat))
    }

    /// Disarms the undo, since the server does not have the contender. After a repeat it is
    /// dropped instead, and so runs: an earlier attempt may still bring the contender in.
    fn is_not_in_line(&self, leave: Undo, is_repeat: bool) {
        if is_repeat {
            return drop(leave);
        }
        leave.forget();
        self.used.session.has_left(&self.contender);
    }
}
