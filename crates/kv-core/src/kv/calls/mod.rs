//! The calls of a handle. Each is a builder, which is sent when it is awaited.

mod keys;
mod locks;
mod trees;
mod watches;

use super::{HealthCall, Kv, Txn};
#[allow(unused_imports, reason = "the documentation speaks of them")]
use crate::{Capabilities, ErrorKind};

impl Kv {
    /// Begins a transaction: conditions and writes, all or nothing. It is sent when it is awaited.
    /// [`Capabilities::max_txn_ops`] is the most conditions and writes that it may have.
    ///
    /// # Errors
    /// Those of [`Txn`], when it is awaited. A condition that is not true is no error: the outcome
    /// names it.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("from", "1").await?;
    /// let moved = kv.transact().when_missing("to").then(kv.put("to", "1")).then(kv.delete("from")).await?;
    /// assert!(moved.is_committed());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "txn")]
    #[doc(alias = "transaction")]
    #[doc(alias = "multi")]
    pub fn transact(&self) -> Txn {
        Txn::new(self)
    }

    /// Makes one linearizable read that needs the quorum, and returns the server's version, and
    /// leader and members where they are known.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the store has none;
    /// [`Timeout`](ErrorKind::Timeout), [`Unavailable`](ErrorKind::Unavailable), and the server's
    /// refusals.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// println!("the server is {}", kv.health().await?.version);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "ping")]
    #[doc(alias = "status")]
    pub fn health(&self) -> HealthCall {
        HealthCall::new(self)
    }
}
