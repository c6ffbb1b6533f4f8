//! The conformance suite on a cluster of Redis 7, its keys in one slot.

mod common;

fn main() {
    kv_testsuite::main(|| common::suite::cluster("redis-cluster", None))
}
