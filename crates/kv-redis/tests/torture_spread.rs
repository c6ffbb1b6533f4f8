//! Workloads under fire on a cluster of Redis 7, their keys spread over eight slots.

mod common;

fn main() {
    kv_testsuite::torture::main(
        || common::fire::cluster("redis-spread", Some(8)),
        |url| async move { kv_redis::open(&url).await },
    )
}
