//! Both ways with the servers' own tool, byte for byte.

mod common;

use common::{Reply, single};
use kv_core::{Capabilities, ForeignKeys};
use kv_testsuite::{Failure, process::run};

const KINDS: [&str; 3] = ["redis", "redis8", "valkey"];

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).chain([0, b'\n', b'\r', 0xff]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_redis_cli_reads() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
        for (key, value) in [("a/b", all_bytes()), ("empty", Vec::new()), ("ключ/🔑 *?#%", b"\n".to_vec())]
        {
            kv.put(key, value.clone()).await?;
            let mut get = node.cli();
            get.args(["--raw", "get", &format!("tools/{key}")]);
            let mut read = run(get, b"")?;
            assert_eq!(read.pop(), Some(b'\n'), "redis-cli ends what it prints with a line's end");
            assert_eq!(read, value, "{key} on {kind}");
        }
        let mut ttl = node.cli();
        ttl.args(["pttl", "tools/a/b"]);
        assert_eq!(run(ttl, b"")?, b"-1\n");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_cli_wrote_we_read() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
        let capabilities: &Capabilities = kv.capabilities();
        assert_eq!(capabilities.foreign_keys, ForeignKeys::AfterAdoption);
        for (key, value) in [("a/b", all_bytes()), ("c d/🔑", b"plain".to_vec())] {
            let mut set = node.cli();
            set.args(["-x", "set", &format!("tools/{key}")]);
            run(set, &value)?;
            let found = kv.get(key).await?.ok_or("redis-cli set it")?;
            assert_eq!(found.value, value, "{key} on {kind}");
        }
        // What one has to do to list it.
        assert_eq!(kv.adopt("").await?, 2);
        assert_eq!(kv.list("").await?.len(), 2);
        let found = kv.get("a/b").await?.ok_or("it is there")?;
        let mut again = node.cli();
        again.args(["set", "tools/a/b", "changed"]);
        run(again, b"")?;
        let refused = kv.put("a/b", "mine").if_version(found.version).await;
        assert!(refused.unwrap_err().is_conflict(), "what redis-cli changed has another version");
        let found = kv.get("a/b").await?.ok_or("it is there")?;
        kv.put("a/b", "mine").if_version(found.version).await?;
        let mut delete = node.cli();
        delete.args(["del", "tools/a/b"]);
        run(delete, b"")?;
        assert!(!kv.exists("a/b").await?);
        assert_eq!(kv.list("").await?.len(), 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_another_type_is_left_alone() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
    let mut resp = node.resp().await?;
    resp.say("RPUSH tools/list 1 2").await?;
    let e = kv.put("list", "mine").await.unwrap_err();
    assert!(e.to_string().contains("list") && e.to_string().contains("tools/list"), "{e}");
    assert!(kv.transact().then(kv.put("a", "")).then(kv.put("list", "")).await.is_err());
    assert!(!kv.exists("a").await?, "all or nothing");
    assert!(!kv.delete("list").await?);
    assert_eq!(resp.say("LLEN tools/list").await?, Reply::Number(2));
    Ok(())
}
