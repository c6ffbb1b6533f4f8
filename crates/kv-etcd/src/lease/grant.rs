//! Asks for leases.

use super::granted::{For, Grant, gone, revoke};
use crate::{
    client::{Client, Purpose},
    error::is_lease_there,
};
use etcd_client::{Client as Service, LeaseGrantOptions};
use kv_core::{
    ErrorKind, Result,
    backend::{
        Backoff, Clock, Tasks, Undo,
        retry::{Answered, outcome_unknown},
    },
    driver::Deadline,
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// Sets for how long a lease is revoked again and again of which nobody knows whether it is granted
/// still: an outage may last, or the request come late.
const LATE: Duration = Duration::from_secs(10);

/// The parts of a store that a grant needs, also in a task of its own.
#[derive(Clone)]
pub(crate) struct Granter {
    pub(crate) clock: Clock,
    pub(crate) client: Arc<Client>,
    pub(crate) tasks: Tasks,
}

/// Asks for a lease of whole seconds.
pub(crate) async fn grant(
    granter: &Granter,
    ttl: Duration,
    what: For,
    deadline: Deadline,
    each_request: Duration,
) -> Result<Grant> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    loop {
        let id = what.number();
        let (at, by) = (granter.clock.now(), granter.clone());
        // A lease can be revoked for certain only after the answer, so the answer is awaited even
        // when the caller is gone.
        let asked = granter.tasks.to_its_end(async move {
            let answer = ask(&by.client, id, seconds, deadline).await;
            let revoke = match &answer {
                Ok(Some(_)) => by.undo(id, what, each_request),
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                    by.revoke_late(id, each_request);
                    Undo::nothing()
                }
                // A server that becomes full by a request does it, though it refuses it.
                Err(e) if e.kind() == ErrorKind::NoSpace => by.undo(id, what, each_request),
                _ => Undo::nothing(),
            };
            (answer, revoke)
        });
        let (answer, revoke) = asked.await?;
        if let Some(ttl) = answer? {
            return Ok(Grant { id, at, ttl, revoke });
        }
    }
}

/// Asks for the lease of this number; returns the TTL that it has, or `None` where it is somebody
/// else's.
async fn ask(client: &Client, id: i64, seconds: i64, deadline: Deadline) -> Result<Option<Duration>> {
    let options = LeaseGrantOptions::new().with_id(id);
    let request = |service: &Service| {
        let (mut leases, options) = (service.lease_client(), options.clone());
        async move { leases.grant(seconds, Some(options)).await }
    };
    let Answered { answer, is_repeat } = client.ask(Purpose::Repeatable, deadline, request).await?;
    match answer {
        Ok(granted) => Ok(Some(whole(granted.ttl()))),
        // An earlier attempt, whose answer was lost, was granted it: nobody else has its random
        // bits.
        Err(e) if is_lease_there(&e) && is_repeat => {
            granted(client, id, deadline).await.map_err(outcome_unknown)
        }
        Err(e) if is_lease_there(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns the TTL that a lease was granted; `None` where it has ended.
async fn granted(client: &Client, id: i64, deadline: Deadline) -> Result<Option<Duration>> {
    let request = |service: &Service| {
        let mut leases = service.lease_client();
        async move { leases.time_to_live(id, None).await }
    };
    let found = client.call(Purpose::Read, deadline, request).await?;
    Ok((found.ttl() > 0).then(|| whole(found.granted_ttl())))
}

fn whole(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

impl Granter {
    /// Makes what revokes a lease that was granted.
    fn undo(&self, id: i64, what: For, each_request: Duration) -> Undo {
        let client = self.client.clone();
        self.tasks.undo_repeatable(move || {
            let client = client.clone();
            async move {
                match revoke(&client, id, each_request).await? {
                    Answered { answer: false, is_repeat: true } if what == For::Owner => {
                        Err(gone("the lease"))
                    }
                    Answered { answer: was_there, .. } => Ok(was_there),
                }
            }
        })
    }

    /// Revokes in the background a lease that may be granted, or may be still.
    fn revoke_late(&self, id: i64, each_request: Duration) {
        let (client, until) = (self.client.clone(), Deadline::after(LATE));
        // `close` waits for the first answer.
        self.tasks.spawn(async move {
            let mut pauses = Backoff::default();
            let was_there = loop {
                match revoke(&client, id, each_request).await {
                    Ok(Answered { answer, .. }) => break answer,
                    Err(e) if e.is_lasting() || until.has_passed() => return Err(e),
                    Err(_) => pauses.pause().await,
                }
            };
            if !was_there {
                tokio::spawn(revoke_when_it_comes(Arc::downgrade(&client), id, each_request, until));
            }
            Ok(())
        });
    }
}

/// Revokes a lease that is not there and may still be granted, as long as the store is open.
async fn revoke_when_it_comes(client: Weak<Client>, id: i64, each_request: Duration, until: Deadline) {
    let mut pauses = Backoff::default();
    while !until.has_passed() {
        pauses.pause().await;
        let Some(client) = client.upgrade() else { return };
        match revoke(&client, id, each_request).await {
            Ok(Answered { answer: true, .. }) => return,
            Err(e) if e.is_lasting() => return,
            _ => {}
        }
    }
}
