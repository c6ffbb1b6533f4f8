//! Workloads under fire on a cluster, in a network of its own:
//! `cargo test -p kv-consul --test torture_cluster`. Ends with 77 where nobody may make network
//! namespaces.

mod common;

fn main() {
    kv_testsuite::network::enter();
    kv_testsuite::torture::main(common::ensemble::suite, |url| async move { kv_consul::open(&url).await })
}
