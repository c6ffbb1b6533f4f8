//! The program `kv`, run as users run it: its output to the byte, and its exit codes.

mod about;
mod keys;
mod locks;
mod output;
mod permits;
mod program;
mod renders;
mod runs;
mod stores;
mod transfer;
mod watches;
