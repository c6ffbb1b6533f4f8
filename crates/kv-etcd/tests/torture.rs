//! Workloads under fire on etcd 3.5, with users and a quota, or on the live server that
//! `KV_ETCD_URL` names. `KV_TORTURE_LONG=1 cargo test -p kv-etcd --test torture` runs the long
//! form.

mod common;

fn main() {
    let open = |url: String| async move { kv_etcd::open(&url).await };
    if std::env::var_os(common::LIVE).is_some() {
        kv_testsuite::torture::main(|| common::suite::suite("etcd", "etcd-3.5"), open)
    }
    kv_testsuite::torture::main(|| common::fire::Fire::start("etcd"), open)
}
