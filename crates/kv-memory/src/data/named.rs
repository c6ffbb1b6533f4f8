//! The stores that have a name: all who open it in this process share one.

use super::Shared;
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Clock, Mutex},
};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Weak},
};

/// The stores that have a name, as long as they live.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Shared>>>> = LazyLock::new(Mutex::default);

/// Returns the data set of this name, a new one when nobody has it open.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a clock that is not that of the open store.
pub(crate) fn open(name: String, clock: Option<Clock>) -> Result<Arc<Shared>> {
    let mut named = NAMED.lock();
    Ok(match (named.get(&name).and_then(Weak::upgrade), clock) {
        (Some(shared), Some(clock)) if shared.look().clock != clock => {
            let why = format!(
                "another clock for the store {name:?}, which is open and has one; leave out the clock"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        (Some(shared), _) => shared,
        (None, clock) => {
            let shared = Shared::new(clock.unwrap_or_default());
            named.retain(|_, other| other.strong_count() > 0);
            named.insert(name, Arc::downgrade(&shared));
            shared
        }
    })
}

#[cfg(test)]
mod tests {
    use super::NAMED;
    use crate::Config;

    #[tokio::test]
    async fn names_that_nobody_uses_are_forgotten() {
        for n in 0..3 {
            drop(Config::new().name(n.to_string()).build().await.unwrap());
        }
        let named = NAMED.lock();
        assert_eq!(named.keys().collect::<Vec<_>>(), ["2"], "the last goes with the next");
    }
}
