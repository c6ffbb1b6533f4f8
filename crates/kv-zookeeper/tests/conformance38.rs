//! The conformance suite on ZooKeeper 3.8.

mod common;

fn main() {
    kv_testsuite::main(|| common::suite::suite("zookeeper38", "zookeeper-3.8"))
}
