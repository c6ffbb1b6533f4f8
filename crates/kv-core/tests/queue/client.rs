//! A client of the server, whose requests meet faults.

use crate::{
    own::{OnDrop, OwnGone},
    server::{Before, LATE, State, TTL, expire},
};
use kv_core::{
    Error, ErrorKind, Fence, Key, Result,
    backend::{
        Alive, Clock, Session, Sessions, Tasks, Use,
        queue::{Entered, Left, Line, Lines, Position, Queue, Sent},
    },
};
use std::{
    borrow::Cow,
    collections::VecDeque,
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// The time that a test waits for what is to come, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// The fault that meets the next request to enter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is applied, and no attempt is answered.
    AnswerLost,
    /// It is applied without an answer, and the repeat is refused.
    RepeatRefused,
    /// It arrives later, and no attempt is answered.
    Late,
    /// The first attempt arrives later; the second one is answered.
    AnsweredByRepeat,
    /// It did nothing.
    Refused(ErrorKind),
    /// It is applied, and then its answer cannot be used.
    Hidden,
    /// It waits for a connection for ever.
    Unsent,
    /// It is on its way for ever, or until it arrives later.
    HangsLate,
    /// It is applied, and the answer never comes.
    HangsApplied,
    /// It is applied and answered, and meanwhile the manual clock goes on for so long.
    Takes(Duration),
}

#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) enter: VecDeque<Fault>,
    pub(crate) position: VecDeque<ErrorKind>,
    /// The fate of each request to leave, in turn: an error that refuses it, or `None` for an
    /// answer that was lost, after which the repeat finds nothing.
    pub(crate) leave: VecDeque<Option<ErrorKind>>,
    /// The kind of error that refuses all requests to leave, cancelling ones too.
    pub(crate) leaves: Option<ErrorKind>,
    /// Tells whether the answer to the next request to leave never comes.
    pub(crate) leave_hangs: bool,
}

/// The requests that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) enter: u32,
    pub(crate) position: u32,
    /// Those of the positions that listed the whole queue.
    pub(crate) list: u32,
    pub(crate) leave: u32,
    pub(crate) cancel: u32,
}

pub(crate) struct Client {
    pub(crate) server: watch::Sender<State>,
    pub(crate) sessions: Sessions<u64>,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) is_down: AtomicBool,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) sent: Mutex<Count>,
    pub(crate) own_dropped: OnDrop,
    /// The lines of its contenders; `None` where each of them asks the server.
    pub(crate) lines: Option<Lines<Before>>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

fn unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "no answer")
}

impl Client {
    pub(crate) fn new(server: &watch::Sender<State>, clock: Clock) -> Arc<Self> {
        Self::with(server, clock, Some(Lines::default()))
    }

    pub(crate) fn with(
        server: &watch::Sender<State>,
        clock: Clock,
        lines: Option<Lines<Before>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            lines,
            server: server.clone(),
            sessions: Sessions::new(clock.clone()),
            tasks: Tasks::default(),
            clock,
            is_down: AtomicBool::new(false),
            faults: Mutex::default(),
            sent: Mutex::default(),
            own_dropped: Mutex::default(),
        })
    }

    /// Makes a client of a server of its own, whose time is the runtime's.
    pub(crate) fn alone() -> Arc<Self> {
        Self::new(&watch::Sender::default(), Clock::tokio())
    }

    pub(crate) fn lock(self: &Arc<Self>, wait: bool) -> Arc<OneLock> {
        let line = self.lines.as_ref().map(|lines| lines.line(&Key::parse("l").unwrap()));
        Arc::new(OneLock { client: self.clone(), line, wait })
    }

    pub(crate) fn faults<T>(&self, set: impl FnOnce(&mut Faults) -> T) -> T {
        set(&mut self.faults.lock().unwrap())
    }

    pub(crate) fn count(&self) -> Count {
        *self.sent.lock().unwrap()
    }

    /// Has the requests that are late arrive now.
    pub(crate) fn arrive(&self) {
        self.server.send_modify(|server| {
            for (name, session) in std::mem::take(&mut server.late) {
                let _ = server.enter(name, session, false);
            }
        });
    }

    /// Deletes a contender, as an administrator does.
    pub(crate) fn takes_out(&self, name: u64) {
        self.server.send_modify(|server| _ = server.leave(name));
    }

    /// Ends a session, as an administrator does.
    pub(crate) fn ends(&self, session: u64) {
        self.server.send_modify(|server| _ = server.end_session(session));
    }

    pub(crate) fn names(&self) -> Vec<u64> {
        self.server.borrow().members.iter().map(|member| member.name).collect()
    }

    /// Waits until so many are in the queue.
    pub(crate) async fn until_members(&self, count: usize) {
        self.until(|server| server.members.len() == count).await;
    }

    /// Waits until this is true of the server.
    pub(crate) async fn until(&self, is: impl FnMut(&State) -> bool) {
        let mut server = self.server.subscribe();
        let waited = tokio::time::timeout(PATIENCE, server.wait_for(is)).await;
        waited.expect("the server was never so").unwrap();
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut answer = None;
        self.server.send_modify(|server| answer = Some(change(server)));
        answer.unwrap()
    }

    /// Has a request reach the server, unless that is down.
    async fn reach(&self, count: impl FnOnce(&mut Count)) -> Result<()> {
        tokio::task::yield_now().await;
        if self.is_down.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "no connection"));
        }
        count(&mut self.sent.lock().unwrap());
        Ok(())
    }

    async fn grant(self: Arc<Self>) -> Result<Session<u64>> {
        self.reach(|_| ()).await?;
        let (id, granted) = (NEXT.fetch_add(1, SeqCst), self.clock.now());
        self.change(|server| server.sessions.insert(id, Instant::now() + TTL));
        tokio::spawn(expire(self.server.clone(), id));
        let renews = self.clone();
        let alive = Alive::keep(&self.clock, TTL, granted, move || renews.clone().renew(id));
        let end = self.tasks.clone().undo(async move {
            self.reach(|_| ()).await?;
            Ok(self.change(|server| server.end_session(id)))
        });
        Ok(Session { session: id, alive, end })
    }

    async fn renew(self: Arc<Self>, id: u64) -> Result<()> {
        self.reach(|_| ()).await?;
        self.change(|server| match server.sessions.get_mut(&id) {
            Some(ends) => {
                *ends = Instant::now() + TTL;
                Ok(())
            }
            None => Err(Error::new(ErrorKind::LockLost, "the server ended its session")),
        })
    }
}

/// The queue of the one lock, as a call sees it.
pub(crate) struct OneLock {
    client: Arc<Client>,
    line: Option<Arc<Line<Before>>>,
    wait: bool,
}

pub(crate) struct Contender {
    name: u64,
    session: u64,
    token: OnceLock<u64>,
}

impl OneLock {
    /// Applies a request to enter, and returns its answer.
    fn applied(&self, own: &Contender) -> Result<Entered<Before>> {
        let entered = self.client.change(|server| server.enter(own.name, own.session, !self.wait))?;
        if let Entered::Queued { token, .. } = &entered {
            let _ = own.token.set(*token);
        }
        Ok(entered)
    }

    fn is_gone(&self, who: &Before) {
        if let Some(line) = &self.line {
            line.gone(who);
        }
    }

    async fn out(&self, own: &Contender, cancels: bool) -> Result<Left> {
        let client = &self.client;
        client.reach(|count| if cancels { count.cancel += 1 } else { count.leave += 1 }).await?;
        let (fault, always) = client.faults(|faults| (faults.leave.pop_front(), faults.leaves));
        if let Some(kind) = fault.flatten().or(always) {
            return Err(Error::new(kind, "it may not leave"));
        }
        let left = client.change(|server| {
            if !server.sessions.contains_key(&own.session) {
                return Err(Error::new(ErrorKind::LeaseLost, "no such session"));
            }
            if cancels {
                server.cancelled.insert(own.name);
            }
            Ok(server.leave(own.name))
        })?;
        // Others see the change before the answer comes.
        tokio::task::yield_now().await;
        if client.faults(|faults| std::mem::take(&mut faults.leave_hangs)) {
            pending::<()>().await;
        }
        if let Some(token) = own.token.get() {
            self.is_gone(&(*token, own.name));
        }
        Ok(if fault.is_some() { Left::Maybe } else { left })
    }
}

impl Queue for OneLock {
    type Session = u64;
    type Contender = Contender;
    type Predecessor = Before;

    fn line(&self) -> Option<&Arc<Line<Before>>> {
        self.line.as_ref()
    }
    fn tasks(&self) -> &Tasks {
        &self.client.tasks
    }
    fn clock(&self) -> &Clock {
        &self.client.clock
    }
    fn kept_after_end(&self, ttl: Duration) -> Duration {
        ttl + LATE
    }
    async fn session(&self) -> Result<Use<u64>> {
        self.client.sessions.get(TTL, || self.client.clone().grant()).await
    }
    fn forget(&self, used: &Use<u64>) {
        self.client.sessions.forget(used);
    }
    fn contender(&self, session: &u64) -> Result<Contender> {
        Ok(Contender { name: NEXT.fetch_add(1, SeqCst), session: *session, token: OnceLock::new() })
    }
    async fn enter(&self, own: &Contender, sent: &Sent) -> Result<Entered<Before>> {
        let client = &self.client;
        sent.nothing_yet();
        let fault = client.faults(|faults| faults.enter.pop_front());
        if matches!(fault, Some(Fault::Unsent)) {
            pending::<()>().await;
        }
        client.reach(|count| count.enter += 1).await?;
        sent.sending();
        let late = || client.change(|server| server.late.push((own.name, own.session)));
        match fault {
            Some(Fault::AnswerLost) => return self.applied(own).and(Err(unknown())),
            Some(Fault::RepeatRefused) => {
                let refused = Error::new(ErrorKind::PermissionDenied, "the rights were withdrawn");
                return self.applied(own).and(Err(unknown().with_cause(refused)));
            }
            Some(Fault::Late) => {
                late();
                return Err(unknown());
            }
            Some(Fault::Refused(kind)) => return Err(Error::new(kind, "it did nothing")),
            Some(Fault::HangsLate) => {
                late();
                pending::<()>().await;
            }
            Some(Fault::HangsApplied) => {
                self.applied(own)?;
                pending::<()>().await;
            }
            Some(Fault::AnsweredByRepeat) => late(),
            Some(Fault::Takes(time)) => client.clock.advance(time),
            Some(Fault::Hidden | Fault::Unsent) | None => {}
        }
        let entered = self.applied(own)?;
        let is_in = matches!(entered, Entered::Queued { .. });
        sent.answered(is_in, matches!(fault, Some(Fault::AnsweredByRepeat)));
        match fault {
            Some(Fault::Hidden) => Err(Error::new(ErrorKind::PermissionDenied, "it may not be read")),
            _ => Ok(entered),
        }
    }
    async fn position(&self, own: &Contender, token: u64) -> Result<Position<Before>> {
        let line = self.line.as_ref().filter(|_| self.wait);
        let known = line.and_then(|line| line.nearest(&(token, own.name)));
        if let Some(Position::Behind(before)) = known {
            return Ok(Position::Behind(before));
        }
        self.client.reach(|count| count.position += 1).await?;
        if let Some(kind) = self.client.faults(|faults| faults.position.pop_front()) {
            return Err(Error::new(kind, "it cannot look"));
        }
        let server = self.client.server.borrow();
        let position = server.position(own.name);
        if known.is_some() && position != Position::Lost {
            return Ok(Position::First);
        }
        if let Some(line) = line {
            self.client.sent.lock().unwrap().list += 1;
            line.learn(server.members.iter().map(|member| (member.token, member.name)));
        }
        Ok(position)
    }
    async fn predecessor_gone(&self, _: &Contender, before: &Before) -> Result<bool> {
        let mut server = self.client.server.subscribe();
        let is_gone = |server: &State| server.members.iter().all(|there| there.name != before.1);
        server.wait_for(is_gone).await.unwrap();
        self.is_gone(before);
        Ok(true)
    }
    fn own_gone(&self, own: &Contender, _: u64) -> impl Future<Output = Cow<'static, str>> + Send {
        let (mut server, name) = (self.client.server.subscribe(), own.name);
        let gone = async move {
            server.wait_for(|server| server.position(name) == Position::Lost).await.unwrap();
            "it was deleted by an administrator".into()
        };
        OwnGone { gone: Box::pin(gone), on_drop: &self.client.own_dropped }
    }
    async fn leave(&self, own: &Contender) -> Result<Left> {
        self.out(own, false).await
    }
    async fn cancel(&self, own: &Contender) -> Result<Left> {
        self.out(own, true).await
    }
    fn fence(&self, own: &Contender, token: u64) -> Fence {
        Fence::new(Key::parse("l").unwrap(), token, own.name.to_string())
    }
}
