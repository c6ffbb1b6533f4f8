//! Workloads under fire on etcd 3.5. `KV_TORTURE_LONG=1 cargo test -p kv-etcd --test torture` runs the long form.

mod common;

fn main() {
    kv_testsuite::torture::main(
        || common::suite::suite("etcd", "etcd-3.5"),
        |url| async move { kv_etcd::open(&url).await },
    )
}
