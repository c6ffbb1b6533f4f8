//! Asks for fewer values where many are too much: how large values are, only an answer tells.

use kv_core::{Error, ErrorKind, Result, driver::Deadline};
use std::future::Future;

/// Sets how many times fewer keys a request asks for than the one before it, and how many times
/// more at most.
pub(super) const STEP: usize = 64;

/// Asks for so many keys, and for fewer where these were too much: for the connection within the
/// deadline, or for one answer of the server. Returns for how many it asked last.
pub(crate) async fn fewer<T, F>(
    most: usize,
    deadline: Deadline,
    ask: impl Fn(usize, Deadline) -> F,
) -> Result<(usize, T)>
where
    F: Future<Output = Result<T>>,
{
    let mut count = most;
    loop {
        // Most of the time is left for fewer: what comes of so many until it is over is in the way.
        let within = match count {
            0 | 1 => deadline,
            _ => Deadline::after(deadline.remaining() / 3),
        };
        match ask(count, within).await {
            Err(e) if count > 1 && is_too_much(&e) => {
                tracing::debug!(error = %e, count, "asking for fewer keys");
                count = count.div_ceil(STEP);
            }
            answer => return Ok((count, answer?)),
        }
    }
}

/// Tells whether a request for fewer keys may be answered where this is the error of one for many.
pub(super) fn is_too_much(error: &Error) -> bool {
    error.is_transient() || error.kind() == ErrorKind::TooLarge
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Mutex, time::Duration};

    /// Returns the counts that are asked for where only so many are answered, and how that ends.
    async fn asked(most: usize, answered: usize, kind: ErrorKind) -> (Vec<usize>, Result<usize>) {
        let counts = Mutex::<Vec<usize>>::default();
        let deadline = Deadline::after(Duration::from_secs(60));
        let answer = fewer(most, deadline, |count, within| {
            counts.lock().unwrap().push(count);
            assert_eq!(within.within() > Duration::from_secs(30), count <= 1, "{count}: {within:?}");
            async move { if count <= answered { Ok(count) } else { Err(Error::new(kind, "too many")) } }
        });
        let answer = answer.await.map(|(count, got)| {
            assert_eq!(count, got);
            count
        });
        (counts.into_inner().unwrap(), answer)
    }

    #[tokio::test]
    async fn what_is_too_much_is_asked_for_in_parts() {
        for kind in [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::TooLarge] {
            assert_eq!(asked(4096, 4096, kind).await.0, [4096]);
            assert_eq!(asked(4096, 100, kind).await.0, [4096, 64]);
            assert_eq!(asked(64, 2, kind).await.0, [64, 1]);
            assert_eq!(asked(65, 1, kind).await.0, [65, 2, 1]);
            let (counts, answer) = asked(64, 0, kind).await;
            assert_eq!((counts, answer.unwrap_err().kind()), (vec![64, 1], kind));
        }
        let (counts, answer) = asked(64, 0, ErrorKind::PermissionDenied).await;
        assert_eq!((counts, answer.unwrap_err().kind()), (vec![64], ErrorKind::PermissionDenied));
        assert_eq!(asked(0, 0, ErrorKind::Timeout).await.0, [0]);
    }
}
