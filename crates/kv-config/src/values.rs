//! Settings from elsewhere: defaults under the stored ones, and what is laid over them.

use crate::node::Node;
use kv_core::{Error, ErrorKind, Result};
use serde::Serialize;
use std::fmt;

/// Settings from elsewhere than the store: the defaults under the stored ones, or what is laid over
/// them. They are read once, when this is made.
///
/// [`of`](Self::of) makes them of any value that serde can write. With the feature `figment` they
/// are made of a `Figment`, and with the feature `config` of a `Config`, by `From`. `Debug` shows
/// no values.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_config::Values;
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Settings {
///     color: String,
///     limit: u32,
/// }
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("app/config/limit", "7").await?;
/// let defaults = Settings { color: "red".into(), limit: 5 };
/// let settings = kv_config::live::<Settings>(&kv, "app/config");
/// let settings = settings.defaults(Values::of(&defaults)).await?;
/// assert_eq!((&*settings.get().color, settings.get().limit), ("red", 7));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Values(Result<Node>);

impl Values {
    /// Makes them of a value that serde writes as a table: a struct, a map, or
    /// `serde_json::json!({ .. })`. A failure is told when the settings are opened.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        let json = serde_json::to_value(value).map(Node::from);
        Self(json.map_err(|e| {
            let why = "the values cannot be written; give a type that serde can write, with text as keys";
            Error::new(ErrorKind::InvalidArgument, why).with_cause(e)
        }))
    }

    #[cfg(any(feature = "config", feature = "figment"))]
    pub(crate) fn new(read: Result<Node>) -> Self {
        Self(read)
    }

    /// Lays these over others.
    pub(crate) fn over(self, under: &mut Option<Node>) -> Result<()> {
        let node = self.0?;
        if !matches!(node, Node::Table(_)) {
            let why = format!("the values are {}, not a table of settings", node.kind());
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        match under {
            Some(under) => under.merge(node),
            None => *under = Some(node),
        }
        Ok(())
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_ok() { "Values" } else { "Values(unreadable)" })
    }
}
