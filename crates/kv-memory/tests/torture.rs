//! Workloads on the store in memory, without a network that could fail:
//! `cargo test -p kv-memory --test torture`.

mod common;

fn main() {
    kv_testsuite::torture::main(common::suite, |url| async move { kv_memory::open(&url).await })
}
