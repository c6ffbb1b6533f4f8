//! The conformance suite on a cluster of Redis 7, its keys in one slot.

mod common;

fn main() {
    common::suite::cluster("redis-cluster", None)
}
