//! Workloads under fire on the emulator of DynamoDB.
//! `KV_TORTURE_LONG=1 cargo test -p kv-dynamodb --test torture` runs the long form.

mod common;

fn main() {
    kv_testsuite::torture::main(common::suite::suite, |url| async move { kv_dynamodb::open(&url).await })
}
