//! Measures durable puts a second, by the number of callers at once, beside plain redb with a
//! commit for each put; and reads, beside plain redb on the same thread.
//!
//! `cargo bench -p kv-redb` prints medians of some rounds of half a second each. The file lies in
//! the folder for temporary files, or in the one that `KV_BENCH_DIR` names, since the disk is what
//! is measured.

use kv_core::{Kv, Result};
use kv_redb::Config;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::{
    env,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const ROUND: Duration = Duration::from_millis(500);
const ROUNDS: usize = 5;
const CALLERS: [usize; 3] = [1, 16, 64];
const VALUE: [u8; 100] = [7; 100];

fn key(n: u64) -> String {
    format!("bench/{:05}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_000)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Returns puts a second, and puts for each commit.
async fn ours(path: &Path, callers: usize, quick_repair: bool) -> Result<(f64, f64)> {
    let store = Arc::new(Config::new(path).quick_repair(quick_repair).build().await?);
    let kv = Kv::new(store.clone());
    let (mut rates, before) = (Vec::new(), store.stats()?);
    for _ in 0..ROUNDS {
        let (began, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let callers: Vec<_> = (0..callers)
            .map(|_| {
                let (kv, count) = (kv.clone(), count.clone());
                tokio::spawn(async move {
                    while began.elapsed() < ROUND {
                        kv.put(key(count.fetch_add(1, Ordering::Relaxed)), &VALUE[..]).await?;
                    }
                    Ok::<_, kv_core::Error>(())
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("a caller panicked")?;
        }
        rates.push(count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64());
    }
    let after = store.stats()?;
    kv.close().await?;
    Ok((median(rates), (after.writes - before.writes) as f64 / (after.commits - before.commits) as f64))
}

/// Returns puts a second of plain redb: each caller is a thread, each put a transaction.
fn plain(path: &Path, callers: usize) -> f64 {
    const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("data");
    let database = Database::create(path).expect("the file can be made");
    let rates = (0..ROUNDS).map(|_| {
        let (began, count) = (Instant::now(), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| {
                    while began.elapsed() < ROUND {
                        let write = database.begin_write().expect("begin");
                        let name = key(count.fetch_add(1, Ordering::Relaxed));
                        write.open_table(TABLE).expect("table").insert(&*name, &VALUE[..]).expect("insert");
                        write.commit().expect("commit");
                    }
                });
            }
        });
        count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
    });
    median(rates.collect())
}

/// The keys below `bench/`, of which the puts before have made most.
const KEYS: u64 = 1_000;

/// Returns the median time of reads one after another, in rounds of a thousand.
async fn timed<T>(read: impl AsyncFn(u64) -> T) -> Duration {
    let mut took = Vec::new();
    for _ in 0..101 {
        let began = Instant::now();
        for n in 0..KEYS {
            std::hint::black_box(read(n).await);
        }
        took.push(began.elapsed() / KEYS as u32);
    }
    took.sort();
    took[took.len() / 2]
}

/// Prints the times of gets and of listings of a hundred: from memory, by threads of the pool
/// (where the cache is small), and of plain redb on the same thread.
async fn reads(path: &Path) -> Result<()> {
    type Row<'a> = (u64, u64, u64, Option<&'a [u8]>);
    const DATA: TableDefinition<'_, &str, Row<'_>> = TableDefinition::new("kv.data");
    println!("| reads | a get | a listing of 100 |");
    println!("|---|---:|---:|");
    for (name, cache_size) in [("kv-redb, file in the cache", 64 << 20), ("by the pool's threads", 64 << 10)]
    {
        let kv = Config::new(path).cache_size(cache_size).open().await?;
        let get = timed(async |n| kv.get(key(n)).await.expect("a read")).await;
        let list = timed(async |_| kv.list("bench").limit(100).await.expect("a listing")).await;
        println!("| {name} | {get:?} | {list:?} |");
        kv.close().await?;
    }
    let database = Database::open(path).expect("the file can be opened");
    let table = || database.begin_read().expect("a snapshot").open_table(DATA).expect("the table");
    let get =
        timed(async |n| table().get(&*key(n)).expect("a read").map(|row| row.value().3.map(<[u8]>::to_vec)));
    let list = timed(async |_| {
        let rows = table().range::<&str>("bench/"..).expect("a range").take(100).map(|row| {
            let (name, row) = row.expect("a row");
            (name.value().to_owned(), row.value().3.map(<[u8]>::to_vec))
        });
        rows.collect::<Vec<_>>()
    });
    println!("| plain redb, inline | {:?} | {:?} |", get.await, list.await);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = match env::var_os("KV_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder for the files");
    let at = |name: &str| folder.path().join(name);
    println!("durable puts of 100 bytes a second, median of {ROUNDS} rounds of {ROUND:?}");
    println!("| callers | kv-redb | puts a commit | with quick repair | plain redb, a commit a put |");
    println!("|---:|---:|---:|---:|---:|");
    for callers in CALLERS {
        let (rate, shared) = ours(&at("ours.redb"), callers, false).await?;
        let (quick, _) = ours(&at("quick.redb"), callers, true).await?;
        let path = at("plain.redb");
        let plain = tokio::task::spawn_blocking(move || plain(&path, callers)).await.expect("no panic");
        println!("| {callers} | {rate:.0} | {shared:.1} | {quick:.0} | {plain:.0} |");
    }
    reads(&at("ours.redb")).await
}
