//! The conformance suite on Redis 8.

mod common;

fn main() {
    common::suite::main("redis8", "redis-8")
}
