//! The conformance suite on Consul, or on the live server that `KV_CONSUL_URL` names:
//! `cargo test -p kv-consul --test conformance`, with a part of a case's name behind `--` for some
//! of it.

mod common;

kv_testsuite::opens_as_all_do!(kv_consul::Config, kv_consul::Consul);

fn main() {
    kv_testsuite::main(common::suite::suite)
}
