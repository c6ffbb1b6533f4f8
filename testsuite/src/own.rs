//! Servers of our own, each of which is one process.

use crate::{
    Failure, Server,
    process::{Daemon, copy},
};
use kv_core::driver::async_trait;
use std::path::PathBuf;

/// A server of our own, which is one process. The suite's hook [`Server`] comes with it.
#[async_trait]
pub trait OwnServer: Send + Sync {
    /// Returns the server's process.
    fn daemon(&self) -> &Daemon;
    /// Returns the folder of its data.
    fn data(&self) -> PathBuf;
    /// Returns the folder of the copy that [`Server::save`] makes. Provided: it lies beside the
    /// data.
    fn saved(&self) -> PathBuf {
        self.data().with_added_extension("saved")
    }
    /// Waits until the server serves.
    ///
    /// # Errors
    /// It does not serve in time.
    async fn ready(&self) -> Result<(), Failure>;
}

/// Starts servers side by side, and returns when all serve. Those that run stay as they are.
///
/// # Errors
/// One cannot be started, or does not serve in time.
pub async fn start<S: OwnServer>(servers: &[S]) -> Result<(), Failure> {
    servers.iter().try_for_each(|server| server.daemon().spawn())?;
    for server in servers {
        server.ready().await?;
    }
    Ok(())
}

#[async_trait]
impl<S: OwnServer> Server for S {
    async fn stop(&self) {
        self.daemon().stop();
    }
    async fn kill(&self) {
        self.daemon().kill();
    }
    async fn start(&self) {
        self.daemon().spawn().expect("it started before");
        self.ready().await.expect("it served before");
    }
    async fn pause(&self) {
        self.daemon().pause();
    }
    async fn resume(&self) {
        self.daemon().resume();
    }
    async fn save(&self) -> bool {
        self.daemon().stop();
        copy(&self.data(), &self.saved()).expect("the folder is ours");
        Server::start(self).await;
        true
    }
    async fn restore_saved(&self) {
        self.daemon().stop();
        copy(&self.saved(), &self.data()).expect("the folder is ours");
        Server::start(self).await;
    }
}
