//! Ends what the holder of a lock holds, by its token.

use crate::{
    client::{
        change::Changed,
        item::{ENDS, OWNER, TOKEN, TTL, VALUE, number},
        terms::Terms,
    },
    core::Core,
    list::read::fresh_time,
};
use kv_core::{Key, Result, backend::retry::RetrySafety, driver::WriteOptions};

/// Does [`Store::break_lock`](kv_core::driver::Store::break_lock).
pub(crate) async fn break_lock(core: &Core, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
    fresh_time(core, options.deadline).await?;
    let client = &core.client;
    let mut terms = Terms::default();
    let (owner, end, value) = (terms.name(OWNER), terms.name(ENDS), terms.name(VALUE));
    let (ttl, held) = (terms.name(TTL), terms.name(TOKEN));
    let deleted = terms.value(number(core.deleted_at(client.time.latest())));
    // The next token tells a release that asks twice that the lock was broken, not given back.
    let (of, next) = (terms.value(number(token)), terms.value(number(token.saturating_add(1))));
    let update = format!("SET {ttl} = {deleted}, {held} = {next} REMOVE {owner}, {end}, {value}");
    let lives = terms.is_held(client.time.earliest());
    let condition = format!("{held} = {of} AND attribute_exists({owner}) AND {lives}");
    let record = (&*core.names.locks, name.as_str());
    let take = || client.change(record, &update, &condition, &terms);
    match client.call(RetrySafety::Write, options.deadline, take).await? {
        Changed::Done => {
            core.waits.released(name);
            Ok(true)
        }
        // No acquisition of this token holds the lock. A record that is damaged is left as it is.
        Changed::Hindered(found) => core.holding(name.as_str(), found).map(|_| false),
    }
}
