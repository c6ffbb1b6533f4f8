//! Locks: contenders in the order of their numbers.

mod listen;
pub(crate) mod session;
mod soonest;
mod waiting;

use crate::{
    client::script::{self, next},
    core::{Core, Part},
    error::undone,
    lock::{
        session::{Session, Use},
        waiting::QueuePosition,
    },
    watch::holder::{OWN, token},
};
use kv_core::{
    Acquired, Bytes, Deadline, ErrorKind, Fence, Key, LockOptions, Result,
    backend::{
        Alive, Backoff, Undo,
        retry::{Answered, RetrySafety},
        unique,
    },
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, sync::Mutex as Turn};

/// One attempt to hold one lock.
struct Attempt {
    core: Arc<Core>,
    used: Use,
    name: Key,
    contender: String,
    own: u64,
    each_request: Duration,
}

/// What the server says to one who wants in.
enum Entered {
    First(u64),
    /// With what is left of the life of who is in front.
    Waits(u64, Option<Duration>),
    Taken,
    /// The session is over.
    Over,
}

/// [`Store::lock`].
pub(crate) async fn lock(part: &Part, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = part.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| part.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    loop {
        let used = part.sessions.use_one(&part.core, ttl, options.each_request);
        let attempt = Arc::new(Attempt {
            core: part.core.clone(),
            name: name.clone(),
            contender: used.session.contender(),
            own: unique() % OWN,
            each_request: options.each_request,
            used,
        });
        let session = &attempt.used.session;
        // Both are made before anything is sent: a dropped future leaves nothing behind, and no word comes too early.
        let leave = attempt.clone().leave();
        let mut waiting = session.waits(&attempt.contender);
        let asked = part.core.clock.now();
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
                // A script that the server stopped for another reason may have been half-way.
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
                session.is_in_line(&attempt.contender);
                if let Some(left) = left {
                    session.soonest.dies(asked + left + Duration::from_millis(1), part.core.clock.now());
                }
                session.listen();
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

    /// Gets in line, or holds the lock at once; and whether the answer is that of a repeat: an
    /// earlier try may be on its way still.
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
        // A repeat finds the contender that the first one made.
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

    /// Leaves the line, or has a request to enter that is still on its way do nothing: `true` when
    /// we were in front.
    fn leave(self: Arc<Self>) -> Undo {
        let tasks = self.core.tasks.clone();
        tasks.undo(async move {
            self.used.session.holds_no_more(&self.contender);
            self.used.session.may_be_open();
            let entry = self.entry();
            let left = entry.take_out().await;
            if left.is_err() {
                entry.take_out_later();
            }
            // What a repeat finds is no answer for the first try.
            left.and_then(|left| undone(left.answer, left.is_repeat))
        })
    }

    fn entry(&self) -> Arc<Entry> {
        Arc::new(Entry {
            core: self.core.clone(),
            session: Arc::downgrade(&self.used.session),
            id: self.used.session.id.clone(),
            ttl: self.used.session.ttl,
            name: self.name.clone(),
            contender: self.contender.clone(),
            each_request: self.each_request,
            turn: Turn::default(),
        })
    }

    /// The server has nothing of it, and gets nothing but by an earlier try.
    fn is_not_in_line(&self, leave: Undo, is_repeat: bool) {
        if is_repeat {
            return drop(leave);
        }
        leave.forget();
        self.used.session.has_left(&self.contender);
    }
}

/// A contender that is to be taken out of a line. It does not keep its session.
struct Entry {
    core: Arc<Core>,
    session: Weak<Session>,
    id: String,
    ttl: Duration,
    name: Key,
    contender: String,
    each_request: Duration,
    /// One try at a time, and whether it is out: another one would mark what is gone.
    turn: Turn<bool>,
}

impl Entry {
    /// Whether it was in front.
    async fn take_out(&self) -> Result<Answered<bool>> {
        let deadline = Deadline::after(self.each_request);
        let left = leave(&self.core, &self.name, &self.id, &self.contender, deadline).await;
        match (&left, self.session.upgrade()) {
            (Ok(_), Some(session)) => session.has_left(&self.contender),
            // It ends with those who use it now, and the contender with it.
            (Err(e), Some(session)) if e.is_lasting() => session.forget(),
            _ => {}
        }
        left
    }

    /// Goes on in the background as long as the server may have it: others may keep the session alive.
    fn take_out_later(self: Arc<Self>) {
        let left = Arc::downgrade(&self);
        self.core.tasks.left(move || {
            let entry = left.upgrade()?;
            Some(async move { entry.take_out_again().await })
        });
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { self.until_out().await });
        }
    }

    /// Whether nobody here uses its session any more.
    fn is_alone(&self) -> bool {
        self.session.upgrade().is_none_or(|session| session.is_over())
    }

    async fn take_out_again(&self) -> Result<()> {
        let mut is_out = self.turn.lock().await;
        if *is_out {
            return Ok(());
        }
        // The end of a session takes out all that hang on it, as may be under way already.
        match self.is_alone() {
            true => Session::end(&self.core, &self.id, self.ttl, self.each_request).await.map(drop)?,
            false => self.take_out().await.map(drop)?,
        }
        *is_out = true;
        Ok(())
    }

    async fn until_out(&self) {
        let (clock, mut backoff, mut over) = (&self.core.clock, Backoff::default(), None);
        loop {
            backoff.pause().await;
            if self.is_alone() {
                // Nobody renews it any more, and the server has it for its TTL.
                let over = *over.get_or_insert_with(|| clock.now());
                if clock.now() >= over + self.ttl {
                    return;
                }
            }
            match self.take_out_again().await {
                Err(e) if e.kind() != ErrorKind::Closed => {}
                _ => return,
            }
        }
    }
}

/// Takes a contender out of a line; whether it was in front.
pub(crate) async fn leave(
    core: &Core,
    name: &Key,
    session: &str,
    contender: &str,
    deadline: Deadline,
) -> Result<Answered<bool>> {
    let [queue, brought] = core.names.lock(name);
    let names = [queue, brought, core.names.session(session)];
    let request = core.request(&script::LEAVE, names, [name.as_str().into(), contender.into()]);
    let Answered { answer, is_repeat } = core.client.run(RetrySafety::Repeatable, deadline, &request).await?;
    Ok(Answered { answer: answer.number()? == 1, is_repeat })
}
