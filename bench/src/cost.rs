//! What a process has cost so far.

use std::fs;
use std::time::Duration;

/// Linux counts a process's time in hundredths of a second, on every architecture that matters here.
const TICK_MS: u64 = 10;

/// The CPU time of a process, all its threads together. `None`: the system has no `/proc`.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat)
}

/// `utime` and `stime` are the 14th and 15th fields; the 2nd, in parentheses, may hold spaces.
fn parse(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * TICK_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_user_and_system_time_whatever_the_program_is_called() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 7 8 20 0 9 0 1000 1 1";
        assert_eq!(parse(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse("nonsense"), None);
    }
}
