//! The life that a put gives its key.

use crate::{core::Core, engine::Lives, lease};
use kv_core::{Result, driver::PutOptions};
use std::time::Duration;

/// Returns how long the key of a put with these options lives, and its TTL.
pub(super) fn lives(core: &Core, options: &PutOptions) -> Result<(Lives, Option<Duration>)> {
    Ok(match (options.ttl, &options.lease) {
        (Some(ttl), _) => (Lives::For(ttl), Some(ttl)),
        (None, Some(id)) => (Lives::Under(lease::number(core, id)?), None),
        (None, None) => (Lives::Always, None),
    })
}
