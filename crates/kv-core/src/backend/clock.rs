//! A clock that counts suspend.

use std::{fmt, ops::Add, sync::LazyLock, time::Duration};
use tokio::sync::watch;

/// The longest nap of a timer: a timer that began before the machine was suspended notices the
/// time soon after waking, although the runtime's own clock stood still.
const NAP: Duration = Duration::from_millis(200);

/// A moment on a [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// Returns the time from `earlier` to this moment; zero when `earlier` is not earlier.
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

/// The clock that measures the lives of locks, leases and TTLs on this side.
///
/// The system's clock counts the time in which the machine is suspended (`CLOCK_BOOTTIME` on
/// Linux), which the runtime's own does not count: a woken machine must not believe in a lock that
/// its server gave to another. A manual clock stands still until a test moves it. Tokio's clock
/// follows the runtime's, paused ones included. Clones are the same clock; clocks are equal when
/// they are the same.
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
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(watch::Sender<Duration>),
    Tokio,
}

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Makes a clock that only [`advance`](Self::advance) moves.
    pub fn manual() -> Self {
        Self(Source::Manual(watch::Sender::new(Duration::ZERO)))
    }

    /// Returns the clock of the runtime that asks. It is for tests under
    /// `#[tokio::test(start_paused = true)]`, in which `tokio::time::advance` and the runtime's
    /// own jumps move it. It does not count suspend, and runtimes whose time was paused differ
    /// from others, so that it is no clock for production, nor for a store that several runtimes
    /// share.
    pub fn tokio() -> Self {
        Self(Source::Tokio)
    }

    /// Tells whether only [`advance`](Self::advance) moves the clock.
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Moves a manual clock, and wakes the tasks that sleep until a moment that is passed now.
    /// Other clocks are left alone.
    pub fn advance(&self, time: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.send_modify(|now| *now = now.saturating_add(time));
        }
    }

    /// Returns the present moment.
    pub fn now(&self) -> Instant {
        Instant(match &self.0 {
            Source::System => system(),
            Source::Manual(now) => *now.borrow(),
            Source::Tokio => tokio_time(),
        })
    }

    /// Returns the time that is left until the moment; zero when it has passed.
    pub fn until(&self, moment: Instant) -> Duration {
        moment.since(self.now())
    }

    /// Sleeps until the moment; after a suspend, until at most 250 ms after waking. Cancel safe.
    pub async fn sleep_until(&self, moment: Instant) {
        let nap = match &self.0 {
            Source::Manual(now) => {
                // The sender is ours, so waiting cannot fail.
                let _ = now.subscribe().wait_for(|now| *now >= moment.0).await;
                return;
            }
            Source::System => NAP,
            // The runtime's timers and this clock stand still together.
            Source::Tokio => Duration::MAX,
        };
        loop {
            match self.until(moment) {
                Duration::ZERO => return,
                left => tokio::time::sleep(left.min(nap)).await,
            }
        }
    }

    /// Sleeps for this long.
    pub async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Manual(one), Source::Manual(two)) => one.same_channel(two),
            (Source::System, Source::System) | (Source::Tokio, Source::Tokio) => true,
            _ => false,
        }
    }
}

impl Eq for Clock {}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Source::System => "system",
            Source::Manual(_) => "manual",
            Source::Tokio => "tokio",
        };
        write!(f, "Clock({name})")
    }
}

/// Returns the runtime's time on one scale for all runtimes of the process. A paused runtime may
/// be before or behind the first that asked, so the scale begins long before that one.
fn tokio_time() -> Duration {
    const BEFORE: Duration = Duration::from_secs(1 << 33);
    static FIRST: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);
    let (first, now) = (*FIRST, tokio::time::Instant::now());
    BEFORE
        .saturating_add(now.saturating_duration_since(first))
        .saturating_sub(first.saturating_duration_since(now))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn system() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Returns the time of the monotonic clock. On Darwin and on Windows that clock counts sleep;
/// elsewhere it is the best there is.
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn tokios_clock_moves_with_the_paused_one() {
        let clock = Clock::tokio();
        let began = clock.now();
        clock.advance(HOUR); // moves manual ones alone
        assert_eq!(clock.now(), began);
        tokio::time::advance(HOUR).await;
        assert_eq!(clock.now().since(began), HOUR);
        // An idle runtime jumps to the next timer.
        clock.sleep(HOUR).await;
        assert!((HOUR * 2..HOUR * 2 + NAP).contains(&clock.now().since(began)));
        let soon = clock.now() + HOUR;
        let waits = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(soon).await }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(HOUR - NAP).await;
        assert!(!waits.is_finished());
        waits.await.unwrap();
    }

    #[test]
    fn runtimes_that_were_moved_are_before_and_behind_each_other() {
        let run = |moved: Duration| {
            let paused =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            paused.unwrap().block_on(async {
                tokio::time::advance(moved).await;
                Clock::tokio().now()
            })
        };
        let (late, early) = (run(HOUR * 1000), run(Duration::ZERO));
        assert!(late.since(early) > HOUR * 999);
    }

    #[test]
    fn clones_are_the_same_clock() {
        let (one, two) = (Clock::manual(), Clock::manual());
        assert!(one == one.clone() && one != two && one != Clock::system());
        assert!(Clock::tokio() == Clock::tokio() && Clock::tokio() != Clock::system());
        let shown = format!("{:?} {:?} {:?}", Clock::system(), Clock::tokio(), one);
        assert_eq!(shown, "Clock(system) Clock(tokio) Clock(manual)");
    }
}
