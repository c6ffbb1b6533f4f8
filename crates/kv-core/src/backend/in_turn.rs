//! Making what many wait for: one at a time makes it, and the others look again.

use super::apart;
use crate::Result;
use std::{fmt, future::Future, sync::Arc};
use tokio::sync::Mutex as Turn;

/// Lets one caller at a time make what many wait for: a connection, a login, a session. When it is
/// made, those behind it look again, and find it. Where it failed, or its maker has left, the next
/// in line makes it.
///
/// The making goes on also while its caller is not polled, as [`apart`](apart()) has it, so that no
/// call holds up the others. Whoever leaves ends what it makes; what is to go on without its caller
/// is for [`Tasks`](super::Tasks).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::backend::{InTurn, Mutex};
/// use std::sync::Arc;
///
/// let (turn, link) = (InTurn::default(), Arc::new(Mutex::new(None)));
/// let connect = |number: u32| {
///     let (standing, new) = (link.clone(), link.clone());
///     let make = async move {
///         tokio::task::yield_now().await;
///         *new.lock() = Some(number);
///         Ok(number)
///     };
///     turn.get(move || *standing.lock(), make)
/// };
/// let (one, other) = tokio::try_join!(connect(1), connect(2))?;
/// assert_eq!((one, other), (1, 1)); // the second finds what the first has made
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct InTurn(Arc<Turn<()>>);

impl InTurn {
    /// Waits for its turn; returns then what `look` finds, and where it finds nothing, what `make`
    /// makes. `make` begins nothing before that, and keeps what it makes where `look` finds it.
    ///
    /// # Errors
    /// Those of `make`, and those of [`apart`](apart()).
    ///
    /// # Cancel safety
    /// A future that is dropped drops `make`, and gives its turn to the next.
    pub fn get<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> Option<T> + Send + 'static,
        make: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let turn = self.0.clone();
        apart(async move {
            let _turn = turn.lock().await;
            match look() {
                Some(there) => Ok(there),
                None => make.await,
            }
        })
    }
}

impl fmt::Debug for InTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InTurn")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};
    use std::{
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicU32, Ordering::SeqCst},
        task::Poll,
    };
    use tokio::sync::Semaphore;

    /// Holds what is made once a permit is given for it.
    #[derive(Clone)]
    struct Made {
        turn: InTurn,
        number: Arc<AtomicU32>,
        begun: Arc<AtomicU32>,
        may: Arc<Semaphore>,
    }

    impl Made {
        fn new() -> Self {
            let (number, begun) = (Arc::default(), Arc::default());
            Self { turn: InTurn::default(), number, begun, may: Arc::new(Semaphore::new(0)) }
        }

        fn get(&self, number: u32) -> impl Future<Output = Result<u32>> + Send + 'static {
            let (there, made) = (self.number.clone(), self.clone());
            let look = move || Some(there.load(SeqCst)).filter(|number| *number > 0);
            self.turn.get(look, async move {
                made.begun.fetch_add(1, SeqCst);
                made.may.acquire().await.expect("nobody closes it").forget();
                if number == 0 {
                    return Err(Error::new(ErrorKind::Unavailable, "it cannot be made"));
                }
                made.number.store(number, SeqCst);
                Ok(number)
            })
        }
    }

    async fn begin(get: &mut (impl Future<Output = Result<u32>> + Unpin)) {
        poll_fn(|cx| {
            assert!(pin!(&mut *get).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn one_makes_it_also_unpolled_and_the_others_find_it() {
        let made = Made::new();
        let (mut one, mut other) = (Box::pin(made.get(1)), Box::pin(made.get(2)));
        begin(&mut one).await;
        begin(&mut other).await;
        made.may.add_permits(1);
        assert_eq!(other.await.unwrap(), 1, "the first is not polled");
        assert_eq!((one.await.unwrap(), made.begun.load(SeqCst)), (1, 1));
    }

    #[tokio::test]
    async fn the_next_makes_it_after_a_failure_and_after_one_that_left() {
        let made = Made::new();
        let (mut left, mut failing, mut next) =
            (Box::pin(made.get(1)), Box::pin(made.get(0)), Box::pin(made.get(3)));
        begin(&mut left).await;
        begin(&mut failing).await;
        begin(&mut next).await;
        drop(left);
        made.may.add_permits(2);
        assert_eq!(failing.await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!((next.await.unwrap(), made.begun.load(SeqCst)), (3, 3));
    }
}
