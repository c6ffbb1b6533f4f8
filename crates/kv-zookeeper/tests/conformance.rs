//! The conformance suite on ZooKeeper 3.9, or on the live server that `KV_ZOOKEEPER_URL` names:
//! `cargo test -p kv-zookeeper --test conformance`, with a part of a case's name behind `--` for
//! some of it.

mod common;

kv_testsuite::opens_as_all_do!(kv_zookeeper::Config, kv_zookeeper::ZooKeeper);

fn main() {
    kv_testsuite::main(|| common::suite::suite("zookeeper", "zookeeper-3.9"))
}
