//! Finds out what became of names that a listing left out: names that a token may not read are
//! left out as well, in silence.

use crate::{
    client::api::{self, MOST_OPS, OP_OVERHEAD, Op},
    core::Core,
};
use kv_core::{Error, ErrorKind, Result, driver::Deadline};

/// A name that was there, and the index at which it was modified last.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) name: String,
    pub(super) modified: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Gone,
    /// The name is there, and was written since: it was gone for a moment, or the listing was read
    /// by a token that might not see it.
    Written,
    /// The name was never gone: the listing was read by a token that might not see it.
    Same,
    /// The token may not read the name.
    Hidden,
}

/// Returns how many of these names fit into one transaction, the first one always among them.
pub(super) fn fitting(core: &Core, names: &[Before]) -> usize {
    let mut room = core.largest_txn;
    let fits = |before: &&Before| {
        // In JSON each byte of a name may be two.
        let taken = room.checked_sub(OP_OVERHEAD + 2 * before.name.len());
        room = taken.unwrap_or(0);
        taken.is_some()
    };
    names.iter().take(MOST_OPS).take_while(fits).count().clamp(1, names.len().max(1))
}

/// Asks what became of these names, which fit into one transaction.
pub(super) async fn fates(core: &Core, names: &[Before], deadline: Deadline) -> Result<Vec<Fate>> {
    let mut fates: Vec<Option<Fate>> = vec![None; names.len()];
    loop {
        let asked: Vec<usize> = (0..names.len()).filter(|&at| fates[at].is_none()).collect();
        if asked.is_empty() {
            return Ok(fates.into_iter().flatten().collect());
        }
        let check = |&at: &usize| Op::check_index(&names[at].name, names[at].modified);
        let ops: Vec<_> = asked.iter().map(check).collect();
        let faults = api::faults(&core.client, deadline, &ops).await?;
        let denied: Vec<_> =
            faults.iter().filter(|fault| fault.is_denied()).filter_map(|fault| asked.get(fault.at)).collect();
        if !denied.is_empty() {
            // The server tells all operations that are denied, and nothing of the others.
            denied.into_iter().for_each(|&at| fates[at] = Some(Fate::Hidden));
            continue;
        }
        for (n, &at) in asked.iter().enumerate() {
            fates[at] = Some(match faults.iter().find(|fault| fault.at == n) {
                None => Fate::Same,
                Some(fault) if fault.is_missing() => Fate::Gone,
                Some(fault) if fault.is_modified() => Fate::Written,
                Some(fault) => {
                    let why = format!("the server says: {}", fault.what);
                    return Err(Error::new(ErrorKind::Unavailable, why));
                }
            });
        }
    }
}
