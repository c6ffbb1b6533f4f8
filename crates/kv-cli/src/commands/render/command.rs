//! The commands that check and reload what was rendered.

use crate::{
    exit::{Failure, Run},
    guarded::Child,
    text,
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    time::Duration,
};
use tokio::time::timeout;

/// The time between the end of a command's time and its kill.
const GRACE: Duration = Duration::from_secs(2);

/// Returns a word of a command in which each `{}` is the file.
fn with_the_file(word: &str, file: &OsStr) -> OsString {
    let parts: Vec<_> = word.split("{}").map(str::as_bytes).collect();
    OsString::from_vec(parts.join(file.as_bytes()))
}

/// Runs a command without a shell: its words are split at white space, and `{}` is the file. It has a
/// process group of its own, of which nothing is left when it ends, when its time is over, or when
/// this program ends.
pub(super) async fn run(what: &str, line: &str, file: &Path, within: Duration) -> Run<()> {
    let words: Vec<_> = line.split_whitespace().map(|word| with_the_file(word, file.as_os_str())).collect();
    if words.is_empty() {
        return Err(Failure::usage(format!("the command of --{what} is empty")));
    }
    let then = if what == "check" { "; the file stays as it was" } else { "" };
    let mut child = Child::start_unattended(&words)?;
    let ended = match timeout(within, child.status()).await {
        Ok(ended) => ended,
        Err(_) => {
            child.ask_to_end(GRACE);
            child.status().await?;
            let within = text::of_duration(within);
            return Err(Failure::here(format!("{line:?} did not end within {within}, and was ended{then}")));
        }
    };
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::here(format!("{line:?} ended with {status}{then}"))),
        // The codes of shells are for commands that are this program's own result.
        Err(Failure::Found(_, why)) => Err(Failure::here(format!("{why}{then}"))),
        Err(other) => Err(other),
    }
}
