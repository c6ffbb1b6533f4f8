//! The program of the guide's page "Locks and time".

use kv_core::{Error, ErrorKind, Result};
use std::{thread, time::Duration};
use tokio::sync::oneshot;

const TTL: Duration = Duration::from_millis(500);

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
            worker.await.map_err(|e| Error::new(ErrorKind::Other, "a worker failed").with_cause(e))??;
        }
        let left = kv.get("account").await?;
        println!("  the account holds {}", left.as_ref().and_then(|e| e.text()).unwrap_or("nothing"));
        kv.close().await?;
    }
    Ok(())
}

/// Takes 10 from the account under a lock. Each worker has a runtime of its own, as a process has.
#[tokio::main(flavor = "current_thread")]
async fn withdraw(who: &str, fenced: bool, pause: impl FnOnce()) -> Result<()> {
    let kv = kv_memory::open("memory://bank").await?;
    let guard = kv.new_lock("account").ttl(TTL).acquire().await?;
    let balance = kv.get("account").await?.and_then(|e| e.text()?.parse::<i64>().ok()).unwrap_or(0);
    println!("  {who} holds the lock with token {}, and reads {balance}", guard.token());
    assert!(guard.is_held(), "a look at the guard right before the write");
    pause();
    let put = kv.put("account", (balance - 10).to_string());
    let written = if fenced { put.fenced(&guard).await } else { put.await };
    match written {
        Ok(_) => println!("  {who} writes {}", balance - 10),
        Err(e) => println!("  {who} is refused: {e}"),
    }
    kv.close().await
}
