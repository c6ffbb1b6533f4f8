//! Workloads under fire on Consul. `KV_TORTURE_LONG=1 cargo test -p kv-consul --test torture` runs
//! the long form.

mod common;

fn main() {
    kv_testsuite::torture::main(common::fire::suite, |url| async move { kv_consul::open(&url).await })
}
