//! Rights that are withdrawn: of locks that are held, and of a part of a tree.

mod common;

use common::{Node, single};
use kv_core::{ErrorKind, Guard, Kv};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;
use zookeeper_client::{Acl, AuthId, Client, Permission};

const LINE: &str = "/rights/.kv/lock/l";
/// The TTL: longer than the whole test takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(45);

/// A server, a store whose locks are tested, and another store that looks at them.
struct Scene {
    node: Node,
    tool: Client,
    kv: Kv,
    observer: Kv,
}

impl Scene {
    async fn begin() -> Result<Self, Failure> {
        let node = single("zookeeper").await?;
        let tool = Client::connect(&node.address.to_string()).await?;
        let url = format!("zookeeper://{}/rights/", node.address);
        let (kv, observer) = (kv_zookeeper::open(&url).await?, kv_zookeeper::open(&url).await?);
        Ok(Self { node, tool, kv, observer })
    }

    async fn lock(&self, name: &str) -> kv_core::Result<Guard> {
        self.kv.new_lock(name).ttl(TTL).acquire().await
    }

    /// Withdraws the right to delete contenders from the queue.
    async fn withdraw(&self) -> Result<(), Failure> {
        self.allow(all_but_delete()).await
    }

    async fn allow(&self, rights: Permission) -> Result<(), Failure> {
        self.allow_at(LINE, rights).await
    }

    async fn allow_at(&self, path: &str, rights: Permission) -> Result<(), Failure> {
        Ok(self.tool.set_acl(path, &[Acl::new(rights, AuthId::anyone())], None).await.map(drop)?)
    }

    async fn is_free(&self) -> Result<(), Failure> {
        soon("nobody in line", async {
            while self.observer.lock_holder("l").await?.is_some() {}
            Ok::<_, Failure>(())
        })
        .await?
    }

    /// Returns the sessions with a contender in this lock's queue; in any queue if no lock is
    /// given.
    async fn owners(&self, lock: Option<&str>) -> Result<Vec<String>, Failure> {
        let sessions = self.node.sessions().await?.into_iter();
        let line = lock.map_or("/rights/".to_owned(), |lock| format!("/rights/.kv/lock/{lock}/"));
        let owns = |nodes: &[String]| nodes.iter().any(|node| node.starts_with(&line));
        Ok(sessions.filter(|(_, nodes)| owns(nodes)).map(|(id, _)| id).collect())
    }

    async fn end(self) -> Result<(), Failure> {
        self.kv.close().await?;
        Ok(self.observer.close().await?)
    }
}

fn all_but_delete() -> Permission {
    Permission::CREATE | Permission::READ | Permission::WRITE | Permission::ADMIN
}

async fn refused(guard: Guard) -> Result<(), Failure> {
    let e = guard.release().await.err().ok_or("it may be deleted")?;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_release_is_refused_goes_with_its_session() -> Result<(), Failure> {
    let scene = Scene::begin().await?;
    for drops in [true, false] {
        let guard = scene.lock("l").await?;
        scene.withdraw().await?;
        match drops {
            true => drop(guard),
            false => refused(guard).await?,
        }
        scene.is_free().await?;
    }
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_release_is_refused_is_gone_when_its_store_is_closed() -> Result<(), Failure> {
    let scene = Scene::begin().await?;
    for is_released in [true, false] {
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/rights/", scene.node.address)).await?;
        let [guard, other] = ["l", "other"].map(|name| kv.new_lock(name).ttl(TTL).acquire());
        let (guard, other) = (guard.await?, other.await?);
        scene.withdraw().await?;
        let left = match is_released {
            true => refused(guard).await.map(|()| None)?,
            false => Some(guard),
        };
        // Closing gives back the locks that are still held, and reports what was refused.
        let closed = kv.close().await.map_err(|e| e.kind());
        let denied = if is_released { Ok(()) } else { Err(ErrorKind::PermissionDenied) };
        assert_eq!(closed, denied, "released before: {is_released}");
        assert_eq!(scene.owners(None).await?, [""; 0], "released before: {is_released}");
        drop((left, other));
    }
    scene.end().await
}

/// Other locks of the same session keep it, and with it the lock that could not be given back,
/// until they are given back or it may be deleted. New locks take another session.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_release_takes_no_other_lock_with_it() -> Result<(), Failure> {
    let scene = Scene::begin().await?;
    let (guard, other) = (scene.lock("l").await?, scene.lock("other").await?);
    let shared = scene.owners(Some("l")).await?;
    assert_eq!(scene.owners(Some("other")).await?, shared, "they share a session");
    scene.withdraw().await?;
    refused(guard).await?;
    let later = scene.lock("later").await?;
    assert_ne!(scene.owners(Some("later")).await?, shared, "it would keep the session as well");
    assert!(other.is_held());
    scene.kv.put("k", "v").fenced(&other).await?;
    assert_eq!(scene.owners(Some("l")).await?, shared);
    assert!(other.release().await?);
    scene.is_free().await?;
    assert!(later.is_held());

    let (guard, other) = (scene.lock("l").await?, scene.lock("other").await?);
    // The server may have deleted the queue meanwhile.
    scene.withdraw().await?;
    refused(guard).await?;
    scene.allow(Permission::ALL).await?;
    scene.is_free().await?;
    assert!(other.is_held() && later.is_held());
    scene.end().await
}

/// A contender that waited on that session would keep alive what it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_on_the_session_of_a_refused_release_takes_another() -> Result<(), Failure> {
    let scene = Scene::begin().await?;
    let guard = scene.lock("l").await?;
    let waits = tokio::spawn(scene.kv.new_lock("l").ttl(TTL).acquire().into_future());
    soon("both in line", async {
        while scene.tool.list_children(LINE).await?.len() < 2 {}
        Ok::<_, Failure>(())
    })
    .await??;
    scene.withdraw().await?;
    let token = guard.token();
    refused(guard).await?;
    let next = soon("the next one", waits).await???;
    assert!(next.is_held() && next.token() > token);
    scene.allow(Permission::ALL).await?;
    assert!(next.release().await?);
    scene.is_free().await?;
    scene.end().await
}

/// The keys beside it are deleted, which the error of one key must not hide.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_which_a_part_may_not_go_is_of_unknown_outcome() -> Result<(), Failure> {
    let scene = Scene::begin().await?;
    // These need several requests, the last one of which has the key that stays.
    let others = (0..300).map(|n| format!("a/c/{n:03}"));
    for key in others.chain(["a/b/stays".to_owned()]) {
        scene.kv.put(key, "v").await?;
    }
    scene.allow_at("/rights/a/b", all_but_delete()).await?;
    let e = scene.kv.delete_tree("a").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    let left = scene.kv.list("").keys().await?;
    assert_eq!(left.iter().map(kv_core::Key::as_str).collect::<Vec<_>>(), ["a/b/stays"]);
    let e = scene.kv.delete_tree("a/b").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    scene.end().await
}
