//! A server that a case has borrowed, and that is given back running.

use crate::Server;
use kv_core::driver::async_trait;
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

const UP: u8 = 0;
const FROZEN: u8 = 1;
const DOWN: u8 = 2;

/// A borrowed server; knows how the case left it.
pub(crate) struct Borrowed {
    server: Arc<dyn Server>,
    state: AtomicU8,
}

impl Borrowed {
    pub(crate) fn new(server: Arc<dyn Server>) -> Self {
        Self { server, state: AtomicU8::new(UP) }
    }

    /// Has the server serve again, whatever the case did.
    pub(crate) async fn restore(&self) {
        match self.state.load(Ordering::Relaxed) {
            FROZEN => self.resume().await,
            DOWN => self.start().await,
            _ => {}
        }
    }

    fn is(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

// A call that may be dropped half-way notes the new state before it begins; a call that puts the
// server right notes it at its end.
#[async_trait]
impl Server for Borrowed {
    async fn stop(&self) {
        self.is(DOWN);
        self.server.stop().await;
    }
    async fn kill(&self) {
        self.is(DOWN);
        self.server.kill().await;
    }
    async fn start(&self) {
        self.server.start().await;
        self.is(UP);
    }
    async fn pause(&self) {
        self.is(FROZEN);
        self.server.pause().await;
    }
    async fn resume(&self) {
        self.server.resume().await;
        self.is(UP);
    }
    async fn save(&self) -> bool {
        self.is(DOWN);
        let saved = self.server.save().await;
        self.is(UP);
        saved
    }
    async fn restore_saved(&self) {
        self.is(DOWN);
        self.server.restore_saved().await;
        self.is(UP);
    }
}
