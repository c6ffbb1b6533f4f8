//! The machine and the tools of a run, without anything that names the machine.

use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// The facts that a reader needs to compare runs.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) rust: String,
}

impl Machine {
    /// Looks at this machine; what it does not tell is `unknown`.
    pub(crate) fn look() -> Self {
        let of = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kib =
            field(&of("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        let unknown = || "unknown".to_owned();
        let rust = Command::new("rustc").arg("--version").output().ok();
        let rust =
            rust.and_then(|said| Some(String::from_utf8(said.stdout).ok()?.split(' ').nth(1)?.to_owned()));
        Self {
            date: date(seconds),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field(&of("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            memory_gib: kib.unwrap_or(0.0) / f64::from(1 << 20),
            kernel: Some(of("/proc/sys/kernel/osrelease").trim().to_owned())
                .filter(|it| !it.is_empty())
                .unwrap_or_else(unknown),
            rust: rust.unwrap_or_else(unknown),
        }
    }
}

/// Returns what stands behind the first colon of this name.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the day of a moment in seconds since 1970, by the calendar of UTC.
fn date(seconds: u64) -> String {
    let (mut year, mut days) = (1970, seconds / 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_767_225_599, "2025-12-31"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }

    #[test]
    fn a_field_is_found() {
        assert_eq!(field("a\t: 1\nMemTotal:    24 kB\n", "MemTotal"), Some("24 kB".into()));
        assert_eq!(field("a: 1", "b"), None);
    }
}
