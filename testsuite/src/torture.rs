//! Workloads under fire: clients work while servers and links fail, and what they saw is checked.
//!
//! A backend's whole `tests/torture.rs` is as its `tests/conformance.rs`, with this [`main`] in
//! place of the suite's. Everything that chance decides comes from one seed, which is printed. The
//! moments at which calls meet strokes depend on the machine, so that a seed often finds again
//! what it found, and not always.

pub mod bank;
mod chance;
pub mod expiry;
pub mod field;
mod instances;
pub mod leaks;
pub mod linear;
pub mod locks;
pub mod model;
pub mod nemesis;
mod patience;
mod picture;
mod plan;
mod program;
pub mod registers;
pub mod round;
mod shards;
pub(crate) mod stroke;
pub mod tally;
pub mod watches;
mod workload;

pub use chance::Chance;
pub use program::{LONG, ONLY, SECONDS, SEED, folder, main, workloads};
