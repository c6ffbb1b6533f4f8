//! Data that the store writes and etcd's own tool reads, and the other way round, byte for byte.

mod common;

use common::single;
use kv_testsuite::{Failure, process::run};

const PREFIX: &str = "tools/";

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).chain([0, b'\n', b'\r', 0xff]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_etcdctl_reads() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = single(kind).await?;
        let kv = kv_etcd::open(&format!("etcd://{}/{PREFIX}", node.address)).await?;
        for (key, value) in [("a/b", all_bytes()), ("empty", Vec::new()), ("ключ/🔑 *?#%", b"\n".to_vec())]
        {
            kv.put(key, value.clone()).await?;
            let mut get = node.etcdctl();
            get.args(["get", "--print-value-only", "--", &format!("{PREFIX}{key}")]);
            let mut read = run(get, b"")?;
            assert_eq!(read.pop(), Some(b'\n'), "etcdctl ends what it prints with a line's end");
            assert_eq!(read, value, "{key} on {kind}");
        }
        let mut keys = node.etcdctl();
        keys.args(["get", "--keys-only", "--prefix", "--", ""]);
        let keys = String::from_utf8(run(keys, b"")?)?;
        let keys: Vec<_> = keys.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(keys, ["tools/a/b", "tools/empty", "tools/ключ/🔑 *?#%"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcdctl_wrote_we_read() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = single(kind).await?;
        let kv = kv_etcd::open(&format!("etcd://{}/{PREFIX}", node.address)).await?;
        for (key, value) in [("a/b", all_bytes()), ("c d/🔑", b"plain".to_vec())] {
            let mut put = node.etcdctl();
            put.args(["put", "--", &format!("{PREFIX}{key}")]);
            run(put, &value)?;
            let found = kv.get(key).await?.ok_or("etcdctl put it")?;
            assert_eq!(found.value, value, "{key} on {kind}");
            // A write can depend on its version.
            kv.put(key, "mine").if_version(found.version).await?;
        }
        assert_eq!(kv.list("").await?.len(), 2);
        let mut delete = node.etcdctl();
        delete.args(["del", "--", "tools/a/b"]);
        run(delete, b"")?;
        assert!(!kv.exists("a/b").await?);
    }
    Ok(())
}
