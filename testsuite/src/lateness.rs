//! The delays by which this program is woken: on a machine that has too much to do, calls are late
//! through no fault of the store. A case that is broken meanwhile says so.

use crate::{Failure, check::holds};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A shorter delay is nothing to speak of.
const SHORT: Duration = Duration::from_millis(500);
/// A shorter delay is within any slack, and is not added up.
const NOTED: Duration = Duration::from_millis(250);

struct Looks {
    /// The moment at which the next look is due.
    due: Instant,
    /// The looks that were late: when each was taken, and by how much it was late.
    late: Vec<(Instant, Duration)>,
}

/// The times at which this program was woken late.
#[derive(Clone)]
pub(crate) struct Lateness(Arc<Mutex<Looks>>);

impl Lateness {
    /// Watches the runtime in which this is called for as long as one of the clones is there.
    pub(crate) fn watch() -> Self {
        let mut due = Instant::now() + LOOK;
        let lateness = Self(Arc::new(Mutex::new(Looks { due, late: Vec::new() })));
        let noted = Arc::downgrade(&lateness.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep_until(due.into()).await;
                let Some(noted) = noted.upgrade() else { return };
                let now = Instant::now();
                let late = now.saturating_duration_since(due);
                due = now + LOOK;
                let mut looks = noted.lock().unwrap_or_else(PoisonError::into_inner);
                looks.due = due;
                if late > NOTED {
                    looks.late.push((now, late));
                }
            }
        });
        lateness
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all delays since then together, with that of a look which is overdue now.
    fn all_since(&self, then: Instant) -> Duration {
        let (looks, now) = (self.looks(), Instant::now());
        let overdue = now.saturating_duration_since(looks.due);
        let overdue = (overdue > NOTED).then_some((now, overdue));
        let delays = looks.late.iter().copied().chain(overdue).filter(|(when, _)| *when > then);
        delays.map(|(when, late)| late.min(when.saturating_duration_since(then))).sum()
    }

    /// Returns the longest delay since then, and the load of the machine; `None` where there was
    /// none to speak of.
    pub(crate) fn since(&self, then: Instant) -> Option<String> {
        let looks = self.looks();
        let met = looks.late.iter().filter(|(when, late)| *when > then && *late > SHORT);
        let most = met.map(|(_, late)| *late).max()?;
        drop(looks);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        Some(format!("meanwhile this program was woken up to {most:.1?} late; the machine's load is {load}"))
    }
}

/// Measures the time that something takes, and by how much this program is woken late meanwhile.
pub(crate) struct Stopwatch {
    began: Instant,
    lateness: Lateness,
}

impl Stopwatch {
    /// Begins now.
    pub(crate) fn start() -> Self {
        let lateness = Lateness::watch();
        Self { began: Instant::now(), lateness }
    }

    /// Returns by how much this program was woken late until now.
    pub(crate) fn late(&self) -> Duration {
        self.lateness.all_since(self.began)
    }

    /// Returns the time until now.
    pub(crate) fn took(&self) -> Took {
        let time = self.began.elapsed();
        Took { time, late: self.late() }
    }
}

/// A time that was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    time: Duration,
    /// The time by which this program was woken late meanwhile.
    late: Duration,
}

impl Took {
    /// Checks that something took no longer than this, and than this program was woken late meanwhile.
    ///
    /// # Errors
    /// It took longer.
    #[track_caller]
    pub(crate) fn at_most(self, what: &str, most: Duration) -> Result<(), Failure> {
        let Self { time, late } = self;
        let took = format!("it took {time:?}, and this program was woken {late:?} late");
        holds(format!("{what} comes within {most:?}; {took}"), time <= most.saturating_add(late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_delay_is_told_to_those_it_met() {
        let lateness = Lateness::watch();
        let began = Instant::now();
        tokio::task::yield_now().await;
        assert_eq!(lateness.since(began), None);
        // What keeps the runtime from everything else.
        std::thread::sleep(LOOK + 2 * SHORT);
        let told = loop {
            tokio::task::yield_now().await;
            if let Some(told) = lateness.since(began) {
                break told;
            }
        };
        assert!(told.contains("woken up to") && told.contains("load is "), "{told}");
        assert_eq!(lateness.since(Instant::now()), None);
    }

    #[tokio::test]
    async fn a_delay_is_taken_off_what_was_measured_meanwhile() {
        let watch = Stopwatch::start();
        tokio::task::yield_now().await;
        std::thread::sleep(2 * SHORT);
        // The look is overdue, and has not come yet.
        let took = watch.took();
        assert!(took.late >= 2 * SHORT - LOOK, "{took:?}");
        took.at_most("what this program was late for", LOOK).unwrap();
        tokio::time::sleep(LOOK).await;
        assert!(watch.late() >= 2 * SHORT - LOOK);
        assert!(Took { time: SHORT, late: LOOK }.at_most("it", SHORT - 2 * LOOK).is_err());
    }
}
