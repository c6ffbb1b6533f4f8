//! Locks: each has a queue of contenders, the first of which holds it.

mod contender;
mod delete_watcher;
mod enter;
mod holder;
mod listed;
mod queue;
pub(crate) mod sessions;

pub(crate) use holder::{break_lock, holder, set_holder};
pub(crate) use listed::page as locks;

use crate::{
    client::{Purpose, answer::create_revision},
    core::Core,
    lease::{self, For},
};
use contender::Contender;
use delete_watcher::DeleteWatcher;
use kv_core::{
    Error, ErrorKind, Fence, Key, Result,
    backend::{
        self, Backoff, Clock, LetGo, Session, Tasks,
        queue::{Entered, Left, Position, Queue, Sent},
        retry::Answered,
        unique,
    },
    driver::{Acquired, Deadline, LockOptions},
};
use queue::{Before, LockQueue, left};
use sessions::{LockSession, Use};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// Does [`Store::lock`](kv_core::driver::Store::lock).
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let queue = LockQueue {
        core: core.clone(),
        name: name.clone(),
        range: core.names.contenders(name),
        ttl: options.ttl,
        value: options.value.clone(),
        wait: options.wait,
        each_request: options.each_request,
    };
    backend::queue::lock(&Arc::new(queue), options.wait).await
}

/// Returns the session of this TTL; makes one where none may be used.
async fn session(core: &Core, ttl: Duration, each_request: Duration) -> Result<Use> {
    let grant = || async {
        let deadline = Deadline::after(each_request);
        let grant = lease::grant(&core.granter(), ttl, For::Session, deadline, each_request).await?;
        let alive = lease::keep(core, &grant);
        // The watches are those of all who come, and nobody's request waits for them.
        let each_watch = each_request.max(Deadline::DEFAULT);
        let watcher = Arc::new(DeleteWatcher::new(core.client.clone(), each_watch));
        let session =
            LockSession { lease: grant.id, watcher, floor: Arc::default(), let_go: LetGo::default() };
        Ok(Session { session, alive, end: grant.revoke })
    };
    let may_be_used = |own: &LockSession| !own.let_go.is_on() && !own.floor.is_damaged();
    core.sessions.get_where(ttl, may_be_used, grant).await
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

    fn kept_after_end(&self, ttl: Duration) -> Duration {
        ttl + self.core.capabilities.lateness(ttl)
    }

    async fn session(&self) -> Result<Use> {
        session(&self.core, self.ttl, self.each_request).await
    }

    fn forget(&self, used: &Use) {
        self.core.sessions.forget(used);
    }

    fn contender(&self, session: &LockSession) -> Result<Contender> {
        let names = &self.core.names;
        let name = names.contender(&self.name, unique());
        Ok(Contender::new(session, name, names.floor(session.lease)))
    }

    async fn enter(&self, contender: &Contender, sent: &Sent) -> Result<Entered<Before>> {
        Ok(match self.enter_queue(contender, sent).await? {
            // A contender that waits, or holds, would keep the session alive, and with it what is
            // to end.
            Entered::Queued { token, .. } if contender.let_go.is_on() => {
                Entered::Queued { token, position: Some(Position::Lost) }
            }
            entered => entered,
        })
    }

    async fn position(&self, contender: &Contender, token: u64) -> Result<Position<Before>> {
        match contender.let_go.is_on() {
            true => Ok(Position::Lost),
            false => Ok(self.look(contender, create_revision(token)).await?.0),
        }
    }

    async fn predecessor_gone(&self, contender: &Contender, before: &Before) -> Result<bool> {
        tokio::select! {
            biased;
            () = contender.let_go.begun() => Ok(true),
            is_gone = self.until_gone(contender, before) => is_gone,
        }
    }

    async fn own_gone(&self, contender: &Contender, token: u64) -> Cow<'static, str> {
        // What happens before the watch begins is in the server's history.
        let token = create_revision(token);
        let (mut backoff, mut at) = (Backoff::default(), token);
        loop {
            if let Some(mut watch) = contender.watch(contender.name.clone(), at + 1)
                && watch.gone().await
            {
                break;
            }
            backoff.pause().await;
            match self.look(contender, token).await {
                Ok((Position::Lost, _)) => break,
                Ok((_, now)) => at = now,
                Err(_) => {}
            }
        }
        "its key was deleted or overwritten on the server, by an administrator or with its lease".into()
    }

    async fn leave(&self, contender: &Contender) -> Result<Left> {
        let request = |service: &etcd_client::Client| {
            let (mut kv, name) = (service.kv_client(), contender.name.clone());
            async move { kv.delete(name, None).await }
        };
        let asked = self.core.client.ask(Purpose::Repeatable, self.deadline(), request).await;
        contender
            .left(asked.and_then(|Answered { answer, is_repeat }| Ok(left(answer?.deleted() > 0, is_repeat))))
    }

    async fn cancel(&self, contender: &Contender) -> Result<Left> {
        match self.refuse_late(contender).await {
            Err(e) if e.kind() == ErrorKind::NoSpace => {
                // The contender is taken out at once. A request to enter that may still come is
                // refused while the server is full.
                self.leave(contender).await?;
                let why = "it is out of the queue of the lock, and what keeps an earlier request \
                           from putting it there again needs space";
                Err(Error::new(ErrorKind::NoSpace, why).with_cause(e))
            }
            left => contender.left(left),
        }
    }

    fn fence(&self, contender: &Contender, token: u64) -> Fence {
        Fence::new(self.name.clone(), token, contender.name.clone())
    }
}
