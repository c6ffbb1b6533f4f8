//! Looks after keys that were put under a lease while a renewal or a revocation was under way that
//! may not know of them.

use crate::{
    client::{
        Lane,
        change::Changed,
        item::{VERSION, versioned},
        terms::Terms,
    },
    core::Core,
    error::unknown_whether,
    lease::{
        keep::{delete, prolong},
        state::{Lease, over},
    },
    write::turns::{Turn, TurnOf},
};
use kv_core::{Key, Result, Version, driver::Deadline};

impl Lease {
    /// Makes sure that a key that was put ends with its lease; the put gave it the end of renewal
    /// `by`. Deletes the key if the lease was revoked meanwhile, and prolongs it if a later
    /// renewal did not include it.
    pub(crate) async fn is_whole(&self, core: &Core, key: &Key, version: Version, by: u64) -> Result<()> {
        let deadline = Deadline::default();
        if self.state().over {
            let mut terms = Terms::default();
            let (name, version) = (terms.name(VERSION), terms.value(versioned(version)));
            let _turn = Turn::of(&core.shared.turns, [(key, TurnOf::Deletes)], deadline).await;
            let condition = format!("{name} = {version}");
            delete(core, Lane::LeaseKeys, &core.names.data, key.as_str(), &condition, &terms, deadline)
                .await?;
            return Err(over(&self.id));
        }
        self.add(key)?;
        let is_left_to_renewals = self.is_left_to_renewals(key, by);
        // The key may be there, or have ended.
        let lost = |_| unknown_whether("the lease was lost while the key was put under it");
        let (to, now) = (self.ends().map_err(lost)?, self.client.time.latest());
        if is_left_to_renewals {
            return Ok(());
        }
        let ours = |terms: &mut Terms| {
            let (name, version) = (terms.name(VERSION), terms.value(versioned(version)));
            format!("{name} = {version} AND {}", terms.lives(now))
        };
        match prolong(core, Lane::LeaseKeys, &core.names.data, key.as_str(), to, ours, deadline).await? {
            Changed::Done => Ok(()),
            // A renewal that was under way has prolonged it.
            Changed::Hindered(Some(found))
                if found.version == Some(version) && found.is_renewed(to.number) =>
            {
                Ok(())
            }
            Changed::Hindered(_) => Err(unknown_whether(
                "the put took so long that the key ended, or was written by another, before it was renewed",
            )),
        }
    }
}
