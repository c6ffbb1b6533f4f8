//! The client: one connection for all of a runtime, made anew when it is lost; reads are asked
//! again, writes never.

use super::{Fault, protocol::*, told::Told};
use kv_core::{
    Bytes, Capabilities, Condition, Directory, Entry, Error, ErrorKind, Fence, Holder, Key, LeaseId, Result,
    Version, WatchEvent, Written,
    backend::{Alive, ByRuntime, Clock, Instant, Tasks, Undo, catch_up, stream},
    driver::{
        Acquired, Batch, Cursor, Deadline, Decision, Expect, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
};
use std::{
    collections::HashMap,
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    runtime::{self, Handle},
    sync::{Mutex as AsyncMutex, mpsc, watch},
    task::JoinHandle,
    time::{interval, sleep, timeout},
};

/// The time after which the client shows again that it is there.
const PING: Duration = Duration::from_millis(500);
/// The time without a byte after which a connection is dead: pings are answered.
const IDLE: Duration = Duration::from_secs(2);

/// A client of the server, which keeps the contract, or has one [`Fault`].
#[derive(Clone)]
pub(crate) struct Wire(Arc<Client>);

struct Client {
    address: SocketAddr,
    prefix: String,
    fault: Option<Fault>,
    capabilities: Capabilities,
    clock: Clock,
    next: AtomicU64,
    /// Holds the connection of each runtime: another one may end, or stand still.
    places: ByRuntime<Arc<AsyncMutex<Option<Arc<Link>>>>>,
    links: AtomicU64,
    tasks: Tasks,
}

/// One connection.
struct Link {
    out: mpsc::UnboundedSender<Request>,
    waiting: Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<Answer>>>>,
    alive: watch::Receiver<bool>,
    /// Tells whether something else than the server answered.
    foreign: Arc<AtomicBool>,
    runtime: runtime::Id,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The connection was lost before the answer came.
struct Lost;

/// The reason why there is no answer.
enum Without {
    /// There was no connection to send the request on.
    Unsent(Error),
    /// The request was sent, and the connection was lost, or the time was over.
    Unanswered,
}

/// Answers to one request.
struct Answers<'a>(&'a Link, u64, mpsc::UnboundedReceiver<Answer>);

impl Answers<'_> {
    async fn next(&mut self) -> Result<Answer, Lost> {
        let mut alive = self.0.alive.clone();
        // A watch that is read in another runtime than before has lost what lives in the first.
        let runtime = self.0.runtime;
        let moved = poll_fn(|_| match Handle::current().id() == runtime {
            true => Poll::Pending,
            false => Poll::Ready(()),
        });
        tokio::select! {
            biased;
            answer = self.2.recv() => answer.ok_or(Lost),
            () = moved => Err(Lost),
            _ = alive.wait_for(|alive| !alive) => Err(Lost),
        }
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Link {
    async fn open(address: SocketAddr, prefix: &str, idle: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (out, requests) = mpsc::unbounded_channel();
        let (alive, lives) = watch::channel(true);
        let waiting: Arc<Mutex<HashMap<_, mpsc::UnboundedSender<Answer>>>> = Arc::default();
        let (answers, hello) = (waiting.clone(), Request(0, Ask::Hello(prefix.to_owned())));
        let foreign = Arc::new(AtomicBool::new(false));
        let seen = foreign.clone();
        let task = tokio::spawn(async move {
            let (mut from, mut to) = stream.into_split();
            let write = async {
                let (mut requests, mut ping) = (requests, interval(PING));
                to.write_all(&frame(&hello).ok()?).await.ok()?;
                loop {
                    let request = tokio::select! {
                        request = requests.recv() => request?,
                        _ = ping.tick() => Request(0, Ask::Ping),
                    };
                    to.write_all(&frame(&request).ok()?).await.ok()?;
                }
            };
            let read = async {
                loop {
                    let answer = read(&mut from, idle).await;
                    let Response(number, answer) = answer
                        .inspect_err(|e| seen.store(e.to_string() == FOREIGN, Ordering::Relaxed))
                        .ok()?;
                    let waiting = answers.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(waits) = waiting.get(&number) {
                        // The asker may have stopped waiting.
                        let _ = waits.send(answer);
                    }
                }
            };
            let _: Option<()> = tokio::select! { end = write => end, end = read => end };
            alive.send_replace(false);
        });
        Ok(Self { out, waiting, alive: lives, foreign, runtime: Handle::current().id(), task })
    }

    fn is_alive(&self) -> bool {
        *self.alive.borrow() && !self.task.is_finished()
    }

    fn ask(&self, number: u64, ask: Ask) -> Answers<'_> {
        let (answer, answers) = mpsc::unbounded_channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answer);
        // When the connection has ended, the waiter sees it by `alive`.
        let _ = self.out.send(Request(number, ask));
        Answers(self, number, answers)
    }
}

impl Wire {
    pub(crate) fn new(address: SocketAddr, prefix: &str, fault: Option<Fault>) -> Self {
        let memory = kv_memory::Memory::new();
        let mut capabilities = memory.capabilities().clone();
        (capabilities.backend, capabilities.health) = ("wire", false);
        // A longer message takes so long that its connection looks dead meanwhile.
        (capabilities.max_value, capabilities.max_txn_bytes) = (1 << 20, 2 << 20);
        Self(Arc::new(Client {
            address,
            prefix: prefix.to_owned(),
            fault,
            capabilities,
            clock: Clock::system(),
            next: AtomicU64::new(RandomState::new().hash_one(address)),
            places: ByRuntime::new(),
            links: AtomicU64::new(0),
            tasks: Tasks::default(),
        }))
    }

    fn has(&self, fault: Fault) -> bool {
        self.0.fault == Some(fault)
    }

    fn number(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    fn limit(&self, deadline: Deadline) -> Deadline {
        if self.has(Fault::IgnoresDeadline) { Deadline::NEVER } else { deadline }
    }

    /// Returns the connection; makes one attempt to connect, if there is none. That has a task of
    /// its own: a watch that nobody reads must not stand still with the lock that others wait for.
    async fn link(&self) -> Result<Arc<Link>> {
        let place = self.0.places.here(Arc::default)?;
        if let Ok(mut link) = place.try_lock() {
            if self.has(Fault::ReadsOnce)
                && let Some(dead) = link.take_if(|link| !link.is_alive())
            {
                return Ok(dead);
            }
            if let Some(link) = link.as_ref().filter(|link| link.is_alive()) {
                return Ok(link.clone());
            }
        }
        if self.has(Fault::ConnectsInCalls) {
            return self.linked().await;
        }
        let wire = self.clone();
        tokio::spawn(async move { wire.linked().await })
            .await
            .map_err(|_| failed_with(ErrorKind::Unavailable))?
    }

    async fn linked(&self) -> Result<Arc<Link>> {
        let (client, place) = (&*self.0, self.0.places.here(Arc::default)?);
        let mut link = place.lock().await;
        if let Some(link) = link.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        let idle = if self.has(Fault::TrustsSilence) { Duration::MAX } else { IDLE };
        client.links.fetch_add(1, Ordering::Relaxed);
        let made = Link::open(client.address, &client.prefix, idle).await;
        let made = made.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the server does not take connections").with_cause(e)
        })?;
        if self.has(Fault::ConnectsInCalls) {
            // What it says is not looked at.
            let _ = made.ask(self.number(), Ask::Ping).next().await;
        }
        Ok(link.insert(Arc::new(made)).clone())
    }

    /// Returns the connection; tries to connect again and again until shortly before the deadline.
    async fn connected(&self, deadline: Deadline) -> Result<Arc<Link>> {
        // The caller cuts off at the deadline and then knows less.
        let within = deadline.remaining().saturating_sub(deadline.within() / 10);
        let (deadline, mut pause) = (self.limit(Deadline::after(within)), Duration::from_millis(5));
        loop {
            let link = deadline.limit(self.link()).await;
            match link.unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, "no connection in time"))) {
                Ok(link) if self.has(Fault::ReadsOnce) => return Ok(link),
                Ok(link) => {
                    // A runtime that stood still has not heard yet that the server hung up.
                    catch_up(deadline, || !link.is_alive()).await;
                    if link.is_alive() {
                        return Ok(link);
                    }
                }
                Err(_) if deadline.remaining() > pause => sleep(pause).await,
                Err(e) => return Err(e),
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Asks once.
    async fn once(&self, ask: Ask, deadline: Deadline) -> Result<Answer, Without> {
        let link = self.connected(deadline).await.map_err(Without::Unsent)?;
        let mut answers = link.ask(self.number(), ask);
        match self.limit(deadline).limit(answers.next()).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Lost)) if self.believes(&link) => Ok(Answer::Done(false)),
            Some(Err(Lost)) | None => Err(Without::Unanswered),
        }
    }

    /// Tells whether what something else answered is taken for "there is no such thing".
    fn believes(&self, link: &Link) -> bool {
        self.has(Fault::BelievesIntermediaries) && link.foreign.load(Ordering::Relaxed)
    }

    /// Asks again and again until the deadline: a read, or what the server takes twice without
    /// harm.
    async fn again(&self, ask: Ask, deadline: Deadline) -> Result<Answer> {
        self.repeated(ask, deadline).await.0
    }

    /// Asks as [`again`](Self::again) does, and tells whether a request had no answer.
    async fn repeated(&self, ask: Ask, deadline: Deadline) -> (Result<Answer>, bool) {
        let mut unanswered = false;
        let answer = loop {
            match self.once(ask.clone(), deadline).await {
                Ok(Answer::Failed { kind, message }) => break Err(failure(kind, message)),
                Ok(answer) => break Ok(answer),
                Err(Without::Unsent(e)) => break Err(e),
                Err(Without::Unanswered) => unanswered = true,
            }
            if unanswered && (deadline.has_passed() || self.has(Fault::ReadsOnce)) {
                break Err(Error::new(ErrorKind::Timeout, "no answer in time"));
            }
        };
        (answer, unanswered)
    }

    /// Asks for a write: never again once it may have left.
    async fn write(&self, ask: Ask, deadline: Deadline) -> Result<Answer> {
        if self.has(Fault::RetriesBlindly) {
            return self.again(ask, deadline).await;
        }
        match self.once(ask.clone(), deadline).await {
            Ok(Answer::Failed { kind, message }) => Err(failure(kind, message)),
            Ok(answer) => Ok(answer),
            Err(Without::Unsent(e)) => Err(e),
            Err(Without::Unanswered) => self.unanswered(&ask),
        }
    }

    fn unanswered(&self, ask: &Ask) -> Result<Answer> {
        let (Ask::Put { expect, .. } | Ask::Delete { expect, .. }) = ask else { return Err(unknown()) };
        match (self.0.fault, expect, ask) {
            (Some(Fault::LostReplyIsConflict), Expected::Missing, _) => {
                Err(failed_with(ErrorKind::KeyExists))
            }
            (Some(Fault::LostReplyIsConflict), Expected::Version(_), _) => {
                Err(failed_with(ErrorKind::KeyModified))
            }
            (Some(Fault::LostReplyIsSuccess), _, Ask::Put { ttl, .. }) => Ok(Answer::Written((0, 1), *ttl)),
            (Some(Fault::LostReplyIsSuccess), ..) => Ok(Answer::Done(true)),
            _ => Err(unknown()),
        }
    }

    async fn read(&self, ask: Ask, deadline: Deadline, missing: Answer) -> Result<Answer> {
        match self.again(ask, deadline).await {
            Err(e) if e.is_transient() && self.has(Fault::DownIsMissing) => Ok(missing),
            Ok(Answer::Done(false)) if self.has(Fault::BelievesIntermediaries) => Ok(missing),
            answer => answer,
        }
    }

    /// Returns the undo that gives a lock, a place in the queue or a lease back.
    fn undo(&self, id: Id, each_request: Duration) -> Undo {
        let wire = self.clone();
        let work = move || wire.clone().end(id, each_request);
        if self.has(Fault::ClosesTooSoon) {
            Undo::repeatable(work)
        } else {
            self.0.tasks.undo_repeatable(work)
        }
    }

    /// Ends a lock, a place in the queue or a lease; tells whether it still was.
    async fn end(self, id: Id, each_request: Duration) -> Result<bool> {
        let deadline = Deadline::after(each_request);
        if self.has(Fault::EndsOnOneLink) {
            let ended = self.once(Ask::End(id), deadline).await;
            return match ended {
                Ok(answer) if self.0.links.load(Ordering::Relaxed) == 1 => done(answer),
                _ => Err(failed_with(ErrorKind::Unavailable)),
            };
        }
        let (ended, unanswered) = self.repeated(Ask::End(id), deadline).await;
        let ended = ended.and_then(done).map(|ended| ended || self.has(Fault::ReleaseIsAlwaysTrue));
        match ended {
            Ok(true) => Ok(true),
            // A lock that a repeat does not find may have been ended by the first attempt.
            _ if unanswered && !self.has(Fault::AnswersForRepeats) => Err(unknown()),
            ended => ended,
        }
    }

    fn keep(
        &self,
        id: Id,
        ttl: Duration,
        granted: Instant,
        each_request: Duration,
        lost: ErrorKind,
    ) -> Alive {
        let wire = self.clone();
        Alive::keep(&self.0.clock, ttl, granted, move || {
            let wire = wire.clone();
            async move {
                if wire.has(Fault::BelievesInLockForever) {
                    let _ =
                        timeout(ttl / 10, wire.again(Ask::Renew(id), Deadline::after(each_request))).await;
                    return Ok(());
                }
                if wire.has(Fault::LosesLockAtFirstFailure) {
                    let renewed = wire.once(Ask::Renew(id), Deadline::after(ttl / 10)).await;
                    return renewed.map(drop).map_err(|_| Error::new(lost, "a renewal failed"));
                }
                let is_call = wire.has(Fault::RenewsLikeACall);
                let each = if is_call { each_request } else { each_request.max(ttl / 5) };
                match wire.again(Ask::Renew(id), Deadline::after(each)).await {
                    Ok(Answer::Done(true)) => Ok(()),
                    Ok(_) => Err(Error::new(lost, "its TTL passed without a renewal")),
                    Err(e) => Err(e),
                }
            }
        })
    }

    /// Waits in the queue over lost connections; the id makes a repeated request the same one.
    async fn queue(&self, id: Id, name: &Key, ttl: Duration, options: &LockOptions) -> Result<Option<u64>> {
        let ask =
            Ask::Lock { id, name: name.to_string(), ttl, value: options.value.to_vec(), wait: options.wait };
        let mut deadline = Deadline::after(options.each_request);
        let refused = || Error::new(ErrorKind::PermissionDenied, "the server takes nobody in");
        loop {
            let link = self.connected(deadline).await;
            let link =
                link.map_err(|e| if self.has(Fault::TakesOutagesForRefusals) { refused() } else { e })?;
            let mut answers = link.ask(self.number(), ask.clone());
            let mut answer = match self.limit(deadline).limit(answers.next()).await {
                Some(answer) => answer,
                None => return Err(Error::new(ErrorKind::Timeout, "no answer in time")),
            };
            if let Ok(Answer::Queued) = answer {
                answer = answers.next().await;
                while let Ok(Answer::Queued) = answer {
                    link.ask(self.number(), Ask::Holder(name.to_string()));
                    answer = answers.next().await;
                }
                deadline = Deadline::after(options.each_request);
            }
            match answer {
                Ok(Answer::Locked(None)) if options.wait => {}
                Ok(Answer::Locked(token)) => return Ok(token),
                Ok(Answer::Failed { kind, message }) => return Err(failure(kind, message)),
                Ok(_) => return Err(confused()),
                Err(Lost) if self.has(Fault::TakesOutagesForRefusals) => return Err(refused()),
                Err(Lost) if self.has(Fault::AbandonsLocks) => {
                    return Err(failed_with(ErrorKind::Unavailable));
                }
                Err(Lost) => {}
            }
        }
    }
}

fn unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the answer was lost; read before writing again")
}

fn confused() -> Error {
    garbled("an answer to another question")
}

fn failed_with(kind: ErrorKind) -> Error {
    Error::new(kind, "a write failed")
}

fn done(answer: Answer) -> Result<bool> {
    if let Answer::Done(done) = answer { Ok(done) } else { Err(confused()) }
}

/// Ends a watch on the server when it is dropped.
struct Unwatch(Arc<Link>, Id, Option<Fault>);

impl Drop for Unwatch {
    fn drop(&mut self) {
        if self.2 == Some(Fault::NeverUnwatches) {
            return;
        }
        let _ = self.0.out.send(Request(0, Ask::Unwatch(self.1)));
    }
}

#[async_trait]
impl Store for Wire {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        match self.read(Ask::Get(key.to_string()), options.deadline, Answer::Entry(None)).await? {
            Answer::Entry(row) => row.map(Row::entry).transpose(),
            _ => Err(confused()),
        }
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        static SENT: AtomicU64 = AtomicU64::new(1);
        let sent = SENT.fetch_add(1, Ordering::Relaxed);
        let (key, value, expect) = (key.to_string(), value.to_vec(), expect.into());
        let ask = Ask::Put { key, value, expect, ttl: options.ttl, lease: lease_name(options) };
        match self.write(ask, options.deadline).await? {
            Answer::Written(_, ttl) if self.has(Fault::VersionsAtSending) => {
                Ok(Written::new(Version::new(sent, 0), ttl))
            }
            Answer::Written(at, ttl) => Ok(was_written((at, ttl))),
            _ => Err(confused()),
        }
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        let ask = Ask::Delete { key: key.to_string(), expect: expect.into() };
        done(self.write(ask, options.deadline).await?)
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let ask = Ask::List {
            directory: directory.as_str().to_owned(),
            recursive: options.recursive,
            keys_only: options.keys_only,
            limit: options.limit.map(|n| n as u64),
            after: options.start_after.as_ref().map(|place| place.start()),
            from: from.map(|cursor| cursor.as_bytes().to_vec()),
        };
        match self.read(ask, options.read.deadline, Answer::Page(Vec::new(), None)).await? {
            Answer::Page(items, next) => {
                let items = items.into_iter().map(Listed::item).collect::<Result<_>>()?;
                Ok(Page { items, next: next.map(Cursor::new) })
            }
            _ => Err(confused()),
        }
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        _from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        match self.write(Ask::DeleteTree(directory.as_str().to_owned()), options.deadline).await? {
            Answer::Deleted(deleted) => Ok(Batch { deleted, next: None }),
            _ => Err(confused()),
        }
    }

    async fn transact(&self, mut transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        if self.has(Fault::IgnoresFences) {
            transaction.conditions.retain(|c| !matches!(c, Condition::Held(_)));
        }
        match self.write(steps(transaction), options.deadline).await? {
            Answer::Committed(done) => {
                Ok(Decision::Committed(done.into_iter().map(|written| written.map(was_written)).collect()))
            }
            Answer::Refused(condition) => Ok(Decision::Refused { condition: condition as usize }),
            _ => Err(confused()),
        }
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let (wire, watched, each_request) = (self.clone(), Watched::from(target), options.each_request);
        if self.has(Fault::WatchNeedsTheServer) {
            let ask = Ask::Get("is-it-there".into());
            let asked = self.once(ask, Deadline::after(IDLE / 4)).await;
            asked.map_err(|_| failed_with(ErrorKind::Unavailable))?;
        }
        if self.has(Fault::NeverUnwatches) {
            let (wire, id, mut begin) = (self.clone(), self.number(), Some(watched.clone()));
            let link = self.link().await?;
            tokio::spawn(async move {
                loop {
                    let ask = Ask::Next { id, begin: begin.take() };
                    let Ok(Answer::Events(_)) = link.ask(wire.number(), ask).next().await else { return };
                }
            });
        }
        Ok(stream(|out| async move {
            let (mut told, mut first) = (Told::default(), true);
            'links: loop {
                let Ok(link) = wire.connected(Deadline::after(each_request)).await else {
                    if !first && wire.has(Fault::WatchEndsAtCut) {
                        return Err(failed_with(ErrorKind::Unavailable));
                    }
                    continue;
                };
                let watch = Unwatch(link.clone(), wire.number(), wire.0.fault);
                let (mut begin, mut listing) = (Some(watched.clone()), true);
                let deaf = !first && wire.has(Fault::WatchForgetsOutage);
                told.relist();
                loop {
                    let mut answers = link.ask(wire.number(), Ask::Next { id: watch.1, begin: begin.take() });
                    let next = answers.next();
                    let next = match wire.has(Fault::WatchEndsAtSilence) && !first {
                        true => match timeout(IDLE / 4, next).await {
                            Err(_) => return Err(failed_with(ErrorKind::Unavailable)),
                            Ok(next) => next,
                        },
                        false => next.await,
                    };
                    let events = match next {
                        Ok(Answer::Events(events)) => events,
                        Ok(Answer::Failed { kind, message }) => return Err(failure(kind, message)),
                        Ok(_) => return Err(confused()),
                        Err(Lost) if !first && wire.has(Fault::WatchEndsAtCut) => {
                            return Err(failed_with(ErrorKind::Unavailable));
                        }
                        Err(Lost) if wire.believes(&link) => return Err(confused()),
                        Err(Lost) => continue 'links,
                    };
                    for event in events {
                        let event = event.event()?;
                        if event == WatchEvent::Synced && std::mem::take(&mut listing) {
                            first = false;
                            for gone in told.rest().into_iter().filter(|_| !deaf) {
                                out.send(gone).await;
                            }
                        }
                        let dropped = wire.has(Fault::DropsEvents) && !listing && event.key().is_some();
                        let owed: Vec<_> = match event {
                            WatchEvent::Put(entry) if listing && !wire.has(Fault::TrustsTheCounter) => {
                                told.listed(entry).collect()
                            }
                            event => told.change(event).into_iter().collect(),
                        };
                        for event in owed {
                            if !(deaf && listing) && (!dropped || wire.number() % 3 > 0) {
                                out.send(event).await;
                            }
                        }
                    }
                }
            }
        }))
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let (id, each) = (self.number(), options.each_request);
        let (revoke, granted) = (self.undo(id, each), self.0.clock.now());
        match self.write(Ask::Lease { id, ttl }, options.deadline).await? {
            Answer::Leased(name) => {
                let alive = self.keep(id, ttl, granted, each, ErrorKind::LeaseLost);
                Ok(Leased { id: LeaseId::new(name), ttl, alive, revoke })
            }
            _ => Err(confused()),
        }
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let (id, ttl, each) = (self.number(), options.ttl, options.each_request);
        let mut release = self.undo(id, each);
        let abandons = self.has(Fault::LeavesLocksBehind) || self.has(Fault::AbandonsLocks);
        if abandons {
            std::mem::replace(&mut release, Undo::nothing()).forget();
        }
        loop {
            let mut granted = self.0.clock.now();
            let Some(token) = self.queue(id, name, ttl, options).await? else {
                release.forget();
                return Ok(None);
            };
            if self.0.clock.now().since(granted) > ttl / 10 {
                // The moment of the grant is not known: the life begins with a renewal.
                granted = self.0.clock.now();
                if !done(self.again(Ask::Renew(id), Deadline::after(each)).await?)? {
                    continue;
                }
            }
            let alive = self.keep(id, ttl, granted, each, ErrorKind::LockLost);
            if abandons {
                release = self.undo(id, each);
            }
            return Ok(Some(Acquired {
                fence: Fence::new(name.clone(), token, Bytes::new()),
                alive,
                release,
            }));
        }
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        match self.read(Ask::Holder(name.to_string()), options.deadline, Answer::Holder(None)).await? {
            Answer::Holder(holder) => {
                Ok(holder.map(|(token, changes, value)| Holder::new(token, value).with_changes(changes)))
            }
            _ => Err(confused()),
        }
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        let from = from.map(|cursor| cursor.as_bytes().to_vec());
        let ask = Ask::Locks { directory: directory.as_str().to_owned(), from };
        match self.read(ask, options.deadline, Answer::Locks(Vec::new(), None)).await? {
            Answer::Locks(locks, next) => {
                let locks = locks.into_iter().map(Lock::held).collect::<Result<_>>()?;
                Ok(LockPage { locks, next: next.map(Cursor::new) })
            }
            _ => Err(confused()),
        }
    }

    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, options: &WriteOptions) -> Result<bool> {
        let (name, value) = (fence.lock().to_string(), value.to_vec());
        done(self.write(Ask::SetHolder { name, token: fence.token(), value }, options.deadline).await?)
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        done(self.write(Ask::Break { name: name.to_string(), token }, options.deadline).await?)
    }

    async fn close(&self) -> Result<()> {
        if !self.has(Fault::ClosesTooSoon) {
            self.0.tasks.finish().await?;
        }
        self.0.places.close();
        Ok(())
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({})", self.0.address)
    }
}
