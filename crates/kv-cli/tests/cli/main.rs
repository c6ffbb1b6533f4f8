//! The program `kv`, run as users run it: its output to the byte, and its exit codes.

mod about;
mod codes;
mod elections;
mod folders;
#[cfg(feature = "redis")]
mod foreign;
mod http;
mod interrupts;
mod keys;
mod locks;
#[cfg(feature = "redis")]
mod losses;
mod objects;
#[cfg(feature = "redis")]
mod outages;
mod output;
mod permits;
mod program;
mod reapers;
#[cfg(feature = "redis")]
mod redis;
mod renders;
mod runs;
mod status;
mod stores;
mod terminals;
mod transfer;
mod ui;
mod watches;
