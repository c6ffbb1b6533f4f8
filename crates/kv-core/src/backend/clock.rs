//! A clock that counts suspend.

use std::{fmt, ops::Add, time::Duration};
use tokio::sync::watch;

/// The longest nap of a timer: one that began before the machine was suspended notices soon after waking, although
/// the runtime's own clock stood still.
const NAP: Duration = Duration::from_millis(200);

/// A moment on a [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The time from `earlier` to this moment; zero when it is not earlier.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// What measures the lives of locks, leases and TTLs on this side.
///
/// The system's counts the time in which the machine is suspended (`CLOCK_BOOTTIME` on Linux), as the runtime's own
/// does not: a woken machine must not believe in a lock that its server gave to another. A manual one stands still
/// until a test moves it. Clones are the same clock.
///
/// ```
/// use kv_core::backend::Clock;
/// use std::time::Duration;
///
/// let clock = Clock::manual();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Clone, Default)]
pub struct Clock(Option<watch::Sender<Duration>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that only [`advance`](Self::advance) moves.
    pub fn manual() -> Self {
        Self(Some(watch::Sender::new(Duration::ZERO)))
    }

    /// Whether only [`advance`](Self::advance) moves it.
    pub fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// Moves a manual clock, and wakes who sleeps until a moment that is passed now. The system's is left alone.
    pub fn advance(&self, time: Duration) {
        if let Some(now) = &self.0 {
            now.send_modify(|now| *now = now.saturating_add(time));
        }
    }

    /// The moment.
    pub fn now(&self) -> Instant {
        Instant(self.0.as_ref().map_or_else(system, |now| *now.borrow()))
    }

    /// What is left until the moment; zero when it has passed.
    pub fn until(&self, moment: Instant) -> Duration {
        moment.since(self.now())
    }

    /// Sleeps until the moment; after a suspend, until at most 250 ms after waking. Cancel safe.
    pub async fn sleep_until(&self, moment: Instant) {
        if let Some(now) = &self.0 {
            // The sender is ours, so waiting cannot fail.
            let _ = now.subscribe().wait_for(|now| *now >= moment.0).await;
            return;
        }
        loop {
            match self.until(moment) {
                Duration::ZERO => return,
                left => tokio::time::sleep(left.min(NAP)).await,
            }
        }
    }

    /// Sleeps for this long.
    pub async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", if self.is_manual() { "manual" } else { "system" })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn system() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// On Darwin and on Windows the monotonic clock counts sleep; elsewhere it is the best there is.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn system() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(not(unix))]
fn system() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
