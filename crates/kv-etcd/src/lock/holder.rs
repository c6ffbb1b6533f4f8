//! Reads who holds a lock.

use crate::{
    client::answer::token,
    core::Core,
    list::{purpose, reading},
    names::Names,
};
use etcd_client::{SortOrder, SortTarget};
use kv_core::{Holder, Key, Result, driver::ReadOptions};

/// Does [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = core.names.contenders(name);
    let mut since = 0;
    loop {
        let first = reading(options)
            .with_range(line.end.clone())
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_min_create_revision(since)
            .with_limit(1);
        let first = core.range(purpose(options), options.deadline, &line.start, first).await?.take_kvs();
        match first.into_iter().next() {
            // A name that another tool wrote there holds nothing.
            Some(junk) if !Names::is_contender(&line, junk.key(), junk.lease()) => {
                since = junk.create_revision() + 1;
            }
            first => {
                return Ok(first.map(|kv| Holder::new(token(kv.create_revision()), kv.into_key_value().1)));
            }
        }
    }
}
