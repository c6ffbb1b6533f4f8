//! Undoing at the same time.

use super::*;
use std::sync::{
    Barrier,
    atomic::{AtomicU32, Ordering},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_done_once_whoever_begins_it_and_whoever_closes_waits_for_it() {
    for round in 0..20_000 {
        let (done, tasks, both) = (Arc::new(AtomicU32::new(0)), Tasks::default(), Arc::new(Barrier::new(2)));
        let doing = done.clone();
        let undo = tasks.undo(async move {
            doing.fetch_add(1, Ordering::SeqCst);
            Ok(true)
        });
        let (weak, closing, there) = (undo.weak(), tasks.clone(), both.clone());
        let closes = tokio::task::spawn_blocking(move || {
            there.wait();
            weak.begin(&closing);
        });
        let runs = tokio::spawn(async move {
            both.wait();
            undo.run().await
        });
        closes.await.unwrap();
        tasks.finish().await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1, "round {round}: it was begun, and is not done");
        assert!(runs.await.unwrap().is_ok());
    }
}
