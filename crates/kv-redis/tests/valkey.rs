//! The conformance suite on Valkey 8.

mod common;

fn main() {
    kv_testsuite::main(|| common::suite::suite("valkey", "valkey-8"))
}
