//! `lock_holder`.

use super::{Does, Kv, WatchCall, awaitable, deadline};
use crate::{
    Consistency, Holder, Key, Result,
    driver::{ReadOptions, Target},
};
use std::time::Duration;

/// [`Kv::lock_holder`], to be awaited: it returns the holder of the lock, or `None`.
///
/// # Errors
/// Before any I/O [`InvalidKey`](crate::ErrorKind::InvalidKey) and
/// [`Unsupported`](crate::ErrorKind::Unsupported); else those of a get.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct LockHolder {
    kv: Kv,
    name: Result<Key>,
    consistency: Consistency,
    within: Duration,
}

impl LockHolder {
    pub(super) fn new(kv: &Kv, name: Result<Key>) -> Self {
        Self { kv: kv.clone(), name, consistency: Consistency::default(), within: kv.deadline }
    }
    /// Lets any member answer, from the past.
    #[doc(alias = "eventual")]
    #[doc(alias = "serializable")]
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }
    deadline!();

    /// Watches the holder: the events are a `Put` for each holder, and for each value that a
    /// holder gives by [`Guard::set_value`](crate::Guard::set_value), and a `Delete` when nobody
    /// holds the lock. The version is that of [`Holder::version`]: the token, and a number that
    /// grows with the changes of the value. An election builds on this.
    #[doc(alias = "observe")]
    #[doc(alias = "election")]
    pub fn watch(self) -> WatchCall {
        WatchCall::new(&self.kv, "lock_holder", self.name.map(Target::Holder)).deadline(self.within)
    }

    async fn run(self) -> Result<Option<Holder>> {
        let name = self.name.map_err(|e| self.kv.in_call(e, "lock_holder", None))?;
        let (store, deadline) = self.kv.begin(self.within);
        let lock_holder = async {
            let capabilities = store.capabilities();
            if capabilities.lock.is_none() {
                return Err(capabilities.unsupported("locks"));
            }
            capabilities.check_consistency(self.consistency)?;
            let options = ReadOptions { consistency: self.consistency, deadline };
            let whole = self.kv.part().whole(&name)?;
            store.lock_holder(&whole, &options).await
        };
        self.kv.call("lock_holder", Some(name.as_str()), Does::Read, deadline, lock_holder).await
    }
}
awaitable!(LockHolder => Option<Holder>, LockHolder::run);
