//! The conformance suite on Redis 7, or on the live server that `KV_REDIS_URL` names: `cargo test
//! -p kv-redis --test conformance`, with a part of a case's name behind `--` for some of it.

mod common;

kv_testsuite::opens_as_all_do!(kv_redis::Config, kv_redis::Redis);

fn main() {
    kv_testsuite::main(|| common::suite::suite("redis", "redis-7"))
}
