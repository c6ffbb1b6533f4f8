//! One conformance suite, run by every backend.

mod case;
pub mod cases;
mod harness;
mod proxy;

pub use case::{Case, Ended, Trial, Verdict};
pub use harness::{Foreign, Harness, Server};
pub use proxy::Proxy;
