//! The conformance suite under each layer, and under the tower of all. That takes many minutes, so
//! that `ci/long layers` alone runs it, by `--ignored`.

mod common;

use kv_testsuite::towers;

/// The least number of cases that are tried under a layer.
const LEAST: usize = 340;

fn main() {
    let trials = towers::trials("on_consul", &[], LEAST, common::suite::suite);
    towers::main(1, trials)
}
