//! Reads and writes by ZooKeeper's own tool, in both directions, byte for byte.

mod common;

use common::single;
use kv_testsuite::{Failure, process::run};
use zookeeper_client::{Acls, Client, CreateMode};

const KINDS: [&str; 2] = ["zookeeper", "zookeeper38"];

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).chain([0, b'\n', b'\r', 0xff]).collect()
}

/// Writes bytes in base 64, as `zkCli` prints them.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            out.push(if n <= three.len() {
                DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char
            } else {
                '='
            });
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_zkcli_reads() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/tools/", node.address)).await?;
        for (key, path, value) in [
            ("a/b", "/tools/a/b", all_bytes()),
            ("ключ", "/tools/ключ", b"plain".to_vec()),
            ("a b", "/tools/a b", b"x".to_vec()),
            ("🔑 %", "/tools/%F0%9F%94%91 %", b"key".to_vec()),
        ] {
            kv.put(key, value.clone()).await?;
            let mut get = node.zkcli();
            if kind == "zookeeper" {
                get.args(["get", "-b", path]); // 3.8 prints text alone
            } else {
                get.args(["get", path]);
            }
            let printed = String::from_utf8_lossy(&run(get, b"")?).into_owned();
            let expected = match (kind, std::str::from_utf8(&value)) {
                ("zookeeper", _) => base64(&value),
                (_, Ok(text)) => text.to_owned(),
                _ => String::new(),
            };
            // The output of anything but ASCII depends on the locale of the tool.
            assert!(!path.is_ascii() || printed.contains(&expected), "{key} on {kind}: {printed}");
            // The bytes themselves are equal in any case.
            let found = Client::connect(&node.address.to_string()).await?.get_data(path).await?.0;
            assert_eq!(found, value, "{key} on {kind}");
        }
        let mut get = node.zkcli();
        get.args(["ls", "-R", "/tools/a"]);
        let printed = String::from_utf8_lossy(&run(get, b"")?).into_owned();
        assert!(printed.lines().any(|line| line == "/tools/a/b"), "{printed}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_zkcli_wrote_we_read() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let ctl = |arguments: &[&str]| {
            let mut command = node.zkcli();
            command.args(arguments);
            run(command, b"")
        };
        ctl(&["create", "/tools", ""])?;
        ctl(&["create", "/tools/a", "theirs"])?;
        ctl(&["create", "/tools/a/b%20c", "below"])?;
        let client = Client::connect(&node.address.to_string()).await?;
        client
            .create("/tools/raw", &all_bytes(), &CreateMode::Persistent.with_acls(Acls::anyone_all()))
            .await?;
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/tools/", node.address)).await?;
        for (key, value) in [("a", b"theirs".to_vec()), ("a/b%20c", b"below".to_vec()), ("raw", all_bytes())]
        {
            let found = kv.get(key).await?.ok_or("it was created")?;
            assert_eq!(found.value, value, "{key} on {kind}");
            // Its version can be written on.
            kv.put(key, "mine").if_version(found.version).await?;
        }
        assert_eq!(kv.list("").await?.len(), 3);
        ctl(&["set", "/tools/raw", "again"])?;
        assert_eq!(kv.get("raw").await?.ok_or("it is there")?.text(), Some("again"));
        ctl(&["delete", "/tools/raw"])?;
        assert!(!kv.exists("raw").await?);
    }
    Ok(())
}

/// Nodes of others in a lock's queue hold nothing and keep nobody out, and our nodes are not taken
/// for theirs.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_others_in_a_line_are_nobody() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let url = format!("zookeeper://{}/junk/", node.address);
        let (kv, other) = (kv_zookeeper::open(&url).await?, kv_zookeeper::open(&url).await?);
        let create = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let tool = Client::connect(&node.address.to_string()).await?;
        let junk = ["x", "x-1", "-1", "0", "lock-0000000000", ".kv", "x--2147483648", "é-0000000001"];
        // A node named like ours that belongs to no session: a tree that was copied node by node
        // has such nodes.
        let copied = "0123456789abcdef0123456789abcdef-0000000000";
        kv.put("k", "v").await?;
        tool.mkdir("/junk/.kv/lock/l", &create).await?;
        for name in junk.into_iter().chain([copied]) {
            tool.create(&format!("/junk/.kv/lock/l/{name}"), b"junk", &create).await?;
        }
        assert!(kv.lock_holder("l").await?.is_none());
        let mut holder = kv.lock_holder("l").watch().await?;
        assert_eq!(holder.event().await?, kv_core::WatchEvent::Synced);
        let guard = kv.new_lock("l").value("me").try_acquire().await?.ok_or("nobody holds it")?;
        assert_eq!(kv.lock_holder("l").await?.ok_or("it is held")?.token, guard.token());
        for name in ["a-0000000000", "zz-9999999999"] {
            tool.create(&format!("/junk/.kv/lock/l/{name}"), b"junk", &create).await?;
        }
        assert!(other.new_lock("l").try_acquire().await?.is_none());
        kv.put("k", "fenced").fenced(&guard).await?;
        let waiting = tokio::spawn(other.new_lock("l").acquire());
        let token = guard.token();
        assert!(guard.release().await?);
        let next = waiting.await??;
        assert!(next.token() > token && next.release().await?);
        kv.close().await?;
        other.close().await?;
    }
    Ok(())
}

/// A queue whose numbers are used up: the server gives the greatest one again and again, and the
/// least ones to contenders that come at the same time. The zxids of the nodes' creations tell
/// their order.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_whose_numbers_are_used_up_keeps_its_order() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/worn/", node.address)).await?;
    let (persistent, ephemeral) = (CreateMode::Persistent, CreateMode::Ephemeral);
    let tool = Client::connect(&node.address.to_string()).await?;
    kv.put("k", "v").await?;
    let line = "/worn/.kv/lock/l";
    tool.create(line, b"", &persistent.with_acls(Acls::anyone_all())).await?;
    let others = [("c", "-2147483648"), ("f", "2147483647"), ("a", "2147483647"), ("e", "-2147483647")];
    let others = others.map(|(id, number)| format!("{line}/{}-{number}", id.repeat(32)));
    for path in &others {
        tool.create(path, path.as_bytes(), &ephemeral.with_acls(Acls::anyone_all())).await?;
    }
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    let mut waiting = tokio::spawn(kv.new_lock("l").acquire());
    for path in &others {
        assert_eq!(kv.lock_holder("l").await?.ok_or("it is held")?.value, path.as_bytes());
        let mut watch = kv.lock_holder("l").watch().await?;
        let kv_core::WatchEvent::Put(told) = watch.event().await? else { return Err("it is held".into()) };
        assert_eq!(told.value, path.as_bytes());
        assert!(!waiting.is_finished());
        tool.delete(path, None).await?;
    }
    let guard = tokio::time::timeout(std::time::Duration::from_secs(20), &mut waiting).await???;
    assert_eq!(kv.lock_holder("l").await?.ok_or("it is held")?.token, guard.token());
    assert!(guard.release().await?);
    Ok(kv.close().await?)
}
