//! The conformance suite on a cluster of Redis 7, its keys spread over eight slots.

mod common;

fn main() {
    kv_testsuite::main(|| common::suite::cluster("redis-spread", Some(8)))
}
