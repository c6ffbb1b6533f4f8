//! A program that only ever calls the store lets others run, as it does on every other backend.

use kv_core::{Kv, Result};
use std::time::Duration;

async fn open() -> Kv {
    kv_memory::open("memory://").await.unwrap()
}

/// Runs a loop of calls and a timer on one thread.
#[tokio::test]
async fn a_timer_fires_beside_a_loop_of_calls() {
    let kv = open().await;
    let mut timer = Box::pin(tokio::spawn(tokio::time::sleep(Duration::from_millis(20))));
    let calls = async {
        loop {
            kv.get("a").await.unwrap();
            kv.list("d").await.unwrap();
        }
    };
    tokio::select! {
        fired = &mut timer => fired.unwrap(),
        () = calls => {}
    }
}

/// Runs workers that look for jobs by trying their locks, more of them than threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_workers_ends() -> Result<()> {
    const JOBS: usize = 12;
    let kv = open().await;
    let work = |kv: Kv| async move {
        loop {
            let mut left = 0;
            for job in 0..JOBS {
                if kv.exists(format!("done/{job}")).await? {
                    continue;
                }
                left += 1;
                let Some(guard) = kv.new_lock(format!("job/{job}")).try_acquire().await? else { continue };
                tokio::time::sleep(Duration::from_millis(5)).await;
                kv.put(format!("done/{job}"), "").fenced(&guard).await?;
                guard.release().await?;
            }
            if left == 0 {
                return Result::Ok(());
            }
        }
    };
    let workers: Vec<_> = (0..4).map(|_| tokio::spawn(work(kv.clone()))).collect();
    for worker in workers {
        worker.await.unwrap()?;
    }
    assert_eq!(kv.list("done").await?.len(), JOBS);
    Ok(())
}
