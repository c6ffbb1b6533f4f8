//! Locks: contenders in the order of their numbers.

use crate::{
    client::Does,
    error::corrupt,
    part::{Core, Part, unique},
    script::{self, Answer, next},
    session::{Place, Use},
    watch::Backoff,
};
use kv_core::{backend::Undo, *};
use std::{sync::Arc, time::Duration};

/// How many values the part of a token has that is the acquisition's own. A number of the server's, its microseconds, times
/// this stays below what a token can be for five centuries.
const OWN: u64 = 1 << 10;

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
    Waits(u64),
    Taken,
    /// The session is over.
    Over,
}

/// [`Store::lock`].
pub(crate) async fn lock(part: &Part, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    part.may_write()?;
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
            Ok(Entered::Over) => {
                leave.forget();
                part.sessions.forget(&attempt.used);
                continue;
            }
            Ok(Entered::Taken) => {
                leave.forget();
                return Ok(None);
            }
            Err(e) => {
                if e.kind() != ErrorKind::OutcomeUnknown {
                    leave.forget();
                }
                return Err(e);
            }
            Ok(Entered::First(number)) => {
                session.opened(asked);
                number
            }
            Ok(Entered::Waits(number)) => {
                session.opened(asked);
                session.listen();
                if waiting.place().await == Place::Lost {
                    if session.alive().is_some_and(|alive| !alive.is_held()) {
                        part.sessions.forget(&attempt.used);
                    }
                    continue;
                }
                number
            }
        };
        drop(waiting);
        let Some(alive) = session.alive().map(backend::Alive::another) else { continue };
        if !alive.is_held() {
            part.sessions.forget(&attempt.used);
            continue;
        }
        session.holds(&attempt.contender, &alive);
        let fence =
            Fence::new(name.clone(), number * OWN + attempt.own, format!("{number} {}", attempt.contender));
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

    /// Gets in line, or holds the lock at once.
    async fn enter(&self, options: &LockOptions) -> Result<Entered> {
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
        let run = self.core.run(Does::Repeatable, self.deadline(), &script::ENTER, self.names(), arguments);
        let mut answer = run.await?.list()?;
        let word = next(&mut answer)?.text()?;
        let mut number = || -> Result<u64> {
            let number = next(&mut answer)?.number()?;
            u64::try_from(number).map_err(|_| corrupt("a contender without a number"))
        };
        Ok(match word.as_str() {
            "first" => Entered::First(number()?),
            "waits" => Entered::Waits(number()?),
            "taken" => Entered::Taken,
            _ => Entered::Over,
        })
    }

    /// Leaves the line, or has a request to enter that is still on its way do nothing: `true` when we were in front.
    fn leave(self: Arc<Self>) -> Undo {
        Undo::new(async move {
            self.used.session.holds_no_more(&self.contender);
            let answer = self.left().await;
            if answer.is_err() {
                tokio::spawn(async move { self.leave_while_alive().await });
            }
            answer
        })
    }

    async fn left(&self) -> Result<bool> {
        let arguments = [self.name.as_str().into(), self.contender.as_str().into()];
        let run = self.core.run(Does::Repeatable, self.deadline(), &script::LEAVE, self.names(), arguments);
        Ok(run.await?.number()? == 1)
    }

    /// Others keep the session alive, and with it what we could not take out: until it is, or the session has ended.
    async fn leave_while_alive(&self) {
        let mut backoff = Backoff::default();
        while self.used.session.alive().is_some_and(backend::Alive::is_held) {
            backoff.pause().await;
            match self.left().await {
                Err(e) if e.kind() != ErrorKind::Closed => {}
                _ => return,
            }
        }
    }
}

/// A holder, by its number and what it brought.
pub(crate) fn held(number: u64, brought: Bytes) -> Result<Holder> {
    let end = brought.iter().position(|byte| *byte == b'\n');
    let own = end.and_then(|end| std::str::from_utf8(&brought[..end]).ok()?.parse::<u64>().ok());
    match (end, own) {
        (Some(end), Some(own)) => Ok(Holder::new(number * OWN + own, brought.slice(end + 1..))),
        _ => Err(corrupt("what a lock's holder brought is none of ours")),
    }
}

/// [`Store::lock_holder`], and what is left of its session.
pub(crate) async fn holder(
    core: &Core,
    name: &Key,
    deadline: Deadline,
) -> Result<Option<(Holder, Duration)>> {
    let answer = core
        .run(Does::Read, deadline, &script::HOLDER, core.names.lock(name), [name.as_str().into()])
        .await?;
    let Some(answer) = answer.some() else { return Ok(None) };
    let mut answer = answer.list()?;
    let number = u64::try_from(next(&mut answer)?.number()?).unwrap_or_default();
    let brought = next(&mut answer)?.bytes()?;
    let left = u64::try_from(next(&mut answer).and_then(Answer::number)?).unwrap_or_default();
    Ok(Some((held(number, brought)?, Duration::from_millis(left))))
}
