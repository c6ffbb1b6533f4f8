//! The conformance suite on ZooKeeper 3.8.

mod common;

fn main() {
    common::suite::main("zookeeper38", "zookeeper-3.8")
}
