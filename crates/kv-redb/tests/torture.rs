//! Workloads on a file, without a network that could fail: `cargo test -p kv-redb --test torture`.

mod common;

fn main() {
    kv_testsuite::torture::main(common::suite, |url| async move { kv_redb::open(&url).await })
}
