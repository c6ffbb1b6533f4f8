//! Data that the store writes and Consul's own tool reads, and the other way round, byte for byte.

mod common;

use common::single;
use futures::TryStreamExt;
use kv_core::{Directory, WatchEvent};
use kv_testsuite::{Failure, process::run};

const PREFIX: &str = "tools/";

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).chain([0, b'\n', b'\r', 0xff]).collect()
}

/// Holds every character that a key may hold and a path, or a query, or a pattern, may not.
const ODD: &str = "ключ/🔑 *?#%25&=+;,:@!$'()[]{}|\\^`\"<>~/x\u{a0}x\u{200b}y/é.é/...";

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_consul_reads() -> Result<(), Failure> {
    let node = single().await?;
    let kv = kv_consul::open(&format!("consul://{}/{PREFIX}", node.address)).await?;
    // The tool itself spells no character that the server holds for unprintable.
    let spelt: String = ODD.chars().filter(|c| !matches!(c, '\u{a0}' | '\u{200b}')).collect();
    for (key, value) in [("a/b", all_bytes()), ("empty", Vec::new()), (&*spelt, b"\n".to_vec())] {
        kv.put(key, value.clone()).await?;
        let mut get = node.consul();
        get.args(["kv", "get", "-base64", &format!("{PREFIX}{key}")]);
        let read = String::from_utf8(run(get, b"")?)?;
        assert_eq!(read.trim_end(), common::base64(&value), "{key}");
    }
    kv.put(ODD, "odd").await?;
    // A name that the server takes in no path is listed, watched and locked all the same.
    let odd = Directory::parse("ключ")?;
    assert_eq!(kv.list(odd).await?.len(), 2);
    let mut watch = kv.watch(ODD).await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(entry) if entry.text() == Some("odd")));
    let guard = kv.new_lock(ODD).acquire().await?;
    let next = tokio::spawn(kv.new_lock(ODD).acquire().into_future());
    while common::names(node.address, "tools/.kv/lock/").await?.len() < 2 {}
    guard.release().await?;
    next.await??.release().await?;
    let mut keys = node.consul();
    keys.args(["kv", "get", "-keys", "-separator=", ""]);
    let keys = String::from_utf8(run(keys, b"")?)?;
    let keys: Vec<_> = keys.lines().collect();
    let mut expected = ["a/b", "empty", &*spelt, ODD].map(|key| format!("{PREFIX}{key}"));
    expected.sort();
    assert_eq!(keys, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_consul_wrote_we_read() -> Result<(), Failure> {
    let node = single().await?;
    let kv = kv_consul::open(&format!("consul://{}/{PREFIX}", node.address)).await?;
    for (key, value) in [("a/b", all_bytes()), ("c d/🔑?", b"plain".to_vec())] {
        let mut put = node.consul();
        put.args(["kv", "put", "-base64", &format!("{PREFIX}{key}"), &common::base64(&value)]);
        run(put, b"")?;
        let found = kv.get(key).await?.ok_or("consul put it")?;
        assert_eq!(found.value, value, "{key}");
        assert!(kv.exists(key).await?);
        // A write can depend on its version.
        kv.put(key, "mine").if_version(found.version).await?;
    }
    assert_eq!(kv.list("").await?.len(), 2);
    let mut delete = node.consul();
    delete.args(["kv", "delete", "tools/a/b"]);
    run(delete, b"")?;
    assert!(!kv.exists("a/b").await?);
    Ok(())
}

/// A folder that the server's own pages make is no key, and a lock of its tool is data.
#[tokio::test(flavor = "multi_thread")]
async fn folders_and_locks_of_consul() -> Result<(), Failure> {
    let node = single().await?;
    let kv = kv_consul::open(&format!("consul://{}/{PREFIX}", node.address)).await?;
    common::http(node.address, "PUT /v1/kv/tools/folder/", b"").await?;
    assert_eq!(kv.list("").children().try_collect::<Vec<_>>().await?, []);
    assert_eq!(kv.list("").await?, []);

    // Another tool's session holds the key; ours replaces it all the same, with a TTL that counts.
    let session =
        common::http(node.address, "PUT /v1/session/create", br#"{"Behavior":"release","NodeChecks":[]}"#);
    let session = session.await?.json()?;
    let id = session["ID"].as_str().ok_or("a session")?;
    let took = common::http(node.address, &format!("PUT /v1/kv/tools/held?acquire={id}"), b"theirs").await?;
    assert_eq!(took.body, b"true");
    let ttl = std::time::Duration::from_secs(5);
    let written = kv.put("held", "ours").ttl(ttl).await?;
    let ends = std::time::Instant::now() + ttl + kv.capabilities().lateness(ttl);
    assert_eq!(kv.get("held").await?.map(|entry| entry.version), Some(written.version));
    loop {
        let asked = std::time::Instant::now();
        if !kv.exists("held").await? {
            break;
        }
        assert!(asked < ends, "the TTL of a key that another tool made");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The delay behind that tool's lock is the server's: the put is clearly refused, and nothing
    // is written.
    let took = common::http(node.address, &format!("PUT /v1/kv/tools/held?acquire={id}"), b"theirs").await?;
    assert_eq!(took.body, b"true");
    common::http(node.address, &format!("PUT /v1/session/destroy/{id}"), b"").await?;
    let refused = kv.put("held", "ours").ttl(ttl).await.unwrap_err();
    assert_eq!(refused.kind(), kv_core::ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("lock delay"), "{refused}");
    assert_eq!(kv.get("held").await?.ok_or("it is there")?.text(), Some("theirs"));
    kv.put("held", "for ever").await?;
    Ok(())
}
