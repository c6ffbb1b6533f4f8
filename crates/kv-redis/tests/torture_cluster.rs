//! Workloads under fire on a cluster of Redis 7, their keys in one slot.

mod common;

fn main() {
    kv_testsuite::torture::main(
        || common::fire::cluster("redis-cluster", None),
        |url| async move { kv_redis::open(&url).await },
    )
}
