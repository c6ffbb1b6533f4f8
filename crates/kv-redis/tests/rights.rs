//! Rights that are withdrawn from the user of an open store, command by command.

mod common;

use common::{Node, Reply, Resp, change, single};
use kv_core::{ErrorKind, Kv, WatchEvent, driver::async_trait};
use kv_testsuite::{
    Failure, Mirror,
    failover::soon,
    rights::{self, Rights},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

/// Returns every command that a script of ours calls.
fn commands() -> Result<BTreeSet<String>, Failure> {
    let mut commands = BTreeSet::new();
    for script in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lua"))? {
        let script = std::fs::read_to_string(script?.path())?;
        for call in ["call('", "pcall_server('"] {
            commands.extend(
                script.split(call).skip(1).filter_map(|rest| Some(rest.split_once('\'')?.0.to_owned())),
            );
        }
    }
    assert!(commands.len() > 30 && commands.contains("SPUBLISH"), "{commands:?}");
    Ok(commands)
}

/// Returns everything on the server, except for the numbers given: one more of them changes
/// nothing. Hashes and sets are taken by their members, which the server dumps in an order that may change.
async fn all(resp: &mut Resp) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for name in resp.say("KEYS *").await?.list() {
        let name = name.text();
        if name.ends_with(".kv/clock") {
            continue;
        }
        let (command, parts): (&[u8], _) = match &*resp.ask(&[b"TYPE", name.as_bytes()]).await?.text() {
            "none" => continue, // it has ended since it was listed
            "hash" => (b"HGETALL", 2),
            "set" => (b"SMEMBERS", 1),
            _ => (b"DUMP", 1),
        };
        let content = match resp.ask(&[command, name.as_bytes()]).await? {
            Reply::List(list) => {
                let members: BTreeSet<_> = list.chunks(parts).map(|member| format!("{member:?}")).collect();
                format!("{members:?}")
            }
            Reply::Nothing => continue, // or since its type was asked for
            dump => format!("{dump:?}"),
        };
        all.insert(name, content);
    }
    Ok(all)
}

/// Checks that a call is done, or is refused as `PermissionDenied` and then has done nothing.
async fn done_or_refused<T>(
    resp: &mut Resp,
    what: &str,
    call: impl Future<Output = kv_core::Result<T>>,
) -> Result<Option<T>, Failure> {
    let mut before = all(resp).await?;
    match call.await {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if e.kind() != ErrorKind::PermissionDenied => {
            Err(format!("{what}: {:?} {e}", e.kind()).into())
        }
        Err(_) => {
            let after = all(resp).await?;
            // That somebody has left a lock is noted for five seconds.
            before.retain(|name, _| !name.contains(".kv/gone/") || after.contains_key(name));
            let mut names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            names.retain(|name| before.get(*name) != after.get(*name));
            match names.is_empty() {
                true => Ok(None),
                false => Err(format!("{what} was refused, and half done: it changed {names:?}").into()),
            }
        }
    }
}

/// Makes all calls that write, without the right to one command, and returns how many were
/// refused.
async fn without(admin: &Kv, kv: &Kv, resp: &mut Resp, command: &str) -> Result<u32, Failure> {
    let long = Duration::from_secs(600);
    admin.delete_tree("").await?;
    for key in ["d/a", "d/b", "d/c", "d/e", "f"] {
        kv.put(key, "1").await?;
    }
    kv.put("d/to_end", "1").ttl(long).await?;
    let (lease, held) =
        (kv.lease(long).await?, kv.new_lock(format!("held {command}")).ttl(long).acquire().await?);
    let broken = kv.new_lock(format!("broken {command}")).ttl(long).acquire().await?;
    kv.put("d/leased", "1").lease(&lease).await?;
    resp.say("SET mine/d/foreign 1").await?;
    let mut mirror = Mirror::new(admin.watch_tree("d").await?);
    let mut holder = admin.lock_holder(format!("held {command}")).watch().await?;
    while holder.event().await? != WatchEvent::Synced {}
    resp.say(&format!("ACL SETUSER me -{command}")).await?;

    let (mut refused, mut kept) = (0, (Vec::new(), Vec::new()));
    macro_rules! tried {
        ($call:expr) => {{
            let answer = done_or_refused(resp, stringify!($call), async { $call.await }).await?;
            refused += u32::from(answer.is_none());
            answer
        }};
    }
    tried!(kv.put("d/new", "2"));
    tried!(kv.put("d/a", "2"));
    tried!(kv.put("d/a", "2").ttl(long));
    tried!(kv.put("d/to_end", "2"));
    tried!(kv.put("d/b", "2").lease(&lease));
    tried!(kv.put("d/leased", "2"));
    tried!(kv.put("d/f", "2").fenced(&held));
    tried!(kv.atomic_put("d/made", "2", None));
    tried!(kv.delete("d/a"));
    tried!(kv.delete("d/leased"));
    tried!(kv.delete("no"));
    tried!(kv.transact().then(kv.put("d/c", "3").ttl(long)).then(kv.delete("d/b")).then(kv.put("d/e", "3")));
    tried!(kv.adopt("d"));
    kept.0.extend(tried!(kv.lease(long)));
    kept.1.extend(tried!(kv.new_lock(format!("free {command}")).ttl(long).try_acquire()).flatten());
    kept.1.extend(tried!(kv.new_lock(format!("new {command}")).ttl(2 * long).try_acquire()).flatten());
    tried!(kv.new_lock(format!("held {command}")).ttl(long).try_acquire());
    tried!(kv.get("f"));
    tried!(kv.get_many(["d/a", "f"]));
    tried!(kv.list(""));
    tried!(kv.exists("f"));
    tried!(kv.lock_holder(format!("held {command}")));
    tried!(held.set_value("2"));
    tried!(kv.break_lock(format!("broken {command}")).token(broken.token()));
    tried!(lease.revoke());
    tried!(kv.delete_tree("d"));
    tried!(held.release());
    let e = kv.watch_tree("").await?.event().await.err();
    assert!(e.as_ref().is_none_or(|e| e.kind() == ErrorKind::PermissionDenied), "{e:?}");

    mirror.comes_to(admin.list("d").await?).await?;
    resp.say(&format!("ACL SETUSER me +{command}")).await?;
    kv.put("d/again", "1").await?;
    Ok(refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_withdrawn_leaves_nothing_half_done() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let mut resp = node.resp().await?;
        resp.say("ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous").await?;
        let admin = kv_redis::open(&format!("redis://{}/mine/", node.address)).await?;
        let mut all = 0;
        for command in commands()? {
            let kv = kv_redis::open(&format!("redis://me:my-word@{}/mine/", node.address)).await?;
            let refused = without(&admin, &kv, &mut resp, &command).await;
            all += refused.map_err(|e| format!("{kind}, -{command}: {e}"))?;
            // A lock or lease that could not be given back ends with the store.
            let _ = kv.close().await;
        }
        assert!(all > 100, "{all} calls were refused");
    }
    Ok(())
}

/// The right to publish to watches is withdrawn.
#[tokio::test(flavor = "multi_thread")]
async fn channels_withdrawn_leave_nothing_half_done() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let mut resp = node.resp().await?;
        resp.say("ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous").await?;
        let admin = kv_redis::open(&format!("redis://{}/mine/", node.address)).await?;
        let kv = kv_redis::open(&format!("redis://me:my-word@{}/mine/", node.address)).await?;
        kv.put("a", "1").await?;
        let mut watch = admin.watch_tree("").await?;
        while watch.event().await? != WatchEvent::Synced {}
        resp.say("ACL SETUSER me resetchannels").await?;
        for _ in 0..2 {
            assert!(done_or_refused(&mut resp, "put", kv.put("a", "2").into_future()).await?.is_none());
            assert!(done_or_refused(&mut resp, "delete", kv.delete("a").into_future()).await?.is_none());
        }
        assert!(kv.get("a").await?.is_some());
        // An open store has the rights that its user has by now.
        resp.say("ACL SETUSER me &mine/*").await?;
        let version = kv.put("a", "3").await?.version;
        let event = change(&mut watch).await?;
        assert!(matches!(&event, WatchEvent::Put(entry) if entry.version == version), "{event:?}");
    }
    Ok(())
}

/// A user who may renew and not leave keeps no lock that was given up, though other locks of that
/// TTL are used on.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_its_user_may_not_release_ends_by_its_ttl() -> Result<(), Failure> {
    let node = single("redis").await?;
    let mut resp = node.resp().await?;
    resp.say("ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous").await?;
    let admin = kv_redis::open(&format!("redis://{}/mine/", node.address)).await?;
    let kv = kv_redis::open(&format!("redis://me:my-word@{}/mine/", node.address)).await?;
    let lock = |kv: &Kv| kv.new_lock("l").ttl(Duration::from_secs(3));
    let guard = lock(&kv).acquire().await?;
    resp.say("ACL SETUSER me resetchannels").await?;
    drop(guard);
    let again = async {
        loop {
            let e = lock(&kv).try_acquire().await.map(drop).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let next = tokio::select! {
        next = lock(&admin).acquire_within(Duration::from_secs(12)) => next?,
        () = again => None,
    };
    assert!(next.ok_or("nobody holds it, and nobody gets it")?.release().await?);

    // Closing the store reports what could not be given back, in whatever session it was.
    resp.say("ACL SETUSER me &mine/*").await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(120)).acquire().await?;
    resp.say("ACL SETUSER me resetchannels").await?;
    let e = guard.release().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    let e = kv.close().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    Ok(())
}

/// A server with a user `me`. Without the right to publish `me` renews sessions, and nothing else.
struct Withdrawn(Node);

impl Withdrawn {
    async fn start() -> Result<Self, Failure> {
        let node = single("redis").await?;
        node.resp().await?.say("ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous").await?;
        Ok(Self(node))
    }
}

#[async_trait]
impl Rights for Withdrawn {
    const TTL: Duration = Duration::from_secs(3);

    async fn open(&self) -> Result<Kv, Failure> {
        Ok(kv_redis::open(&format!("redis://me:my-word@{}/mine/", self.0.address)).await?)
    }

    async fn open_of_another(&self) -> Result<Kv, Failure> {
        Ok(kv_redis::open(&format!("redis://{}/mine/", self.0.address)).await?)
    }

    async fn two_in_line(&self, lock: &str) -> Result<(), Failure> {
        let mut resp = self.0.resp().await?;
        soon("two in line", async {
            while resp.say(&format!("ZCARD mine/.kv/lock/{lock}")).await? != Reply::Number(2) {}
            Ok::<_, Failure>(())
        })
        .await?
    }

    async fn withdraw(&self) -> Result<(), Failure> {
        self.0.resp().await?.say("ACL SETUSER me resetchannels").await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_it_is_waited_for() -> Result<(), Failure> {
    rights::ends_while_it_is_waited_for(&Withdrawn::start().await?).await
}

/// Waiters for another lock by the session of a lock that may not be given back leave that session
/// too, and hear that they may not get into a line again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_others_are_waited_for() -> Result<(), Failure> {
    let server = Withdrawn::start().await?;
    let (kv, theirs) = (server.open().await?, server.open_of_another().await?);
    let other = theirs.new_lock("other").ttl(Duration::from_secs(60)).acquire().await?;
    let guard = kv.new_lock("l").ttl(Withdrawn::TTL).acquire().await?;
    let waits = tokio::spawn(kv.new_lock("other").ttl(Withdrawn::TTL).acquire().into_future());
    server.two_in_line("other").await?;
    server.withdraw().await?;
    let e = guard.release().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    let next = soon("the lock", theirs.new_lock("l").ttl(Withdrawn::TTL).acquire()).await??;
    let refused = soon("who waited", waits).await??.err().ok_or("it was granted without rights")?;
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert!(next.release().await? && other.release().await?);
    Ok(())
}

/// A lock that may not be given back, and whose session may not be ended, is there until its TTL
/// is over: closing reports it, and tries once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_tells_what_it_may_not_give_back() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let mut resp = node.resp().await?;
        resp.say("ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous").await?;
        let admin = kv_redis::open(&format!("redis://{}/mine/", node.address)).await?;
        let url = format!("redis://me:my-word@{}/mine/", node.address);
        let open = async || -> Result<Kv, Failure> { Ok(kv_redis::open(&url).await?) };
        let may = async |rights: &str| -> Result<(), Failure> {
            let told = node.resp().await?.say(&format!("ACL SETUSER me {rights}")).await?;
            assert_eq!(told, Reply::Text(b"OK".into()), "{rights}");
            Ok(())
        };
        let (withdraw, allow) = (async || may("-@write").await, async || may("+@write -@dangerous").await);
        rights::close_tells(open, &admin, withdraw, allow).await.map_err(|e| format!("{kind}: {e}"))?;
    }
    Ok(())
}
