//! One open file: its writer thread, its reads, its clients.

mod asking;
mod batch;
mod blocking;
mod common;
mod disk;
mod event;
mod file;
mod fixed;
mod format;
mod holders;
mod job;
mod make;
mod mend;
mod moment;
mod open;
mod options;
mod past;
mod places;
mod queue;
mod read;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod writer;

pub(crate) use batch::{Asked, Batch, Done, Lives};
pub(crate) use common::Engine;
pub use common::Stats;
pub(crate) use event::View;
pub(crate) use fixed::Reading;
pub(crate) use open::open;
pub(crate) use options::Options;
pub(crate) use places::Client;
pub(crate) use snapshot::Snapshot;
