//! The conformance suite under the tower of all layers, and with `--ignored` under each layer.

mod common;

use kv_testsuite::towers::{self, Tower};

/// The least number of cases that are tried under a layer.
const LEAST: usize = 340;

fn main() {
    let trials = towers::trials("on_etcd", &[Tower::All], LEAST, || common::suite::suite("etcd", "etcd-3.5"));
    towers::main(1, trials)
}
