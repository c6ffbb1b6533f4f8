//! Records of ours that somebody else wrote over: the damage is found before anything is written,
//! nothing panics, and a damaged lock is never taken for a free one.

mod common;

use common::{Node, Reply, Resp, change, single};
use kv_core::{ErrorKind, Kv, Result as Answer, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

const OWN: &str = "dam/.kv/";
/// A year in microseconds, which the numbers of the counter are.
const YEAR: u64 = 365 * 86_400_000_000;

async fn opened(node: &Node) -> Result<Kv, Failure> {
    Ok(kv_redis::open(&format!("redis://{}/dam/", node.address)).await?)
}

/// Returns everything on the server but the damage itself.
async fn all(resp: &mut Resp, but: &str) -> Result<Vec<String>, Failure> {
    let mut names: Vec<_> = resp.say("KEYS *").await?.list().iter().map(Reply::text).collect();
    names.retain(|name| name != but);
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let dump = resp.ask(&[b"DUMP", name.as_bytes()]).await?;
        // It may have ended since it was listed.
        if dump != Reply::Nothing {
            all.push(format!("{name} {dump:?}"));
        }
    }
    Ok(all)
}

fn corrupt<T: std::fmt::Debug>(what: &str, answer: Answer<T>, names: &str) {
    match answer {
        Ok(answer) => panic!("{what} was done: {answer:?}"),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{what}: {e}");
            assert!(e.to_string().contains(names), "{what}: {e} names {names}");
        }
    }
}

/// Checks that every write is refused as `Corrupt`, and has written nothing.
async fn nothing_is_written(kv: &Kv, resp: &mut Resp, names: &str) -> Result<(), Failure> {
    let before = all(resp, names).await?;
    corrupt("put", kv.put("new", "1").await, names);
    corrupt("put over", kv.put("a", "1").await, names);
    corrupt("put with TTL", kv.put("a", "1").ttl(Duration::from_secs(60)).await, names);
    corrupt("delete", kv.delete("a").await, names);
    corrupt("delete of what is not there", kv.delete("no").await, names);
    corrupt("transact", kv.transact().then(kv.put("a", "1")).then(kv.delete("b")).await, names);
    corrupt("transact of deletes", kv.transact().then(kv.delete("a")).then(kv.delete("b")).await, names);
    corrupt("delete_tree", kv.delete_tree("").await, names);
    if names.ends_with("clock") {
        corrupt("try_acquire", kv.new_lock("l").try_acquire().await, names);
        corrupt("acquire", kv.new_lock("l").acquire().await, names);
    }
    assert_eq!(all(resp, names).await?, before, "{names}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_we_never_write() -> Result<(), Failure> {
    for kind in ["redis", "valkey"] {
        let node = single(kind).await?;
        let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
        kv.put("a", "first").await?;
        kv.put("b", "first").await?;
        let clock = format!("{OWN}clock");
        let now = kv.get("b").await?.ok_or("b")?.version.parts().0;
        let eleven_years_ahead = (now + 11 * YEAR).to_string();
        for number in [
            &*eleven_years_ahead,
            "8999999999999999",
            "9007199254740000",
            "100000000000000000",
            "1e300",
            "nan",
            "inf",
            "-1",
            "18446744073709551615",
            "9007199254740993",
            "x",
            "",
        ] {
            resp.ask(&[b"SET", clock.as_bytes(), number.as_bytes()]).await?;
            nothing_is_written(&kv, &mut resp, &clock).await.map_err(|e| format!("{number:?}: {e}"))?;
            assert_eq!(kv.get("a").await?.ok_or("a")?.text(), Some("first"));
            assert_eq!(kv.list("").await?.len(), 2);
            assert!(kv.lock_holder("l").await?.is_none());
        }
        // The way out that the error names.
        resp.ask(&[b"DEL", clock.as_bytes()]).await?;
        let before = kv.get("a").await?.ok_or("a")?.version;
        assert!(kv.put("a", "second").await?.version > before);
        kv.new_lock("l").acquire().await?.release().await?;
    }
    Ok(())
}

/// Numbers that were given under a clock of years ahead are gone on from when it is set back.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_of_a_clock_that_was_years_ahead() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
    let before = kv.new_lock("l").acquire().await?;
    let (token, ahead) = (before.token(), kv.put("a", "1").await?.version.parts().0 + 9 * YEAR);
    assert!(before.release().await?);
    resp.say(&format!("SET {OWN}clock {ahead}")).await?;
    let written = kv.put("a", "2").await?.version;
    assert_eq!(written.parts().0, ahead + 1);
    assert_eq!(kv.get("a").await?.ok_or("a")?.version, written);
    let guard = kv.new_lock("l").acquire().await?;
    assert!(guard.token() > token);
    assert!(guard.release().await?);
    Ok(())
}

/// The listing of a watch that begins while the counter is damaged hides nothing that is written
/// when the counter is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_began_under_a_damaged_counter_tells_all_that_follows() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
    for number in ["words", "8999999999999999", "9007199254740991", "9007199254740993", "9999999999999999"] {
        resp.say(&format!("SET {OWN}clock {number}")).await?;
        let (mut tree, mut holder) = (kv.watch_tree("").await?, kv.lock_holder("l").watch().await?);
        while tree.event().await? != WatchEvent::Synced {}
        while holder.event().await? != WatchEvent::Synced {}
        resp.say(&format!("DEL {OWN}clock")).await?;
        let written = kv.put(format!("after {number}"), "").await?.version;
        let event = change(&mut tree).await?;
        assert!(matches!(&event, WatchEvent::Put(entry) if entry.version == written), "{event:?}");
        let guard = kv.new_lock("l").acquire().await?;
        let event = change(&mut holder).await?;
        let token = guard.token();
        assert!(matches!(&event, WatchEvent::Put(entry) if entry.version.parts().0 == token), "{event:?}");
        assert!(guard.release().await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_another_type() -> Result<(), Failure> {
    for own in ["meta", "index", "ends", "clock"] {
        let node = single("redis").await?;
        let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
        kv.put("a", "first").await?;
        kv.put("b", "first").await?;
        let lease = kv.lease(Duration::from_secs(60)).await?;
        kv.put("leased", "").lease(&lease).await?;
        let name = format!("{OWN}{own}");
        resp.ask(&[b"DEL", name.as_bytes()]).await?;
        resp.ask(&[b"RPUSH", name.as_bytes(), b"theirs"]).await?;
        nothing_is_written(&kv, &mut resp, &name).await?;
        if own == "index" {
            corrupt("list", kv.list("").await, &name);
        }
        let before = all(&mut resp, &name).await?;
        corrupt("revoke", lease.revoke().await, &name);
        assert_eq!(all(&mut resp, &name).await?, before);
        resp.ask(&[b"DEL", name.as_bytes()]).await?;
        kv.put("a", "second").await?;
    }
    Ok(())
}

/// A note that cannot be read counts as none: the key is there, and everything else too.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_note_hides_nothing() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
    for note in ["", "junk", "1 2", "99999999999999999999999 1 abc -", "1 99999999999999999999999 abc -"] {
        kv.put("a", "1").await?;
        kv.put("b", "2").await?;
        resp.ask(&[b"HSET", format!("{OWN}meta").as_bytes(), b"a", note.as_bytes()]).await?;
        let found = kv.get("a").await.map_err(|e| format!("{note:?}: {e}"))?.ok_or("a")?;
        assert_eq!(found.text(), Some("1"));
        let listed = kv.list("").await?;
        assert_eq!(listed.len(), 2, "{note:?}");
        assert_eq!(listed[0].version, found.version);
        let mut watch = kv.watch_tree("").await?;
        for _ in 0..3 {
            watch.event().await?;
        }
        let refused = kv.put("a", "x").if_missing().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::KeyExists, "{refused}");
        kv.put("a", "3").if_version(found.version).await?;
    }
    Ok(())
}

/// A note with a number that nobody's clock has reached counts as none: a watch that took it would
/// take all later writes for older ones. Clocks that differ a little are no reason for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_from_the_future_hides_no_later_write() -> Result<(), Failure> {
    const DAY: u64 = 86_400_000_000;
    let node = single("redis").await?;
    let (kv, mut resp, meta) = (opened(&node).await?, node.resp().await?, format!("{OWN}meta"));
    let now = kv.put("a", "1").await?.version.parts().0;
    for (number, is_believed) in
        [(now + DAY / 24, true), (now + 2 * DAY, false), (9_007_199_254_740_000, false)]
    {
        kv.put("a", "1").await?;
        let note = resp.ask(&[b"HGET", meta.as_bytes(), b"a"]).await?.text();
        let (_, rest) = note.split_once(' ').ok_or("a note")?;
        let note = format!("{number} {rest}");
        resp.ask(&[b"HSET", meta.as_bytes(), b"a", note.as_bytes()]).await?;
        let found = kv.get("a").await?.ok_or("a")?;
        assert_eq!(found.text(), Some("1"));
        assert_eq!(found.version.parts().0 == number, is_believed, "{note}: {}", found.version);
        assert_eq!(kv.list("").await?[0].version, found.version, "{note}");
        if is_believed {
            kv.delete("a").await?;
            continue;
        }
        let (mut tree, mut key) = (kv.watch_tree("").await?, kv.watch("a").await?);
        for watch in [&mut tree, &mut key] {
            while watch.event().await? != WatchEvent::Synced {}
        }
        let written = kv.put("a", "2").if_version(found.version).await?.version;
        assert!(written > found.version, "{written} is written after {}", found.version);
        for watch in [&mut tree, &mut key] {
            let event = change(watch).await?;
            assert!(matches!(&event, WatchEvent::Put(entry) if entry.version == written), "{event:?}");
        }
    }
    Ok(())
}

/// While the last number cannot be read, no note is doubted: the server's clock may have been set
/// back since.
#[tokio::test(flavor = "multi_thread")]
async fn versions_stay_while_the_counter_is_damaged() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp, clock) = (opened(&node).await?, node.resp().await?, format!("{OWN}clock"));
    // As after writes under a clock that was 34 days ahead.
    let ahead = kv.put("a", "1").await?.version.parts().0 + 3_000_000_000_000;
    resp.say(&format!("SET {clock} {ahead}")).await?;
    let written = kv.put("a", "2").await?.version;
    assert!(written.parts().0 > ahead);
    assert_eq!(kv.get("a").await?.ok_or("a")?.version, written);
    resp.say(&format!("SET {clock} words")).await?;
    assert_eq!(kv.get("a").await?.ok_or("a")?.version, written);
    corrupt("put at its version", kv.put("a", "3").if_version(written).await, &clock);
    resp.say(&format!("SET {clock} {}", written.parts().0)).await?;
    kv.put("a", "3").if_version(written).await?;
    Ok(())
}

/// Somebody changed the numbers in a queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_with_numbers_that_we_never_give() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
    let ttl = Duration::from_secs(6);
    for number in ["100000000000000000", "1e300", "inf", "1.5", "-7"] {
        let name = format!("l{number}");
        let guard = kv.new_lock(&*name).ttl(ttl).acquire().await?;
        let queue = format!("{OWN}lock/{name}");
        let contender = resp.ask(&[b"ZRANGE", queue.as_bytes(), b"0", b"0"]).await?.list()[0].text();
        resp.ask(&[b"ZADD", queue.as_bytes(), number.as_bytes(), contender.as_bytes()]).await?;
        corrupt("lock_holder", kv.lock_holder(&*name).await, "line");
        let mut watch = kv.lock_holder(&*name).watch().await?;
        corrupt("its watch", watch.event().await, "line");
        // The late writes of the holder are refused, and it is told so; no other contender gets
        // the lock beside it.
        assert!(kv.put("a", "").fenced(&guard).await.is_err());
        let e = soon("the loss to be known", guard.lost()).await?;
        assert!(e.to_string().contains("line") || e.to_string().contains("place"), "{e}");
        drop(guard);
        soon("the next one", kv.new_lock(&*name).ttl(ttl).acquire()).await??.release().await?;
    }
    Ok(())
}

/// Names in a queue that are no contenders, and queues that are none.
#[tokio::test(flavor = "multi_thread")]
async fn junk_in_a_line_is_nobody_and_takes_nobodys_place() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
    for junk in ["", ":", "x", "::", ".kv", "a b:\n"] {
        let guard = kv.new_lock("l").acquire().await?;
        let queue = format!("{OWN}lock/l");
        resp.ask(&[b"ZADD", queue.as_bytes(), b"1", junk.as_bytes()]).await?;
        let token = kv.lock_holder("l").await?.map(|holder| holder.token);
        assert_eq!(token, Some(guard.token()), "{junk:?}");
        assert!(kv.new_lock("l").try_acquire().await?.is_none(), "{junk:?}");
        resp.ask(&[b"ZADD", queue.as_bytes(), b"1", junk.as_bytes()]).await?;
        kv.put("a", "").fenced(&guard).await.map_err(|e| format!("{junk:?}: {e}"))?;
        assert!(guard.release().await?, "{junk:?}");
    }
    Ok(())
}

/// A lock whose queue is damaged is lost; the others of its session are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_line_takes_no_other_lock_with_it() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, mut resp) = (opened(&node).await?, node.resp().await?);
    let ttl = Duration::from_secs(8);
    let bad = kv.new_lock("bad").ttl(ttl).acquire().await?;
    let good = kv.new_lock("good").ttl(ttl).acquire().await?;
    let queue = format!("{OWN}lock/bad");
    resp.ask(&[b"DEL", queue.as_bytes()]).await?;
    resp.ask(&[b"SET", queue.as_bytes(), b"theirs"]).await?;
    soon("the damaged one to be lost", bad.lost()).await?;
    tokio::time::sleep(ttl).await;
    assert!(good.is_held());
    kv.put("a", "").fenced(&good).await?;
    corrupt("acquire", kv.new_lock("bad").try_acquire().await, &queue);
    corrupt("lock_holder", kv.lock_holder("bad").await, &queue);
    assert!(good.release().await?);
    Ok(())
}

/// A record of a queue, the commands that damage it, and the commands that mend it.
const LINES: [(&str, &[&str], &[&str]); 2] = [
    (
        "dam/.kv/lock/l",
        &["RENAME dam/.kv/lock/l aside", "SET dam/.kv/lock/l words"],
        &["RENAME aside dam/.kv/lock/l"],
    ),
    // The way out that the error names.
    ("dam/.kv/held/l", &["DEL dam/.kv/held/l", "SET dam/.kv/held/l words"], &["DEL dam/.kv/held/l"]),
];

/// Says these in one step: who looked between two of them would see what is not there, and not what is damaged.
async fn said(resp: &mut Resp, all: &[&str]) -> Result<(), Failure> {
    resp.say("MULTI").await?;
    for words in all {
        resp.say(words).await?;
    }
    resp.say("EXEC").await?;
    Ok(())
}

/// A lock that could not be given back while its queue was damaged is given back when it is
/// mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_was_damaged_for_a_while_is_left_later() -> Result<(), Failure> {
    for (name, broken, mended) in LINES {
        let node = single("redis").await?;
        let (kv, theirs, mut resp) = (opened(&node).await?, opened(&node).await?, node.resp().await?);
        let ttl = Duration::from_secs(8);
        let other = kv.new_lock("other").ttl(ttl).acquire().await?;
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        said(&mut resp, broken).await?;
        corrupt("release", guard.release().await, name);
        said(&mut resp, mended).await?;
        let next = theirs.new_lock("l").ttl(ttl).acquire_within(Duration::from_secs(30)).await?;
        assert!(next.ok_or("given back, and held")?.release().await?, "{name}");
        assert!(other.release().await?);
    }
    Ok(())
}

/// A lock that is lost by damage to its queue is free after it, though its guard exists and its
/// session lives on.
#[tokio::test(flavor = "multi_thread")]
async fn who_lost_a_damaged_line_stands_in_nobodys_way() -> Result<(), Failure> {
    for (name, broken, mended) in LINES {
        let node = single("redis").await?;
        let (kv, theirs, mut resp) = (opened(&node).await?, opened(&node).await?, node.resp().await?);
        let ttl = Duration::from_secs(8);
        let other = kv.new_lock("other").ttl(ttl).acquire().await?;
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        let waiting = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire());
        soon("the wait to begin", async {
            while resp.say("ZCARD dam/.kv/lock/l").await? != Reply::Number(2) {}
            Ok::<_, Failure>(())
        })
        .await??;
        said(&mut resp, broken).await?;
        soon("the damaged one to be lost", guard.lost()).await?;
        corrupt("acquire", soon("the wait to end", waiting).await??, name);
        said(&mut resp, mended).await?;
        let next = theirs.new_lock("l").ttl(ttl).acquire_within(Duration::from_secs(30)).await?;
        assert!(next.ok_or("lost, and held")?.release().await?, "{name}");
        assert!(other.release().await?);
        assert!(!guard.is_held());
    }
    Ok(())
}

/// A session that somebody wrote over has no end: a contender behind it gets an error, and does
/// not wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_is_named_to_who_waits_behind_it() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, theirs, mut resp) = (opened(&node).await?, opened(&node).await?, node.resp().await?);
    let lock = |kv: &Kv| kv.new_lock("l").ttl(Duration::from_secs(8));
    let guard = lock(&kv).acquire().await?;
    let session = resp.say("KEYS dam/.kv/session/*").await?.list()[0].text();
    let waiting = tokio::spawn(lock(&theirs).acquire());
    soon("the wait to begin", async {
        while resp.say("ZCARD dam/.kv/lock/l").await? != Reply::Number(2) {}
        Ok::<_, Failure>(())
    })
    .await??;
    resp.say(&format!("SET {session} words")).await?;
    corrupt("acquire", soon("the wait to end", waiting).await??, &session);
    soon("its place to be given back", async {
        while resp.say("ZCARD dam/.kv/lock/l").await? != Reply::Number(1) {}
        Ok::<_, Failure>(())
    })
    .await??;
    let mut before = all(&mut resp, &session).await?;
    corrupt("acquire_within", lock(&theirs).acquire_within(Duration::from_secs(6)).await, &session);
    corrupt("try_acquire", lock(&theirs).try_acquire().await, &session);
    corrupt("lock_holder", theirs.lock_holder("l").await, &session);
    corrupt("its watch", theirs.lock_holder("l").watch().await?.event().await, &session);
    corrupt("fenced put", kv.put("a", "").fenced(&guard).await, &session);
    let after = all(&mut resp, &session).await?;
    // The session of who gave its place back ends by itself, and so do the marks of who has left.
    let may_end = ["session/", "gone/"].map(|own| format!("{OWN}{own}"));
    before.retain(|line| after.contains(line) || !may_end.iter().any(|own| line.starts_with(own)));
    assert_eq!(after, before);
    soon("the loss to be known", guard.lost()).await?;
    corrupt("release", guard.release().await, &session);
    // The way out that the error names.
    resp.say(&format!("DEL {session}")).await?;
    let next = soon("the lock", lock(&theirs).acquire()).await??;
    assert!(next.release().await?);
    Ok(())
}
