//! Holds the core of a store, which all modules use: the client, names, clock and limits, and the
//! state that lives as long as the store.

use crate::{
    client::{
        Client,
        connect::Options,
        limits::Limits,
        multi::{Ask, Got, REQUEST},
        open::any,
        probe::Probe,
        read::read,
        session::Ephemeral,
    },
    lease::expiring::Expiring,
    list::parked::Parked,
    lock::before::Before,
    names::{Names, slot},
    write::known::{Directories, Known, Own},
};
use kv_core::{
    Capabilities, Durability, Error, ErrorKind, Locking, Result, Watching,
    backend::{Clock, Mutex, Sessions, Tasks, queue::Lines},
    driver::{Deadline, ReadOptions},
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

/// The most bytes of a request besides values and keys.
const OVERHEAD: usize = 64 << 10;
/// The time that closing waits for locks and leases that are given back in the background.
const GIVEN_BACK: Duration = Duration::from_millis(500);
/// The greatest length of a key in bytes, the prefix of a layer included.
const LONGEST_KEY: usize = 1000;
/// The most conditions and writes of one transaction. The server itself limits bytes alone.
const MOST_OPS: usize = 128;

/// One opened store, as its modules see it.
pub(crate) struct Core {
    pub(crate) this: Weak<Self>,
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) limits: Limits,
    pub(crate) directories: Directories,
    /// The nodes that count creations.
    pub(crate) own: Own,
    /// The walks of listings that wait for their next page.
    pub(crate) parked: Parked,
    /// The sessions of locks.
    pub(crate) sessions: Sessions<Arc<Ephemeral>>,
    /// The lines of contenders, by their locks.
    pub(crate) lines: Lines<Before>,
    /// The sessions of keys with a TTL.
    pub(crate) expiring: Expiring,
    /// The sessions of leases, by the leases' ids.
    pub(crate) leases: Mutex<HashMap<String, Weak<Ephemeral>>>,
    /// The tasks that give back locks and leases in the background.
    pub(crate) tasks: Tasks,
}

impl Core {
    /// Connects, and learns what the server can do.
    pub(crate) async fn open(
        options: Options,
        names: Names,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Arc<Self>> {
        let (found, limits) = any(&options, deadline).await?;
        let client = Client::new(options, names.clone());
        client.link(deadline).await?;
        let asks = [Ask::Children(names.area("epoch"))];
        let prepared = read(&client, &ReadOptions::default().deadline(deadline), &asks).await;
        let own = Own::default();
        match prepared.as_deref() {
            Ok([Got::Children(nodes)]) => {
                let (slots, incarnations) = slot::found(nodes);
                if slots.iter().all(|is_there| *is_there) {
                    own.are_there(incarnations.first().copied());
                }
            }
            Ok(_) => {}
            // Missing rights are reported by the calls that need them.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => own.are_there(None),
            Err(_) => drop(prepared?),
        }
        let capabilities = capabilities(limits, &found);
        Ok(Arc::new_cyclic(|this| Self {
            this: this.clone(),
            client,
            names,
            sessions: Sessions::new(clock.clone()),
            lines: Lines::default(),
            clock,
            capabilities,
            limits,
            directories: Directories::default(),
            own,
            parked: Parked::default(),
            expiring: Expiring::default(),
            leases: Mutex::default(),
            tasks: Tasks::default(),
        }))
    }

    /// Returns what is known of nodes by the connection of this runtime.
    pub(crate) fn known(&self) -> Arc<Known> {
        self.client.known()
    }

    /// Gives back locks and leases that are left, and ends all sessions:
    /// [`Store::close`](kv_core::driver::Store::close).
    pub(crate) async fn close(&self) -> Result<()> {
        // If something cannot be given back soon, there must be time left to end the sessions.
        let given_back = Deadline::after(GIVEN_BACK).limit(self.tasks.finish()).await;
        self.expiring.close();
        let (ended, _) = tokio::join!(self.sessions.end(), self.client.close());
        given_back.map(|given_back| given_back.and(ended)).unwrap_or_else(|| {
            let why = "not all was given back in time; locks and leases that are left end by their TTL";
            Err(Error::new(ErrorKind::Timeout, why))
        })
    }
}

fn capabilities(limits: Limits, found: &Probe) -> Capabilities {
    let mut c = Capabilities::new("zookeeper");
    c.durability = if found.mode == "standalone" { Durability::Fsync } else { Durability::Quorum };
    // `OVERHEAD` leaves room for the key: a conditional write names it a few times, and each of
    // its characters may take three times its length.
    c.max_value = REQUEST - OVERHEAD;
    c.max_txn_ops = MOST_OPS;
    // If many long names leave less room, the request is refused before it is sent.
    c.max_txn_bytes = c.max_value + LONGEST_KEY;
    let ttl = limits.range();
    c.lease = Some(ttl.clone());
    c.lock = Some(Locking::new(ttl.clone()));
    c.ttl = Some(ttl);
    c.children_of_expiring = false;
    c.watch = Watching::NewestState;
    c.health = true;
    c
}
