//! The arguments that commands share: the times of `lock`, `elect`, `semaphore` and `lease`, and the
//! store of `doctor`, `health` and `ui`.

use crate::text;
use clap::Args;
use std::time::Duration;

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
pub(super) struct Patience {
    /// Does not wait: if others have it, ends with exit code 1
    #[arg(long = "try", conflicts_with = "within")]
    pub(super) at_once: bool,
    /// Gives up waiting after this time, with exit code 1
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    pub(super) within: Option<Duration>,
}
