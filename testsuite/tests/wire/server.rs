//! The server: a store in memory, sessions of locks and leases that end by their TTL, and
//! connections.

use super::{Fault, protocol::*};
use futures::{FutureExt, StreamExt};
use kv_core::{
    Directory, Entry, Fence, Item, LeaseId, Result,
    backend::Undo,
    driver::{
        Cursor, Expect, LeaseOptions, ListOptions, LockOptions, PutOptions, ReadOptions, Store, WatchOptions,
        WatchStream, WriteOptions, async_trait,
    },
};
use kv_memory::Memory;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{
        Notify, mpsc,
        oneshot::{self, error::TryRecvError},
        watch,
    },
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// The time without a message after which a client is gone; clients send pings.
const IDLE: Duration = Duration::from_secs(3);
/// The TTL in memory of a lock or lease that a session keeps by its own TTL.
const LONG: Duration = Duration::from_secs(86_400);

/// A server whose data outlives its stops.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _reserved: TcpSocket,
    running: tokio::sync::Mutex<JoinSet<()>>,
}

struct Shared {
    fault: Option<Fault>,
    /// The last token, and the last one before the server forgot.
    given: AtomicU64,
    forgotten: AtomicU64,
    /// The data, and the copy of them.
    memory: Mutex<Memory>,
    saved: Mutex<Vec<Entry>>,
    /// The number by which the versions and tokens that clients see are smaller: a restored server
    /// goes on counting where the copy was taken.
    behind: AtomicU64,
    /// The sessions of clients, by the ids that they gave.
    sessions: Mutex<HashMap<Id, Session>>,
    /// Wakes waiters when something was given back.
    ended: Notify,
    up: watch::Sender<bool>,
    paused: watch::Sender<bool>,
}

/// A lock that is waited for or held, or a lease.
enum Session {
    /// Tells the waiter that another connection asks with the same id, or that the place is given
    /// back.
    Waiting(oneshot::Sender<Leaving>),
    Held {
        until: Instant,
        ttl: Duration,
        token: u64,
        end: Undo,
        timer: AbortHandle,
    },
}

/// The sender that a waiter drops as soon as nothing is left of its place, nor of what the place
/// brought meanwhile.
type Leaving = oneshot::Sender<()>;

impl Server {
    /// Starts a server on a free port of loopback.
    pub(crate) async fn start(fault: Option<Fault>) -> Self {
        let reserved = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = reserved.local_addr().unwrap();
        let shared = Arc::new(Shared {
            fault,
            given: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            memory: Mutex::new(Memory::new()),
            saved: Mutex::default(),
            behind: AtomicU64::new(0),
            sessions: Mutex::default(),
            ended: Notify::new(),
            up: watch::Sender::new(false),
            paused: watch::Sender::new(false),
        });
        let server = Self { address, shared, _reserved: reserved, running: Default::default() };
        kv_testsuite::Server::start(&server).await;
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

#[async_trait]
impl kv_testsuite::Server for Server {
    async fn stop(&self) {
        self.shared.up.send_replace(false);
        let mut running = self.running.lock().await;
        while running.join_next().await.is_some() {}
    }
    async fn kill(&self) {
        self.stop().await;
    }
    async fn start(&self) {
        let mut running = self.running.lock().await;
        if *self.shared.up.borrow() {
            return;
        }
        let listener = bind(self.address).listen(1024).unwrap();
        if self.shared.fault == Some(Fault::ForgetsAtRestart) {
            let held = std::mem::take(&mut *self.shared.sessions());
            drop(held);
            self.shared.forgotten.store(self.shared.given.load(Relaxed), Relaxed);
            let everything = (Directory::root(), WriteOptions::default());
            let _ = self.shared.memory().delete_tree(&everything.0, None, &everything.1).await;
        }
        // The time in which nobody could renew does not count.
        for session in self.shared.sessions().values_mut() {
            if let Session::Held { until, ttl, .. } = session {
                *until = Instant::now() + *ttl;
            }
        }
        self.shared.up.send_replace(true);
        running.spawn(serve(listener, self.shared.clone()));
    }
    async fn pause(&self) {
        self.shared.paused.send_replace(true);
    }
    async fn resume(&self) {
        self.shared.paused.send_replace(false);
    }
    async fn save(&self) -> bool {
        self.stop().await;
        let (memory, all) = (self.shared.memory(), ListOptions::default());
        let page = memory.list(&Directory::root(), None, &all).await.unwrap();
        assert!(page.next.is_none(), "a copy is of one page");
        let entries = page.items.into_iter().filter_map(|item| match item {
            Item::Entry(entry) => Some(entry),
            _ => None,
        });
        *self.shared.saved.lock().unwrap() = entries.collect();
        kv_testsuite::Server::start(self).await;
        true
    }
    async fn restore_saved(&self) {
        self.stop().await;
        let (memory, saved) = (Memory::new(), self.shared.saved.lock().unwrap().clone());
        let copied = saved.iter().map(|entry| entry.version.parts().0).min().unwrap();
        let (mut first, options) = (None, PutOptions::default());
        for entry in saved {
            let put = memory.put(&entry.key, entry.value, Expect::Anything, &options).await.unwrap();
            first.get_or_insert(put.version.parts().0);
        }
        self.shared.behind.store(first.unwrap() - copied + self.shared.behind.load(Relaxed), Relaxed);
        // The locks and leases that were held belong to the data that are gone.
        let held = std::mem::take(&mut *self.shared.sessions());
        *self.shared.memory.lock().unwrap() = memory;
        drop(held);
        kv_testsuite::Server::start(self).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (_, session) in self.shared.sessions().drain() {
            if let Session::Held { timer, .. } = session {
                timer.abort();
            }
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let (mut connections, mut up) = (JoinSet::new(), shared.up.subscribe());
    loop {
        tokio::select! {
            () = down(&mut up) => {
                drop(listener);
                return connections.shutdown().await;
            }
            Ok((stream, _)) = listener.accept() => drop(connections.spawn(connection(stream, shared.clone()))),
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn down(up: &mut watch::Receiver<bool>) {
    // The sender lives as long as the server.
    let _ = up.wait_for(|up| !up).await;
}

/// The state that the requests of one connection share.
struct Link {
    shared: Arc<Shared>,
    store: Memory,
    watches: Mutex<HashMap<Id, Reading>>,
    out: mpsc::UnboundedSender<Response>,
}

/// A watch, between two requests for its events or during one.
enum Reading {
    Idle(WatchStream),
    /// The sender is dropped when the watch is given up.
    Busy {
        _end: oneshot::Sender<()>,
    },
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    let (out, mut answers) = mpsc::unbounded_channel::<Response>();
    let mut paused = shared.paused.subscribe();
    let write = async {
        while let Some(answer) = answers.recv().await {
            let _ = shared.paused.subscribe().wait_for(|paused| !paused).await;
            let Ok(bytes) = frame(&answer) else { return };
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let serve = async {
        let Ok(Request(_, Ask::Hello(prefix))) = read(&mut from, IDLE).await else { return };
        let store = shared.memory().with_prefix(&prefix);
        let link = Arc::new(Link { shared: shared.clone(), store, watches: Mutex::default(), out });
        let mut requests = JoinSet::new();
        loop {
            let read = read(&mut from, IDLE).await;
            if paused.wait_for(|paused| !paused).await.is_err() {
                return;
            }
            let Ok(Request(number, ask)) = read else { return };
            match ask.up(shared.behind.load(Relaxed)) {
                // This is done in the order of asking: a place in the queue that is given back has
                // been asked for before.
                Ask::Lock { id, name, ttl, value, wait } => {
                    let cancelled = link.shared.come(id);
                    let link = link.clone();
                    requests.spawn(async move {
                        let locked = link.lock(number, id, &name, ttl, value, wait, cancelled).await;
                        link.answer(number, locked);
                    });
                }
                Ask::Next { id, begin } => {
                    let (idle, ended) = link.busy(id);
                    let link = link.clone();
                    requests.spawn(async move {
                        tokio::select! {
                            biased;
                            _ = ended => {}
                            events = link.next(id, idle, begin) => link.answer(number, events.map(Answer::Events)),
                        }
                    });
                }
                Ask::Unwatch(id) => drop(link.watches().remove(&id)),
                ask => {
                    let link = link.clone();
                    requests.spawn(async move { link.answer(number, link.ask(ask).await) });
                }
            }
            while requests.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = write => {}
        () = serve => {}
    }
}

impl Shared {
    fn memory(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Id, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that this id waits; returns `None` when it holds already. An earlier waiter with this
    /// id is sent away.
    fn come(&self, id: Id) -> Option<oneshot::Receiver<Leaving>> {
        let mut sessions = self.sessions();
        if matches!(sessions.get(&id), Some(Session::Held { .. })) {
            return None;
        }
        let (cancel, cancelled) = oneshot::channel();
        if let Some(Session::Waiting(earlier)) = sessions.insert(id, Session::Waiting(cancel)) {
            // Nobody waits until the earlier one is gone.
            let _ = earlier.send(oneshot::channel().0);
        }
        Some(cancelled)
    }

    /// Keeps the lock or lease until its TTL has passed without a renewal. If it was given back
    /// meanwhile, it is not kept, and the undo that is to run is returned.
    fn hold(
        self: &Arc<Self>,
        id: Id,
        ttl: Duration,
        token: u64,
        end: Undo,
        cancelled: Option<&mut oneshot::Receiver<Leaving>>,
    ) -> Result<(), (Undo, Option<Leaving>)> {
        let shared = self.clone();
        let mut sessions = self.sessions();
        match cancelled.map(oneshot::Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(leaving) => return Err((end, leaving.ok())),
        }
        let timer = tokio::spawn(async move {
            let mut up = shared.up.subscribe();
            loop {
                if up.wait_for(|up| *up).await.is_err() {
                    return;
                }
                let until = match shared.sessions().get(&id) {
                    Some(Session::Held { until, .. }) => *until,
                    _ => return,
                };
                sleep_until(until).await;
                let mut sessions = shared.sessions();
                let over = matches!(sessions.get(&id), Some(Session::Held { until, .. }) if *until <= Instant::now());
                if matches!(shared.fault, Some(Fault::NeverEndsSessions | Fault::AbandonsLocks)) {
                    return;
                }
                if over && *shared.up.borrow() {
                    // A session that is dropped is undone.
                    sessions.remove(&id);
                    return;
                }
            }
        });
        let held =
            Session::Held { until: Instant::now() + ttl, ttl, token, end, timer: timer.abort_handle() };
        sessions.insert(id, held);
        Ok(())
    }

    fn renew(&self, id: Id) -> bool {
        match self.sessions().get_mut(&id) {
            Some(Session::Held { until, ttl, .. }) => {
                *until = Instant::now() + *ttl;
                true
            }
            _ => false,
        }
    }

    /// Ends the session of the lock that had this token: its next renewal finds none.
    fn forget(&self, token: u64) {
        let had = |session: &Session| matches!(session, Session::Held { token: of, .. } if *of == token);
        self.sessions().retain(|_, session| !had(session));
        self.ended.notify_waiters();
    }

    async fn end(&self, id: Id) -> Result<bool> {
        let held = {
            let mut sessions = self.sessions();
            match sessions.remove(&id) {
                Some(Session::Held { end, timer, .. }) => {
                    timer.abort();
                    Ok(end)
                }
                Some(Session::Waiting(cancel)) => {
                    let (leaving, left) = oneshot::channel();
                    // The message goes before anyone else sees the sessions: a lock that is got
                    // from now on is not kept.
                    let _ = cancel.send(leaving);
                    Err(left)
                }
                None => return Ok(false),
            }
        };
        match held {
            Ok(end) => {
                let held = end.run().await;
                self.ended.notify_waiters();
                held
            }
            Err(left) => {
                // Nothing is ever sent: it ends when the other side is dropped.
                let _ = left.await;
                Ok(false)
            }
        }
    }
}

/// A place in the queue, which is left when the connection ends.
struct Place<'a>(&'a Shared, Id);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut sessions = self.0.sessions();
        // Another connection may have come with the same id; its receiver lives.
        if matches!(sessions.get(&self.1), Some(Session::Waiting(cancel)) if cancel.is_closed()) {
            sessions.remove(&self.1);
        }
    }
}

impl Link {
    fn answer(&self, number: u64, answer: Result<Answer>) {
        let answer = answer.unwrap_or_else(|e| failed(&e));
        // The connection may have ended.
        let _ = self.out.send(Response(number, answer.down(self.shared.behind.load(Relaxed))));
    }

    #[allow(clippy::too_many_arguments)]
    async fn lock(
        &self,
        number: u64,
        id: Id,
        name: &str,
        ttl: Duration,
        value: Vec<u8>,
        wait: bool,
        cancelled: Option<oneshot::Receiver<Leaving>>,
    ) -> Result<Answer> {
        let _place = Place(&self.shared, id);
        let Some(mut cancelled) = cancelled else {
            return Ok(Answer::Locked(match self.shared.sessions().get(&id) {
                Some(Session::Held { token, .. }) => Some(*token),
                _ => None,
            }));
        };
        let name = key(name)?;
        let options = LockOptions::default().ttl(LONG).value(value.into());
        let acquire = async {
            let tried = self.store.lock(&name, &options.clone().wait(false)).await?;
            if tried.is_some() || !wait {
                return Ok(tried);
            }
            self.answer(number, Ok(Answer::Queued));
            self.store.lock(&name, &options).await
        };
        let mut acquire = Box::pin(acquire);
        let acquired = loop {
            tokio::select! {
                biased;
                leaving = &mut cancelled => {
                    drop(acquire);
                    // Waits for what the drop gives back.
                    self.store.close().await?;
                    drop(leaving);
                    return Ok(Answer::Locked(None));
                }
                acquired = &mut acquire => break acquired?,
                () = self.shared.ended.notified(), if self.shared.fault == Some(Fault::WakesAllInLine) => {
                    self.answer(number, Ok(Answer::Queued));
                }
            }
        };
        let Some(acquired) = acquired else { return Ok(Answer::Locked(None)) };
        let (token, alive, release) = (acquired.fence.token(), acquired.alive, acquired.release);
        self.shared.given.store(token, Relaxed);
        let token = token - self.shared.forgotten.load(Relaxed);
        // The lock in memory lives as long as the session.
        let end = Undo::new(async move {
            drop(alive);
            release.run().await
        });
        match self.shared.hold(id, ttl, token, end, Some(&mut cancelled)) {
            Ok(()) => Ok(Answer::Locked(Some(token))),
            Err((end, leaving)) => {
                end.run().await?;
                drop(leaving);
                Ok(Answer::Locked(None))
            }
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer> {
        let (store, read, write) = (&self.store, ReadOptions::default(), WriteOptions::default());
        Ok(match ask {
            Ask::Hello(_) | Ask::Lock { .. } | Ask::Next { .. } | Ask::Unwatch(_) => {
                return Err(garbled("a message out of order"));
            }
            Ask::Ping => Answer::Done(true),
            Ask::Get(name) => Answer::Entry(store.get(&key(&name)?, &read).await?.as_ref().map(Row::from)),
            Ask::Put { key: name, value, expect, ttl, lease } => {
                let options = put_options(ttl, lease);
                let put = store.put(&key(&name)?, value.into(), expect.into(), &options).await?;
                let (at, ttl) = written(put);
                Answer::Written(at, ttl)
            }
            Ask::Delete { key: name, expect } => {
                Answer::Done(store.delete(&key(&name)?, expect.into(), &write).await?)
            }
            Ask::List { directory: name, recursive, keys_only, limit, after, from } => {
                let options = ListOptions::default().recursive(recursive).keys_only(keys_only);
                let options = options.limit(limit.map(|n| n as usize));
                let options = options.start_after(after.as_deref().map(position).transpose()?);
                let from = from.map(Cursor::new);
                let page = store.list(&directory(&name)?, from.as_ref(), &options).await?;
                let next = page.next.map(|cursor| cursor.as_bytes().to_vec());
                Answer::Page(page.items.iter().map(Listed::from).collect(), next)
            }
            Ask::DeleteTree(name) => {
                Answer::Deleted(store.delete_tree(&directory(&name)?, None, &write).await?.deleted)
            }
            Ask::Transact { conditions, writes } => {
                outcome(store.transact(transaction(conditions, writes)?, &write).await?)
            }
            Ask::Lease { id, ttl } => {
                let leased = store.lease(LONG, &LeaseOptions::default()).await?;
                let (name, alive, revoke) = (leased.id.as_str().to_owned(), leased.alive, leased.revoke);
                let end = Undo::new(async move {
                    drop(alive);
                    revoke.run().await
                });
                drop(self.shared.hold(id, ttl, 0, end, None));
                Answer::Leased(LeaseId::new(name).as_str().to_owned())
            }
            Ask::Renew(id) => Answer::Done(self.shared.renew(id)),
            Ask::End(id) => Answer::Done(self.shared.end(id).await?),
            Ask::Holder(name) => {
                let holder = store.lock_holder(&key(&name)?, &read).await?;
                Answer::Holder(holder.map(|holder| (holder.token, holder.changes, holder.value.to_vec())))
            }
            Ask::Locks { directory: name, from } => {
                let page = store.locks(&directory(&name)?, from.map(Cursor::new).as_ref(), &read).await?;
                let next = page.next.map(|cursor| cursor.as_bytes().to_vec());
                Answer::Locks(page.locks.iter().map(Lock::from).collect(), next)
            }
            Ask::SetHolder { name, token, value } => {
                let name = key(&name)?;
                let fence = Fence::new(name.clone(), token, "");
                Answer::Done(store.set_holder(&name, &fence, value.into(), &write).await?)
            }
            Ask::Break { name, token } => {
                let was_held = store.break_lock(&key(&name)?, token, &write).await?;
                if was_held {
                    self.shared.forget(token);
                }
                Answer::Done(was_held)
            }
        })
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<Id, Reading>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the watch to read from it, if it was begun; the receiver is ready when the watch is
    /// given up meanwhile.
    fn busy(&self, id: Id) -> (Option<WatchStream>, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        match self.watches().insert(id, Reading::Busy { _end: end }) {
            Some(Reading::Idle(watch)) => (Some(watch), ended),
            _ => (None, ended),
        }
    }

    /// Reads at least one event, and what else is there; a reader who does not ask costs nothing.
    async fn next(&self, id: Id, idle: Option<WatchStream>, begin: Option<Watched>) -> Result<Vec<Event>> {
        let begun = match begin {
            Some(watched) => Some(self.store.watch(&watched.target()?, &WatchOptions::default()).await?),
            None => idle,
        };
        let mut watch = begun.ok_or_else(|| garbled("a watch that was not begun"))?;
        let mut events = Vec::new();
        let mut next = watch.next().await;
        while let Some(event) = next {
            events.push(Event::from(&event?));
            next = if events.len() < 64 { watch.next().now_or_never().flatten() } else { None };
        }
        if let Some(reading) = self.watches().get_mut(&id) {
            *reading = Reading::Idle(watch);
        }
        Ok(events)
    }
}
