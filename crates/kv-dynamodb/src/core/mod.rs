//! The parts that every call uses: the client, the names, the limits, and the state that lives as
//! long as the store.

pub(crate) mod limits;
mod shared;

use crate::{
    client::{
        Client,
        clock::Millis,
        item::{ENDS, Found, TTL, number},
        table::Table,
    },
    core::{limits::capabilities, shared::Shared},
    error::damaged,
    lock::waits::Waits,
    names::{Identity, Names},
    watch::feed::Feed,
};
use aws_sdk_dynamodb::types::AttributeValue;
use kv_core::{Capabilities, Error, ErrorKind, Result, Version, backend::Tasks, driver::Deadline};
use std::{sync::Arc, time::Duration};

/// The time that closing waits for what is still given back in the background, after the wait of
/// the handle itself.
const CLOSING: Duration = Duration::from_millis(700);

/// The parts of one store.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    /// Sets how long an item stays in the table after its end.
    slack: Duration,
    pub(crate) capabilities: Capabilities,
    pub(crate) feed: Feed,
    pub(crate) shared: Arc<Shared>,
    pub(crate) waits: Waits,
    pub(crate) tasks: Tasks,
}

impl Core {
    pub(crate) fn new(client: Client, names: Names, slack: Duration, table: Table) -> Self {
        let shared = Shared::of(Identity { prefix: names.prefix().to_owned(), ..table.identity });
        let client = Arc::new(client);
        Self {
            feed: Feed::new(client.clone(), names.clone()),
            shared,
            waits: Waits::new(client.clone(), &names.locks),
            tasks: Tasks::default(),
            capabilities: capabilities(table.no_stream),
            client,
            names,
            slack,
        }
    }

    /// Returns the attributes of an item that ends: its end for this library, and the moment at
    /// which the service may delete it.
    pub(crate) fn ends(&self, ends: Millis) -> Vec<(String, AttributeValue)> {
        vec![(ENDS.to_owned(), number(ends)), (TTL.to_owned(), number(self.deleted_at(ends)))]
    }

    /// Returns the second from which on the service may delete an item with this end.
    pub(crate) fn deleted_at(&self, ends: Millis) -> u64 {
        ends.div_ceil(1000).saturating_add(self.slack.as_secs())
    }

    /// Makes the version of a write that is sent now.
    pub(crate) fn next_version(&self) -> Version {
        self.shared.versions.next(self.client.time.latest())
    }

    /// Returns the item of a key, if it is there and has not ended; an error if it is damaged.
    pub(crate) fn living(&self, key: &str, found: Option<Found>) -> Result<Option<Found>> {
        let (Some(found), latest) = (found, self.client.time.latest()) else { return Ok(None) };
        if let Some(attribute) = found.damaged_key(latest) {
            return Err(damaged("key", key, attribute));
        }
        if let Some(version) = found.version {
            self.shared.versions.seen(version, latest);
        }
        Ok(Some(found).filter(|found| !found.is_over()))
    }

    /// Returns the record of a lock, if it is held; an error if it is damaged.
    pub(crate) fn holding(&self, name: &str, found: Option<Found>) -> Result<Option<Found>> {
        let Some(found) = found else { return Ok(None) };
        if let Some(attribute) = found.damaged_lock(self.client.time.latest()) {
            return Err(damaged("lock", name, attribute));
        }
        Ok(Some(found).filter(|found| found.owner.is_some() && !found.is_over()))
    }

    /// Ends the tasks in the background, and waits for what is still given back.
    pub(crate) async fn close(&self) -> Result<()> {
        self.feed.close();
        self.waits.close();
        let given_back = Deadline::after(CLOSING).limit(self.tasks.finish()).await;
        self.client.close();
        given_back.unwrap_or_else(|| {
            let why = "what was held could not all be given back in time; the rest ends by its TTL";
            Err(Error::new(ErrorKind::Timeout, why))
        })
    }
}
