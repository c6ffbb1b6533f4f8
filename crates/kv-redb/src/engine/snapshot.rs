//! A read's look at the state behind one commit.

use super::{
    common::Engine,
    fixed::{Fixed, Read, Reading},
    moment::Moment,
};
use std::{
    cell::OnceCell,
    sync::{Arc, PoisonError},
};

/// One moment of the store.
pub(crate) struct Snapshot<'e> {
    pub(super) fixed: Arc<Fixed>,
    engine: &'e Engine,
    at: OnceCell<Moment>,
    /// Tells whether the read is on a thread that others need.
    pub(super) is_here: bool,
}

impl Snapshot<'_> {
    /// Returns the moment of the read. A read that may have to ask for it late looks at it only
    /// when a row needs it: then the state must still be that of the last commit, so that nothing
    /// in it is judged by what came behind it.
    fn moment(&self) -> Read<&Moment> {
        if let Some(at) = self.at.get() {
            return Ok(at);
        }
        let at = Moment::new(&self.engine.living, &self.engine.time);
        if at.commits() != self.fixed.commits {
            return Err(Reading::Long);
        }
        Ok(self.at.get_or_init(|| at))
    }

    /// Tells whether a row is still there. A row whose end has come is gone at once, even before
    /// the writer has cleared it away.
    pub(super) fn lives(&self, expiry: u64, lease: u64) -> Read<bool> {
        if (expiry, lease) == (0, 0) {
            return Ok(true);
        }
        let at = self.moment()?;
        Ok((expiry == 0 || expiry > at.now()) && (lease == 0 || !at.is_over(lease)))
    }

    pub(super) fn has_lost(&self, name: &str, token: u64) -> Read<bool> {
        Ok(self.moment()?.has_lost(name, token))
    }

    /// Counts the contenders that wait for a lock now: the file has none of them.
    pub(super) fn waiters(&self, name: &str) -> usize {
        self.engine.living.lock().waiters(&name.into())
    }
}

impl Engine {
    /// Returns the state behind the last commit; `None` while the file is opened again.
    pub(super) fn fixed(&self) -> Option<Arc<Fixed>> {
        self.fixed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has reads see this state from now on; returns the one that they saw before. The writer
    /// counts the commit under the same lock of what lives.
    pub(super) fn fix(&self, fixed: Option<Arc<Fixed>>) -> Option<Arc<Fixed>> {
        std::mem::replace(&mut *self.fixed.write().unwrap_or_else(PoisonError::into_inner), fixed)
    }

    /// Returns a look at the last commit for a read on a thread that others need, if redb's cache
    /// has all of it.
    pub(super) fn snapshot_here(&self) -> Option<Snapshot<'_>> {
        let fixed = self.fixed().filter(|fixed| fixed.residence.is_warm())?;
        Some(Snapshot { fixed, engine: self, at: OnceCell::new(), is_here: true })
    }

    /// Returns a look at the last commit for a read that may take long.
    pub(super) fn snapshot(&self) -> Read<Snapshot<'_>> {
        loop {
            // The moment is before the state, and no commit is between them, so that nothing in
            // the state is judged by what came behind it.
            let at = Moment::new(&self.living, &self.time);
            let fixed = match self.fixed() {
                Some(fixed) => fixed,
                None => {
                    let database = self.database();
                    let database = database.as_ref().map_err(|e| Reading::Refused(e.clone()))?;
                    Arc::new(Fixed::new(database, at.commits())?)
                }
            };
            if fixed.commits == at.commits() && at.is_last() {
                return Ok(Snapshot { fixed, engine: self, at: OnceCell::from(at), is_here: false });
            }
        }
    }
}
