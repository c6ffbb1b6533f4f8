//! Asks for leases.

use super::granted::{For, Grant, gone, revoke};
use crate::{
    client::{Client, Purpose},
    error::is_lease_there,
};
use etcd_client::LeaseGrantOptions;
use kv_core::{
    ErrorKind, Result,
    backend::{Clock, Tasks, retry::Answered},
    driver::Deadline,
};
use std::{sync::Arc, time::Duration};

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
        let (at, client, tasks) = (granter.clock.now(), granter.client.clone(), granter.tasks.clone());
        // A lease can be revoked for certain only after the answer, so the answer is awaited even
        // when the caller is gone.
        let asked = granter.tasks.to_its_end(async move {
            let options = LeaseGrantOptions::new().with_id(id);
            let ask = client.ask(Purpose::Repeatable, deadline, |service| {
                let (mut leases, options) = (service.lease_client(), options.clone());
                async move { leases.grant(seconds, Some(options)).await }
            });
            let answer = ask.await;
            let revoke = tasks.undo_repeatable(move || {
                let client = client.clone();
                async move {
                    match revoke(&client, id, each_request).await? {
                        Answered { answer: false, is_repeat: true } if what == For::Owner => {
                            Err(gone("the lease"))
                        }
                        Answered { answer: was_there, .. } => Ok(was_there),
                    }
                }
            });
            (answer, revoke)
        });
        let (answer, revoke) = asked.await?;
        match answer.and_then(|answered| answered.answer) {
            Ok(granted) => {
                let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or_default());
                return Ok(Grant { id, at, ttl, revoke });
            }
            // The lease is ours, if the answer to an earlier attempt was lost, or somebody else's:
            // it is left to its TTL.
            Err(e) if is_lease_there(&e) => revoke.forget(),
            Err(e) => {
                // A server that becomes full by a request does it, though it refuses it.
                if !matches!(e.kind(), ErrorKind::OutcomeUnknown | ErrorKind::NoSpace) {
                    revoke.forget();
                }
                return Err(e);
            }
        }
    }
}
