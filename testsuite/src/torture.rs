//! Workloads under fire: clients work while servers and links fail, and what they saw is checked.
//!
//! A backend gives its harness, and its whole `tests/torture.rs` is as that of the suite, with [`main`] in place of the
//! suite's. Everything that chance decides comes from one seed, which is printed; the moments at which calls meet strokes
//! are the machine's, so that a seed finds again what it found often, not always.

pub mod bank;
mod chance;
pub mod expiry;
pub mod field;
pub mod leaks;
pub mod linear;
pub mod locks;
pub mod model;
pub mod nemesis;
mod patience;
mod picture;
mod program;
pub mod registers;
pub mod round;
pub mod tally;
pub mod watches;

pub use chance::Chance;
pub use program::{LONG, ONLY, SECONDS, SEED, folder, main, workloads};
