//! The conformance suite on Redis 8.

mod common;

fn main() {
    kv_testsuite::main(|| common::suite::suite("redis8", "redis-8"))
}
