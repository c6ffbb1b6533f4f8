//! Workers contend for one lock around resources that two must never use at once:
//!
//! ```text
//! cargo run --example lock            # on an embedded store, in the file lock.redb
//! cargo run --example lock -- URL     # on the store of this URL; start it several times at once
//! ```
//!
//! The program fails if one of its claims is false: nobody else is inside while a worker holds the
//! lock, no update of a worker is lost, and a late request with an old token is refused.

use kv_core::{Error, ErrorKind, Kv, Result};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinSet;

const WORKERS: usize = 8;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://lock.redb".into());
    let kv = kv_examples::open(&url).await?;
    let printer = Arc::new(Printer::default());

    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(work(kv.clone(), printer.clone(), worker));
    }
    let mut written = BTreeSet::new();
    while let Some(worker) = workers.join_next().await {
        let counts = worker.map_err(|e| Error::new(ErrorKind::Other, "a worker failed").with_cause(e))??;
        for count in counts {
            claim(written.insert(count), "two workers counted from the same number: an update is lost")?;
        }
    }
    claim(written.len() == WORKERS * ROUNDS, "every round has counted")?;
    println!("{WORKERS} workers took {} turns, one at a time, and no update was lost", written.len());

    // A holder that was replaced without noticing comes late to a resource outside the store.
    let old = kv.new_lock("lock-example").acquire().await?;
    let late = old.token();
    old.release().await?;
    let new = kv.new_lock("lock-example").acquire().await?;
    claim(printer.begin(new.token()), "the holder can print")?;
    printer.end();
    claim(!printer.begin(late), "an old token is refused")?;
    println!("an old token was refused");
    kv.close().await
}

/// Takes the turns of one worker; returns the numbers that it has written.
async fn work(kv: Kv, printer: Arc<Printer>, worker: usize) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for _ in 0..ROUNDS {
        let guard = kv.new_lock("lock-example").value(format!("worker {worker}")).acquire().await?;
        claim(printer.begin(guard.token()), "a new holder has the greatest token, and is alone")?;
        // Reads, then writes what follows from the value: right only if nobody else does so
        // meanwhile.
        let entry = kv.get("lock-example/count").await?;
        let count = entry.and_then(|e| e.text()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        // Whoever asks `kv.lock_holder("lock-example")` reads what the holder does.
        guard.set_value(format!("worker {worker} counts {count}")).await?;
        kv.put("lock-example/count", count.to_string()).fenced(&guard).await?;
        counts.push(count);
        printer.end();
        claim(guard.release().await?, "the lock was still held")?;
    }
    Ok(counts)
}

fn claim(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Other, format!("not true: {what}"))) }
}

/// A resource outside the store, for one user at a time. It remembers the greatest token, and
/// refuses every token that is not greater.
#[derive(Default)]
struct Printer(Mutex<(u64, bool)>);

impl Printer {
    /// Begins to print; `false` if somebody prints now, or a newer holder has printed.
    fn begin(&self, token: u64) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, busy) = *state;
        let free = !busy && token > newest; // each holder begins once
        if free {
            *state = (token, true);
        }
        free
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = false;
    }
}
