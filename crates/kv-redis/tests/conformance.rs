//! The conformance suite on Redis 7, or on the live server that `KV_REDIS_URL` names: `cargo test -p kv-redis --test
//! conformance`, with a part of a case's name behind `--` for some of it.

mod common;

fn main() {
    kv_testsuite::main(|| common::suite::suite("redis", "redis-7"))
}
