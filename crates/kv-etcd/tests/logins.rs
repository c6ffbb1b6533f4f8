//! Tokens that end, and changes that operators make to users while handles are open.

mod common;

use common::users::{
    as_root, ctl, open, opened_at, two_in_line, with_signed_tokens, with_slow_logins, with_users,
};
use kv_core::{ErrorKind, WatchEvent};
use kv_etcd::Config;
use kv_testsuite::{Failure, Proxy, Server, failover::soon, process::run};
use std::{pin::pin, time::Duration};

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
        two_in_line(&node, "l").await?;
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

/// The server looks at no token before it has come again to the moment of the login, which may be
/// never.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_what_was_taken_back_is_not_kept() -> Result<(), Failure> {
    let node = common::single("etcd").await?;
    with_users(&node)?;
    assert!(node.save().await);
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
    node.restore_saved().await;
    soon("a write", async { while kv.put("b", "1").await.is_err() {} }).await?;
    soon("the watch", async {
        while !matches!(watch.event().await?, WatchEvent::Put(put) if put.key.as_str() == "b") {}
        Ok::<_, Failure>(())
    })
    .await?
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

/// Nothing of a write is sent before the login is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_login_is_not_answered_goes_to_another_member() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let node = with_signed_tokens("etcd", folder.path()).await?;
    with_users(&node)?;
    let proxy = Proxy::start(node.address).await;
    let hosts = [proxy.address().to_string(), node.address.to_string()];
    let config = Config::new(hosts).prefix("mine/").user("me", "my-word");
    // A login takes some time on a busy machine.
    let kv = config.open().await?.with_deadline(Duration::from_secs(16));
    kv.put("a", "1").await?;
    // The server says that the token is an old one, and the store logs in again.
    as_root(&node, &["role", "add", "unrelated"])?;
    proxy.hold_answer_to("my-word");
    kv.put("a", "2").await?;
    soon("the login", proxy.trapped()).await
}

/// A program polls some of its calls, and waits for others meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_a_call_that_is_not_polled_holds_back_no_other() -> Result<(), Failure> {
    let node = common::single("etcd").await?;
    with_users(&node)?;
    let kv = open(&node, "me").await?;
    // The first call that wants a leader logs in.
    let mut get = pin!(kv.get("a").into_future());
    assert!(futures::poll!(get.as_mut()).is_pending());
    kv.put("b", "").await?;
    assert_eq!(get.await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_a_call_that_is_not_polled_ends_no_lock() -> Result<(), Failure> {
    const TTL: Duration = Duration::from_secs(12);
    let folder = tempfile::tempdir()?;
    let node = with_signed_tokens("etcd", folder.path()).await?;
    with_users(&node)?;
    let proxy = Proxy::start(node.address).await;
    let kv = opened_at(proxy.address(), "me", "my-word").await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    // The server says that the token is an old one, and the store logs in again.
    as_root(&node, &["role", "add", "unrelated"])?;
    proxy.hold_answer_to("my-word");
    let mut get = pin!(kv.get("a").into_future());
    tokio::select! {
        biased;
        got = get.as_mut() => return Err(format!("its login has no answer: {got:?}").into()),
        login = soon("the login", proxy.trapped()) => login?,
    }
    proxy.heal().await;
    tokio::select! {
        e = guard.lost() => return Err(e.into()),
        () = tokio::time::sleep(2 * TTL) => {}
    }
    assert!(guard.is_held());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_takes_longer_than_its_call_is_of_use_to_the_next() -> Result<(), Failure> {
    let node = with_slow_logins().await?;
    let kv = open(&node, "me").await?.with_deadline(Duration::from_millis(160));
    soon("an answer", async {
        while let Err(e) = kv.get("a").await {
            assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
        }
    })
    .await
}
