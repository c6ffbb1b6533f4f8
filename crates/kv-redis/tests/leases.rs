//! Large leases, and answers that are lost.

mod common;

use common::{Reply, Resp, single};
use kv_core::{ErrorKind, Kv, Lease};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Another client that reads a key again and again, and measures its longest wait.
struct Reader(tokio::task::JoinHandle<kv_core::Result<Duration>>, Arc<AtomicBool>);

impl Reader {
    fn start(kv: Kv) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        Self(
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while !ended.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    kv.get("one").await?;
                    longest = longest.max(began.elapsed());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(longest)
            }),
            end,
        )
    }

    async fn longest(self) -> Result<Duration, Failure> {
        self.1.store(true, Ordering::Relaxed);
        Ok(self.0.await??)
    }
}

/// Renewals and revocations go in steps, between which other calls are served.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_lease_keeps_nobody_waiting() -> Result<(), Failure> {
    const KEYS: usize = 100_000;
    let node = common::with("redis", &["--appendfsync", "everysec"]).await?;
    let url = format!("redis://{}/large/", node.address);
    let (kv, other) = (kv_redis::open(&url).await?, kv_redis::open(&url).await?);
    let kv = kv.with_deadline(Duration::from_secs(60));
    other.put("one", "").await?;
    // A renewal has a quarter of the TTL. It takes two seconds where nothing else runs, and ten
    // times as long on a busy machine.
    let ttl = Duration::from_secs(80);
    let lease = kv.lease(ttl).await?;
    let names: Vec<_> = (0..KEYS).map(|n| format!("d/{n}")).collect();
    for names in names.chunks(500) {
        let steps =
            names.iter().fold(kv.transact(), |steps, name| steps.then(kv.put(name, "v").lease(&lease)));
        assert!(steps.await?.is_committed());
    }
    let lock = other.new_lock("l").ttl(ttl).acquire().await?;
    // The steps are counted by the server. The time of one says more about the machine than about
    // the step.
    let mut resp = node.resp().await?;
    let mut steps = resp.calls("evalsha").await?;
    let reader = Reader::start(other.clone());
    let is_renewed = async {
        let mut before = lease.remaining();
        while lease.remaining() <= before {
            before = lease.remaining();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(ttl, is_renewed).await.map_err(|_| "it was not renewed")?;
    let lost = futures::FutureExt::now_or_never(lease.lost());
    assert!(lease.is_held() && lock.is_held(), "{lost:?}");
    assert!(other.exists("d/0").await? && other.exists(format!("d/{}", KEYS - 1)).await?);
    let while_renewed = reader.longest().await?;
    let renewing = resp.calls("evalsha").await? - steps;
    assert!(renewing >= KEYS / 1500, "{KEYS} keys were renewed in {renewing} steps");
    steps += renewing;
    let reader = Reader::start(other.clone());
    let began = Instant::now();
    assert!(lease.revoke().await?);
    let revoked = began.elapsed();
    let while_revoked = reader.longest().await?;
    println!("renewals: {while_renewed:?}, revocation ({revoked:?}): {while_revoked:?}");
    assert!(!other.exists("d/0").await? && other.list("d").limit(1).await?.is_empty());
    assert!(lock.is_held());
    let revoking = resp.calls("evalsha").await? - steps;
    assert!(revoking >= KEYS / 1500, "{KEYS} keys were deleted in {revoking} steps");
    Ok(())
}

/// A transaction counts all that it puts under a lease; what is there already is put anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_takes_as_many_keys_as_it_can_carry_and_no_more() -> Result<(), Failure> {
    const MOST: i64 = 200_000;
    let node = single("redis").await?;
    let mut resp = node.resp().await?;
    let kv = kv_redis::open(&format!("redis://{}/most/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(60));
    let lease = kv.lease(Duration::from_secs(600)).await?;
    kv.put("there", "").lease(&lease).await?;
    // The server adds names, of which there are no keys, until two more have room.
    let name = resp.say("KEYS most/.kv/lease/*").await?.list().remove(0).text();
    let fill = "for n = 2, tonumber(ARGV[1]) do redis.call('SADD', KEYS[1], 'x' .. n) end \
                return redis.call('SCARD', KEYS[1])";
    let count = (MOST - 2).to_string();
    let filled = resp.ask(&[b"EVAL", fill.as_bytes(), b"1", name.as_bytes(), count.as_bytes()]).await?;
    assert_eq!(filled, Reply::Number(MOST - 1), "it has an empty name besides its keys");

    let put = |keys: [&str; 3]| {
        keys.iter().fold(kv.transact(), |steps, key| steps.then(kv.put(*key, "").lease(&lease))).into_future()
    };
    let e = put(["a", "b", "c"]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TooLarge, "{e}");
    assert!(!kv.exists("a").await?, "nothing was written");
    assert!(put(["a", "b", "there"]).await?.is_committed());
    let e = kv.put("c", "").lease(&lease).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TooLarge, "{e}");
    kv.put("there", "again").lease(&lease).await?;
    assert!(lease.revoke().await?);
    assert!(!kv.exists("a").await? && !kv.exists("there").await?);
    Ok(())
}

/// A lease has as many keys as a renewal has time for, by its TTL, whoever puts them.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_short_ttl_takes_no_more_keys_than_it_can_renew() -> Result<(), Failure> {
    const MOST: i64 = 150_000;
    let node = single("redis").await?;
    let mut resp = node.resp().await?;
    let url = format!("redis://{}/short/", node.address);
    // What has so many keys is revoked in many steps.
    let open = async || Ok::<_, Failure>(kv_redis::open(&url).await?.with_deadline(Duration::from_secs(60)));
    let (kv, other) = (open().await?, open().await?);
    let lease = kv.lease(Duration::from_secs(30)).await?;
    // The server adds names, as in the case above, which stay until the first renewal.
    let name = resp.say("KEYS short/.kv/lease/*").await?.list().remove(0).text();
    let fill = "for n = 2, tonumber(ARGV[1]) do redis.call('SADD', KEYS[1], 'x' .. n) end";
    let count = MOST.to_string();
    resp.ask(&[b"EVAL", fill.as_bytes(), b"1", name.as_bytes(), count.as_bytes()]).await?;
    kv.put("last", "").lease(&lease).await?;
    for kv in [&kv, &other] {
        let e = kv.put("one more", "").lease(&lease).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooLarge, "{e}");
        assert!(e.to_string().contains("150000 keys") && e.to_string().contains("longer TTL"), "{e}");
    }
    assert!(!kv.exists("one more").await?);
    kv.put("last", "again").lease(&lease).await?;
    // A longer TTL has room for more.
    let longer = kv.lease(Duration::from_secs(60)).await?;
    resp.ask(&[
        b"EVAL",
        fill.as_bytes(),
        b"1",
        format!("short/.kv/lease/{}", longer.id().as_str()).as_bytes(),
        count.as_bytes(),
    ])
    .await?;
    kv.put("one", "").lease(&longer).await?;
    kv.put("one more", "").lease(&longer).await?;
    assert!(longer.revoke().await? && lease.revoke().await?);
    Ok(())
}

/// The server does a request, and its answer is lost: what the repeat finds does not answer for
/// the first attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_not_told_as_false() -> Result<(), Failure> {
    let node = single("redis").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_redis::open(&format!("redis://{}/lost/", proxy.address())).await?;
    let direct = kv_redis::open(&format!("redis://{}/lost/", node.address)).await?;
    let lost = async |gone: &(dyn Fn() -> futures::future::BoxFuture<'static, bool> + Sync)| {
        soon("the request", proxy.trapped()).await?;
        soon("its effect", async { while !gone().await {} }).await?;
        proxy.reset().await;
        proxy.heal().await;
        Ok::<_, Failure>(())
    };
    for _ in 0..5 {
        kv.get("up").await?;
        let guard = kv.new_lock("l").acquire().await?;
        proxy.hold_answer_to("EVALSHA");
        let released = tokio::spawn(guard.release());
        let direct_ = direct.clone();
        lost(&move || {
            let direct = direct_.clone();
            Box::pin(async move { direct.lock_holder("l").await.is_ok_and(|holder| holder.is_none()) })
        })
        .await?;
        match released.await? {
            Ok(was_held) => assert!(was_held, "it was held until then"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
        }

        kv.get("up").await?;
        let lease = kv.lease(Duration::from_secs(60)).await?;
        kv.put("leased", "").lease(&lease).await?;
        proxy.hold_answer_to("EVALSHA");
        let revoked = tokio::spawn(lease.revoke());
        let direct_ = direct.clone();
        lost(&move || {
            let direct = direct_.clone();
            Box::pin(async move { direct.exists("leased").await.is_ok_and(|there| !there) })
        })
        .await?;
        match revoked.await? {
            Ok(was_alive) => assert!(was_alive, "it was alive until then"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
        }
    }
    Ok(())
}

/// The count of adopted keys is right, or unknown, when an answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn adoptions_are_counted_once_and_all() -> Result<(), Failure> {
    let node = single("redis").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_redis::open(&format!("redis://{}/lost/", proxy.address())).await?;
    let direct = kv_redis::open(&format!("redis://{}/lost/", node.address)).await?;
    let mut resp = node.resp().await?;
    for n in 0..3 {
        resp.say(&format!("SET lost/theirs/{n} {n}")).await?;
    }
    kv.get("up").await?;
    proxy.hold_answer_to("theirs/0");
    let adopted = tokio::spawn(kv.adopt("theirs").into_future());
    soon("the request", proxy.trapped()).await?;
    soon("its effect", async {
        while direct.list("theirs").await?.len() < 3 {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    proxy.reset().await;
    proxy.heal().await;
    match adopted.await? {
        Ok(count) => assert_eq!(count, 3),
        Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
    }
    Ok(())
}

/// A contender that came late into a queue, from an acquisition that was given up, is taken out by
/// the renewal of its session.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_into_a_line_is_taken_out() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/late/", node.address)).await?;
    let mut resp = node.resp().await?;
    let lock = |name: &str| kv.new_lock(name).ttl(Duration::from_secs(6)).acquire();
    // The first contender of the session, which has left.
    lock("l").await?.release().await?;
    let guard = lock("kept").await?;
    let contender = resp.say("ZRANGE late/.kv/lock/kept 0 0").await?.list()[0].text();
    let session = contender.split(':').next().unwrap_or_default();
    // Writes what the script would have written, had the request been on its way for longer than
    // the mark of its end lasts.
    assert_eq!(contender, format!("{session}:1"));
    let entry = format!("in {session}:0");
    let name = format!("late/.kv/session/{session}");
    resp.ask(&[b"HSET", name.as_bytes(), entry.as_bytes(), b"5 l"]).await?;
    resp.ask(&[b"ZADD", b"late/.kv/lock/l", b"5", format!("{session}:0").as_bytes()]).await?;
    assert!(kv.new_lock("l").try_acquire().await?.is_none());
    soon("the lock", kv.new_lock("l").acquire()).await??.release().await?;
    assert!(guard.release().await?);
    Ok(())
}

async fn renewed(lease: &Lease) -> Result<(), Failure> {
    soon("a renewal", async {
        let mut before = lease.remaining();
        while lease.remaining() <= before {
            before = lease.remaining();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Checks that a key that others made permanent has no end, and that one that they gave an end has
/// that end.
async fn are_theirs(resp: &mut Resp) -> Result<(), Failure> {
    for (key, value, is_permanent) in [
        ("set", "theirs", true),
        ("same", "leased", true),
        ("persisted", "leased", true),
        ("outer", "theirs", true),
        ("inner", "theirs", true),
        ("set_to_end", "theirs", false),
        ("given_an_end", "leased", false),
        ("outer_to_end", "theirs", false),
        ("inner_to_end", "theirs", false),
    ] {
        let found = resp.say(&format!("GET in/{key}")).await?;
        let left = resp.say(&format!("PTTL in/{key}")).await?;
        let is_as_it_was = match left {
            Reply::Number(left) => {
                if is_permanent {
                    left == -1
                } else {
                    left > 500_000
                }
            }
            _ => false,
        };
        if found != Reply::Text(value.into()) || !is_as_it_was {
            return Err(format!("{key} is {found:?}, with {left:?} ms left").into());
        }
    }
    Ok(())
}

/// A lease renews and deletes the keys that are under it. A key that another tool, or a store
/// around this one or within it, has put in their place since has another end, or none.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_there_since_is_no_lease_s() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let mut resp = node.resp().await?;
        let outer = kv_redis::open(&format!("redis://{}/", node.address)).await?;
        let kv = kv_redis::open(&format!("redis://{}/in/", node.address)).await?;
        let (ttl, long) = (Duration::from_secs(2), Duration::from_secs(600));
        let (lease, of_outer) = (kv.lease(ttl).await?, outer.lease(ttl).await?);
        for key in ["set", "same", "persisted", "set_to_end", "given_an_end", "outer", "outer_to_end", "ours"]
        {
            kv.put(key, "leased").lease(&lease).await?;
        }
        for key in ["in/inner", "in/inner_to_end"] {
            outer.put(key, "leased").lease(&of_outer).await?;
        }
        for theirs in [
            "SET in/set theirs",
            "SET in/same leased",
            "PERSIST in/persisted",
            "SET in/set_to_end theirs EX 600",
            "PEXPIRE in/given_an_end 600000",
        ] {
            resp.say(theirs).await?;
        }
        outer.put("in/outer", "theirs").await?;
        outer.put("in/outer_to_end", "theirs").ttl(long).await?;
        kv.put("inner", "theirs").await?;
        kv.put("inner_to_end", "theirs").ttl(long).await?;

        renewed(&lease).await?;
        renewed(&of_outer).await?;
        are_theirs(&mut resp).await.map_err(|e| format!("renewed, {kind}: {e}"))?;
        assert!(kv.exists("ours").await?, "it lives by the lease");
        assert!(lease.revoke().await? && of_outer.revoke().await?);
        are_theirs(&mut resp).await.map_err(|e| format!("revoked, {kind}: {e}"))?;
        assert!(!kv.exists("ours").await?);
    }
    Ok(())
}
