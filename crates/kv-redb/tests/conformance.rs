//! The conformance suite on this backend: `cargo test -p kv-redb --test conformance`. Behind `--`,
//! a part of a case's name selects the cases to run.

mod common;

kv_testsuite::opens_as_all_do!(kv_redb::Config, kv_redb::Redb);

fn main() {
    kv_testsuite::main(common::suite)
}
