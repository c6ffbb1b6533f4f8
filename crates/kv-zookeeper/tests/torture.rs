//! Workloads under fire on ZooKeeper 3.9. `KV_TORTURE_LONG=1 cargo test -p kv-zookeeper --test
//! torture` runs the long form.

mod common;

fn main() {
    kv_testsuite::torture::main(
        || common::fire::suite("zookeeper", "zookeeper-3.9"),
        |url| async move { kv_zookeeper::open(&url).await },
    )
}
