//! The program of the guide's page "Locks and time".

use kv_core::{Error, ErrorKind, Result};
use std::{thread, time::Duration};
use tokio::sync::oneshot;

const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<()> {
    for fenced in [false, true] {
        println!("{} a fence", if fenced { "with" } else { "without" });
        let kv = kv_memory::open("memory://bank").await?;
        kv.put("account", "100").await?;
        let (read, has_read) = oneshot::channel();
        let slow = move || {
            withdraw("slow", fenced, || {
                let _ = read.send(());
                thread::sleep(4 * TTL); // the process is stopped, or its machine sleeps
                println!("  slow wakes up");
            })
        };
        let slow = tokio::task::spawn_blocking(slow);
        let _ = has_read.await;
        let quick = tokio::task::spawn_blocking(move || withdraw("quick", fenced, || ()));
        for worker in [quick, slow] {
            let failed = |e| Error::new(ErrorKind::Other, "a worker failed").with_cause(e);
            worker.await.map_err(failed)??;
        }
        let left = kv.get("account").await?.expect("nobody deletes it");
        println!("  the account holds {}", left.text().unwrap_or("no number"));
        kv.close().await?;
    }
    Ok(())
}

/// Takes 10 from the account under a lock. Each worker has a runtime of its own, as a process has.
#[tokio::main(flavor = "current_thread")]
async fn withdraw(who: &str, fenced: bool, pause: impl FnOnce()) -> Result<()> {
    let kv = kv_memory::open("memory://bank").await?;
    let guard = kv.new_lock("account").ttl(TTL).acquire().await?;
    let found = kv.get("account").await?;
    let balance: i64 = found.and_then(|e| e.text()?.parse().ok()).unwrap_or(0);
    println!("  {who} holds the lock, and reads {balance}");
    assert!(guard.is_held(), "a look at the guard right before the write");
    pause();
    let put = kv.put("account", (balance - 10).to_string());
    let written = if fenced { put.fenced(&guard).await } else { put.await };
    match written {
        Ok(_) => println!("  {who} writes {}", balance - 10),
        Err(e) => println!("  {who} is refused: {}", e.kind()),
    }
    kv.close().await
}
