//! The conformance suite, which every backend runs.
//!
//! A backend gives a [`Harness`], and its whole `tests/conformance.rs` is:
//!
//! ```no_run
//! use kv_core::{Kv, driver::async_trait};
//! use kv_testsuite::Harness;
//! # mod kv_mine {
//! #     pub async fn open(_: &str) -> kv_core::Result<kv_core::Kv> { unreachable!() }
//! # }
//!
//! struct Mine {
//!     port: u16,
//! }
//!
//! #[async_trait]
//! impl Harness for Mine {
//!     fn name(&self) -> String {
//!         "mine".into()
//!     }
//!     async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
//!         kv_mine::open(&format!("mine://127.0.0.1:{}/{prefix}", self.port)).await
//!     }
//! }
//!
//! fn main() {
//!     // Here the server is started, on a free port; it ends when the harness is dropped.
//!     kv_testsuite::main(|| async { Ok(Mine { port: 7000 }) })
//! }
//! ```
//!
//! with this in its `Cargo.toml`:
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! Each promise of the contract is a [`Case`], whose name begins with the clause's. `cargo test`
//! runs them all, each on its own line; a case that the backend's
//! [`Capabilities`](kv_core::Capabilities) rule out is shown as ignored, with the reason, after
//! the refused call was seen to answer `Unsupported`. A case that needs a look into the server
//! beyond the library asks the harness for a hook, and is ignored without it.
//!
//! Beside the suite the crate has what the tests of a network backend need: [`process`] and
//! [`own`] for servers of their own, [`places`] and [`network`] for members on ports or hosts of
//! their own, [`Base`] for a live server, [`Proxy`] for the troubles of a link, [`ensemble`] for a
//! cluster under fire, [`Mirror`] for what a watch tells. Some tests are the same on several
//! servers, of which they take more than a harness gives: [`cluster`], [`partition`] and
//! [`failover`], [`opening`], [`tls`], [`rights`], [`repeat`], [`requests`], [`crowds`] and
//! [`leavings`]. The layers of `kv-layers` are tried on each backend by [`towers`].

mod another;
mod base;
mod case;
pub mod cases;
mod certificates;
pub mod check;
pub mod cluster;
pub mod crowds;
pub mod ensemble;
pub mod failover;
mod harness;
mod lateness;
pub mod leavings;
pub mod matrix;
mod mirror;
mod model;
pub mod network;
pub mod opening;
pub mod own;
pub mod partition;
pub mod places;
pub mod process;
mod program;
mod proxy;
pub mod repeat;
pub mod requests;
pub mod rights;
mod run;
mod server;
mod sites;
pub mod tls;
pub mod torture;
pub mod towers;
mod wait;

pub use base::Base;
pub use case::{Case, Ended, Trial, Verdict};
pub use certificates::{Certificates, Rotation};
pub use check::Failure;
pub use harness::{Foreign, Full, Harness, Server, Troubles};
pub use kv_servers::certificates::make_signing_keys;
pub use mirror::Mirror;
pub use own::OwnServer;
pub use program::main;
pub use proxy::{Proxy, Traffic};
pub use run::{Options, Outcome, Report, run};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
