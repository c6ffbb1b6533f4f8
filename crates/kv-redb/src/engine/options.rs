//! The settings with which the engine opens a file.

use kv_core::backend::Clock;
use std::path::PathBuf;

/// The settings of a file. Those of the client that opens it first hold for all clients of the
/// process.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) cache_size: usize,
    pub(crate) verify: bool,
    pub(crate) quick_repair: bool,
    pub(crate) clock: Clock,
}
