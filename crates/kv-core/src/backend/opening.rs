//! Notes in the error of an opening the call, the backend, and for how long it was tried.

use crate::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

/// Returns a function for `map_err`, which notes in an error that it comes from opening a store of
/// this backend.
///
/// ```
/// use kv_core::{StoreUrl, backend::in_open};
///
/// let e = StoreUrl::parse("no URL").map_err(in_open("etcd")).unwrap_err();
/// assert_eq!((e.operation(), e.backend()), (Some("open"), Some("etcd")));
/// ```
pub fn in_open(backend: &'static str) -> impl Fn(Error) -> Error {
    move |error| error.in_call("open", backend, None)
}

/// Opens a store on a server of this backend: does what `connect` does.
///
/// # Errors
/// Those of `connect`, noted as [`in_open`] does. One that may pass tells for how long the opening
/// was tried: it is that of the last attempt alone, and does not show that there were others. In
/// the place of [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) comes its cause: what an opening
/// writes can be written again, so that whoever opens anew need not look first.
///
/// # Cancel safety
/// That of `connect`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::{Error, ErrorKind, Result, backend::opening};
///
/// let connect = async { Result::<()>::Err(Error::new(ErrorKind::Unavailable, "h1:2379: cannot be reached")) };
/// let e = opening("etcd", connect).await.unwrap_err();
/// assert_eq!((e.operation(), e.backend()), (Some("open"), Some("etcd")));
/// assert!(e.to_string().contains("tried for ") && e.to_string().contains("h1:2379: cannot be reached"));
/// # }
/// ```
pub async fn opening<S>(backend: &'static str, connect: impl Future<Output = Result<S>>) -> Result<S> {
    let begun = Instant::now();
    connect.await.map_err(|error| in_open(backend)(tried_for(begun.elapsed(), known(error))))
}

fn known(error: Error) -> Error {
    if error.kind() != ErrorKind::OutcomeUnknown {
        return error;
    }
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<Error>()).cloned();
    cause.unwrap_or_else(|| error.with_kind(ErrorKind::Timeout))
}

fn tried_for(time: Duration, error: Error) -> Error {
    if error.is_transient() { error.behind(&format!("tried for {time:.1?}")) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::retry::outcome_unknown;

    #[tokio::test]
    async fn an_opening_that_can_be_repeated_has_no_unknown_outcome() {
        let unanswered = Error::new(ErrorKind::Timeout, "h1: no answer within 187ms");
        let open = async |error| opening::<()>("redis", async { Err(error) }).await.unwrap_err();
        let error = open(outcome_unknown(unanswered)).await;
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().ends_with("h1: no answer within 187ms"), "{error}");
        let bare = open(Error::new(ErrorKind::OutcomeUnknown, "cut off")).await;
        assert_eq!((bare.kind(), bare.operation()), (ErrorKind::Timeout, Some("open")));
    }

    #[test]
    fn the_time_is_told_where_more_time_may_help() {
        let of = |kind| tried_for(Duration::from_millis(4912), Error::new(kind, "h1: no")).to_string();
        assert_eq!(of(ErrorKind::Unavailable), "tried for 4.9s: h1: no");
        assert_eq!(of(ErrorKind::InvalidArgument), "h1: no");
    }
}
