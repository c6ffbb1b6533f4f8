//! Parts of a view, by the order of its names.

use super::{View, ViewEntry};
use std::ops::{
    Bound::{Excluded, Included},
    RangeBounds,
};

impl<T: Send + Sync + 'static> View<T> {
    /// Returns the entries whose names lie in a range, sorted by name: by the bytes of the names,
    /// as listings are. No I/O. A range that ends before it begins is empty.
    ///
    /// With an excluded bound a large view is gone through piece by piece, from the last name that
    /// was seen.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::View;
    /// use std::ops::Bound::{Excluded, Unbounded};
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// for name in ["a", "b/1", "b/2", "c"] {
    ///     kv.put(format!("routes/{name}"), "1").await?;
    /// }
    /// let view: View<u32> = View::open(&kv, "routes").await?;
    /// let names = |entries: Vec<kv_recipes::ViewEntry<u32>>| -> Vec<String> {
    ///     entries.iter().map(|entry| entry.name.to_string()).collect()
    /// };
    /// assert_eq!(names(view.range("a".."b/2")), ["a", "b/1"]);
    /// assert_eq!(names(view.range((Excluded("b/1"), Unbounded))), ["b/2", "c"]);
    /// assert_eq!(names(view.range(..)).len(), 4);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "scan")]
    #[doc(alias = "iter")]
    pub fn range<'a>(&self, names: impl RangeBounds<&'a str>) -> Vec<ViewEntry<T>> {
        let (from, to) = (names.start_bound().map(|name| *name), names.end_bound().map(|name| *name));
        if let (Included(first) | Excluded(first), Included(last) | Excluded(last)) = (from, to)
            && (first > last || first == last && (from, to) != (Included(first), Included(last)))
        {
            return Vec::new();
        }
        self.shared.state.lock().range(from, to).cloned().collect()
    }

    /// Returns the entries whose names begin with this text, sorted by name. No I/O. The text need
    /// not end with a segment: `web-` is the beginning of `web-1/port`;
    /// [`below`](Self::below) gives what lies in a directory.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::View;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// for name in ["db-1", "web-1", "web-2", "web/3"] {
    ///     kv.put(format!("hosts/{name}"), "up").await?;
    /// }
    /// let hosts = View::raw(&kv, "hosts").await?;
    /// assert_eq!(hosts.beginning_with("web-").len(), 2);
    /// assert_eq!(hosts.below("web")?.len(), 1);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "prefix")]
    #[doc(alias = "scan")]
    #[doc(alias = "starts_with")]
    pub fn beginning_with(&self, text: &str) -> Vec<ViewEntry<T>> {
        self.shared.state.lock().beginning_with(text).cloned().collect()
    }
}
