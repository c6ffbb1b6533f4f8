//! Makes sessions on the server, keeps them alive and ends them.

use crate::{
    client::{Client, Purpose, a_moment_before, api, on_a_task},
    core::Core,
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Alive, Instant, Mutex, Tasks, Undo, retry::Answered, unique},
    driver::Deadline,
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A session that was created.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Arc<str>,
    /// Holds a moment before the session was created.
    pub(crate) at: Instant,
    pub(crate) end: Undo,
}

/// Creates a session for this use. The server gives it an id, so that sessions whose answers were
/// lost are found by a name of our own, which all attempts share, and are ended.
pub(crate) async fn create(
    core: &Core,
    what: &str,
    ttl: Duration,
    deadline: Deadline,
    each_request: Duration,
) -> Result<Session> {
    let tries = Tries::new(core, format!("kv {what} {:016x}", unique()), each_request);
    // A dropped future leaves nothing behind: the answer is awaited all the same, and its session
    // ends, since nobody takes it.
    let asking = ask(core, tries, ttl, deadline, each_request);
    let error = match core.tasks.to_its_end(asking).await.flatten() {
        Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
            let why = "no answer came to the request for a session, on which nothing hangs and which is \
                       ended where it was made: try again";
            Error::new(ErrorKind::Unavailable, why).with_cause(e)
        }
        Err(e) => e,
        asked => return asked,
    };
    if error.is_transient() {
        core.renew_node(a_moment_before(deadline), each_request).await;
    }
    Err(error)
}

/// The attempts to make one session. When they are over, the sessions that were made and not taken
/// are ended.
struct Tries {
    name: String,
    /// Counts the requests that were sent and may have made a session that nobody knows.
    unknown: Arc<AtomicUsize>,
    taken: Arc<OnceLock<Arc<str>>>,
    end: Mutex<Undo>,
}

impl Tries {
    fn new(core: &Core, name: String, each_request: Duration) -> Self {
        let (unknown, taken) = <(Arc<AtomicUsize>, Arc<OnceLock<_>>)>::default();
        let end = end_named(core, name.clone(), unknown.clone(), taken.clone(), each_request);
        Self { name, unknown, taken, end: Mutex::new(end) }
    }

    /// Notes how the request for the session ended.
    fn answered(&self, asked: &Result<Answered<Arc<str>>>) {
        match asked {
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
            Ok(Answered { answer, is_repeat: true }) => {
                let _ = self.taken.set(answer.clone());
                self.unknown.fetch_sub(1, Ordering::AcqRel);
            }
            _ => self.unknown.store(0, Ordering::Release),
        }
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        if self.unknown.load(Ordering::Acquire) == 0 {
            std::mem::replace(self.end.get_mut(), Undo::nothing()).forget();
        }
    }
}

/// Asks until there is a session, or the deadline has passed.
fn ask(
    core: &Core,
    tries: Tries,
    ttl: Duration,
    deadline: Deadline,
    each_request: Duration,
) -> impl Future<Output = Result<Session>> + Send + 'static {
    let (client, tasks, node, at) = (core.client.clone(), core.tasks.clone(), core.node(), core.clock.now());
    async move {
        let sent = tries.unknown.clone();
        let asked = api::create_session(&client, deadline, &tries.name, ttl, node.as_deref(), sent).await;
        tries.answered(&asked);
        let id = asked?.answer;
        Ok(Session { id: id.clone(), at, end: end(client, &tasks, id, each_request) })
    }
}

/// Makes the undo that ends a session, and its keys; its answer is `true` when the session was
/// there.
fn end(client: Arc<Client>, tasks: &Tasks, id: Arc<str>, each_request: Duration) -> Undo {
    tasks.undo_repeatable(move || {
        let (client, id) = (client.clone(), id.clone());
        async move {
            let deadline = on_a_task(each_request);
            let is_there = api::renew_session(&client, Purpose::Release, deadline, &id).await?;
            if is_there {
                api::destroy_session(&client, deadline, &id).await?;
            }
            Ok(is_there)
        }
    })
}

/// Makes the undo of requests whose answers were lost: it ends the sessions that they may have
/// made, except the one that was taken.
fn end_named(
    core: &Core,
    name: String,
    unknown: Arc<AtomicUsize>,
    taken: Arc<OnceLock<Arc<str>>>,
    each_request: Duration,
) -> Undo {
    let (client, closing) = (core.client.clone(), core.closing.clone());
    core.tasks.undo(async move {
        let (mut seen, mut ended) = (Ok(false), 0);
        // Requests may arrive after the first looks. A session that comes later still ends by its
        // TTL, and holds nothing.
        for pause in [0, 1, 4].map(Duration::from_secs) {
            let mut closing = closing.subscribe();
            let hurry = async {
                // The sender is ours, so waiting cannot fail.
                let _ = closing.wait_for(|is_closing| *is_closing).await;
                tokio::time::sleep(pause / 10).await;
            };
            let _ = tokio::time::timeout(pause, hurry).await;
            let deadline = Deadline::after(each_request);
            let lost = match api::sessions_named(&client, deadline, &name).await {
                Ok(lost) => lost,
                Err(e) => {
                    seen = Err(e);
                    continue;
                }
            };
            for id in lost.iter().filter(|id| taken.get() != Some(id)) {
                api::destroy_session(&client, deadline, id).await?;
                ended += 1;
            }
            if ended >= unknown.load(Ordering::Acquire) {
                return Ok(true);
            }
            seen = Ok(ended > 0);
        }
        seen
    })
}

/// Keeps a session alive for as long as the returned value lives. Renewals have the time that the
/// TTL leaves them: others than whoever asked for the session hang on it too.
pub(crate) fn keep(core: &Core, session: &Session, ttl: Duration) -> Alive {
    let (client, id) = (core.client.clone(), session.id.clone());
    Alive::keep_by(&core.clock, ttl, session.at, move |deadline| {
        let (client, id) = (client.clone(), id.clone());
        async move {
            match api::renew_session(&client, Purpose::Session, deadline, &id).await? {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::LeaseLost, "the server ended its session")),
            }
        }
    })
}
