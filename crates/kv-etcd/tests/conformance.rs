//! The conformance suite on etcd 3.5, or on the live server that `KV_ETCD_URL` names:
//! `cargo test -p kv-etcd --test conformance`, with a part of a case's name behind `--` for some
//! of it.

mod common;

kv_testsuite::opens_as_all_do!(kv_etcd::Config, kv_etcd::Etcd);

fn main() {
    kv_testsuite::main(|| common::suite::suite("etcd", "etcd-3.5"))
}
