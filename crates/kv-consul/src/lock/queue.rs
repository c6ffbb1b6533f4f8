//! The queue of one lock, by what the server lists of it.

use super::{
    before::Before,
    contender::{Contender, Entering},
    line::{contends, first},
    sessions::{LockSession, Use},
};
use crate::{
    client::{
        Purpose,
        api::{self, Done, Op, Pair, Range},
    },
    core::Core,
    lease::session::{create, keep},
    watch::joined::Joined,
};
use kv_core::{
    Bytes, Fence, Key, Result, WatchEvent,
    backend::{
        Backoff, Change, Clock, LetGo, Session, Tasks,
        queue::{Entered, Left, Line, Position, Queue, Sent},
        retry::Answered,
    },
    driver::{Deadline, LockOptions, Target},
};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// Sets after how long without a listing a contender that waits looks by itself.
const LONG: Duration = Duration::from_secs(30);

/// The queue of one lock, as one call sees it.
pub(super) struct LockQueue {
    core: Arc<Core>,
    lock: Key,
    line: Arc<Line<Before>>,
    /// Holds what the names of the lock's contenders begin with.
    prefix: String,
    ttl: Duration,
    value: Bytes,
    wait: bool,
    each_request: Duration,
}

impl LockQueue {
    pub(super) fn new(core: &Arc<Core>, lock: &Key, ttl: Duration, options: &LockOptions) -> Self {
        Self {
            core: core.clone(),
            lock: lock.clone(),
            line: core.lines.line(lock),
            prefix: core.names.line(lock),
            ttl,
            value: options.value.clone(),
            wait: options.wait,
            each_request: options.each_request,
        }
    }

    async fn pairs(&self) -> Result<Vec<Pair>> {
        let deadline = Deadline::after(self.each_request);
        api::tree(&self.core.client, Purpose::Read, deadline, &self.prefix).await
    }

    /// Finds the position in a listing, which those who wait in the line remember.
    fn position_in(&self, pairs: &[Pair], contender: &Contender, token: u64) -> Position<Before> {
        let is_own = |pair: &Pair| pair.name == contender.name && pair.created == token && pair.is_held;
        if contender.let_go.is_on() || !pairs.iter().any(is_own) {
            // A contender that waits, or holds, would keep the session alive, and with it what is
            // to end.
            return Position::Lost;
        }
        let contenders = || {
            let before =
                |pair: &Pair| Some(Before { created: pair.created, key: contends(&self.core.names, pair)? });
            pairs.iter().filter_map(before)
        };
        if self.wait {
            self.line.learn(contenders());
        }
        contenders().filter(|before| before.created < token).max().map_or(Position::First, Position::Behind)
    }

    /// Asks whether the contender is still in the queue itself, and this one is not.
    async fn stands(&self, contender: &Contender, token: u64, without: Option<&Before>) -> Result<bool> {
        let deadline = Deadline::after(self.each_request);
        let mut ops = vec![Op::check_session(&contender.name, &contender.session)];
        ops.extend(without.map(|before| Op::check_missing(&self.core.names.name(before.key.as_str()))));
        Ok(match self.core.txn(Purpose::Read, deadline, &ops).await? {
            Done::Committed(pairs) => pairs.iter().any(|own| own.created == token),
            Done::Refused(_) => false,
        })
    }

    /// Notes that the one before is gone, once the server says so: a wide poll is silent of what its
    /// token may not read. Else the queue is listed again.
    async fn is_gone(&self, contender: &Contender, before: &Before) -> Result<()> {
        let Some(&token) = contender.token.get() else { return Ok(()) };
        match self.stands(contender, token, Some(before)).await? {
            true => self.line.passed(before, &Before { created: token, key: contender.key.clone() }),
            false => self.line.forget(),
        }
        Ok(())
    }

    /// Notes that a contender has left the queue.
    fn has_left(&self, contender: &Contender, left: &Result<Left>) {
        if let (Ok(_), Some(&created)) = (left, contender.token.get()) {
            self.line.gone(&Before { created, key: contender.key.clone() });
        }
    }
}

impl Queue for LockQueue {
    type Session = LockSession;
    type Contender = Contender;
    type Predecessor = Before;

    fn tasks(&self) -> &Tasks {
        &self.core.tasks
    }

    fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Returns twice the TTL: the server ends a session by then.
    fn kept_after_end(&self, ttl: Duration) -> Duration {
        2 * ttl
    }

    fn line(&self) -> Option<&Arc<Line<Before>>> {
        Some(&self.line)
    }

    async fn displaced(&self, contender: &Contender) {
        contender.let_go.begun().await;
    }

    async fn session(&self) -> Result<Use> {
        session(&self.core, self.ttl, self.each_request).await
    }

    fn forget(&self, used: &Use) {
        self.core.lock_sessions.forget(used);
    }

    fn contender(&self, session: &LockSession) -> Result<Contender> {
        Contender::new(&self.core, &self.lock, session, self.each_request)
    }

    /// Reads the queue: no transaction can depend on a queue being empty.
    async fn is_taken(&self) -> Result<bool> {
        Ok(first(&self.core.names, &self.pairs().await?).is_some())
    }

    /// Enters, and lists the queue in the same request, unless others of its line are there before:
    /// one listing is enough for all of them.
    async fn enter(&self, contender: &Contender, sent: &Sent) -> Result<Entered<Before>> {
        let lists = !self.wait || self.line.is_alone();
        let queue = lists.then_some(&*self.prefix);
        let Answered { answer, is_repeat } = contender.enter(queue, &self.value).await?;
        let is_before = matches!(answer, Entering::Before);
        sent.answered(!matches!(answer, Entering::Refused), is_repeat || is_before);
        let pairs = match answer {
            Entering::Inside(pairs) => pairs,
            Entering::Before => self.pairs().await?,
            Entering::Refused => return Ok(Entered::Lost),
        };
        let token = match pairs.iter().find(|pair| pair.name == contender.name) {
            Some(own) => own.created,
            // It may have gone meanwhile, with its session.
            None if is_before => return Ok(Entered::Lost),
            // A queue without the contender is one that the token may not read.
            None => return Err(api::hidden(&self.prefix)),
        };
        let _ = contender.token.set(token);
        let is_listed = lists || is_before;
        let position = is_listed.then(|| self.position_in(&pairs, contender, token));
        Ok(Entered::Queued { token, position })
    }

    async fn position(&self, contender: &Contender, token: u64) -> Result<Position<Before>> {
        if contender.let_go.is_on() {
            return Ok(Position::Lost);
        }
        let own = Before { created: token, key: contender.key.clone() };
        Ok(match self.line.nearest(&own).filter(|_| self.wait) {
            None => self.position_in(&self.pairs().await?, contender, token),
            Some(Position::First) => match self.stands(contender, token, None).await? {
                true => Position::First,
                false => Position::Lost,
            },
            Some(known) => known,
        })
    }

    async fn predecessor_gone(&self, contender: &Contender, predecessor: &Before) -> Result<bool> {
        tokio::select! {
            biased;
            () = contender.let_go.begun() => Ok(true),
            is_gone = gone(&self.core, &predecessor.key, self.each_request) => match is_gone {
                true => self.is_gone(contender, predecessor).await.map(|()| true),
                false => Ok(false),
            },
        }
    }

    async fn own_gone(&self, contender: &Contender, _: u64) -> Cow<'static, str> {
        let mut backoff = Backoff::default();
        while !gone(&self.core, &contender.key, self.each_request).await {
            backoff.pause().await;
        }
        "its key was deleted or released on the server, by an administrator or with its session".into()
    }

    async fn leave(&self, contender: &Contender) -> Result<Left> {
        let left = contender.take_out().await;
        self.has_left(contender, &left);
        left
    }

    async fn cancel(&self, contender: &Contender) -> Result<Left> {
        self.leave(contender).await
    }

    fn fence(&self, contender: &Contender, token: u64) -> Fence {
        Fence::new(self.lock.clone(), token, contender.proof())
    }
}

/// Returns the session of this TTL; makes one where none may be used.
async fn session(core: &Core, ttl: Duration, each_request: Duration) -> Result<Use> {
    let new = || async {
        let deadline = Deadline::after(each_request);
        // Others hang on the session too, and whoever asked for it may have had little time.
        let to_end = each_request.max(Deadline::DEFAULT);
        let session = create(core, "lock", ttl, deadline, to_end).await?;
        let alive = keep(core, &session, ttl);
        let own = LockSession { id: session.id, let_go: LetGo::default() };
        Ok(Session { session: own, alive, end: session.end })
    };
    core.lock_sessions.get_where(ttl, |own| !own.let_go.is_on(), new).await
}

/// Waits until the contender of a lock is gone, or released by hand (`true`), or until the queue
/// has to be read again (`false`).
async fn gone(core: &Arc<Core>, contender: &Key, within: Duration) -> bool {
    let name = core.names.name(contender.as_str());
    let range = Range::Name(name.as_str().into());
    let Ok(mut joined) = Joined::new(core, range, &Target::Key(contender.clone()), within) else {
        return false;
    };
    loop {
        // One who shares the poll of a large range may be told nothing for long.
        let Ok(Ok(listing)) = tokio::time::timeout(within.max(LONG), joined.listing()).await else {
            return false;
        };
        if !listing.pairs.iter().any(|pair| pair.name == name && pair.is_held) {
            return true;
        }
        drop(listing);
        match joined.news().await {
            Ok(Change::Event(WatchEvent::Delete { .. })) => return true,
            // A holder changes its value.
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
