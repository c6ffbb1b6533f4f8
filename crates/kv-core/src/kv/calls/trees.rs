//! The calls about all that is below a directory.

#[allow(unused_imports, reason = "the documentation speaks of them")]
use crate::{Capabilities, ErrorKind};
use crate::{
    IntoKey,
    kv::{Adopt, DeleteTree, Kv, List},
};

impl Kv {
    /// Lists the keys strictly below a directory, in ascending byte order. A directory that is not
    /// there has nothing in it. Awaited it is a `Vec` of entries; [`List::entries`],
    /// [`List::keys`] and [`List::children`] are streams that fetch page by page.
    /// [`Capabilities::list_snapshot`] tells whether all pages show one moment.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; [`Timeout`](ErrorKind::Timeout) for a
    /// page that takes longer than the deadline, [`Unavailable`](ErrorKind::Unavailable), and the
    /// server's refusals.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/a", "1").await?;
    /// kv.put("app/b/c", "2").await?;
    /// kv.put("application", "3").await?;
    /// let keys: Vec<_> = kv.list("app").await?.into_iter().map(|entry| entry.key.to_string()).collect();
    /// assert_eq!(keys, ["app/a", "app/b/c"]);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "scan")]
    #[doc(alias = "range")]
    #[doc(alias = "keys")]
    #[doc(alias = "prefix")]
    #[doc(alias = "ls")]
    pub fn list(&self, directory: impl IntoKey) -> List {
        List::new(self, directory.into_directory())
    }

    /// Deletes everything strictly below a directory; returns the count, where the server tells it
    /// for free. It is one atomic step where [`Capabilities::delete_tree_atomic`] says so, else
    /// batches.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when an answer was lost. After any error it
    /// can be called again.
    ///
    /// # Cancel safety
    /// A future that is dropped may have deleted a part, or all. It can be called again.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/a", "1").await?;
    /// kv.put("application", "2").await?;
    /// kv.delete_tree("app").await?;
    /// assert!(!kv.exists("app/a").await? && kv.exists("application").await?);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "delete_prefix")]
    #[doc(alias = "remove_dir")]
    #[doc(alias = "clear")]
    pub fn delete_tree(&self, directory: impl IntoKey) -> DeleteTree {
        DeleteTree::new(self, directory.into_directory())
    }

    /// Brings keys that other tools wrote below the directory into listings and watches, where
    /// [`Capabilities::foreign_keys`] says that this is needed; returns how many. Elsewhere it
    /// does nothing.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when an answer was lost. It can be called
    /// again.
    ///
    /// # Cancel safety
    /// A future that is dropped may have adopted a part. It can be called again.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// assert_eq!(kv.adopt("").await?, 0); // needed on Redis alone
    /// # Ok(()) }
    /// ```
    #[doc(alias = "import")]
    pub fn adopt(&self, directory: impl IntoKey) -> Adopt {
        Adopt::new(self, directory.into_directory())
    }
}
