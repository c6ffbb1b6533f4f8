//! The conformance suite on Valkey 8.

mod common;

fn main() {
    common::suite::main("valkey", "valkey-8")
}
