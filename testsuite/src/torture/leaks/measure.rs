//! The resources that a process has.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// The number of bytes by which memory may grow whatever is done: an allocator keeps pieces.
const NOISE: u64 = 256 << 10;
/// The number of bytes by which memory may grow with each cycle.
const EACH: u64 = 256;
/// The least number of cycles after which memory is judged: a young process grows by some MiB.
const LEAST: usize = 2000;

/// The resources that this process has at one moment. One that the machine cannot tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    /// The number of open descriptors.
    pub(super) descriptors: usize,
    /// The number of tasks of the runtime that have not ended.
    pub(super) tasks: usize,
    /// Resident memory, in bytes.
    pub(super) memory: u64,
}

impl Measure {
    pub(super) fn now() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            descriptors,
            tasks: Handle::current().metrics().num_alive_tasks(),
            memory: resident().unwrap_or(0),
        }
    }

    /// Waits until this is so, or the time is over; returns the measure of that moment.
    pub(super) async fn until(within: Duration, is_so: impl Fn(&Self) -> bool) -> Self {
        let end = Instant::now() + within;
        loop {
            let now = Self::now();
            if is_so(&now) || Instant::now() > end {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells whether there are no more descriptors and tasks than before.
    pub(super) fn is_back_at(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors && self.tasks <= before.tasks
    }

    /// Returns what has grown over so many cycles.
    pub(super) fn grown(&self, before: &Self, cycles: u64) -> Vec<String> {
        let mut grown = Vec::new();
        let (had, has) = (before.descriptors, self.descriptors);
        if has > had {
            grown.push(format!("{has} descriptors are open after {cycles} cycles, {had} before"));
        }
        let (had, has) = (before.tasks, self.tasks);
        if has > had {
            grown.push(format!("{has} tasks are alive after {cycles} cycles, {had} before"));
        }
        grown
    }
}

/// Returns what is wrong with the memory after each cycle: both the least and the most of the
/// second half lie above those of the first half. An allocator takes and gives back some MiB at
/// any moment, which moves only one of the two.
pub(super) fn crept(memory: &[u64]) -> Option<String> {
    if memory.len() < LEAST {
        return None;
    }
    let (first, second) = memory.split_at(memory.len() / 2);
    let least = second.iter().min()?.saturating_sub(*first.iter().min()?);
    let most = second.iter().max()?.saturating_sub(*first.iter().max()?);
    let (more, cycles) = (least.min(most), second.len());
    let is_leak = more > NOISE + EACH * cycles as u64;
    is_leak.then(|| format!("{more} bytes more are resident after {cycles} cycles"))
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, tasks, memory } = self;
        write!(f, "{descriptors} descriptors, {tasks} tasks, {} KiB", memory >> 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Measure = Measure { descriptors: 20, tasks: 10, memory: 50 << 20 };

    #[test]
    fn what_is_back_is_not_blamed() {
        assert!(BEFORE.grown(&BEFORE, 3000).is_empty());
        let less = Measure { descriptors: 19, tasks: 9, memory: 51 << 20 };
        assert!(less.grown(&BEFORE, 3000).is_empty() && less.is_back_at(&BEFORE));
    }

    #[test]
    fn what_grew_is_seen() {
        for leak in [Measure { descriptors: 21, ..BEFORE }, Measure { tasks: 11, ..BEFORE }] {
            assert_eq!(leak.grown(&BEFORE, 2000).len(), 1, "{leak}");
        }
        assert!(!Measure { tasks: 11, ..BEFORE }.is_back_at(&BEFORE));
    }

    #[test]
    fn a_leak_of_memory_is_seen_through_noise() {
        // The memory moves in saw teeth of 4 MiB.
        let memory =
            |leak: u64| (0..2000_u64).map(|n| (50 << 20) + (n % 300) * 14_000 + n * leak).collect::<Vec<_>>();
        assert!(crept(&memory(1024)).is_some());
        assert!(crept(&memory(0)).is_none() && crept(&memory(100)).is_none());
        assert!(crept(&[]).is_none() && crept(&memory(1024)[..1000]).is_none(), "too few");
        // Memory that is taken once, or given back, is no leak.
        let mut once = memory(0);
        once[1500] += 9 << 20;
        assert!(crept(&once).is_none());
    }

    #[tokio::test]
    async fn tasks_and_descriptors_are_counted() {
        let before = Measure::now();
        let file = fs::File::open("/proc/self/status").ok();
        let task = tokio::spawn(std::future::pending::<()>());
        let now = Measure::now();
        assert!(now.tasks > before.tasks);
        // Other tests open and close files meanwhile.
        assert!(file.is_none() || now.descriptors > 0 && now.memory > 0);
        task.abort();
    }
}
