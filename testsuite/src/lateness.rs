//! The delays by which this program is woken: on a machine that has too much to do, calls are late
//! through no fault of the store. A case that is broken meanwhile says so.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A shorter delay is nothing to speak of.
const SHORT: Duration = Duration::from_millis(500);

/// The times at which this program was woken late.
#[derive(Clone, Default)]
pub(crate) struct Lateness(Arc<Mutex<Vec<(Instant, Duration)>>>);

impl Lateness {
    /// Watches the runtime in which this is called for as long as one of the clones is there.
    pub(crate) fn watch() -> Self {
        let lateness = Self::default();
        let noted = Arc::downgrade(&lateness.0);
        tokio::spawn(async move {
            loop {
                let due = Instant::now() + LOOK;
                tokio::time::sleep_until(due.into()).await;
                let Some(noted) = noted.upgrade() else { return };
                let now = Instant::now();
                let late = now.saturating_duration_since(due);
                if late > SHORT {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((now, late));
                }
            }
        });
        lateness
    }

    /// Returns the longest delay since then, and the load of the machine; `None` where there was
    /// none to speak of.
    pub(crate) fn since(&self, then: Instant) -> Option<String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = noted.iter().filter(|(when, _)| *when > then).map(|(_, late)| *late).max()?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        Some(format!("meanwhile this program was woken up to {most:.1?} late; the machine's load is {load}"))
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
}
