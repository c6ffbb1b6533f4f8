//! The arguments that commands share: the times of `lock`, `elect`, `semaphore` and `lease`, and the
//! store of `doctor`, `health` and `ui`.

use crate::{stores::Turn, text};
use clap::Args;
use std::{process, time::Duration};

/// The time for which another process may have a file open that is not waited for: commands that
/// read or write a key are done within it.
const IN_PASSING: Duration = Duration::from_secs(1);

/// A store that is named behind the command, which has no other names.
#[derive(Args, Debug, Default)]
pub(crate) struct Named {
    /// The URL of the store, or its name in the file of stores, as --store has it
    #[arg(value_name = "URL|NAME")]
    pub(crate) place: Option<String>,
}

/// The times of something that is held for a command.
#[derive(Args, Debug)]
pub(super) struct Times {
    /// The time by which it outlives a holder that is killed or cut off
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = text::duration)]
    pub(super) ttl: Duration,
    /// The time between the loss and the kill of the command: eight hundredths of the TTL at most,
    /// which it is unless given
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    pub(super) grace: Option<Duration>,
}

/// The time to wait for something that others have.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Does not wait: if others have it, ends with exit code 1
    #[arg(long = "try", conflicts_with = "within")]
    pub(super) at_once: bool,
    /// Gives up waiting after this time, with exit code 1
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    pub(super) within: Option<Duration>,
}

impl Patience {
    /// Returns the time that the command waits for a file that another process has open. Who has the
    /// file has all locks in it.
    pub(crate) fn turn(self) -> Turn {
        match self {
            Self { at_once: true, .. } => Turn::Within(IN_PASSING),
            Self { within: Some(within), .. } => Turn::Within(within),
            Self { .. } => Turn::Whenever,
        }
    }
}

/// Returns what others see of this process, unless it says another thing.
pub(super) fn this_process() -> String {
    let system = rustix::system::uname();
    format!("{} pid {}", system.nodename().to_string_lossy(), process::id())
}
