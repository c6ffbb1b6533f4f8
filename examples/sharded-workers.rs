//! Workers that share the shards of a queue: each shard has one worker at most, also while workers
//! come and go.
//!
//! ```text
//! cargo run --example sharded-workers            # on an embedded store, in sharded-workers.redb
//! cargo run --example sharded-workers -- URL     # on the store of this URL
//! ```
//!
//! The program fails if one of its claims is false: every job is done once, by one worker at a time,
//! the shards are shared evenly, and when a worker leaves in the middle the others go on.

use kv_core::{Error, ErrorKind, Kv, Result};
use kv_recipes::{Shard, Shards, View};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::task::JoinHandle;

const SHARDS: usize = 8;
/// The jobs of each shard.
const JOBS: usize = 40;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://sharded-workers.redb".into());
    let kv = kv_examples::open(&url).await?;
    kv.delete_tree("sharded-workers").await?; // removes what an earlier run left

    let board = Board::default();
    let mut workers: BTreeMap<&str, _> =
        ["ann", "bob"].into_iter().map(|name| (name, start(&kv, name, &board))).collect();
    board.until(|board| board.owned_by("ann") == 4 && board.owned_by("bob") == 4).await;
    println!("ann and bob have four shards each");

    workers.insert("cleo", start(&kv, "cleo", &board));
    board.until(|board| ["ann", "bob", "cleo"].iter().all(|name| board.owned_by(name) >= 2)).await;
    println!("cleo came, and has her share");

    if let Some(ann) = workers.remove("ann") {
        ann.abort(); // she leaves in the middle of her work
    }
    board.until(|board| board.owned_by("ann") == 0 && board.owners.len() == SHARDS).await;
    println!("ann left, and the others have her shards");

    let results = View::raw(&kv, "sharded-workers/results").await?;
    let mut changes = results.changes();
    while results.len() < SHARDS * JOBS {
        changes.next().await?;
    }
    claim(board.lock().faults.is_empty(), "no shard has two workers")?;
    println!("{} jobs are done, each once", SHARDS * JOBS);
    workers.into_values().for_each(|worker| worker.abort());
    kv.close().await
}

fn start(kv: &Kv, name: &'static str, board: &Board) -> JoinHandle<Error> {
    let shards = Shards::new(kv, "sharded-workers/queue", SHARDS).member(name);
    let (kv, board) = (kv.clone(), board.clone());
    tokio::spawn(async move { shards.run(move |shard| work(kv.clone(), name, shard, board.clone())).await })
}

/// Works on one shard, as long as it is this worker's.
async fn work(kv: Kv, name: &'static str, shard: Shard, board: Board) {
    let _owner = Owner::new(board, name, shard.id());
    // A shard that was lost in the middle of a job is another's.
    if let Err(e) = jobs(&kv, name, &shard).await {
        println!("{name} lost shard {}: {}", shard.id(), e.kind());
    }
    std::future::pending().await
}

/// Does the jobs of a shard, from where the worker before has ended.
async fn jobs(kv: &Kv, name: &str, shard: &Shard) -> Result<()> {
    let done = format!("sharded-workers/done/{}", shard.id());
    let first = kv.get(&done).await?.and_then(|entry| entry.text()?.parse().ok()).unwrap_or(0);
    for job in first..JOBS {
        tokio::time::sleep(Duration::from_millis(25)).await; // a job takes some time
        // The result and the mark are written together, and by the owner of the shard alone: so
        // nothing is done twice, and nothing is left out.
        let result = kv.put(format!("sharded-workers/results/{}-{job}", shard.id()), name).if_missing();
        let mark = kv.put(&done, (job + 1).to_string());
        let written = kv.transact().when_held(shard).then(result).then(mark).await?;
        if let Some(refusal) = written.refusal() {
            return Err(Error::new(ErrorKind::LockLost, format!("another has it: {refusal:?}")));
        }
    }
    Ok(())
}

/// The owner of each shard, and the faults that were seen.
#[derive(Default)]
struct Known {
    owners: BTreeMap<usize, &'static str>,
    faults: Vec<String>,
}

impl Known {
    fn owned_by(&self, name: &str) -> usize {
        self.owners.values().filter(|owner| **owner == name).count()
    }
}

#[derive(Clone, Default)]
struct Board(Arc<(Mutex<Known>, tokio::sync::Notify)>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this is so.
    async fn until(&self, is_so: impl Fn(&Known) -> bool) {
        loop {
            let changed = self.0.1.notified();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}

/// The work of one worker on one shard, until this is dropped.
struct Owner {
    board: Board,
    shard: usize,
}

impl Owner {
    fn new(board: Board, name: &'static str, shard: usize) -> Self {
        {
            let known = &mut *board.lock();
            if let Some(other) = known.owners.insert(shard, name) {
                known.faults.push(format!("{name} began shard {shard} beside {other}"));
            }
        }
        board.0.1.notify_waiters();
        Self { board, shard }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.board.lock().owners.remove(&self.shard);
        self.board.0.1.notify_waiters();
    }
}

fn claim(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Other, format!("not true: {what}"))) }
}
