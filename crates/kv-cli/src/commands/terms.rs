//! The arguments about time that `lock`, `elect`, `semaphore` and `lease` share.

use crate::text;
use clap::Args;
use std::time::Duration;

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
