//! A pause in which a runtime that stood still hears which connections have ended.

use crate::driver::Deadline;

/// The turns that the tasks get. A runtime that has just been entered gives the first one back at
/// once; then the news of a connection's end passes from the driver to the connection's reader, to
/// its owner, and to whoever hands requests to it.
const TURNS: usize = 8;

/// Lets a runtime that stood still (`block_on` now and then, a process that was stopped) hear
/// which connections have ended meanwhile, before a write is sent into one of them: nobody would
/// know what became of that write. Returns as soon as `has_ended` says that the connection has
/// ended.
///
/// It takes a few turns of the runtime, some microseconds in all, and no timer. On a runtime that
/// is busy, it takes no turn after the deadline. Look at the deadline before you send: if it has
/// passed, nothing was sent, and the caller is to hear that. Cancel safe.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::{backend::catch_up, driver::Deadline};
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
///
/// let has_ended = Arc::new(AtomicBool::new(false));
/// let reader = has_ended.clone();
/// tokio::spawn(async move { reader.store(true, Ordering::Relaxed) });
/// catch_up(Deadline::default(), || has_ended.load(Ordering::Relaxed)).await;
/// assert!(has_ended.load(Ordering::Relaxed));
/// # }
/// ```
pub async fn catch_up(deadline: Deadline, mut has_ended: impl FnMut() -> bool) {
    for _ in 0..TURNS {
        if has_ended() || deadline.has_passed() {
            break;
        }
        tokio::task::yield_now().await;
    }
}
