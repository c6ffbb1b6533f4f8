//! Turns of contenders that come at a bad moment.

use futures::{FutureExt, future::BoxFuture};
use kv_core::{Guard, Kv, Result};
use kv_memory::Memory;

/// Makes an acquisition that has its place in the queue.
fn in_line(kv: &Kv) -> BoxFuture<'static, Result<Guard>> {
    let mut waiting = kv.new_lock("l").acquire().boxed();
    assert!(waiting.as_mut().now_or_never().is_none(), "the lock is held");
    waiting
}

#[tokio::test]
async fn a_waiter_that_is_dropped_at_its_turn_passes_it_on() {
    let kv = Kv::new(Memory::new());
    let first = kv.new_lock("l").acquire().await.unwrap();
    let (second, mut third) = (in_line(&kv), in_line(&kv));
    let mut last = in_line(&kv);
    first.release().await.unwrap(); // the second has the lock now, and does not know it yet
    let token = kv.lock_holder("l").await.unwrap().unwrap().token;
    assert!(third.as_mut().now_or_never().is_none());
    assert!(kv.new_lock("l").try_acquire().await.unwrap().is_none(), "nobody overtakes");
    drop(second);
    let third = third.await.unwrap();
    assert!(third.token() > token);
    assert!(last.as_mut().now_or_never().is_none());
    third.release().await.unwrap();
    last.await.unwrap().release().await.unwrap();
    assert_eq!(kv.lock_holder("l").await.unwrap(), None);
}

#[test]
fn waiters_whose_runtime_ended_are_passed_over() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (memory, gone, stays) = (Memory::new(), runtime(), runtime());
    let kv = Kv::new(memory.clone());
    let first = stays.block_on(kv.new_lock("l").acquire()).unwrap();
    let dead = {
        let _in_its_runtime = gone.enter();
        in_line(&kv)
    };
    drop(gone);
    drop(dead); // nothing is left that could give its place back
    stays.block_on(async {
        let mut next = in_line(&kv);
        first.release().await.unwrap();
        assert!(next.as_mut().now_or_never().expect("its turn, at once").unwrap().is_held());
    });
}
