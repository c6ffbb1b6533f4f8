//! Tests that take minutes: `ci/long redis`. Each prints what it measured. `KV_LONG_SECONDS` sets
//! the duration of the load; a minute unless it is set.

mod common;

use common::{single, with};
use futures::{StreamExt, TryStreamExt, stream};
use kv_core::{Entry, Key, Kv, WatchEvent};
use kv_testsuite::{Failure, process};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

fn load_lasts() -> Duration {
    let seconds = std::env::var("KV_LONG_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Puts many keys, a thousand in a transaction.
async fn fill(kv: &Kv, keys: impl Iterator<Item = String>) -> Result<(), Failure> {
    let keys: Vec<_> = keys.collect();
    let batches = keys.chunks(1000).map(|batch| {
        let steps =
            batch.iter().fold(kv.transact(), |steps, key| steps.then(kv.put(key, "a value of some size")));
        async move { steps.deadline(Duration::from_secs(60)).await.map(drop) }
    });
    let batches: Vec<_> = batches.collect();
    stream::iter(batches).buffer_unordered(4).try_collect::<()>().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn the_stream_folds_to_the_listing() -> Result<(), Failure> {
    const KEYS: u64 = 100_000;
    const A_SECOND: u64 = 1000;
    let node = with("redis", &["--appendfsync", "everysec"]).await?;
    let url = format!("redis://{}/fold/", node.address);
    let (kv, writer) = (kv_redis::open(&url).await?, kv_redis::open(&url).await?);
    fill(&writer, (0..KEYS).map(|n| format!("d/{}/{n}", n % 100))).await?;
    let began = Instant::now();
    let mut watch = kv.watch_tree("d").await?;
    let mut map = BTreeMap::new();
    while let WatchEvent::Put(entry) = watch.event().await? {
        map.insert(entry.key.clone(), entry);
    }
    println!("the snapshot of {} keys: {:?}", map.len(), began.elapsed());

    let lasts = load_lasts();
    let changes = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let (began, mut n) = (Instant::now(), 0_u64);
        while began.elapsed() < lasts {
            tick.tick().await;
            let batch = (0..A_SECOND / 100).map(|i| {
                let at = (n + i).wrapping_mul(7919);
                let key = format!("d/{}/{}", at % 100, at % (KEYS + 1000));
                let writer = writer.clone();
                async move {
                    match (at / 3) % 10 {
                        0 => drop(writer.delete(&key).await?),
                        1 => drop(writer.put(&key, "short").ttl(Duration::from_millis(at % 3000 + 1)).await?),
                        _ => drop(writer.put(&key, format!("change {at}")).await?),
                    }
                    Ok::<_, kv_core::Error>(())
                }
            });
            futures::future::try_join_all(batch).await?;
            n += A_SECOND / 100;
        }
        writer.put("d/end", "").await?;
        Ok::<_, kv_core::Error>((n, began.elapsed()))
    });
    // Now and then the link breaks.
    let mut resp = node.resp().await?;
    let breaker = tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(lasts / 4).await;
            resp.say("CLIENT KILL TYPE pubsub").await?;
        }
        Ok::<_, Failure>(())
    });
    let (mut events, mut synced) = (0_u64, 0);
    while !map.contains_key("d/end") {
        events += 1;
        match watch.event().await? {
            WatchEvent::Put(entry) => drop(map.insert(entry.key.clone(), entry)),
            WatchEvent::Delete { key, .. } => drop(map.remove(&key)),
            WatchEvent::Synced => synced += 1,
        }
    }
    let (done, took) = changes.await??;
    breaker.await??;
    println!("{done} changes in {took:?}: {events} events, read again {synced} times");
    assert!(done as f64 >= 0.9 * A_SECOND as f64 * took.as_secs_f64(), "the load was not reached");
    // The longest of the short TTLs is over by then.
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(5), watch.event()).await {
        match event? {
            WatchEvent::Put(entry) => drop(map.insert(entry.key.clone(), entry)),
            WatchEvent::Delete { key, .. } => drop(map.remove(&key)),
            WatchEvent::Synced => {}
        }
    }
    let listed: BTreeMap<_, _> =
        kv.list("d").await?.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let differ = |a: &BTreeMap<Key, Entry>, b: &BTreeMap<Key, Entry>| {
        let all = a.iter().filter(|(key, entry)| b.get(*key) != Some(entry));
        all.map(|(_, entry)| format!("{entry:?}")).take(5).collect::<Vec<_>>()
    };
    assert_eq!(differ(&map, &listed), [""; 0], "told and not there");
    assert_eq!(differ(&listed, &map), [""; 0], "there and not told");
    println!("{} keys, the same in both", map.len());
    Ok(())
}

/// Returns the median of some measurements.
async fn median<F>(mut call: impl FnMut() -> F) -> Result<Duration, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut all = Vec::new();
    for _ in 0..51 {
        let began = Instant::now();
        call().await?;
        all.push(began.elapsed());
    }
    all.sort();
    Ok(all[all.len() / 2])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: a million keys"]
async fn a_listing_costs_what_it_returns() -> Result<(), Failure> {
    let node = with("redis", &["--appendonly", "no"]).await?;
    let kv = kv_redis::open(&format!("redis://{}/size/", node.address)).await?;
    let mut before: Option<[Duration; 3]> = None;
    for (from, to) in [(0, 1000), (1000, 1_000_000)] {
        fill(&kv, (from..to).map(|n| format!("bulk/{}/{n}", n % 1000))).await?;
        fill(&kv, (0..100).map(|n| format!("dir/{n}"))).await?;
        let list = median(|| async {
            assert_eq!(kv.list("dir").await?.len(), 100);
            Ok(())
        })
        .await?;
        let children = median(|| async {
            let children = kv.list("").children().try_collect::<Vec<_>>().await?;
            assert_eq!(children.len(), 2);
            Ok(())
        })
        .await?;
        let delete = median(|| async {
            fill(&kv, (0..100).map(|n| format!("gone/{n}"))).await?;
            assert_eq!(kv.delete_tree("gone").await?, Some(100));
            Ok(())
        })
        .await?;
        println!(
            "at {to} keys: listing 100 {list:?}, the root's children {children:?}, writing and deleting 100 {delete:?}"
        );
        if let Some(before) = before {
            for (now, then) in [list, children, delete].into_iter().zip(before) {
                assert!(now < then * 5, "{now:?} at a million keys, {then:?} at a thousand");
            }
        }
        before = Some([list, children, delete]);
    }
    let memory = node.resp().await?.say("INFO memory").await?.text();
    println!("{}", memory.lines().find(|line| line.starts_with("used_memory_human")).unwrap_or_default());
    Ok(())
}

const RESOURCE: &str = "KV_LONG_RESOURCE";
const SERVER: &str = "KV_LONG_SERVER";
const PROCESSES: usize = 4;
const TASKS: usize = 16;
const TTL: Duration = Duration::from_secs(2);

/// One process: its tasks lock, tell the guarded resource, work, tell it again, and release.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another"]
async fn contender() -> Result<(), Failure> {
    let (Ok(server), Ok(resource)) = (std::env::var(SERVER), std::env::var(RESOURCE)) else { return Ok(()) };
    let kv = kv_redis::open(&format!("redis://{server}/contended/")).await?;
    let tasks = (0..TASKS).map(|_| {
        let (kv, resource) = (kv.clone(), resource.clone());
        tokio::spawn(async move {
            let mut resource = BufReader::new(TcpStream::connect(resource).await?);
            loop {
                let Ok(guard) = kv.new_lock("l").ttl(TTL).acquire().await else { continue };
                for word in ["in", "out"] {
                    if !guard.is_held() {
                        break;
                    }
                    let said = format!("{word} {} {}\n", guard.token(), std::process::id());
                    resource.write_all(said.as_bytes()).await?;
                    let mut answer = String::new();
                    resource.read_line(&mut answer).await?;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                // Every third guard is left to its drop.
                if guard.token() % 3 > 0 {
                    drop(guard.release().await);
                }
            }
            #[allow(unreachable_code)]
            Ok::<_, Failure>(())
        })
    });
    futures::future::join_all(tasks.collect::<Vec<_>>()).await;
    Ok(())
}

#[derive(Default)]
struct Resource {
    greatest: u64,
    seen: HashSet<u64>,
    /// The tokens that are inside, each with its process.
    inside: HashMap<u64, u32>,
    /// Processes that were killed or paused.
    disturbed: HashSet<u32>,
    entered: u64,
    refused: u64,
    faults: Vec<String>,
}

impl Resource {
    /// Takes the word of a holder with this token, and refuses a token below the greatest seen.
    fn said(&mut self, word: &str, token: u64, process: u32) -> bool {
        if token < self.greatest {
            // Only a process that was disturbed can come so late.
            if !self.disturbed.contains(&process) {
                self.faults.push(format!("{token} came after {}", self.greatest));
            }
            self.refused += 1;
            return false;
        }
        if word == "out" {
            self.inside.remove(&token);
            return true;
        }
        if !self.seen.insert(token) {
            self.faults.push(format!("{token} was given twice"));
        }
        for (other, of) in self.inside.drain() {
            if !self.disturbed.contains(&of) {
                self.faults.push(format!("{token} and {other} at once"));
            }
        }
        self.inside.insert(token, process);
        self.greatest = token;
        self.entered += 1;
        true
    }
}

struct Contender(Child);

impl Contender {
    fn start(server: &str, resource: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "contender", "--ignored"]).env(SERVER, server).env(RESOURCE, resource);
        Ok(Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn one_holder_of_64_in_4_processes() -> Result<(), Failure> {
    let node = single("redis").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (server, address) = (node.address.to_string(), listener.local_addr()?.to_string());
    let resource = Arc::new(Mutex::new(Resource::default()));
    let serving = tokio::spawn({
        let resource = resource.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let resource = resource.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                        let mut words = line.split_whitespace();
                        let (Some(word), Some(Ok(token)), Some(Ok(process))) =
                            (words.next(), words.next().map(str::parse), words.next().map(str::parse))
                        else {
                            break;
                        };
                        resource.lock().unwrap_or_else(PoisonError::into_inner).said(word, token, process);
                        if stream.write_all(b"ok\n").await.is_err() {
                            break;
                        }
                        line.clear();
                    }
                });
            }
        }
    });
    let held = || resource.lock().unwrap_or_else(PoisonError::into_inner);
    let mut contenders =
        (0..PROCESSES).map(|_| Contender::start(&server, &address)).collect::<Result<Vec<_>, _>>()?;
    let began = Instant::now();
    let (mut kills, mut pauses) = (0, 0);
    while began.elapsed() < load_lasts() {
        tokio::time::sleep(Duration::from_millis(700)).await;
        // The process whose task is inside at this moment, if there is one.
        let holder = held().inside.values().next().copied();
        let Some(at) = contenders.iter().position(|contender| Some(contender.0.id()) == holder) else {
            continue;
        };
        held().disturbed.insert(contenders[at].0.id());
        if (kills + pauses) % 2 == 0 {
            contenders[at] = Contender::start(&server, &address)?;
            kills += 1;
        } else {
            process::pause(&contenders[at].0)?;
            tokio::time::sleep(TTL * 2).await;
            process::resume(&contenders[at].0)?;
            pauses += 1;
            // Everything that it had sent by then has arrived.
            tokio::time::sleep(Duration::from_millis(500)).await;
            held().disturbed.remove(&contenders[at].0.id());
        }
    }
    drop(contenders);
    serving.abort();
    let resource = held();
    println!(
        "{} acquisitions, {kills} holders killed, {pauses} paused, {} late words refused by their token",
        resource.entered, resource.refused
    );
    assert_eq!(resource.faults, [""; 0]);
    assert!(kills > 1 && pauses > 1 && resource.entered > 100);
    Ok(())
}
