//! Stores around and inside of one another, and prefixes.

mod common;

use common::single;
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{net::SocketAddr, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn an_outer_store_leaves_the_locks_of_inner_ones_alone() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = &single(kind).await?;
        let open = async |prefix: &str| kv_etcd::open(&format!("etcd://{}/{prefix}", node.address)).await;
        let (outer, inner, deep) = (open("").await?, open("in/").await?, open("in/side/more/").await?);
        let mut seen = outer.watch_tree("").await?;
        assert!(matches!(seen.event().await?, WatchEvent::Synced));
        let guards = [inner.new_lock("l").acquire().await?, deep.new_lock("a/b").acquire().await?];
        let lease = inner.lease(Duration::from_secs(60)).await?;
        for kv in [&outer, &inner, &deep] {
            kv.put("a", "").await?;
            kv.put("b", "").ttl(Duration::from_secs(60)).await?;
            kv.put("c", "").lease(&lease).await?;
        }
        assert_eq!(outer.list("").await?.len(), 9);
        for _ in 0..9 {
            assert!(matches!(seen.event().await?, WatchEvent::Put(e) if !e.key.as_str().contains('\u{1}')));
        }
        assert_eq!(outer.delete_tree("in").await?, Some(6));
        assert_eq!(outer.delete_tree("").await?, Some(3));
        for (kv, guard) in [&inner, &deep].into_iter().zip(&guards) {
            kv.put("late", "").fenced(guard).await?;
            assert!(guard.is_held());
        }
        assert!(inner.new_lock("l").try_acquire().await?.is_none());
        let [one, other] = guards;
        assert!(one.release().await? && other.release().await?);
    }
    Ok(())
}

/// Stores that come to lie in the directory take their first locks one after another while it is
/// being deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_keeps_the_first_lock_that_it_takes_while_the_directory_is_deleted() -> Result<(), Failure> {
    const STORES: usize = 100;
    let within = Duration::from_secs(60);
    for kind in ["etcd", "etcd34"] {
        let node = &single(kind).await?;
        let proxy = Proxy::start(node.address).await;
        let open = async |address: SocketAddr, prefix: &str| {
            kv_etcd::open(&format!("etcd://{address}/{prefix}")).await
        };
        let outer = open(proxy.address(), "").await?.with_deadline(within);
        let (mut tool, id) =
            (etcd_client::Client::connect([node.address.to_string()], None).await?, i64::MAX - 1);
        tool.lease_grant(600, Some(etcd_client::LeaseGrantOptions::new().with_id(id))).await?;
        for key in ["d/a", "d/in0/a", "d/z"] {
            outer.put(key, "").await?;
            let leased = Some(etcd_client::PutOptions::new().with_lease(id));
            tool.put(format!("{key}/of a tool"), "", leased).await?;
        }
        let (mut held, mut deletes) = (Vec::new(), None);
        for n in 0..STORES {
            let inner = open(node.address, &format!("d/in{n}/")).await?;
            let guard = inner.new_lock("l").ttl(within).acquire().await?;
            held.push((inner, guard));
            deletes.get_or_insert_with(|| {
                // The deletion always comes later than the next lock.
                proxy.delay(Duration::from_millis(25));
                tokio::spawn(outer.delete_tree("d").into_future())
            });
        }
        let deletes = deletes.ok_or("it has begun")?;
        assert_eq!(soon("the deletion", deletes).await???, Some(6), "{kind}");
        for (inner, guard) in held {
            inner.put("late", "").fenced(&guard).await?;
            assert!(guard.release().await?);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_a_directory_unless_it_is_given_raw() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let open = async |rest: &str| kv_etcd::open(&format!("etcd://{}/{rest}", node.address)).await;
    let (root, app, slash) = (open("").await?, open("app").await?, open("app/").await?);
    root.put("application/secret", "s").await?;
    app.put("color", "red").await?;
    assert!(root.exists("app/color").await? && slash.exists("color").await?);
    assert_eq!(app.list("").await?.len(), 1);
    assert_eq!(app.delete_tree("").await?, Some(1));
    assert!(root.exists("application/secret").await?);
    let raw = open("?raw_prefix=app").await?;
    assert!(raw.exists("lication/secret").await?);
    let both = open("app?raw_prefix=app").await.unwrap_err();
    assert_eq!(both.kind(), ErrorKind::InvalidArgument);
    assert!(both.to_string().contains("raw_prefix"), "{both}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_contender_is_not_waited_for() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/junk/", node.address)).await?;
    let mut tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    for junk in ["", "x", "0000"] {
        tool.put(format!("junk/\u{1}lock/l\u{1}{junk}"), "", None).await?;
    }
    assert!(kv.lock_holder("l").await?.is_none());
    let mut holder = kv.lock_holder("l").watch().await?;
    assert!(matches!(holder.event().await?, WatchEvent::Synced));
    let guard = soon("the lock", kv.new_lock("l").acquire()).await??;
    assert_eq!(kv.lock_holder("l").await?.map(|holder| holder.token), Some(guard.token()));
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    tool.put("junk/\u{1}lock/l\u{1}zz", "", None).await?;
    let waiting = tokio::spawn(kv.new_lock("l").acquire());
    assert!(guard.release().await?);
    let next = soon("the lock", waiting).await???;
    assert!(next.release().await?);
    let guard = kv.new_lock("l").try_acquire().await?.ok_or("the lock is free")?;
    kv.put("a", "").fenced(&guard).await?;
    Ok(())
}
