//! The conformance suite on an emulator, or on the live table that `KV_DYNAMODB_URL` names, AWS's
//! own included: `cargo test -p kv-dynamodb --test conformance`. Behind `--`, a part of a case's
//! name selects the cases to run.
//!
//!     KV_DYNAMODB_URL='dynamodb://my-table/?region=eu-central-1&create=true' cargo test -p kv-dynamodb --test conformance

mod common;

kv_testsuite::opens_as_all_do!(kv_dynamodb::Config, kv_dynamodb::Dynamo);

fn main() {
    kv_testsuite::main(common::suite::suite)
}
