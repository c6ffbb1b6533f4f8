//! Locks: contenders in the order of their creation.

use crate::{
    api::{self, Done, Op, Pair},
    contender::{Contender, Left},
    http::Purpose,
    poll::gone,
    session::Use,
    store::{Inner, purpose},
};
use kv_core::{
    backend::{AbortOnDrop, Alive, Backoff, Undo},
    *,
};
use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::oneshot, task::AbortHandle};

/// One attempt to hold one lock.
struct Attempt {
    inner: Arc<Inner>,
    session: Use,
    contender: Arc<Contender>,
    line: String,
    each_request: Duration,
}

/// Ready when a session has ended.
type Ended = Pin<Box<dyn Future<Output = Error> + Send>>;

/// Where an attempt stands in line.
enum Place {
    First,
    Behind(Key),
    /// Its contender is gone.
    Lost,
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    let line = inner.names.line(name);
    loop {
        // Who does not wait gets in line only when nobody is seen there: no transaction can depend on that.
        if !options.wait {
            let deadline = Deadline::after(options.each_request);
            let there = api::tree(&inner.client, Purpose::Read, deadline, &line).await?;
            if there.iter().any(|pair| contends(inner, pair).is_some()) {
                return Ok(None);
            }
        }
        let session = inner.session(ttl, options.each_request).await?;
        let contender = Contender::new(inner, name, session.session().clone(), options.each_request)?;
        let attempt = Arc::new(Attempt {
            inner: inner.clone(),
            contender: Arc::new(contender),
            line: line.clone(),
            each_request: options.each_request,
            session,
        });
        let (entered, leave) = attempt.clone().enters(options.value.clone()).await?;
        let (token, place) = match entered {
            Ok(entered) => entered,
            Err(e) if e.kind() == ErrorKind::LeaseLost => {
                inner.sessions.forget(&attempt.session);
                continue;
            }
            Err(e) => return Err(e),
        };
        if !options.wait && !matches!(place, Place::First) {
            return match leave.run().await {
                // It is gone, whoever did it.
                Ok(_) => Ok(None),
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => Ok(None),
                Err(e) => Err(e),
            };
        }
        if !attempt.wait(token, place).await? {
            continue;
        }
        let alive = attempt.session.alive().another();
        let guarded = tokio::spawn(attempt.clone().watch_own(alive.clone())).abort_handle();
        let release = attempt.clone().leave(Some(guarded));
        leave.forget();
        let proof = format!("{} {}", attempt.session.session(), attempt.contender.name);
        let fence = Fence::new(name.clone(), token, proof);
        return Ok(Some(Acquired { fence, alive, release }));
    }
}

/// The key of a contender; `None` for what other tools put in its place, which stands in nobody's way. A contender has a session
/// from its first moment on: without one it was released by hand.
pub(crate) fn contends(inner: &Inner, pair: &Pair) -> Option<Key> {
    inner.names.parse(&pair.name).filter(|_| pair.is_held)
}

/// The contender that holds the lock of this line.
pub(crate) fn first<'a>(inner: &Inner, line: &'a [Pair]) -> Option<&'a Pair> {
    let contenders = line.iter().filter(|pair| contends(inner, pair).is_some());
    contenders.min_by_key(|pair| pair.created)
}

impl Attempt {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    /// Gets in line, and how to leave it. The request is not given up with whoever waits for it: its answer alone tells
    /// whether there is something to take back.
    async fn enters(self: Arc<Self>, value: Bytes) -> Result<(Result<(u64, Place)>, Undo)> {
        let (told, answer) = oneshot::channel();
        let tasks = self.inner.tasks.clone();
        tasks.spawn(async move {
            let entered = self.enter(&value).await;
            let undo = match &entered {
                Ok((0, _)) => Undo::nothing(),
                Ok(_) => self.leave(None),
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => self.give_up(),
                Err(_) => Undo::nothing(),
            };
            // Who does not wait any more drops it, which undoes.
            let _ = told.send((entered, undo));
            Ok(())
        });
        answer.await.map_err(|_| Error::new(ErrorKind::Unavailable, "the runtime ended meanwhile"))
    }

    /// Gets in line, or holds the lock at once; the token, and the place.
    async fn enter(&self, value: &[u8]) -> Result<(u64, Place)> {
        let ops = [
            Op::check_missing(&self.contender.mark()),
            Op::write(&self.contender.name, value, Some(self.session.session())),
            Op::get_tree(&self.line),
        ];
        // A repeat finds the contender that the first one made.
        let told = self.inner.ask(Purpose::Repeatable, self.deadline(), &ops).await?;
        self.contender.comes_late.store(told.is_repeat, Ordering::Release);
        match told.answer {
            Done::Committed(done) => {
                let line = done.get(1..).unwrap_or_default();
                // A line without its own last one is one that the token may not read.
                let own = line.iter().find(|pair| pair.name == self.contender.name);
                let own = own.ok_or_else(|| api::hidden(&self.line))?;
                Ok((own.created, self.place(own.created, line)))
            }
            Done::Refused(_) => Ok((0, Place::Lost)),
        }
    }

    fn place(&self, token: u64, line: &[Pair]) -> Place {
        let is_own = |pair: &Pair| pair.name == self.contender.name && pair.created == token && pair.is_held;
        if !line.iter().any(is_own) {
            return Place::Lost;
        }
        let before = line.iter().filter(|pair| pair.created < token);
        let nearest = before.filter_map(|pair| Some((pair.created, contends(&self.inner, pair)?)));
        nearest.max_by_key(|(created, _)| *created).map_or(Place::First, |(_, before)| Place::Behind(before))
    }

    async fn look(&self, token: u64) -> Result<Place> {
        let line = api::tree(&self.inner.client, Purpose::Read, self.deadline(), &self.line).await?;
        Ok(self.place(token, &line))
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, token: u64, mut place: Place) -> Result<bool> {
        let mut backoff = Backoff::default();
        let lost = self.session.alive().lost();
        tokio::pin!(lost);
        loop {
            match place {
                Place::First => return Ok(true),
                Place::Lost => return Ok(false),
                Place::Behind(before) => {
                    tokio::select! {
                        biased;
                        _ = &mut lost => {
                            self.inner.sessions.forget(&self.session);
                            return Ok(false);
                        }
                        gone = gone(&self.inner, &before, self.each_request) => if gone { backoff.reset() } else { backoff.pause().await },
                    }
                }
            }
            place = loop {
                match self.look(token).await {
                    Ok(place) => break place,
                    Err(e) if e.is_lasting() => return Err(e),
                    // The line is kept by the session, whatever the link does meanwhile.
                    Err(_) if self.session.alive().is_held() => backoff.pause().await,
                    Err(_) => break Place::Lost,
                }
            };
        }
    }

    /// Ends the guard as soon as its contender is seen to be gone.
    async fn watch_own(self: Arc<Self>, alive: Alive) {
        let ended = EndOnDrop(&alive);
        let mut backoff = Backoff::default();
        while !gone(&self.inner, &self.contender.key, self.each_request).await {
            backoff.pause().await;
        }
        alive.end("its key was deleted or released on the server, by an administrator or with its session");
        drop(ended);
    }

    /// Leaves the line: `true` when we were still in it.
    fn leave(self: Arc<Self>, guarded: Option<AbortHandle>) -> Undo {
        let guarded = guarded.map(AbortOnDrop::new);
        self.inner.tasks.clone().undo(async move {
            drop(guarded);
            match self.contender.delete().await {
                Ok(Left::Now) => Ok(true),
                Ok(Left::Before) => Ok(false),
                Ok(Left::Somehow) => {
                    let why = "it is free, but whether it was held until now is not known: the answer to the release was \
                               lost, and a second one found nothing";
                    Err(Error::new(ErrorKind::OutcomeUnknown, why))
                }
                Err(e) => {
                    let (clock, ttl) = (self.inner.clock.clone(), self.session.alive().ttl());
                    let (tasks, (contender, ended)) = (self.inner.tasks.clone(), self.let_go());
                    // Nobody renews it then; where its end was refused, the server has it for a TTL more, or two.
                    let ended = Box::pin(async move {
                        let why = ended.await;
                        clock.sleep(2 * ttl).await;
                        why
                    });
                    let left = Arc::downgrade(&contender);
                    tasks.left(move || {
                        let contender = left.upgrade()?;
                        Some(async move { contender.delete().await.map(drop) })
                    });
                    tokio::spawn(async move { contender.delete_until(ended).await });
                    Err(e)
                }
            }
        })
    }

    /// Takes back a request to enter whose answer was lost: it may have been done, or may still arrive.
    fn give_up(self: Arc<Self>) -> Undo {
        self.inner.tasks.clone().undo(async move {
            let left = match self.contender.delete().await {
                Ok(left) => left,
                Err(_) => {
                    let (contender, ended) = self.let_go();
                    contender.delete_until(ended).await?
                }
            };
            Ok(!matches!(left, Left::Before))
        })
    }

    /// Nobody is to use the session any more, for it keeps alive what could not be deleted. Others who do already may go on: what
    /// is given back here tells when it has ended, and keeps it from nothing.
    fn let_go(self: Arc<Self>) -> (Arc<Contender>, Ended) {
        self.inner.sessions.forget(&self.session);
        (self.contender.clone(), Box::pin(self.session.alive().lost()))
    }
}

/// A guard that nobody looks after says so: its runtime has ended.
struct EndOnDrop<'a>(&'a Alive);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end("it was given back, or the runtime in which it was acquired has ended");
    }
}

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let names = inner.names.line(name);
    let line = api::tree(&inner.client, purpose(options), options.deadline, &names).await?;
    match first(inner, &line) {
        Some(first) => Ok(Some(Holder::new(first.created, first.value()?))),
        None => may_read(inner, purpose(options), options.deadline, &names).await.map(|()| None),
    }
}

/// A listing leaves out what the token may not read; one name that is checked is refused, and to get it in a transaction is not.
pub(crate) async fn may_read(inner: &Inner, purpose: Purpose, deadline: Deadline, line: &str) -> Result<()> {
    inner.txn(purpose, deadline, &[Op::check_index(&format!("{line}-"), 0)]).await.map(drop)
}
