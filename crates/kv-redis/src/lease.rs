//! Leases: each is a set of keys that end together.

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::{Core, renewal},
    error::undone,
    version::nonce,
};
use fred::types::Value;
use kv_core::{
    Error, ErrorKind, LeaseId, Result,
    backend::{
        Alive,
        retry::{Answered, RetrySafety},
        unique,
    },
    driver::{Deadline, LeaseOptions, Leased},
};
use std::{sync::Arc, time::Duration};

/// Runs the script about a lease.
async fn order(core: &Core, id: &str, deadline: Deadline, arguments: Vec<Value>) -> Result<Answered<Answer>> {
    let request = core.request(&script::LEASE, core.names.lease(id), arguments);
    core.client.run(RetrySafety::Repeatable, deadline, &request).await
}

/// Renews a lease and all its keys, step by step, until one and the same moment.
async fn renew(core: &Core, id: &str, ttl: Duration, millis: &str) -> Result<()> {
    let (mut till, mut from) = (String::new(), "0".to_owned());
    loop {
        let arguments = ["renew", millis, &till, &from].map(Value::from).into();
        let answered = order(core, id, renewal(ttl), arguments).await?;
        let Some(answer) = answered.answer.some() else {
            let why = "the server ended it: its TTL passed, or it was deleted";
            return Err(Error::new(ErrorKind::LeaseLost, why));
        };
        let mut answer = answer.list()?;
        (from, till) = (next(&mut answer)?.text()?, next(&mut answer)?.text()?);
        if from == "0" {
            return Ok(());
        }
    }
}

/// Ends a lease and deletes its keys step by step. Returns whether it was there.
async fn revoke(core: &Core, id: &str, each: Duration) -> Result<bool> {
    let mut was_there = false;
    loop {
        let arguments = vec![Value::from("revoke"), nonce().to_string().into()];
        let Answered { answer, is_repeat } = order(core, id, Deadline::after(each), arguments).await?;
        let mut answer = answer.list()?;
        was_there |= next(&mut answer)?.number()? == 1;
        if next(&mut answer)?.number()? == 0 {
            // What a repeat finds does not answer for the first attempt.
            return undone(was_there, is_repeat);
        }
    }
}

/// Grants a lease: [`Store::lease`](kv_core::driver::Store::lease).
pub(crate) async fn lease(core: &Arc<Core>, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let each = options.each_request;
    let millis = ttl.as_millis().to_string();
    // The TTL is a part of the id: writes under the lease go by it, whoever makes them.
    let id: Arc<str> = format!("{:016x}-{millis}", unique()).into();
    let undo = core.tasks.undo_repeatable({
        let (core, id) = (core.clone(), id.clone());
        move || {
            let (core, id) = (core.clone(), id.clone());
            async move { revoke(&core, &id, each).await }
        }
    });
    let granted = core.clock.now();
    order(core, &id, options.deadline, vec!["grant".into(), millis.as_str().into()]).await?;
    let alive = Alive::keep(&core.clock, ttl, granted, {
        let (core, id) = (core.clone(), id.clone());
        move || {
            let (core, id, millis) = (core.clone(), id.clone(), millis.clone());
            async move { renew(&core, &id, ttl, &millis).await }
        }
    });
    Ok(Leased { id: LeaseId::new(id), ttl, alive, revoke: undo })
}
