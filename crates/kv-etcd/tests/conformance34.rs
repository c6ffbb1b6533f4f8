//! The conformance suite on etcd 3.4.

mod common;

fn main() {
    common::suite::main("etcd34", "etcd-3.4")
}
