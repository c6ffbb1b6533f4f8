//! Locks: contenders in the order of their sequence, each waiting for the one before.

use crate::{
    client::{Does, Via, unique},
    connect::Attempts,
    directory,
    error::{Answer, Problem, Said},
    link::{Gone, Linked},
    names::Names,
    node::{Ask, Got, gone_at, read},
    pool::Use,
    store::Inner,
    watch::{Ends, answers},
};
use kv_core::{backend::Undo, *};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::AbortHandle;
use zookeeper_client::{CreateMode, Error as ClientError, EventType, MultiWriteResult, OneshotWatcher, Stat};

/// How often getting in line may meet a line that has just gone.
const TRIES: usize = 20;
/// The length of what begins a contender's name.
const ID: usize = 32;

/// One attempt to hold one lock.
struct Attempt {
    inner: Arc<Inner>,
    session: Use,
    /// Begins the contender's name, and nobody else's.
    id: String,
    line: String,
    each_request: Duration,
    /// That its node goes is its own doing.
    is_given_back: AtomicBool,
}

/// What getting in line gave.
struct Entered {
    contender: String,
    token: u64,
    /// It made the line.
    is_first: bool,
}

/// Who stands in a line, in its order.
fn contenders(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| sequence(name).is_some());
    names.sort_by_key(|name| sequence(name));
    names
}

/// A contender's token is the zxid of its creation.
fn token(czxid: i64) -> u64 {
    u64::try_from(czxid).unwrap_or_default()
}

/// The place of a contender; `None` for what is none, such as another tool's node. The server counts on from the greatest
/// number to the least.
fn sequence(name: &str) -> Option<u32> {
    let (id, sequence) = name.split_at_checked(ID)?;
    let is_id = id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let sequence = sequence.strip_prefix('-').filter(|digits| is_id && digits.len() >= 10)?;
    sequence.parse::<i32>().ok().map(|sequence| sequence as u32)
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    loop {
        let session = inner.session(ttl, options.each_request).await?;
        let attempt = Arc::new(Attempt {
            inner: inner.clone(),
            session,
            id: format!("{:016x}{:016x}", unique(), unique()),
            line: inner.names.line(name),
            each_request: options.each_request,
            is_given_back: AtomicBool::new(false),
        });
        if !options.wait && !attempt.line().await?.is_empty() {
            return Ok(None);
        }
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let leave = attempt.clone().leave(None, None);
        let entered = match attempt.enter(options).await {
            Ok(entered) => entered,
            Err(e) if e.kind() == ErrorKind::LeaseLost => {
                leave.forget();
                inner.sessions.forget(&attempt.session);
                continue;
            }
            Err(e) => {
                if e.kind() != ErrorKind::OutcomeUnknown {
                    leave.forget();
                }
                return Err(e);
            }
        };
        let Entered { contender, token, is_first } = entered;
        let path = format!("{}/{contender}", attempt.line);
        leave.forget();
        let leave = attempt.clone().leave(Some(path.clone()), None);
        if !options.wait && !is_first {
            let line = attempt.seen().await?;
            if line.first() != Some(&contender) {
                leave.run().await?;
                return Ok(None);
            }
        } else if !is_first {
            match attempt.wait(&contender).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(e) if e.kind() == ErrorKind::LeaseLost => {
                    inner.sessions.forget(&attempt.session);
                    continue;
                }
                Err(e) => return Err(e),
            }
        }
        if !attempt.session.alive().is_held() {
            inner.sessions.forget(&attempt.session);
            continue;
        }
        let alive = attempt.session.alive().another();
        let guarded = tokio::spawn(attempt.clone().watch_own(path.clone(), alive.ending())).abort_handle();
        let release = attempt.clone().leave(Some(path.clone()), Some(guarded));
        leave.forget();
        return Ok(Some(Acquired { fence: Fence::new(name.clone(), token, path), alive, release }));
    }
}

impl Attempt {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    fn via(&self) -> Via<'_> {
        Via::Own(self.session.session())
    }

    /// Who stands in line, as this session sees it: at least those before its own contender.
    async fn line(&self) -> Result<Vec<String>> {
        let line = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                let barrier = linked.barrier().await;
                let line = linked.session.list_children(&self.line);
                barrier.await?;
                Ok::<_, Problem>(line.await?)
            })
            .await?;
        Ok(contenders(line.unwrap_or_default()))
    }

    async fn seen(&self) -> Result<Vec<String>> {
        let line = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                let line = linked.session.list_children(&self.line);
                Ok::<_, Problem>(line.await?)
            })
            .await?;
        Ok(contenders(line.unwrap_or_default()))
    }

    /// Gets in line.
    async fn enter(&self, options: &LockOptions) -> Result<Entered> {
        let prefix = &format!("{}/{}-", self.line, self.id);
        let acls = &self.inner.client.options;
        let mut attempts = Attempts::default();
        for _ in 0..TRIES {
            // Each request has it anew.
            let deadline = self.deadline();
            let entered = self
                .via()
                .call(Does::Write, deadline, |linked| async move {
                    let create = acls.create(CreateMode::EphemeralSequential);
                    let entered = linked.session.create(prefix, &options.value, &create);
                    Ok::<_, Problem>(entered.await?)
                })
                .await;
            match entered {
                Ok(Ok((stat, sequence))) => {
                    let (contender, token) = (format!("{}-{sequence}", self.id), token(stat.czxid));
                    return Ok(Entered { contender, token, is_first: false });
                }
                Ok(Err(Answer { said: Said::NoNode, .. })) => {
                    match self.begin(options, self.deadline()).await? {
                        Some(entered) => return Ok(entered),
                        None => attempts.pause(deadline).await,
                    }
                }
                Ok(Err(answer)) => {
                    return Err(Error::new(
                        ErrorKind::Other,
                        format!("an answer that is not expected: {answer:?}"),
                    ));
                }
                // Whether it is there tells the line itself, once the session is connected again: what it sent before is
                // done or refused by then.
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown && self.session.session().is_alive() => {
                    if let Some(entered) = self.find().await? {
                        return Ok(entered);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        let why = format!("the lock's line went {TRIES} times while one got into it");
        Err(Error::new(ErrorKind::Timeout, why))
    }

    /// Makes the line, and enters it in the same step. The server deletes it when it is empty again.
    async fn begin(&self, options: &LockOptions, deadline: Deadline) -> Result<Option<Entered>> {
        let acls = &self.inner.client.options;
        let (line, prefix) = (&self.line, &format!("{}/{}-", self.line, self.id));
        let begun = self
            .via()
            .call(Does::Write, deadline, |linked| async move {
                let mut writer = linked.session.new_multi_writer();
                writer.add_create(line, b"", &acls.create(CreateMode::Container))?;
                writer.add_create(prefix, &options.value, &acls.create(CreateMode::EphemeralSequential))?;
                let done = writer.commit();
                Ok::<_, Problem>(done.await?)
            })
            .await;
        match begun {
            Ok(Ok(mut made)) => match made.pop() {
                Some(MultiWriteResult::Create { path, stat }) => {
                    let contender = path.rsplit('/').next().unwrap_or_default().to_owned();
                    // ZooKeeper 3.8 does not say when.
                    let stat = if stat.is_invalid() { self.stat(&path).await? } else { Some(stat) };
                    Ok(stat.map(|stat| Entered { contender, token: token(stat.czxid), is_first: true }))
                }
                _ => self.find().await,
            },
            Ok(Err(Answer { said: Said::NoNode, .. })) => {
                directory::prepare(&self.inner, deadline).await?;
                Ok(None)
            }
            Ok(Err(_)) => Ok(None),
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown && self.session.session().is_alive() => {
                self.find().await
            }
            Err(e) => Err(e),
        }
    }

    async fn stat(&self, path: &str) -> Result<Option<Stat>> {
        let found = self.via().call(Does::Read, self.deadline(), |linked| async move {
            let stat = linked.session.check_stat(path);
            Ok::<_, Problem>(stat.await?)
        });
        Ok(found.await?.ok().flatten())
    }

    /// Our contender, if it is in line.
    async fn find(&self) -> Result<Option<Entered>> {
        let line = self.line().await?;
        let Some(own) = line.into_iter().find(|name| name.starts_with(&self.id)) else { return Ok(None) };
        let path = &format!("{}/{own}", self.line);
        let found = self.stat(path).await?;
        Ok(found.map(|stat| Entered { contender: own, token: token(stat.czxid), is_first: false }))
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, contender: &str) -> Result<bool> {
        let mut attempts = Attempts::default();
        let lost = self.session.alive().lost();
        tokio::pin!(lost);
        loop {
            let before = match self.seen().await {
                Ok(line) => match line.iter().position(|name| name == contender) {
                    Some(0) => return Ok(true),
                    Some(at) => line[at - 1].clone(),
                    None => return Ok(false),
                },
                // The line is kept by the session, whatever the link does meanwhile.
                Err(e) if rides(&e) && self.session.alive().is_held() => {
                    attempts.pause(Deadline::NEVER).await;
                    continue;
                }
                Err(e) if rides(&e) => return Ok(false),
                Err(e) => return Err(e),
            };
            let before = format!("{}/{before}", self.line);
            tokio::select! {
                biased;
                _ = &mut lost => {
                    self.inner.sessions.forget(&self.session);
                    return Ok(false);
                }
                gone = self.gone(&before) => match gone {
                    Ok(()) => attempts.reset(),
                    Err(e) if rides(&e) => attempts.pause(Deadline::NEVER).await,
                    Err(e) => return Err(e),
                },
            }
        }
    }

    /// Waits until a node changes, or one has to look.
    async fn gone(&self, path: &str) -> Result<()> {
        let watched = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                Ok::<_, Problem>(watch(&linked, path).await?)
            })
            .await?;
        if let Ok(Some((watcher, gone))) = watched {
            gone.unless(watcher.changed()).await;
        }
        Ok(())
    }

    /// Ends the guard as soon as its contender is seen to be gone.
    async fn watch_own(self: Arc<Self>, path: String, end: impl Fn(&str) + Send + Sync) {
        let end = |why: &str| {
            if !self.is_given_back.load(Ordering::Relaxed) {
                end(why);
            }
        };
        let mut attempts = Attempts::default();
        loop {
            let watched = self
                .via()
                .call(Does::Read, self.deadline(), |linked| {
                    let path = &path;
                    async move {
                        let mut found = watch(&linked, path).await?;
                        if found.is_none() {
                            // A member that is behind has not heard of it yet.
                            linked.barrier().await.await?;
                            found = watch(&linked, path).await?;
                        }
                        Ok::<_, Problem>(found)
                    }
                })
                .await;
            match watched {
                Ok(Ok(Some((watcher, gone)))) => {
                    let event = gone.unless(watcher.changed()).await;
                    if event.is_some_and(|event| event.event_type == EventType::NodeDeleted) {
                        return end(
                            "its node was deleted on the server, by an administrator or with its session",
                        );
                    }
                    attempts.pause(Deadline::NEVER).await;
                }
                Ok(_) => {
                    return end(
                        "its node was deleted on the server, by an administrator or with its session",
                    );
                }
                Err(e) if e.kind() == ErrorKind::LeaseLost => return end("the server ended its session"),
                Err(_) => attempts.pause(Deadline::NEVER).await,
            }
        }
    }

    /// Leaves the line: `true` when we were still in it. Without a path it is looked for.
    fn leave(self: Arc<Self>, path: Option<String>, guarded: Option<AbortHandle>) -> Undo {
        let guarded = guarded.map(Ends::new);
        let tasks = self.inner.tasks.clone();
        tasks.undo(async move {
            self.is_given_back.store(true, Ordering::Relaxed);
            if !self.session.alive().is_held() {
                // Its session is past its time, and so is what it owns.
                self.inner.sessions.forget(&self.session);
                return Ok(false);
            }
            let answer = self.delete(path.as_deref()).await;
            // Its watch went with its node.
            drop(guarded);
            if answer.is_err() {
                // Others keep the session alive, and with it what could not be deleted.
                tokio::spawn(async move {
                    let mut attempts = Attempts::default();
                    while self.session.alive().is_held() {
                        attempts.pause(Deadline::NEVER).await;
                        if self.delete(path.as_deref()).await.is_ok() {
                            return;
                        }
                    }
                    self.inner.sessions.forget(&self.session);
                });
            }
            answer
        })
    }

    async fn delete(&self, path: Option<&str>) -> Result<bool> {
        let found = match path {
            Some(path) => path.to_owned(),
            // All that was sent is answered before the line is.
            None => match self.find().await {
                Ok(Some(own)) => format!("{}/{}", self.line, own.contender),
                Ok(None) => return Ok(false),
                Err(e) if e.kind() == ErrorKind::LeaseLost => return Ok(false),
                Err(e) => return Err(e),
            },
        };
        let path = &found;
        let deleted = self.via().call(Does::Repeatable, self.deadline(), |linked| async move {
            let deleted = linked.session.delete(path, None);
            Ok::<_, Problem>(deleted.await?)
        });
        match deleted.await {
            Ok(Ok(())) => Ok(true),
            // Nobody else deletes it; what an attempt before deleted was there.
            Ok(Err(answer)) => Ok(answer.repeated && answer.said == Said::NoNode),
            Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Whether a wait for a lock goes on. What the session says of its own end is for the caller.
fn rides(error: &Error) -> bool {
    !error.is_lasting() && error.kind() != ErrorKind::LeaseLost
}

/// Watches a node, if it is there.
async fn watch(linked: &Linked, path: &str) -> Result<Option<(OneshotWatcher, Gone)>, ClientError> {
    let (stat, watcher) = linked.session.check_and_watch_stat(path).await?;
    Ok(stat.map(|_| (watcher, linked.gone())))
}

/// Who holds a lock, and when nobody does, since when.
pub(crate) enum First {
    Held(Holder),
    Free(i64),
}

impl First {
    pub(crate) fn event(self, name: &Key) -> WatchEvent {
        match self {
            Self::Held(Holder { token, value, .. }) => {
                WatchEvent::Put(Entry::new(name.clone(), value, Version::new(token, 0)))
            }
            Self::Free(zxid) => WatchEvent::Delete { key: name.clone(), version: gone_at(zxid) },
        }
    }
}

/// The first in line.
pub(crate) async fn first(linked: &Linked, names: &Names, name: &Key) -> Result<First, ClientError> {
    let line = names.line(name);
    loop {
        let mut reader = linked.session.new_multi_reader();
        // When a contender went is told by its parent, read first; when the line went, by the line's parent.
        reader.add_get_data(&names.area("lock"))?;
        reader.add_get_data(&line)?;
        reader.add_get_children(&line)?;
        let found = reader.commit();
        let mut got = answers(found.await?)?.into_iter();
        let zxid = |got: Option<Got>| match got {
            Some(Got::Data(_, stat)) => Some(stat.pzxid),
            _ => None,
        };
        let (area, of_line) = (zxid(got.next()), zxid(got.next()));
        let waiting = match got.next() {
            Some(Got::Children(names)) => contenders(names),
            _ => Vec::new(),
        };
        let Some(first) = waiting.first() else {
            return Ok(First::Free(of_line.or(area).unwrap_or_default()));
        };
        let path = format!("{line}/{first}");
        let found = linked.session.get_data(&path);
        match found.await {
            Ok((value, stat)) => {
                return Ok(First::Held(Holder::new(token(stat.czxid), value)));
            }
            // It left meanwhile.
            Err(ClientError::NoNode) => {}
            Err(e) => return Err(e),
        }
    }
}

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = inner.names.line(name);
    loop {
        let got = read(&inner.client, options, &[Ask::Children(line.clone())]).await?;
        let Some(Got::Children(waiting)) = got.into_iter().next() else { return Ok(None) };
        let Some(first) = contenders(waiting).into_iter().next() else { return Ok(None) };
        let path = format!("{line}/{first}");
        let behind = options.clone().consistency(Consistency::Stale);
        let got = read(&inner.client, &behind, &[Ask::Data(path)]).await?;
        if let Some(Got::Data(value, stat)) = got.into_iter().next() {
            return Ok(Some(Holder::new(token(stat.czxid), value)));
        }
    }
}
