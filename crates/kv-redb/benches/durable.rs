//! Measures durable puts a second, by the number of callers at once, beside plain redb with a
//! commit for each put.
//!
//! `cargo bench -p kv-redb` prints medians of some rounds of half a second each. The file lies in
//! the folder for temporary files, or in the one that `KV_BENCH_DIR` names, since the disk is what
//! is measured.

use kv_core::{Kv, Result};
use kv_redb::Config;
use redb::{Database, TableDefinition};
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

/// Returns the median time of single gets, one after another.
async fn gets(path: &Path) -> Result<Duration> {
    let kv = Config::new(path).open().await?;
    let mut took = Vec::new();
    for n in 0..5_000 {
        let began = Instant::now();
        kv.get(key(n)).await?;
        took.push(began.elapsed());
    }
    took.sort();
    kv.close().await?;
    Ok(took[took.len() / 2])
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
    println!("a get takes {:?}", gets(&at("ours.redb")).await?);
    Ok(())
}
