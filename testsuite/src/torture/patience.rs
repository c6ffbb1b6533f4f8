//! Calls that are repeated until they succeed, since servers and links may be in trouble
//! meanwhile.

use crate::Failure;
use std::{fmt::Display, time::Duration};

/// The time that the end of a round waits for what must come when all troubles are over.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Calls until it succeeds.
///
/// # Errors
/// The call does not succeed for a minute; the message has the last error.
pub(super) async fn until_done<T, E, F>(what: &str, mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut last = String::from("no answer");
    let tries = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(e) => last = e.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, tries).await;
    answer.map_err(|_| format!("{what} fails for a minute: {last}").into())
}
