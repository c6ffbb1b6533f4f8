//! The real servers that tests run on: one table of what there is, where it is got, and how it is
//! started.
//!
//! [`KINDS`] lists the kinds of servers and tools; [`Folder`] tells where they lie; [`launch`]
//! makes the commands and settings that a server is started with. With the feature `certificates`,
//! [`certificates::make`] signs those that servers on loopback and their clients need. With the
//! feature `program` there is [`program::main`] besides: the program that fetches, starts and
//! stops them, which `ci/servers` runs.

#[cfg(feature = "certificates")]
pub mod certificates;
mod error;
mod folder;
mod kinds;
pub mod launch;
mod packages;
#[cfg(feature = "program")]
pub mod program;
mod stat;

#[cfg(feature = "program")]
mod get;
#[cfg(feature = "program")]
mod named;

pub use error::Error;
pub use folder::Folder;
pub use kinds::{Family, KINDS, Kind};
pub use packages::Suite;
pub use stat::Stat;
