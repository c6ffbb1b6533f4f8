//! A server that is full.

use crate::{
    broken::{Broken, State},
    fault::Fault,
    server::Faulty,
};
use kv_core::{
    Error, ErrorKind, Kv, Result,
    driver::{Write, async_trait},
};
use kv_testsuite::{Full, Harness};
use std::sync::atomic::Ordering::Relaxed;

impl State {
    fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    pub(crate) fn check_open(&self, fault: Fault) -> Result<()> {
        match self.is_full() && fault == Fault::FullCannotBeOpened {
            true => Err(no_space()),
            false => Ok(()),
        }
    }

    /// Tells whether renewals are taken.
    pub(crate) fn renews(&self, fault: Fault) -> bool {
        !(self.is_full() && fault == Fault::FullRenewsNothing)
    }
}

fn no_space() -> Error {
    Error::new(ErrorKind::NoSpace, "the server is full")
}

impl Broken {
    pub(crate) fn check_room(&self) -> Result<()> {
        match (self.state.is_full(), self.fault) {
            (false, _) => Ok(()),
            (true, Fault::FullIsAnyError) => Err(Error::new(ErrorKind::Other, "exceeded")),
            (true, _) => Err(no_space()),
        }
    }

    pub(crate) fn check_removal(&self) -> Result<()> {
        match self.state.is_full() && self.fault == Fault::FullRefusesRemovals {
            true => Err(no_space()),
            false => Ok(()),
        }
    }

    pub(crate) fn check_writes(&self, writes: &[Write]) -> Result<()> {
        if writes.iter().any(|write| matches!(write, Write::Put { .. })) {
            return self.check_room();
        }
        if writes.is_empty() { Ok(()) } else { self.check_removal() }
    }
}

#[async_trait]
impl Full for Faulty {
    async fn open(&self, prefix: &str) -> Result<Kv> {
        Harness::open(self, prefix).await
    }

    async fn fill(&self) {
        self.state.full.store(true, Relaxed);
    }

    async fn relieve(&self) {
        self.state.full.store(false, Relaxed);
    }
}
