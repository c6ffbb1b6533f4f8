//! Tokens that end, and what operators change of users while handles are open.

mod common;

use common::{Node, Setup, nodes};
use kv_core::{ErrorKind, Kv, WatchEvent};
use kv_etcd::Config;
use kv_testsuite::{Failure, failover::soon, make_signing_keys, process::run};
use std::{path::Path, time::Duration};

/// A server whose tokens are signed, and hold the state of users and roles at the time.
async fn with_signed_tokens(kind: &str, folder: &Path) -> Result<Node, Failure> {
    make_signing_keys(folder, "jwt")?;
    let (key, public) = (folder.join("jwt.key"), folder.join("jwt.pub"));
    let token = format!(
        "--auth-token=jwt,pub-key={},priv-key={},sign-method=RS256,ttl=10m",
        public.display(),
        key.display()
    );
    let node = nodes(&Setup { more: vec![token], ..Setup::single(kind) }, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

fn ctl(node: &Node, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = node.etcdctl();
    command.args(arguments);
    run(command, b"").map(drop)
}

fn as_root(node: &Node, arguments: &[&str]) -> Result<(), Failure> {
    told_as_root(node, arguments).map(drop)
}

fn told_as_root(node: &Node, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = node.etcdctl();
    command.arg("--user=root:root-word").args(arguments);
    Ok(String::from_utf8(run(command, b"")?)?)
}

/// Switches authentication on, with `me`, who may touch what lies below `mine/`, and `reader`, who may read it.
fn with_users(node: &Node) -> Result<(), Failure> {
    ctl(node, &["user", "add", "root:root-word"])?;
    ctl(node, &["role", "add", "root"])?;
    ctl(node, &["user", "grant-role", "root", "root"])?;
    for (user, rights) in [("me", "readwrite"), ("reader", "read")] {
        ctl(node, &["user", "add", &format!("{user}:my-word")])?;
        ctl(node, &["role", "add", user])?;
        ctl(node, &["role", "grant-permission", user, rights, "--prefix=true", "mine/"])?;
        ctl(node, &["user", "grant-role", user, user])?;
    }
    ctl(node, &["auth", "enable"])
}

async fn open(node: &Node, user: &str) -> Result<Kv, Failure> {
    let config = Config::new([node.address.to_string()]).prefix("mine/").user(user, "my-word");
    Ok(config.open().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_roles_is_survived() -> Result<(), Failure> {
    for (kind, signed) in [("etcd", true), ("etcd34", true), ("etcd", false)] {
        let folder = tempfile::tempdir()?;
        let node = match signed {
            true => with_signed_tokens(kind, folder.path()).await?,
            false => common::single(kind).await?,
        };
        with_users(&node)?;
        let kv = open(&node, "me").await?;
        let mut before = kv.watch_tree("d").await?;
        before.event().await?;
        let (guard, lease) = (kv.new_lock("l").acquire().await?, kv.lease(Duration::from_secs(60)).await?);
        let waiting = tokio::spawn(kv.new_lock("l").acquire());
        soon("the other to be in line", async {
            let line = ["get", "--prefix", "--keys-only", "mine/\u{1}lock/l\u{1}"];
            while told_as_root(&node, &line)?.lines().filter(|name| !name.is_empty()).count() < 2 {
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        })
        .await??;
        kv.put("a", "1").await?;
        for change in 0..3 {
            match change {
                0 => as_root(&node, &["role", "add", "unrelated"])?,
                1 => {
                    as_root(&node, &["user", "revoke-role", "me", "me"])?;
                    as_root(&node, &["user", "grant-role", "me", "me"])?;
                }
                _ => as_root(&node, &["role", "grant-permission", "unrelated", "read", "b"])?,
            }
            kv.put("a", "2").fenced(&guard).await?;
            as_root(&node, &["role", "add", &format!("for-get{change}")])?;
            kv.get("a").await?;
            as_root(&node, &["role", "add", &format!("for-stale{change}")])?;
            kv.get("a").stale().await?;
            as_root(&node, &["role", "add", &format!("for-list{change}")])?;
            kv.list("").await?;
            as_root(&node, &["role", "add", &format!("for-ttl{change}")])?;
            kv.put("ttl", "").ttl(Duration::from_secs(60)).await?;
            as_root(&node, &["role", "add", &format!("for-watch{change}")])?;
            let mut watch = kv.watch_tree("d").await?;
            soon("a new watch", async {
                while !matches!(watch.event().await?, WatchEvent::Synced) {}
                Ok::<_, Failure>(())
            })
            .await??;
            kv.put("d/a", change.to_string()).await?;
            assert!(matches!(soon("the old watch", before.event()).await??, WatchEvent::Put(_)));
        }
        as_root(&node, &["role", "add", "for-release"])?;
        assert!(guard.is_held() && lease.is_held());
        assert!(guard.release().await?);
        let next = soon("who waited", waiting).await???;
        as_root(&node, &["role", "add", "for-revoke"])?;
        assert!(lease.revoke().await?);
        as_root(&node, &["role", "add", "for-release-again"])?;
        assert!(next.release().await?);
        as_root(&node, &["role", "add", "for-close"])?;
        kv.close().await?;
    }
    Ok(())
}

/// The server waits for the moment of the log-in to come again, which may be never, before it looks at a token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_what_was_taken_back_is_not_kept() -> Result<(), Failure> {
    let node = common::single("etcd").await?;
    with_users(&node)?;
    node.save().await?;
    let before = open(&node, "me").await?;
    for n in 0..200 {
        before.put("a", n.to_string()).await?;
    }
    before.close().await?;
    let kv = open(&node, "me").await?;
    let mut watch = kv.watch_tree("").await?;
    for _ in ["Put", "Synced"] {
        watch.event().await?;
    }
    node.restore_saved().await?;
    soon("a write", async { while kv.put("b", "1").await.is_err() {} }).await?;
    soon("the watch", async {
        while !matches!(watch.event().await?, WatchEvent::Put(put) if put.key.as_str() == "b") {}
        Ok::<_, Failure>(())
    })
    .await?
}

/// What may not be given back is there until its TTL is over, and whoever closes is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_tells_what_it_may_not_give_back() -> Result<(), Failure> {
    let node = common::single("etcd").await?;
    with_users(&node)?;
    let (kv, reader) = (open(&node, "me").await?, open(&node, "reader").await?);
    let guard = kv.new_lock("l").ttl(Duration::from_secs(60)).acquire().await?;
    as_root(&node, &["role", "grant-permission", "me", "read", "--prefix=true", "mine/"])?;
    assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let told = kv.close().await;
    assert!(reader.lock_holder("l").await?.is_some());
    assert_eq!(told.unwrap_err().kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_changed_and_given_back() -> Result<(), Failure> {
    for signed in [false, true] {
        let folder = tempfile::tempdir()?;
        let node = match signed {
            true => with_signed_tokens("etcd", folder.path()).await?,
            false => common::single("etcd").await?,
        };
        with_users(&node)?;
        let kv = open(&node, "me").await?;
        let mut watch = kv.watch_tree("").await?;
        watch.event().await?;
        let passwd = |word: &str| {
            let mut command = node.etcdctl();
            command.args(["--user=root:root-word", "user", "passwd", "me", "--interactive=false"]);
            run(command, format!("{word}\n").as_bytes()).map(drop)
        };
        kv.put("a", "1").await?;
        passwd("another")?;
        let refused = kv.put("a", "2").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused}");
        passwd("my-word")?;
        kv.put("a", "3").await?;
        soon("the watch", async {
            loop {
                if let WatchEvent::Put(e) = watch.event().await?
                    && e.text() == Some("3")
                {
                    return Ok::<_, Failure>(());
                }
            }
        })
        .await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_is_switched_off_and_on() -> Result<(), Failure> {
    let node = common::single("etcd").await?;
    with_users(&node)?;
    let kv = open(&node, "me").await?;
    let mut watch = kv.watch_tree("").await?;
    watch.event().await?;
    as_root(&node, &["auth", "disable"])?;
    kv.put("a", "1").await?;
    node.daemon.kill();
    node.start().await?;
    soon("a write without authentication", async { while kv.put("a", "2").await.is_err() {} }).await?;
    assert_eq!(kv.get("a").await?.and_then(|e| e.text().map(str::to_owned)).as_deref(), Some("2"));
    ctl(&node, &["auth", "enable"])?;
    kv.put("a", "3").await?;
    soon("the watch", async {
        loop {
            if let WatchEvent::Put(e) = watch.event().await?
                && e.text() == Some("3")
            {
                return Ok::<_, Failure>(());
            }
        }
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_can_open() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = common::single(kind).await?;
        with_users(&node)?;
        open(&node, "me").await?.put("a", "1").await?;
        let kv = open(&node, "reader").await?;
        assert!(kv.exists("a").await?);
        assert_eq!(kv.list("").await?.len(), 1);
        let mut watch = kv.watch_tree("").await?;
        watch.event().await?;
        assert_eq!(kv.put("a", "2").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(kv.new_lock("l").acquire().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    Ok(())
}
