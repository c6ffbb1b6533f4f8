//! Tests that take minutes: `ci/long dynamodb`. Each prints what it measured.

mod common;

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use common::{Node, single};
use kv_core::{Bytes, Version, WatchEvent};
use kv_testsuite::{Failure, process};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const TABLE: &str = "long";
const MINUTE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(3);
/// The variable that tells a worker the address of the emulator, that of the guarded resource, and
/// its name.
const WORKER: &str = "KV_DYNAMODB_TEST_WORKER";

/// Puts so many keys, 25 in each request.
async fn fill(node: &Node, keys: u64) -> Result<(), Failure> {
    let sdk = node.sdk();
    let put = |n: u64| {
        let version = [(n + 1).to_be_bytes(), 1_u64.to_be_bytes()].concat();
        let item = PutRequest::builder()
            .item("p", AttributeValue::S("kv:".into()))
            .item("k", AttributeValue::S(format!("d/{n:06}")))
            .item("v", AttributeValue::B(Blob::new(*b"first")))
            .item("ver", AttributeValue::B(Blob::new(version)));
        WriteRequest::builder().put_request(item.build().expect("a whole item")).build()
    };
    let mut writes = JoinSet::new();
    for batch in (0..keys).collect::<Vec<_>>().chunks(25) {
        let batch: Vec<_> = batch.iter().copied().map(put).collect();
        let write = sdk.batch_write_item().request_items(TABLE, batch).send();
        writes.spawn(write);
        if writes.len() >= 8 {
            writes.join_next().await.ok_or("one is under way")???;
        }
    }
    while let Some(done) = writes.join_next().await {
        done??;
    }
    Ok(())
}

/// 100,000 keys under watch, 200 changes a second for a minute: the stream comes to what a listing
/// gives.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn folding_the_stream_comes_to_the_listing() -> Result<(), Failure> {
    const KEYS: u64 = 100_000;
    let node = single().await?;
    let kv = node.open(TABLE).await?;
    fill(&node, KEYS).await?;
    let mut watch = kv.watch_tree("d").await?;
    let mut mirror = BTreeMap::<String, (Version, Bytes)>::new();
    let mut told = |event: WatchEvent| match event {
        WatchEvent::Put(e) => drop(mirror.insert(e.key.to_string(), (e.version, e.value))),
        WatchEvent::Delete { key, .. } => drop(mirror.remove(key.as_str())),
        WatchEvent::Synced => {}
    };
    loop {
        let event = watch.event().await?;
        if event == WatchEvent::Synced {
            break;
        }
        told(event);
    }
    let writer = node.open(TABLE).await?;
    let writing = tokio::spawn(async move {
        let (mut tick, began, mut writes) =
            (tokio::time::interval(Duration::from_millis(5)), Instant::now(), JoinSet::new());
        let mut n = 0_u64;
        while began.elapsed() < MINUTE {
            tick.tick().await;
            let (kv, key) = (writer.clone(), format!("d/{:06}", n * 7919 % (KEYS + 500)));
            writes.spawn(async move {
                match n % 4 {
                    0 => kv.delete(&key).await.map(drop),
                    _ => kv.put(&key, n.to_string()).await.map(drop),
                }
            });
            n += 1;
            while let Some(done) = writes.try_join_next() {
                done??;
            }
        }
        while let Some(done) = writes.join_next().await {
            done??;
        }
        writer.put("d/end", "").await?;
        Ok::<_, Failure>(n)
    });
    let mut events = 0_u64;
    loop {
        let event = tokio::time::timeout(2 * MINUTE, watch.event()).await??;
        let last = event.key().is_some_and(|key| key.as_str() == "d/end");
        events += 1;
        told(event);
        if last {
            break;
        }
    }
    let writes = writing.await??;
    println!("{writes} writes, {events} events, {} keys", mirror.len());
    assert!(writes >= 150 * 60, "{writes} writes in a minute are too few to show anything");
    let listed = kv.list("d").deadline(MINUTE).await?;
    let listed: BTreeMap<_, _> =
        listed.into_iter().map(|e| (e.key.to_string(), (e.version, e.value))).collect();
    assert!(mirror == listed, "{} keys told, {} listed", mirror.len(), listed.len());
    Ok(())
}

/// A resource that only the holder may use: it refuses a token that is not above all that it has
/// seen.
#[derive(Default)]
struct Guarded {
    highest: u64,
    inside: BTreeSet<u64>,
    entered: u64,
    refused: u64,
    faults: Vec<String>,
    /// Tokens of workers that were killed or paused: they may be inside for ever.
    disturbed: BTreeSet<u64>,
    /// The tokens that each worker has inside.
    of: BTreeMap<String, BTreeSet<u64>>,
}

impl Guarded {
    fn enter(&mut self, worker: &str, token: u64) -> bool {
        if token <= self.highest {
            self.refused += 1;
            return false;
        }
        let others: Vec<_> = self.inside.difference(&self.disturbed).collect();
        if !others.is_empty() {
            self.faults.push(format!("token {token} came in while {others:?} was inside"));
        }
        self.highest = token;
        self.entered += 1;
        self.inside.insert(token);
        self.of.entry(worker.to_owned()).or_default().insert(token);
        true
    }

    fn leave(&mut self, token: u64) {
        self.inside.remove(&token);
        for of in self.of.values_mut() {
            of.remove(&token);
        }
    }

    fn disturb(&mut self, worker: &str) {
        let of = self.of.get(worker).cloned().unwrap_or_default();
        self.disturbed.extend(of);
    }
}

async fn guard(listener: TcpListener, guarded: Arc<Mutex<Guarded>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let guarded = guarded.clone();
        // This task ends with its worker.
        tokio::spawn(async move {
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut words = line.split(' ');
                let (what, worker) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let token = words.next().and_then(|token| token.parse().ok()).unwrap_or_default();
                let fine = {
                    let mut guarded = guarded.lock().unwrap_or_else(PoisonError::into_inner);
                    match what {
                        "enter" => guarded.enter(worker, token),
                        _ => {
                            guarded.leave(token);
                            true
                        }
                    }
                };
                if write.write_all(if fine { b"y\n" } else { b"n\n" }).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Runs as a process of [`one_holder_at_a_time`], with 16 tasks. It is not a test of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of one_holder_at_a_time"]
async fn worker() -> Result<(), Failure> {
    let Ok(told) = std::env::var(WORKER) else { return Ok(()) };
    let [emulator, guarded, name] = told.split(' ').collect::<Vec<_>>()[..] else {
        return Err("three words".into());
    };
    let kv = common::config(emulator.parse()?, TABLE).open().await?;
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (kv, guarded, name) = (kv.clone(), guarded.to_owned(), name.to_owned());
        tasks.spawn(async move {
            let (read, mut write) = TcpStream::connect(guarded).await?.into_split();
            let mut answers = BufReader::new(read).lines();
            loop {
                let Ok(held) = kv.new_lock("l").ttl(TTL).acquire().await else { continue };
                write.write_all(format!("enter {name} {}\n", held.token()).as_bytes()).await?;
                if answers.next_line().await?.as_deref() == Some("y") {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    write.write_all(format!("leave {name} {}\n", held.token()).as_bytes()).await?;
                    answers.next_line().await?;
                }
                // A lock that cannot be given back ends by its TTL.
                let _ = held.release().await;
            }
            #[expect(unreachable_code, reason = "says what the task gives")]
            Ok::<_, Failure>(())
        });
    }
    // The tasks run until the process is killed.
    tasks.join_next().await.ok_or("there are tasks")??
}

fn start(node: &Node, guarded: std::net::SocketAddr, name: &str) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "worker", "--ignored", "--nocapture"]);
    command.env(WORKER, format!("{} {guarded} {name}", node.address));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?)
}

struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// 64 tasks in 4 processes contend for one lock for a minute, while processes are killed and
/// paused. There are never two holders, by the tokens that the guarded resource has seen.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn one_holder_at_a_time() -> Result<(), Failure> {
    let node = single().await?;
    node.open(TABLE).await?;
    let (listener, guarded) = (TcpListener::bind(("127.0.0.1", 0)).await?, Arc::<Mutex<Guarded>>::default());
    let address = listener.local_addr()?;
    let guarding = tokio::spawn(guard(listener, guarded.clone()));
    let mut workers = Workers(Vec::new());
    for n in 0..4 {
        workers.0.push(start(&node, address, &n.to_string())?);
    }
    let disturb = |name: &str| guarded.lock().unwrap_or_else(PoisonError::into_inner).disturb(name);
    let (began, mut round) = (Instant::now(), 0_usize);
    while began.elapsed() < MINUTE {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let at = round % 4;
        round += 1;
        let name = at.to_string();
        if round.is_multiple_of(2) {
            workers.0[at].kill()?;
            workers.0[at].wait()?;
            disturb(&name);
            workers.0[at] = start(&node, address, &name)?;
        } else {
            process::pause(&workers.0[at])?;
            disturb(&name);
            tokio::time::sleep(TTL * 2).await;
            process::resume(&workers.0[at])?;
        }
    }
    drop(workers);
    guarding.abort();
    let guarded = guarded.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} entered, {} refused by their token, {round} disturbances", guarded.entered, guarded.refused);
    assert_eq!(guarded.faults, [""; 0]);
    assert!(guarded.entered > 50, "{} entered", guarded.entered);
    Ok(())
}
