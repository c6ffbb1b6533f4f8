//! Workloads under fire on Redis 7. `KV_TORTURE_LONG=1 cargo test -p kv-redis --test torture` runs
//! the long form.

mod common;

fn main() {
    kv_testsuite::torture::main(
        || common::fire::single("redis", "redis-7"),
        |url| async move { kv_redis::open(&url).await },
    )
}
