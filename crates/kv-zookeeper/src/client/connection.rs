//! Holds one connection of one session: sends on it, notices when it breaks, and ends it.

use futures::{
    FutureExt,
    future::{BoxFuture, OptionFuture, Shared},
};
use kv_core::{Consistency, backend::Mutex, driver::Deadline};
use spawns_core::{Spawn, Task as ClientTask};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, task::AbortHandle};
use zookeeper_client::{
    Client as Session, Error as ClientError, MultiWriteError, SessionState, StateWatcher,
};

/// The time that a connection without users has to end its session.
const FAREWELL: Duration = Duration::from_secs(1);

/// One connection of one session.
///
/// The client by itself would reconnect, with longer and longer pauses and for as long as the
/// session may live. Here its task ends when the connection breaks, and the keeper of the session
/// connects it again.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) generation: u64,
    task: AbortHandle,
    gone: Gone,
    barrier: Mutex<Option<Barrier>>,
}

/// The answer to a request that [`Connection::barrier`] sent.
pub(crate) type Barrier = Shared<BoxFuture<'static, Result<(), ClientError>>>;

/// Tells whether a connection's task was ended. After that nothing waits for the client's events,
/// which would never come.
#[derive(Clone, Default)]
pub(crate) struct Gone(Arc<RwLock<bool>>);

impl Gone {
    /// Waits for the work as long as the connection's task lives; returns `None` when the task
    /// ends first.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            // The lock is held while the client is polled, so that its task does not end in
            // between.
            let gone = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if *gone { Poll::Ready(None) } else { work.as_mut().poll(cx).map(Some) }
        })
        .await
    }

    fn now(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Spawns the client's task on the current runtime, and keeps its handle.
#[derive(Default)]
struct Spawner {
    task: Mutex<Option<AbortHandle>>,
    gone: Gone,
    state: Arc<OnceLock<StateWatcher>>,
}

impl Spawn for Spawner {
    fn spawn(&self, task: ClientTask) {
        let (gone, state) = (self.gone.clone(), self.state.clone());
        let task = Task { task: Box::into_pin(task.future), is_over: false, gone, state };
        *self.task.lock() = Some(tokio::spawn(task).abort_handle());
    }
}

/// The client's task, run until its connection breaks: by itself it would take the session to
/// whichever member it finds then. When it is dropped before its end, with its runtime or by an
/// abort, it notes that first.
struct Task {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    gone: Gone,
    /// Set as soon as the session is known.
    state: Arc<OnceLock<StateWatcher>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.task.as_mut().poll(cx);
        self.is_over = polled.is_ready();
        match self.state.get().map(StateWatcher::peek_state) {
            // The client has noted the loss, and has at most begun to connect.
            Some(SessionState::Disconnected) => Poll::Ready(()),
            _ => polled,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.is_over {
            self.gone.now();
        }
    }
}

impl Connection {
    /// Connects by the client's future. The future comes in a box, for it is large and would be a
    /// part of all futures that wait for a session.
    pub(crate) async fn connect(
        mut connecting: BoxFuture<'_, Result<Session, ClientError>>,
    ) -> Result<Self, ClientError> {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let spawner = Spawner::default();
        let session = poll_fn(|cx| {
            let _scope = spawns_core::enter(&spawner);
            connecting.as_mut().poll(cx)
        })
        .await?;
        let _ = spawner.state.set(session.state_watcher());
        let task = spawner.task.lock().take().ok_or(ClientError::ClientClosed)?;
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        Ok(Self { session, generation, task, gone: spawner.gone.clone(), barrier: Mutex::default() })
    }

    /// Returns whether the connection has not been seen to be lost.
    pub(crate) fn stands(&self) -> bool {
        self.session.state() == SessionState::SyncConnected && !self.task.is_finished()
    }

    pub(crate) fn gone(&self) -> Gone {
        self.gone.clone()
    }

    /// Asks the quorum, and returns the future of its answer. Once it has answered, reads that are
    /// sent after this call see everything that any member had acknowledged before the call, and
    /// the session was alive after the call began.
    ///
    /// The request is a write that changes nothing. A `sync` is no write and proves nothing on a
    /// leader: a leader answers it at once, although its peers may be gone, and although a
    /// follower may have acknowledged what the leader itself has still to apply.
    /// <https://zookeeper.apache.org/doc/r3.9.3/zookeeperInternals.html#sc_consistency>
    ///
    /// Calls that come while one request is under way share the next one: all readers of a
    /// connection together cost one write at a time.
    pub(crate) async fn barrier(&self) -> Barrier {
        let under_way = self.barrier.lock().clone();
        if let Some(under_way) = &under_way {
            // That request may have been sent before the write that the caller has to see.
            let _ = under_way.clone().await;
        }
        let mut last = self.barrier.lock();
        if let Some(next) = &*last
            && under_way.is_none_or(|under_way| !under_way.ptr_eq(next))
        {
            return next.clone();
        }
        let session = self.session.clone();
        let asked = async move {
            let mut writer = session.new_multi_writer();
            writer.add_check_version("/", -1)?;
            match writer.commit().await {
                // A user without the right is told so in the order of writes as well.
                Ok(_) | Err(MultiWriteError::OperationFailed { source: ClientError::NoAuth, .. }) => Ok(()),
                Err(
                    MultiWriteError::OperationFailed { source, .. }
                    | MultiWriteError::RequestFailed { source },
                ) => Err(source),
            }
        };
        let next = asked.boxed().shared();
        // The first poll sends the request.
        let _ = next.clone().now_or_never();
        *last = Some(next.clone());
        next
    }

    /// Does the same for a read of this consistency. A stale read waits for nothing.
    pub(crate) async fn barrier_for(
        &self,
        read: Consistency,
    ) -> impl Future<Output = Result<(), ClientError>> {
        let barrier = match read {
            Consistency::Linearizable => Some(self.barrier().await),
            Consistency::Stale => None,
        };
        OptionFuture::from(barrier).map(|passed| passed.unwrap_or(Ok(())))
    }

    /// Waits until the connection is lost.
    pub(crate) async fn broken(&self) {
        let mut states = self.session.state_watcher();
        let mut state = self.session.state();
        while state == SessionState::SyncConnected {
            match self.gone.unless(states.changed()).await {
                Some(next) => state = next,
                None => return,
            }
        }
    }

    /// Ends the connection without telling the server.
    pub(crate) fn cut(&self) {
        self.gone.now();
        self.task.abort();
    }

    /// Ends the connection and its session, waits until the server has done so, and returns
    /// whether it did.
    pub(crate) async fn end(self: Arc<Self>, deadline: Deadline) -> bool {
        let (mut states, gone, task) = (self.session.state_watcher(), self.gone(), self.task.clone());
        let mut state = self.session.state();
        drop(self);
        let over = gone.unless(async {
            while !state.is_terminated() {
                state = states.changed().await;
            }
        });
        let is_over = matches!(deadline.limit(over).await, Some(Some(())));
        gone.now();
        task.abort();
        is_over
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (gone, task) = (self.gone.clone(), self.task.clone());
        match Handle::try_current() {
            Ok(runtime) if !task.is_finished() => {
                runtime.spawn(async move {
                    tokio::time::sleep(FAREWELL).await;
                    gone.now();
                    task.abort();
                });
            }
            _ => {}
        }
    }
}
