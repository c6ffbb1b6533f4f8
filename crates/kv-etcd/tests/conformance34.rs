//! The conformance suite on etcd 3.4.

mod common;

fn main() {
    if std::env::var_os(common::LIVE).is_some() {
        println!("{} names a live server: it is `conformance` that runs on it", common::LIVE);
        return;
    }
    kv_testsuite::main(|| common::suite::suite("etcd34", "etcd-3.4"))
}
