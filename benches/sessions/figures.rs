//! Percentiles, and what the system says of this process.

use std::fmt;
use std::fs;
use std::time::Duration;

/// p50, p99 and the longest of some times.
#[derive(Debug)]
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.at(percent));
        write!(f, "p50 {p50:.2?}  p99 {p99:.2?}  max {max:.2?}  of {}", self.0.len())
    }
}

/// Bytes of memory that the process has.
pub(crate) fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib: f64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    kib * 1024.0
}

/// Time on processors that the process has taken, in steps of 10 ms.
pub(crate) fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have anything in it: user and system time are words 12 and 13 from there.
    let words = stat.rsplit_once(')').map_or("", |(_, words)| words).split_whitespace();
    let ticks = words.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}
